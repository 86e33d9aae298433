//! Directories, links, renaming, attributes.

use proof::guest_test;
use proof::kit::{Outcome, content, file};
use user::fs;
use user::prelude::*;
use user::sys::abi;

#[guest_test]
fn name_open_flags() -> Outcome {
    check_eq!(sys::open(b"f", abi::O_RDONLY, 0), Err(Errno::ENOENT));
    let fd = ok!(sys::open(b"f", abi::O_WRONLY | abi::O_CREAT | abi::O_EXCL, 0o640));
    check_eq!(ok!(sys::fstat(fd)).st_mode & 0o7777, 0o640);
    check_eq!(
        sys::open(b"f", abi::O_WRONLY | abi::O_CREAT | abi::O_EXCL, 0o600),
        Err(Errno::EEXIST)
    );
    check_eq!(sys::open(b"f", abi::O_RDONLY | abi::O_DIRECTORY, 0), Err(Errno::ENOTDIR));
    check_eq!(sys::open(b"f/g", abi::O_RDONLY, 0), Err(Errno::ENOTDIR));
    check_eq!(sys::open(b"none/g", abi::O_WRONLY | abi::O_CREAT, 0o600), Err(Errno::ENOENT));
    check_eq!(sys::open(b".", abi::O_WRONLY, 0), Err(Errno::EISDIR));
    check_eq!(sys::open(b"", abi::O_RDONLY, 0), Err(Errno::ENOENT));
    let directory = ok!(sys::open(b".", abi::O_RDONLY, 0));
    check_eq!(sys::read(directory, &mut [0; 8]), Err(Errno::EISDIR));
    let before = ok!(sys::umask(0o077));
    let fd = ok!(sys::open(b"g", abi::O_WRONLY | abi::O_CREAT, 0o666));
    ok!(sys::umask(before));
    check_eq!(ok!(sys::fstat(fd)).st_mode & 0o7777, 0o600);
    Ok(())
}

#[guest_test]
fn name_rename_over() -> Outcome {
    let old = file(b"old", b"the old one")?;
    file(b"new", b"the new one")?;
    let inode = ok!(sys::stat(b"new")).st_ino;
    ok!(sys::rename(b"new", b"old"));
    check_eq!(sys::stat(b"new").map(drop), Err(Errno::ENOENT));
    check_eq!(content(b"old")?, b"the new one");
    check_eq!(ok!(sys::stat(b"old")).st_ino, inode);
    let mut bytes = [0; 11];
    check_eq!(sys::pread(old, &mut bytes, FileOffset::ZERO), Ok(11));
    check_eq!(&bytes, b"the old one");
    check_eq!(sys::rename(b"old", b"old"), Ok(()));
    check_eq!(sys::rename(b"none", b"x"), Err(Errno::ENOENT));
    Ok(())
}

#[guest_test]
fn name_rename_directories() -> Outcome {
    ok!(sys::mkdir(b"a", 0o755));
    ok!(sys::mkdir(b"a/b", 0o755));
    file(b"a/b/f", b"deep")?;
    ok!(sys::rename(b"a/b", b"c"));
    check_eq!(content(b"c/f")?, b"deep");
    check_eq!(sys::rename(b"a", b"a/x"), Err(Errno::EINVAL));
    check_eq!(sys::rename(b"a", b"c/f"), Err(Errno::ENOTDIR));
    check_eq!(sys::rename(b"c/f", b"a"), Err(Errno::EISDIR));
    check_eq!(sys::rename(b"a", b"c"), Err(Errno::ENOTEMPTY));
    ok!(sys::unlink(b"c/f"));
    ok!(sys::rename(b"a", b"c"));
    check_eq!(fs::list(b"."), Ok(vec![b"c".to_vec()]));
    Ok(())
}

#[guest_test]
fn name_directories() -> Outcome {
    ok!(sys::mkdir(b"d", 0o755));
    check_eq!(sys::mkdir(b"d", 0o755), Err(Errno::EEXIST));
    check_eq!(sys::mkdir(b"x/y", 0o755), Err(Errno::ENOENT));
    file(b"d/f", b"")?;
    ok!(sys::mkdir(b"d/e", 0o755));
    check_eq!(ok!(sys::stat(b"d")).st_nlink, 3);
    check_eq!(sys::rmdir(b"d"), Err(Errno::ENOTEMPTY));
    check_eq!(sys::rmdir(b"d/f"), Err(Errno::ENOTDIR));
    check_eq!(sys::unlink(b"d/e"), Err(Errno::EISDIR));
    let mut entries = ok!(fs::read_directory(b"d"));
    entries.sort();
    let names: Vec<&[u8]> = entries.iter().map(|entry| entry.name.as_slice()).collect();
    check_eq!(names, [&b"."[..], b"..", b"e", b"f"]);
    for entry in &entries[2..] {
        let stat = ok!(sys::stat(&fs::join(b"d", &entry.name)));
        check_eq!(stat.st_ino, entry.inode);
        check!(
            entry.kind == abi::DT_UNKNOWN as u8
                || u32::from(entry.kind) == (stat.st_mode & abi::S_IFMT) >> 12
        );
    }
    ok!(sys::unlink(b"d/f"));
    ok!(sys::rmdir(b"d/e"));
    ok!(sys::rmdir(b"d"));
    check_eq!(sys::rmdir(b"d"), Err(Errno::ENOENT));
    Ok(())
}

