//! Holes, storage, advice, and the flags of transfers.

use proof::guest_test;
use proof::kit::{Outcome, content, file, raw};
use user::prelude::*;
use user::sys::abi;

const KEEP: u32 = abi::FALLOC_FL_KEEP_SIZE;
const PUNCH: u32 = abi::FALLOC_FL_PUNCH_HOLE;
/// Bytes of a piece of the tests' files: holes on Linux's file systems are no smaller.
const PIECE: u64 = 65536;

fn seek(fd: Fd, at: u64, whence: u32) -> sys::Result<u64> {
    sys::lseek(fd, at as i64, whence)
}

fn allocate(fd: Fd, mode: u32, offset: i64, length: i64) -> sys::Result<usize> {
    raw(abi::__NR_fallocate, &[fd.argument(), mode as usize, offset as usize, length as usize])
}

/// SEEK_HOLE and SEEK_DATA find what was punched and what was never written; ENXIO past the end,
/// and where no data follow.
#[guest_test]
fn range_holes_are_found() -> Outcome {
    let fd = file(b"f", &[b'x'; 4 * PIECE as usize])?;
    check_eq!(seek(fd, 0, abi::SEEK_HOLE), Ok(4 * PIECE));
    check_eq!(seek(fd, 5, abi::SEEK_DATA), Ok(5));
    ok!(allocate(fd, PUNCH | KEEP, PIECE as i64, PIECE as i64));
    check_eq!(seek(fd, 0, abi::SEEK_HOLE), Ok(PIECE));
    check_eq!(seek(fd, PIECE, abi::SEEK_DATA), Ok(2 * PIECE));
    check_eq!(sys::lseek(fd, 0, abi::SEEK_CUR), Ok(2 * PIECE));
    check_eq!(seek(fd, PIECE + 7, abi::SEEK_HOLE), Ok(PIECE + 7));
    check_eq!(seek(fd, 2 * PIECE, abi::SEEK_HOLE), Ok(4 * PIECE));
    check_eq!(seek(fd, 4 * PIECE, abi::SEEK_HOLE), Err(Errno::ENXIO));
    check_eq!(seek(fd, 4 * PIECE, abi::SEEK_DATA), Err(Errno::ENXIO));
    check_eq!(sys::lseek(fd, -1, abi::SEEK_DATA), Err(Errno::ENXIO));
    ok!(sys::ftruncate(fd, ByteCount(8 * PIECE)));
    check_eq!(seek(fd, 5 * PIECE, abi::SEEK_DATA), Err(Errno::ENXIO));
    check_eq!(seek(fd, 5 * PIECE, abi::SEEK_HOLE), Ok(5 * PIECE));
    // More holes than one message lists.
    for piece in 0..300 {
        ok!(sys::pwrite(fd, b"data", FileOffset((10 + 2 * piece) * PIECE)));
    }
    check_eq!(seek(fd, 608 * PIECE, abi::SEEK_HOLE), Ok(608 * PIECE + 4));
    check_eq!(seek(fd, 600 * PIECE + 4096, abi::SEEK_DATA), Ok(602 * PIECE));
    let bytes = content(b"f")?;
    check!(bytes[PIECE as usize..2 * PIECE as usize].iter().all(|byte| *byte == 0));
    check!(bytes[..PIECE as usize].iter().all(|byte| *byte == b'x'));
    let [reader, _] = ok!(sys::pipe(0));
    check_eq!(sys::lseek(reader, 0, abi::SEEK_HOLE), Err(Errno::ESPIPE));
    check_eq!(sys::lseek(fd, 0, 9), Err(Errno::EINVAL));
    Ok(())
}

/// fallocate(2): storage, zeros, and what is refused with which error.
#[guest_test]
fn range_storage() -> Outcome {
    let fd = file(b"f", &[b'x'; 8192])?;
    ok!(allocate(fd, KEEP, 0, 3 * PIECE as i64));
    check_eq!(ok!(sys::fstat(fd)).st_size, 8192);
    ok!(allocate(fd, 0, 0, PIECE as i64));
    check_eq!(ok!(sys::fstat(fd)).st_size, PIECE as i64);
    let zeroed = allocate(fd, abi::FALLOC_FL_ZERO_RANGE, 100, PIECE as i64);
    if zeroed != Err(Errno::EOPNOTSUPP) {
        check_eq!(zeroed, Ok(0));
        let bytes = content(b"f")?;
        check_eq!(bytes.len() as u64, PIECE + 100);
        check!(bytes.iter().enumerate().all(|(at, byte)| (*byte == b'x') == (at < 100)));
    }
    for (mode, offset, length, error) in [
        (0, -1, 10, Errno::EINVAL),
        (0, 0, 0, Errno::EINVAL),
        (0, 0, -1, Errno::EINVAL),
        (0, i64::MAX, 1, Errno::EFBIG),
        (PUNCH, 0, 10, Errno::EOPNOTSUPP),
        (PUNCH | KEEP | abi::FALLOC_FL_ZERO_RANGE, 0, 10, Errno::EOPNOTSUPP),
        (abi::FALLOC_FL_COLLAPSE_RANGE | KEEP, 0, 4096, Errno::EOPNOTSUPP),
        (abi::FALLOC_FL_INSERT_RANGE | KEEP, 0, 4096, Errno::EOPNOTSUPP),
        (0x1000, 0, 10, Errno::EOPNOTSUPP),
    ] {
        check_eq!(allocate(fd, mode, offset, length), Err(error), "mode {mode:#x}");
    }
    let reader = ok!(sys::open(b"f", abi::O_RDONLY, 0));
    check_eq!(allocate(reader, 0, 0, 10), Err(Errno::EBADF));
    check_eq!(allocate(Fd(99), 0, 0, 10), Err(Errno::EBADF));
    let [_, writer] = ok!(sys::pipe(0));
    check_eq!(allocate(writer, 0, 0, 10), Err(Errno::ESPIPE));
    let null = ok!(sys::open(b"/dev/null", abi::O_RDWR, 0));
    check_eq!(allocate(null, 0, 0, 10), Err(Errno::ENODEV));
    Ok(())
}

