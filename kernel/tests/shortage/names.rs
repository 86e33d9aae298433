//! The calls of paths, names, attributes and mounts.

use foundation::ByteCount;
use kernel::file::Fd;
use kernel::mem::UserAddr;
use kernel::syscall::{attributes, io, mounting, names, open, statx, xattr};

use crate::cases::{
    O_CREAT, O_DIRECTORY, O_RDWR, OTHER_PATH, PATH, RESULT, at, cases, file, opened,
};
use crate::check::Case;
use crate::messages;
use crate::world::{UNCOMPARED, World};

/// The working directory.
const CWD: Fd = Fd(-100);

fn paths(world: &World) {
    file(world);
    world.put(PATH, b"/a\0");
    world.put(OTHER_PATH, b"/c\0");
}

/// The cases of names.
pub fn of_names() -> Vec<Case> {
    cases! {
        open, paths => |world| {
            let fd = open::open(&world.process, at(PATH), O_RDWR, 0)?;
            open::close(&world.process, Fd(fd as i32))
        };
        create, paths => |world| {
            let flags = O_RDWR | O_CREAT;
            let fd = open::open(&world.process, at(OTHER_PATH), flags, 0o644)?;
            open::close(&world.process, Fd(fd as i32))
        };
        mkdir, |world| {
            world.put(PATH, b"/d\0");
        } => |world| names::mkdir(&world.process, at(PATH), 0o755);
        rename, paths => |world| names::rename(&world.process, at(PATH), at(OTHER_PATH));
        link, paths => |world| names::link(&world.process, at(PATH), at(OTHER_PATH));
        symlink, paths => |world| names::symlink(&world.process, at(PATH), at(OTHER_PATH));
        unlink, paths => |world| names::unlink(&world.process, at(PATH));
        readlink, |world| {
            paths(world);
            names::symlink(&world.process, at(PATH), at(OTHER_PATH)).expect("a link");
        } => |world| names::readlink(&world.process, at(OTHER_PATH), at(RESULT), 100);
        mknod_pipe, |world| {
            world.put(PATH, b"/p\0");
        } => |world| names::mknod(&world.process, at(PATH), 0o010_644, 0);
        getdents, |world| {
            paths(world);
            opened(world, "/", O_DIRECTORY);
        } => |world| {
            let count = names::getdents64(&world.process, Fd(1), at(RESULT), 4096);
            io::lseek(&world.process, Fd(1), 0, 0)?;
            count
        };
        chdir, |world| {
            world.put(PATH, b"/d\0");
            names::mkdir(&world.process, at(PATH), 0o755).expect("a directory");
        } => |world| names::chdir(&world.process, at(PATH));
        truncate, paths => |world| io::truncate(&world.process, at(PATH), 7000);
        rmdir, |world| {
            world.put(PATH, b"/d\0");
            names::mkdir(&world.process, at(PATH), 0o755).expect("a directory");
        } => |world| names::rmdir(&world.process, at(PATH));
        exchange, |world| {
            paths(world);
            opened(world, "/b", O_RDWR | O_CREAT);
            world.put(PATH, b"/a\0");
            world.put(OTHER_PATH, b"/b\0");
        } => |world| {
            // RENAME_EXCHANGE.
            names::renameat2(&world.process, CWD, at(PATH), CWD, at(OTHER_PATH), 2)
        };
        getcwd, |_| () => |world| names::getcwd(&world.process, at(RESULT), ByteCount(100));
        fchdir, |world| {
            opened(world, "/", O_DIRECTORY);
        } => |world| names::fchdir(&world.process, Fd(0));
        getdents_old, |world| {
            paths(world);
            opened(world, "/", O_DIRECTORY);
        } => |world| {
            let count = names::getdents(&world.process, Fd(1), at(RESULT), 4096);
            io::lseek(&world.process, Fd(1), 0, 0)?;
            count
        };
        listxattr, paths => |world| xattr::list(&world.process, at(PATH));
    }
}

/// The cases of attributes.
pub fn of_attributes() -> Vec<Case> {
    cases! {
        stat, paths => |world| attributes::stat(&world.process, at(PATH), at(UNCOMPARED));
        chmod, paths => |world| attributes::chmod(&world.process, at(PATH), 0o600);
        statfs, paths => |world| attributes::statfs(&world.process, at(PATH), at(UNCOMPARED));
        chmod_open, file => |world| attributes::fchmod(&world.process, Fd(0), 0o600);
        chown, paths => |world| attributes::chown(&world.process, at(PATH), 7, 8);
        chown_open, file => |world| attributes::fchown(&world.process, Fd(0), 7, 8);
        utimes, paths => |world| attributes::utimes(&world.process, at(PATH), UserAddr(0));
        access, paths => |world| attributes::access(&world.process, at(PATH), 4);
        fstat, file => |world| attributes::fstat(&world.process, Fd(0), at(UNCOMPARED));
        statx, paths => |world| {
            statx::statx(&world.process, CWD, at(PATH), 0, 0x7ff, at(UNCOMPARED))
        };
        fstatfs, file => |world| attributes::fstatfs(&world.process, Fd(0), at(UNCOMPARED));
    }
}

/// The cases of mounts.
pub fn of_mounts() -> Vec<Case> {
    cases! {
        mount, |world| {
            world.put(PATH, b"/d\0");
            names::mkdir(&world.process, at(PATH), 0o755).expect("a directory");
            world.put(OTHER_PATH, b"devtmpfs\0");
        } => |world| {
            let none = UserAddr(0);
            mounting::mount(&world.process, none, at(PATH), at(OTHER_PATH), 0, none)
        };
        umount, |world| {
            messages::devices(world);
            world.put(PATH, b"/d\0");
        } => |world| mounting::umount2(&world.process, at(PATH), 0);
    }
}
