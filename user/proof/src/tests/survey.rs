//! Less usual calls that other programs make: variants of common calls, and calls that must be
//! refused in the right way.

use proof::guest_test;
use proof::kit::{Outcome, content, file, raw};
use user::prelude::*;
use user::sys::abi;

/// The working directory, as first argument of the `*at` calls.
const HERE: usize = abi::AT_FDCWD as isize as usize;

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default())
}

#[guest_test]
fn survey_statx() -> Outcome {
    let fd = file(b"f", &[1; 5000])?;
    let stat = ok!(sys::fstat(fd));
    let mut attributes = [0u8; 256];
    let basic = abi::STATX_BASIC_STATS as usize;
    let name = c"f".as_ptr() as usize;
    check_eq!(
        raw(abi::__NR_statx, &[HERE, name, 0, basic, attributes.as_mut_ptr() as usize]),
        Ok(0)
    );
    check_eq!(word(&attributes, 0) as usize & basic, basic);
    check_eq!(word(&attributes, 0) >> 32, stat.st_blksize as u64);
    check_eq!(word(&attributes, 16) & 0xffff_ffff, 1);
    check_eq!(word(&attributes, 24) >> 32 & 0xffff, u64::from(stat.st_mode));
    check_eq!((word(&attributes, 32), word(&attributes, 40)), (stat.st_ino, 5000));
    check_eq!(
        (word(&attributes, 112), word(&attributes, 120) & 0xffff_ffff),
        (stat.st_mtime as u64, stat.st_mtime_nsec as u64)
    );
    // By descriptor, of a link, and refused.
    let empty = c"".as_ptr() as usize;
    let to = attributes.as_mut_ptr() as usize;
    check_eq!(
        raw(abi::__NR_statx, &[fd.argument(), empty, abi::AT_EMPTY_PATH as usize, basic, to]),
        Ok(0)
    );
    ok!(sys::symlink(b"f", b"link"));
    let link = c"link".as_ptr() as usize;
    check_eq!(
        raw(abi::__NR_statx, &[HERE, link, abi::AT_SYMLINK_NOFOLLOW as usize, basic, to]),
        Ok(0)
    );
    check_eq!(word(&attributes, 24) >> 32 & 0o170_000, u64::from(abi::S_IFLNK));
    check_eq!(
        raw(abi::__NR_statx, &[HERE, c"none".as_ptr() as usize, 0, basic, to]),
        Err(Errno::ENOENT)
    );
    check_eq!(raw(abi::__NR_statx, &[HERE, name, 0x6000, basic, to]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_statx, &[HERE, name, 0, 0x8000_0000, to]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_statx, &[HERE, name, 0, basic, 8]), Err(Errno::EFAULT));
    Ok(())
}

#[guest_test]
fn survey_getdents() -> Outcome {
    file(b"one", b"")?;
    ok!(sys::mkdir(b"two", 0o755));
    let fd = ok!(sys::open(b".", abi::O_RDONLY | abi::O_DIRECTORY, 0));
    let mut entries = Vec::new();
    loop {
        // Space for about two entries: the position is kept between calls.
        let mut buffer = [0xffu8; 56];
        let bytes = ok!(raw(
            abi::__NR_getdents,
            &[fd.argument(), buffer.as_mut_ptr() as usize, buffer.len()]
        ));
        if bytes == 0 {
            break;
        }
        let mut at = 0;
        while at < bytes {
            let length = usize::from(u16::from_le_bytes([buffer[at + 16], buffer[at + 17]]));
            let name: Vec<u8> = buffer[at + 18..at + length]
                .iter()
                .copied()
                .take_while(|&byte| byte != 0)
                .collect();
            entries.push((name, buffer[at + length - 1]));
            at += length;
        }
    }
    entries.sort();
    let wanted: Vec<(Vec<u8>, u8)> = [(&b"."[..], 4), (b"..", 4), (b"one", 8), (b"two", 4)]
        .map(|(name, kind)| (name.to_vec(), kind))
        .to_vec();
    check_eq!(entries, wanted);
    check_eq!(raw(abi::__NR_getdents, &[fd.argument(), [0u8; 8].as_mut_ptr() as usize, 8]), Ok(0));
    ok!(sys::lseek(fd, 0, abi::SEEK_SET));
    check_eq!(
        raw(abi::__NR_getdents, &[fd.argument(), [0u8; 8].as_mut_ptr() as usize, 8]),
        Err(Errno::EINVAL)
    );
    Ok(())
}

#[guest_test]
fn survey_extended_attributes() -> Outcome {
    let fd = file(b"f", b"")?;
    let (path, name) = (c"f".as_ptr() as usize, c"security.sloth".as_ptr() as usize);
    let mut value = [0u8; 8];
    let to = value.as_mut_ptr() as usize;
    // The error depends on the file system; programs treat both as "none".
    let none = |result| matches!(result, Err(Errno::ENODATA | Errno::EOPNOTSUPP));
    check!(none(raw(abi::__NR_getxattr, &[path, name, to, 8])));
    check!(none(raw(abi::__NR_lgetxattr, &[path, name, to, 8])));
    check!(none(raw(abi::__NR_fgetxattr, &[fd.argument(), name, to, 8])));
    check_eq!(raw(abi::__NR_listxattr, &[path, to, 8]), Ok(0));
    check_eq!(raw(abi::__NR_flistxattr, &[fd.argument(), to, 8]), Ok(0));
    check_eq!(
        raw(abi::__NR_getxattr, &[c"none".as_ptr() as usize, name, to, 8]),
        Err(Errno::ENOENT)
    );
    Ok(())
}

