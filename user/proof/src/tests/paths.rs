//! Where paths start and how deep they lead; owners, times, and files without names.

use core::mem::{MaybeUninit, size_of};
use core::time::Duration;

use proof::guest_test;
use proof::kit::{Outcome, content, file, raw};
use user::prelude::*;
use user::sys::abi;

const HERE: Fd = Fd::WORKING_DIRECTORY;

/// A call on a path below a directory's descriptor, with further arguments.
fn at(call: u32, dir: Fd, path: &[u8], rest: &[usize]) -> sys::Result<usize> {
    let path = [path, b"\0"].concat();
    let mut arguments = vec![dir.argument(), path.as_ptr() as usize];
    arguments.extend_from_slice(rest);
    raw(call, &arguments)
}

/// A call on two paths below descriptors.
fn between(call: u32, from: (Fd, &[u8]), to: (Fd, &[u8]), flags: usize) -> sys::Result<usize> {
    let (old, new) = ([from.1, b"\0"].concat(), [to.1, b"\0"].concat());
    let [old, new] = [old.as_ptr() as usize, new.as_ptr() as usize];
    raw(call, &[from.0.argument(), old, to.0.argument(), new, flags])
}

/// Calls on paths below something that is no directory fail with ENOTDIR: a file, a device, a pipe.
#[guest_test]
fn path_bases_are_directories() -> Outcome {
    let plain = file(b"f", b"")?;
    let null = ok!(sys::open(b"/dev/null", abi::O_RDWR, 0));
    let zero = ok!(sys::open(b"/dev/zero", abi::O_PATH, 0));
    let [pipe, _] = ok!(sys::pipe(0));
    let text = ok!(sys::open(b"/proc/self/stat", abi::O_RDONLY, 0));
    let target = c"x".as_ptr() as usize;
    for base in [plain, null, zero, pipe, text] {
        let absent = |path: &[u8]| {
            let name = path.as_ptr() as usize;
            [
                at(abi::__NR_openat, base, path, &[abi::O_RDONLY as usize, 0]),
                at(abi::__NR_openat, base, path, &[(abi::O_RDWR | abi::O_CREAT) as usize, 0o600]),
                at(abi::__NR_mkdirat, base, path, &[0o755]),
                at(abi::__NR_mknodat, base, path, &[(abi::S_IFIFO | 0o600) as usize, 0]),
                at(abi::__NR_unlinkat, base, path, &[0]),
                at(abi::__NR_unlinkat, base, path, &[abi::AT_REMOVEDIR as usize]),
                at(abi::__NR_faccessat, base, path, &[0]),
                at(abi::__NR_fchmodat, base, path, &[0o644]),
                at(abi::__NR_fchownat, base, path, &[0, 0, 0]),
                at(abi::__NR_utimensat, base, path, &[0, 0]),
                raw(abi::__NR_symlinkat, &[target, base.argument(), name]),
                between(abi::__NR_linkat, (HERE, b"f"), (base, path), 0),
                between(abi::__NR_linkat, (base, path), (HERE, b"g"), 0),
                between(abi::__NR_renameat, (HERE, b"f"), (base, path), 0),
                between(abi::__NR_renameat, (base, path), (HERE, b"g"), 0),
            ]
        };
        for (number, result) in absent(b"a\0").into_iter().chain(absent(b"a/b\0")).enumerate() {
            check_eq!(result, Err(Errno::ENOTDIR), "call {number} below {base}");
        }
        check_eq!(raw(abi::__NR_fchdir, &[base.argument()]), Err(Errno::ENOTDIR));
    }
    for path in [b"/dev/null/a".as_slice(), b"/dev/null/a/b", b"f/a"] {
        check_eq!(sys::mkdir(path, 0o755), Err(Errno::ENOTDIR));
        check_eq!(sys::unlink(path), Err(Errno::ENOTDIR));
        check_eq!(sys::symlink(b"x", path), Err(Errno::ENOTDIR));
        check_eq!(sys::rename(b"f", path), Err(Errno::ENOTDIR));
        check_eq!(sys::link(b"f", path), Err(Errno::ENOTDIR));
    }
    check_eq!(sys::mkdir(b"/dev/null", 0o755), Err(Errno::EEXIST));
    check_eq!(sys::mkdir(b"/proc/self", 0o755), Err(Errno::EEXIST));
    check_eq!(sys::link(b"f", b"/dev/none/a"), Err(Errno::ENOENT));
    check_eq!(sys::rename(b"f", b"/dev/none/a"), Err(Errno::ENOENT));
    check_eq!(content(b"f")?, b"");
    Ok(())
}

