//! X10: the attributes of a path are those of now, although the kernel keeps them while nothing
//! changes.

use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Buffer, Child, File, Named, Outcome, PAGE, directory, store};
use proof::lazy::{self, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

/// All attributes but the device.
fn attributes(stat: &abi::stat) -> [u64; 14] {
    [
        stat.st_ino,
        stat.st_nlink,
        u64::from(stat.st_mode),
        u64::from(stat.st_uid),
        u64::from(stat.st_gid),
        stat.st_size.cast_unsigned(),
        stat.st_blocks.cast_unsigned(),
        stat.st_blksize.cast_unsigned(),
        stat.st_atime,
        stat.st_atime_nsec,
        stat.st_mtime,
        stat.st_mtime_nsec,
        stat.st_ctime,
        stat.st_ctime_nsec,
    ]
}

/// Looks at a path twice: the second time, its attributes are known.
fn look(path: &str) -> Outcome<[u64; 14]> {
    let first = sys::stat(path.as_bytes()).named(path)?;
    let again = sys::lstat(path.as_bytes()).named(path)?;
    check_eq!(attributes(&again), attributes(&first), "attributes that nobody changed, of {path}");
    Ok(attributes(&first))
}

fn is_absent(path: &str) -> Outcome {
    for _ in 0..2 {
        let found = sys::stat(path.as_bytes()).map(drop);
        check_eq!(found, Err(Errno::ENOENT), "stat of {path}");
    }
    Ok(())
}

/// Another process makes a change; returns when it has.
fn by_another(what: &str, change: impl FnOnce() -> Outcome) -> Outcome {
    Child::start(what, change)?.join()
}

/// Each change of a file by another process shows at once, in all attributes.
#[guest_test(mutants: &[Mutant::StatNeverStale])]
fn x10_changes_show_at_once() -> Outcome {
    let file = File::make("seen", 1, 64 * PAGE as u64)?;
    let (path, name) = (file.path.as_str(), file.path.as_bytes());
    let buffer = Buffer::new(20 * PAGE)?;
    let read = |length: usize| {
        // A change first, so that the read updates the access time.
        file.overwrite(2, 0, 1)?;
        check_eq!(
            os::pread(file.fd, buffer.at(0), length, 0).named("pread")?,
            length,
            "bytes read"
        );
        Ok(())
    };
    let map = || {
        let protection = (abi::PROT_READ | abi::PROT_WRITE) as usize;
        let given = [0, PAGE, protection, abi::MAP_SHARED as usize, file.fd.argument(), 0];
        let start = os::raw(abi::__NR_mmap, &given).named("mmap")?;
        store(start, 77);
        os::raw(abi::__NR_msync, &[start, PAGE, abi::MS_SYNC as usize]).named("msync")?;
        os::munmap(start, PAGE).named("munmap")
    };
    let truncate_by_open = || {
        let flags = abi::O_WRONLY | abi::O_TRUNC;
        sys::close(sys::open(name, flags, 0).named("open")?).named("close")
    };
    let second = format!("{path}.second");
    let times = [abi::__kernel_timespec { tv_sec: 5, tv_nsec: 7 }; 2];
    let changes: [(&str, &dyn Fn() -> Outcome); 13] = [
        ("write", &|| file.overwrite(3, 10, 20)),
        ("extension", &|| file.overwrite(3, 100 * PAGE as u64, 20)),
        ("small read", &|| read(100)),
        ("lazy read", &|| read(20 * PAGE)),
        ("store to a mapping", &map),
        ("hole", &|| os::punch_hole(file.fd, 0, 8 * PAGE as u64).named("fallocate")),
        ("truncation", &|| sys::truncate(name, ByteCount(9)).named("truncate")),
        ("permissions", &|| sys::chmod(name, 0o640).named("chmod")),
        ("owner", &|| sys::chown(name, 3, 4).named("chown")),
        ("times", &|| sys::utimens(name, Some(times)).named("utimensat")),
        ("link", &|| sys::link(name, second.as_bytes()).named("link")),
        ("unlink of the link", &|| sys::unlink(second.as_bytes()).named("unlink")),
        ("truncation by open", &truncate_by_open),
    ];
    for (what, change) in changes {
        let before = look(path)?;
        by_another(what, change)?;
        let after = look(path)?;
        check!(after != before, "{what} does not show");
        let open = attributes(&sys::fstat(file.fd).named("fstat")?);
        check_eq!(after, open, "attributes of the path and of the open file after {what}");
    }
    Ok(())
}

/// Names that another process creates, removes or moves.
#[guest_test(mutants: &[Mutant::StatNeverStale])]
fn x10_names_show_at_once() -> Outcome {
    let file = File::make("named", 1, 100)?;
    let (path, own) = (file.path.as_str(), sys::fstat(file.fd).named("fstat")?.st_ino);
    let moved = format!("{path}.moved");
    let is_at = |path: &str, ino: u64| {
        check_eq!(look(path)?[0], ino, "the file at {path}");
        Ok(())
    };
    is_absent(&moved)?;
    is_at(path, own)?;
    by_another("rename", || sys::rename(path.as_bytes(), moved.as_bytes()).named("rename"))?;
    is_absent(path)?;
    is_at(&moved, own)?;
    by_another("create", || sys::close(os::create(path).named("create")?).named("close"))?;
    let other = look(path)?[0];
    check!(other != own, "a new file");
    by_another("replace", || sys::rename(moved.as_bytes(), path.as_bytes()).named("rename"))?;
    is_absent(&moved)?;
    is_at(path, own)?;

    // Through a directory that is moved, and a link that leads to another place.
    let [front, back, link] =
        ["front", "back", "link"].map(|name| format!("{}/{name}", directory()));
    let below = |directory: &str| format!("{directory}/file");
    sys::mkdir(front.as_bytes(), 0o755).named("mkdir")?;
    sys::link(path.as_bytes(), below(&front).as_bytes()).named("link")?;
    sys::symlink(b"front", link.as_bytes()).named("symlink")?;
    is_at(&below(&front), own)?;
    is_at(&below(&link), own)?;
    is_absent(&below(&back))?;
    by_another("move", || sys::rename(front.as_bytes(), back.as_bytes()).named("rename"))?;
    is_at(&below(&back), own)?;
    is_absent(&below(&front))?;
    is_absent(&below(&link))?;
    by_another("another link", || {
        sys::unlink(link.as_bytes()).named("unlink")?;
        sys::symlink(b"back", link.as_bytes()).named("symlink")
    })?;
    is_at(&below(&link), own)?;
    // A file in place of the directory: neither absent nor there.
    by_another("removal", || {
        sys::unlink(below(&back).as_bytes()).named("unlink")?;
        sys::rmdir(back.as_bytes()).named("rmdir")?;
        sys::close(os::create(&back).named("create")?).named("close")
    })?;
    for _ in 0..2 {
        let found = sys::stat(below(&back).as_bytes()).map(drop);
        check_eq!(found, Err(Errno::ENOTDIR), "stat below a file");
    }
    for name in [back, link] {
        sys::unlink(name.as_bytes()).named("unlink")?;
    }
    // Forms of a path, and the working directory.
    for form in [format!("{path}/"), format!("{path}/.")] {
        let found = sys::stat(form.as_bytes()).map(drop);
        check_eq!(found, Err(Errno::ENOTDIR), "stat of {form}");
    }
    for form in [path.replace("/named", "//named"), path.replace("/named", "/./named")] {
        is_at(&form, own)?;
    }
    sys::chdir(directory().as_bytes()).named("chdir")?;
    for form in ["named", "./named", "../../tmp/../tmp"] {
        let expected = if form == "named" || form == "./named" { own } else { look("/tmp")?[0] };
        is_at(form, expected)?;
    }
    sys::chdir(b"/").named("chdir")?;
    is_absent("named")
}

/// A mount covers what is known of a directory and of names in it, however a path is written.
#[guest_test]
fn x10_a_mount_covers_what_is_known() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    // It makes the directory, and keeps it.
    let _file = File::make("beside", 1, 1)?;
    let place = format!("{}/place", directory());
    let twice = format!("/{place}");
    sys::mkdir(place.as_bytes(), 0o755).named("mkdir")?;
    let covered = look(&twice)?[0];
    is_absent(&format!("{place}/null"))?;
    sys::mount(b"none", place.as_bytes(), b"devtmpfs", 0, b"").named("mount")?;
    for path in [&place, &twice] {
        check!(look(path)?[0] != covered, "{path} is what the mount covers");
        look(&format!("{path}/null"))?;
    }
    let target = format!("{place}\0");
    os::raw(abi::__NR_umount2, &[target.as_ptr() as usize, 0]).named("umount")?;
    check_eq!(look(&twice)?[0], covered, "the directory after the mount");
    sys::rmdir(place.as_bytes()).named("rmdir")
}

/// While nothing changes, attributes need no message, nor does a name that is absent.
#[guest_test]
fn x10_known_attributes_need_no_message() -> Outcome {
    const LOOKS: i64 = 100;
    if !lazy::present() {
        return Ok(());
    }
    let file = File::make("known", 1, 100)?;
    let absent = format!("{}.absent", file.path);
    let paths = [file.path.as_str(), absent.as_str()];
    let look = || {
        for path in paths {
            let _: sys::Result<()> = sys::stat(path.as_bytes()).map(drop);
        }
    };
    look();
    let meter = Meter::start()?;
    (0..LOOKS).for_each(|_| look());
    meter.expect_system("stats_known", 2 * LOOKS)?;
    // Closes may be on their way.
    meter.expect_system_within("messages_sent", 0, 3)
}