#[guest_test]
fn survey_nodes() -> Outcome {
    let path = c"node".as_ptr() as usize;
    check_eq!(raw(abi::__NR_mknod, &[path, 0o100_640, 0]), Ok(0));
    check_eq!(ok!(sys::stat(b"node")).st_mode, 0o100_640);
    check_eq!(content(b"node")?, b"");
    check_eq!(raw(abi::__NR_mknodat, &[HERE, path, 0o600, 0]), Err(Errno::EEXIST));
    check_eq!(raw(abi::__NR_mknod, &[path, 0o010_600, 0]), Err(Errno::EEXIST));
    check_eq!(
        raw(abi::__NR_mknod, &[c"directory".as_ptr() as usize, 0o040_700, 0]),
        Err(Errno::EPERM)
    );
    check_eq!(raw(abi::__NR_mknod, &[c"x".as_ptr() as usize, 0o150_000, 0]), Err(Errno::EINVAL));
    Ok(())
}

#[guest_test]
fn survey_times() -> Outcome {
    let fd = file(b"f", b"")?;
    let path = c"f".as_ptr() as usize;
    let times = |fd| -> Outcome<(u64, u64, u64, u64)> {
        let stat = ok!(sys::fstat(fd));
        Ok((
            stat.st_atime as u64,
            stat.st_atime_nsec as u64,
            stat.st_mtime as u64,
            stat.st_mtime_nsec as u64,
        ))
    };
    check_eq!(raw(abi::__NR_utime, &[path, [100u64, 200].as_ptr() as usize]), Ok(0));
    check_eq!(times(fd)?, (100, 0, 200, 0));
    check_eq!(raw(abi::__NR_utimes, &[path, [300u64, 4, 500, 600].as_ptr() as usize]), Ok(0));
    check_eq!(times(fd)?, (300, 4000, 500, 600_000));
    check_eq!(raw(abi::__NR_futimesat, &[HERE, path, [7u64, 0, 8, 0].as_ptr() as usize]), Ok(0));
    check_eq!(times(fd)?, (7, 0, 8, 0));
    check_eq!(
        raw(abi::__NR_utimes, &[path, [1u64, 1_000_000, 1, 0].as_ptr() as usize]),
        Err(Errno::EINVAL)
    );
    check_eq!(raw(abi::__NR_utime, &[path, 0]), Ok(0));
    check!(times(fd)?.2 > 500);
    Ok(())
}

#[guest_test]
fn survey_identities() -> Outcome {
    const SAME: usize = u32::MAX as usize;
    let mut ids = [9u32; 3];
    let at = |index: usize| ids.as_ptr() as usize + index * 4;
    check_eq!(raw(abi::__NR_getresuid, &[at(0), at(1), at(2)]), Ok(0));
    ids = core::hint::black_box(ids);
    check_eq!(ids, [0; 3]);
    check_eq!(raw(abi::__NR_setresuid, &[0, SAME, 0]), Ok(0));
    check_eq!(raw(abi::__NR_setreuid, &[SAME, 0]), Ok(0));
    check_eq!(raw(abi::__NR_setresgid, &[SAME, SAME, SAME]), Ok(0));
    check_eq!(raw(abi::__NR_setgroups, &[0, 0]), Ok(0));
    check_eq!(raw(abi::__NR_getpriority, &[0, 0]), Ok(20));
    check_eq!(raw(abi::__NR_getpriority, &[3, 0]), Err(Errno::EINVAL));
    let fd = file(b"f", b"")?;
    check_eq!(raw(abi::__NR_fadvise64, &[fd.argument(), 0, 0, 2]), Ok(0));
    check_eq!(raw(abi::__NR_fadvise64, &[fd.argument(), 0, 0, 99]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_fadvise64, &[999, 0, 0, 0]), Err(Errno::EBADF));
    Ok(())
}

/// What is written to /dev/kmsg is in the kernel's log, which /dev/kmsg and syslog(2) give.
#[guest_test]
fn survey_kernel_log() -> Outcome {
    // The log of a Linux host is not the test's.
    if !proof::omitted::is_ours() {
        return Ok(());
    }
    let log = ok!(sys::open(b"/dev/kmsg", abi::O_RDWR | abi::O_NONBLOCK, 0));
    check_eq!(sys::write(log, b"a message from a program\n"), Ok(25));
    let mut last = Vec::new();
    let end = loop {
        let mut buffer = [0; 1024];
        match sys::read(log, &mut buffer) {
            Ok(count) => last = buffer[..count].to_vec(),
            Err(error) => break error,
        }
    };
    check_eq!(end, Errno::EAGAIN);
    check!(last.starts_with(b"6,") && last.ends_with(b",-;a message from a program\n"));
    check!(ok!(sys::kernel_log()).ends_with(b"] a message from a program\n"));
    check_eq!(sys::write(log, &[b'x'; 3000]), Ok(3000));
    check_eq!(sys::read(log, &mut [0; 100]), Err(Errno::EINVAL));
    // Without O_NONBLOCK, the end of the messages is the end of the file.
    let log = ok!(sys::open(b"/dev/kmsg", abi::O_RDONLY, 0));
    while ok!(sys::read(log, &mut [0; 1024])) > 0 {}
    // As much of the newest messages as fits.
    let mut short = [0; 600];
    let length = ok!(raw(abi::__NR_syslog, &[3, short.as_mut_ptr() as usize, short.len()]));
    check!(length > 512 && short.starts_with(b"<6>") && short[length - 1] == b'\n');
    check_eq!(raw(abi::__NR_syslog, &[99, 0, 0]), Err(Errno::EINVAL));
    Ok(())
}