/// More entries than one getdents64 returns, some removed between the calls.
#[guest_test]
fn name_many_entries() -> Outcome {
    const COUNT: usize = 700;
    for index in 0..COUNT {
        let fd = file(format!("file-with-a-rather-long-name-{index}").as_bytes(), b"")?;
        ok!(sys::close(fd));
    }
    let fd = ok!(sys::open(b".", abi::O_RDONLY | abi::O_DIRECTORY, 0));
    let mut seen = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let count = ok!(sys::getdents64(fd, &mut buffer));
        if count == 0 {
            break;
        }
        for entry in fs::parse_entries(&buffer[..count]) {
            if !entry.name.starts_with(b".") {
                ok!(sys::unlink(&entry.name));
                seen.push(entry.name);
            }
        }
    }
    seen.sort();
    seen.dedup();
    check_eq!(seen.len(), COUNT);
    check_eq!(fs::list(b".").map(|names| names.len()), Ok(0));
    Ok(())
}

#[guest_test]
fn name_working_directory() -> Outcome {
    let top = ok!(sys::getcwd());
    ok!(sys::mkdir(b"d", 0o755));
    ok!(sys::chdir(b"d"));
    check_eq!(ok!(sys::getcwd()), fs::join(&top, b"d"));
    file(b"f", b"here")?;
    check_eq!(content(b"../d/./f")?, b"here");
    check_eq!(content(&[top.as_slice(), b"//d/../d/f"].concat())?, b"here");
    check_eq!(sys::chdir(b"f"), Err(Errno::ENOTDIR));
    check_eq!(sys::chdir(b"none"), Err(Errno::ENOENT));
    ok!(sys::chdir(b".."));
    check_eq!(ok!(sys::getcwd()), top);
    ok!(sys::chdir(b"/"));
    check_eq!(ok!(sys::getcwd()), b"/");
    ok!(sys::chdir(b".."));
    check_eq!(ok!(sys::getcwd()), b"/");
    ok!(sys::chdir(&top));
    Ok(())
}

#[guest_test]
fn name_attributes() -> Outcome {
    let fd = file(b"f", &[1; 4097])?;
    let stat = ok!(sys::stat(b"f"));
    check!(fs::is_kind(stat.st_mode, abi::S_IFREG));
    check_eq!((stat.st_size, stat.st_nlink, stat.st_blocks), (4097, 1, 16));
    check!(stat.st_blksize >= 512);
    let other = ok!(sys::fstat(fd));
    check_eq!((other.st_ino, other.st_dev), (stat.st_ino, stat.st_dev));
    ok!(sys::chmod(b"f", 0o4751));
    check_eq!(ok!(sys::stat(b"f")).st_mode & 0o7777, 0o4751);
    let time = |seconds| abi::__kernel_timespec { tv_sec: seconds, tv_nsec: 5 };
    ok!(sys::utimens(b"f", Some([time(1000), time(2000)])));
    let stat = ok!(sys::stat(b"f"));
    check_eq!(
        (stat.st_atime, stat.st_atime_nsec, stat.st_mtime, stat.st_mtime_nsec),
        (1000, 5, 2000, 5)
    );
    ok!(sys::pwrite(fd, b"x", FileOffset::ZERO));
    check!(ok!(sys::stat(b"f")).st_mtime > 2000);
    check_eq!(sys::access(b"f", 0), Ok(()));
    check_eq!(sys::access(b"none", 0), Err(Errno::ENOENT));
    Ok(())
}

#[guest_test]
fn name_links() -> Outcome {
    file(b"f", b"linked")?;
    ok!(sys::link(b"f", b"g"));
    check_eq!(ok!(sys::stat(b"f")).st_nlink, 2);
    check_eq!(ok!(sys::stat(b"f")).st_ino, ok!(sys::stat(b"g")).st_ino);
    ok!(sys::unlink(b"f"));
    check_eq!(content(b"g")?, b"linked");
    check_eq!(sys::link(b"g", b"g"), Err(Errno::EEXIST));
    ok!(sys::symlink(b"g", b"s"));
    check_eq!(ok!(sys::readlink(b"s")), b"g");
    check_eq!(content(b"s")?, b"linked");
    check!(fs::is_kind(ok!(sys::lstat(b"s")).st_mode, abi::S_IFLNK));
    check!(fs::is_kind(ok!(sys::stat(b"s")).st_mode, abi::S_IFREG));
    check_eq!(sys::readlink(b"g"), Err(Errno::EINVAL));
    ok!(sys::symlink(b"loop", b"loop"));
    check_eq!(sys::stat(b"loop").map(drop), Err(Errno::ELOOP));
    Ok(())
}