/// readahead, sync_file_range and fadvise64 check their arguments, and change nothing.
#[guest_test]
fn range_advice() -> Outcome {
    let fd = file(b"f", b"bytes")?;
    let [reader, writer] = ok!(sys::pipe(0));
    let ahead = |fd: Fd| raw(abi::__NR_readahead, &[fd.argument(), 0, 4096]);
    check_eq!(ahead(fd), Ok(0));
    check_eq!(ahead(reader), Err(Errno::EINVAL));
    check_eq!(ahead(writer), Err(Errno::EBADF));
    check_eq!(ahead(Fd(99)), Err(Errno::EBADF));
    let sync = |fd: Fd, offset: i64, length: i64, flags: usize| {
        let call = abi::__NR_sync_file_range;
        raw(call, &[fd.argument(), offset as usize, length as usize, flags])
    };
    check_eq!(sync(fd, 0, 0, 7), Ok(0));
    check_eq!(sync(fd, 0, 0, 8), Err(Errno::EINVAL));
    check_eq!(sync(fd, -1, 1, 1), Err(Errno::EINVAL));
    check_eq!(sync(fd, 1, -2, 1), Err(Errno::EINVAL));
    check_eq!(sync(reader, 0, 1, 1), Err(Errno::ESPIPE));
    check_eq!(sync(Fd(99), 0, 1, 1), Err(Errno::EBADF));
    let advise = |fd: Fd, advice: usize| raw(abi::__NR_fadvise64, &[fd.argument(), 0, 0, advice]);
    check_eq!(advise(fd, 3), Ok(0));
    check_eq!(advise(fd, 6), Err(Errno::EINVAL));
    check_eq!(advise(reader, 3), Err(Errno::ESPIPE));
    Ok(())
}

/// preadv2 and pwritev2: positions, appending, and unknown flags.
#[guest_test]
fn range_transfer_flags() -> Outcome {
    let fd = file(b"f", b"0123456789")?;
    let mut bytes = *b"abc";
    let vector = [bytes.as_mut_ptr() as usize, 3];
    let transfer = |call: u32, fd: Fd, at: i64, flags: u32| {
        raw(call, &[fd.argument(), vector.as_ptr() as usize, 1, at as usize, 0, flags as usize])
    };
    let (read, write) = (abi::__NR_preadv2, abi::__NR_pwritev2);
    check_eq!(transfer(write, fd, 2, abi::RWF_APPEND), Ok(3));
    check_eq!(sys::lseek(fd, 0, abi::SEEK_CUR), Ok(0));
    check_eq!(content(b"f")?, b"0123456789abc");
    check_eq!(transfer(write, fd, -1, abi::RWF_APPEND), Ok(3));
    check_eq!(sys::lseek(fd, 0, abi::SEEK_CUR), Ok(16));
    check_eq!(transfer(write, fd, 0, abi::RWF_SYNC), Ok(3));
    check_eq!(transfer(write, fd, 3, abi::RWF_DSYNC), Ok(3));
    check_eq!(content(b"f")?, b"abcabc6789abcabc");
    check_eq!(transfer(write, fd, -2, 0), Err(Errno::EINVAL));
    check_eq!(transfer(write, fd, 0, 1 << 30), Err(Errno::EOPNOTSUPP));
    check_eq!(transfer(read, fd, 0, 1 << 30), Err(Errno::EOPNOTSUPP));
    check_eq!(transfer(read, fd, 6, 0), Ok(3));
    check_eq!(&bytes, b"678");
    check_eq!(transfer(read, fd, -1, 0), Ok(0));
    let [reader, writer] = ok!(sys::pipe(0));
    check_eq!(transfer(write, writer, 0, 0), Err(Errno::ESPIPE));
    check_eq!(transfer(write, writer, -1, 0), Ok(3));
    check_eq!(transfer(read, reader, -1, 0), Ok(3));
    Ok(())
}