/// Folders in each other, to any depth, by relative names. getcwd(2) has no name for them that a
/// program could pass.
#[guest_test(timeout_s: 240)]
fn path_folders_in_each_other() -> Outcome {
    const DEPTH: usize = 3000;
    let mut here = ok!(sys::open(b".", abi::O_RDONLY | abi::O_DIRECTORY, 0));
    for level in 0..DEPTH {
        ok!(at(abi::__NR_mkdirat, here, b"dddd", &[0o755]));
        let flags = (abi::O_RDONLY | abi::O_DIRECTORY) as usize;
        let next = at(abi::__NR_openat, here, b"dddd", &[flags, 0]);
        check!(next.is_ok(), "level {level}: {next:?}");
        ok!(sys::close(here));
        here = Fd(ok!(next) as i32);
    }
    ok!(raw(abi::__NR_fchdir, &[here.argument()]));
    check_eq!(sys::getcwd().map(drop), Err(Errno::ENAMETOOLONG));
    let fd = file(b"f", b"deep")?;
    check_eq!(content(b"./f")?, b"deep");
    check_eq!(ok!(sys::stat(b"f")).st_ino, ok!(sys::fstat(fd)).st_ino);
    check_eq!(content(b"../dddd/f")?, b"deep");
    check_eq!(sys::rename(b"f", b"g"), Ok(()));
    ok!(sys::unlink(b"g"));
    for _ in 0..DEPTH {
        ok!(sys::chdir(b".."));
        ok!(sys::rmdir(b"dddd"));
    }
    check!(sys::getcwd().is_ok());
    Ok(())
}

/// Limits of names that a program passes: 255 bytes of a component, 4095 of a path, 40 links.
#[guest_test]
fn path_limits() -> Outcome {
    let name = [b'n'; 256];
    check_eq!(sys::mkdir(&name, 0o755), Err(Errno::ENAMETOOLONG));
    ok!(sys::mkdir(&name[..255], 0o755));
    let dots = b"./".repeat(2047);
    check!(sys::stat(&[&dots, b".".as_slice()].concat()).is_ok());
    check_eq!(sys::stat(&[&dots, b"./".as_slice()].concat()).map(drop), Err(Errno::ENAMETOOLONG));
    check_eq!(sys::symlink(&[b't'; 4096], b"s"), Err(Errno::ENAMETOOLONG));
    ok!(sys::symlink(&[b't'; 4095], b"s"));
    check_eq!(ok!(sys::readlink(b"s")).len(), 4095);
    file(b"l0", b"end")?;
    for number in 1..=41 {
        let [from, to] = [number - 1, number].map(|number| format!("l{number}"));
        ok!(sys::symlink(from.as_bytes(), to.as_bytes()));
    }
    check_eq!(content(b"l40")?, b"end");
    check_eq!(sys::stat(b"l41").map(drop), Err(Errno::ELOOP));
    check_eq!(sys::stat(b"l0/").map(drop), Err(Errno::ENOTDIR));
    check_eq!(sys::open(b"new/", abi::O_CREAT | abi::O_WRONLY, 0o600), Err(Errno::EISDIR));
    Ok(())
}

/// A removed working directory has no name and takes no files.
#[guest_test]
fn path_of_a_removed_directory() -> Outcome {
    ok!(sys::mkdir(b"d", 0o755));
    let top = ok!(sys::getcwd());
    ok!(sys::chdir(b"d"));
    let here = ok!(sys::open(b".", abi::O_RDONLY, 0));
    ok!(sys::rmdir(b"../d"));
    check_eq!(sys::getcwd().map(drop), Err(Errno::ENOENT));
    check_eq!(sys::open(b"f", abi::O_CREAT | abi::O_WRONLY, 0o600), Err(Errno::ENOENT));
    check_eq!(sys::getdents64(here, &mut [0; 512]), Err(Errno::ENOENT));
    check_eq!(at(abi::__NR_mkdirat, here, b"e", &[0o755]), Err(Errno::ENOENT));
    ok!(sys::chdir(&top));
    Ok(())
}

fn own(fd: Fd, uid: i32, gid: i32) -> sys::Result<usize> {
    raw(abi::__NR_fchown, &[fd.argument(), uid as usize, gid as usize])
}

fn mode_after(path: &[u8], mode: u32, uid: i32, gid: i32) -> Outcome<u32> {
    ok!(sys::chmod(path, mode));
    let call = [uid as usize, gid as usize, abi::AT_SYMLINK_NOFOLLOW as usize];
    ok!(at(abi::__NR_fchownat, HERE, path, &call));
    Ok(ok!(sys::stat(path)).st_mode & 0o7777)
}

/// A change of the owner, even to the same one, clears the bits by which a program acts as its
/// owner; a directory keeps them. Writes and truncation by root leave them.
#[guest_test]
fn path_new_owners_clear_bits() -> Outcome {
    let fd = file(b"f", b"program")?;
    check_eq!(mode_after(b"f", 0o6770, 700, 701)?, 0o770);
    check_eq!(mode_after(b"f", 0o6755, -1, -1)?, 0o755);
    check_eq!(mode_after(b"f", 0o2760, 0, -1)?, 0o2760, "the group may not execute it");
    check_eq!(mode_after(b"f", 0o4644, 0, 0)?, 0o644);
    ok!(sys::chmod(b"f", 0o6777));
    ok!(own(fd, 5, 6));
    let stat = ok!(sys::fstat(fd));
    check_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o777, 5, 6));
    ok!(own(fd, 0, 0));
    ok!(sys::chmod(b"f", 0o6755));
    ok!(sys::pwrite(fd, b"P", FileOffset::ZERO));
    ok!(sys::ftruncate(fd, ByteCount(3)));
    check_eq!(ok!(sys::fstat(fd)).st_mode & 0o7777, 0o6755);
    ok!(sys::mkdir(b"d", 0o755));
    check_eq!(mode_after(b"d", 0o6755, 0, 77)?, 0o6755);
    // What is made in it belongs to its group.
    ok!(sys::mkdir(b"d/e", 0o755));
    let below = ok!(sys::stat(b"d/e"));
    check_eq!((below.st_gid, below.st_mode & 0o7777), (77, 0o2755));
    file(b"d/f", b"")?;
    let below = ok!(sys::stat(b"d/f"));
    check_eq!((below.st_gid, below.st_mode & 0o7777), (77, 0o644));
    Ok(())
}

/// A read of a file opened with `O_NOATIME` leaves its access time; F_GETFL shows the flag.
#[guest_test]
fn path_access_times_can_stay() -> Outcome {
    let fd = file(b"f", &[b'x'; 40_000])?;
    let time = |seconds| abi::__kernel_timespec { tv_sec: seconds, tv_nsec: 0 };
    ok!(sys::utimens(b"f", Some([time(1000), time(2000)])));
    let quiet = ok!(sys::open(b"f", abi::O_RDONLY | abi::O_NOATIME, 0));
    let mut bytes = vec![0; 40_000];
    check_eq!(sys::read(quiet, &mut bytes[..1]), Ok(1));
    check_eq!(sys::pread(quiet, &mut bytes, FileOffset::ZERO), Ok(40_000));
    check_eq!(ok!(sys::stat(b"f")).st_atime, 1000);
    let flags = raw(abi::__NR_fcntl, &[quiet.argument(), abi::F_GETFL as usize]);
    check!(ok!(flags) as u32 & abi::O_NOATIME != 0);
    check_eq!(sys::read(fd, &mut bytes[..1]), Ok(1));
    check!(ok!(sys::stat(b"f")).st_atime > 1000);
    Ok(())
}

fn extended(fd: Fd) -> Outcome<abi::statx> {
    let mut stat = MaybeUninit::<abi::statx>::zeroed();
    let wanted = (abi::STATX_BASIC_STATS | abi::STATX_BTIME) as usize;
    let rest = [abi::AT_EMPTY_PATH as usize, wanted, stat.as_mut_ptr() as usize];
    check_eq!(size_of::<abi::statx>(), 256);
    ok!(at(abi::__NR_statx, fd, b"", &rest));
    // SAFETY: the structure is plain numbers, for which zero is a value.
    Ok(unsafe { stat.assume_init() })
}

/// statx(2) reports when a file was made, which nothing changes.
#[guest_test]
fn path_birth_times() -> Outcome {
    let before = ok!(sys::clock(abi::CLOCK_REALTIME)).as_secs() as i64;
    let fd = file(b"f", b"new")?;
    let born = extended(fd)?;
    check!(born.stx_mask & abi::STATX_BTIME != 0, "mask {:#x}", born.stx_mask);
    check!((before - 1..before + 60).contains(&born.stx_btime.tv_sec));
    let _ = sys::sleep(Duration::from_millis(30));
    ok!(sys::write_all(fd, b"changed"));
    ok!(sys::utimens(b"f", None));
    ok!(sys::rename(b"f", b"g"));
    let later = extended(fd)?;
    let of = |time: abi::statx_timestamp| (time.tv_sec, time.tv_nsec);
    check_eq!(of(later.stx_btime), of(born.stx_btime));
    check!(of(later.stx_mtime) > of(born.stx_mtime));
    Ok(())
}

/// A file made without a name gets one by linkat(2), with an empty path or through `/proc`, unless
/// it was made with `O_EXCL`.
#[guest_test]
fn path_files_without_names() -> Outcome {
    let make = |flags: u32| sys::open(b".", abi::O_TMPFILE | abi::O_RDWR | flags, 0o640);
    let fd = ok!(make(0));
    check_eq!(ok!(sys::fstat(fd)).st_nlink, 0);
    ok!(sys::write_all(fd, b"unnamed"));
    let empty = abi::AT_EMPTY_PATH as usize;
    check_eq!(between(abi::__NR_linkat, (fd, b""), (HERE, b"a"), empty), Ok(0));
    let path = format!("/proc/self/fd/{}", fd.0);
    let follow = abi::AT_SYMLINK_FOLLOW as usize;
    check_eq!(between(abi::__NR_linkat, (HERE, path.as_bytes()), (HERE, b"b"), follow), Ok(0));
    check_eq!((content(b"a")?, content(b"b")?), (b"unnamed".to_vec(), b"unnamed".to_vec()));
    let stat = ok!(sys::stat(b"a"));
    check_eq!((stat.st_nlink, stat.st_mode & 0o777), (2, 0o640));
    let closed = ok!(make(abi::O_EXCL));
    check_eq!(between(abi::__NR_linkat, (closed, b""), (HERE, b"c"), empty), Err(Errno::ENOENT));
    ok!(sys::unlink(b"a"));
    ok!(sys::unlink(b"b"));
    check_eq!(between(abi::__NR_linkat, (fd, b""), (HERE, b"d"), empty), Err(Errno::ENOENT));
    check_eq!(sys::open(b".", abi::O_TMPFILE, 0o600), Err(Errno::EINVAL));
    check_eq!(sys::open(b"none", abi::O_TMPFILE | abi::O_RDWR, 0o600), Err(Errno::ENOENT));
    let shown = ok!(sys::readlink(format!("/proc/self/fd/{}", closed.0).as_bytes()));
    check!(shown.ends_with(b" (deleted)"), "{}", Show(&shown));
    Ok(())
}

/// fchmodat2, utimensat and the calls for extended attributes check their arguments as Linux does.
#[guest_test]
fn path_arguments_are_checked() -> Outcome {
    let fd = file(b"f", b"")?;
    ok!(sys::symlink(b"f", b"s"));
    const FCHMODAT2: u32 = 452;
    let no_follow = abi::AT_SYMLINK_NOFOLLOW as usize;
    check_eq!(at(FCHMODAT2, HERE, b"f", &[0o604, 0]), Ok(0));
    check_eq!(at(FCHMODAT2, fd, b"", &[0o604, abi::AT_EMPTY_PATH as usize]), Ok(0));
    check_eq!(ok!(sys::stat(b"f")).st_mode & 0o777, 0o604);
    check_eq!(at(FCHMODAT2, HERE, b"s", &[0o600, no_follow]), Err(Errno::EOPNOTSUPP));
    check_eq!(at(FCHMODAT2, HERE, b"f", &[0o600, 1]), Err(Errno::EINVAL));
    let stamp = |dir: Fd, flags: usize| raw(abi::__NR_utimensat, &[dir.argument(), 0, 0, flags]);
    check_eq!(stamp(fd, 0), Ok(0));
    check_eq!(stamp(fd, no_follow), Err(Errno::EINVAL));
    check_eq!(stamp(HERE, 0), Err(Errno::EFAULT));
    check_eq!(stamp(ok!(sys::open(b"f", abi::O_PATH, 0)), 0), Err(Errno::EBADF));
    let set = |name: &[u8], bytes: usize, flags: usize| {
        let (name, value) = (name.as_ptr() as usize, b"value".as_ptr() as usize);
        raw(abi::__NR_fsetxattr, &[fd.argument(), name, value, bytes, flags])
    };
    let long = [&[b'n'; 256], b"\0".as_slice()].concat();
    check_eq!(set(b"user.a\0", 5, 4), Err(Errno::EINVAL));
    check_eq!(set(b"\0", 5, 0), Err(Errno::ERANGE));
    check_eq!(set(&long, 5, 0), Err(Errno::ERANGE));
    check_eq!(set(b"user.a\0", 65_537, 0), Err(Errno::E2BIG));
    let get =
        |name: &[u8]| raw(abi::__NR_fgetxattr, &[fd.argument(), name.as_ptr() as usize, 0, 0]);
    check_eq!(get(b"\0"), Err(Errno::ERANGE));
    check!(matches!(get(b"user.a\0"), Err(Errno::ENODATA | Errno::EOPNOTSUPP)));
    Ok(())
}
