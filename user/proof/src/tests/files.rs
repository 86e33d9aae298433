//! Reading, writing, offsets, lengths.

use proof::guest_test;
use proof::kit::{Outcome, content, file, in_child};
use user::prelude::*;
use user::sys::abi;

#[guest_test]
fn file_read_write() -> Outcome {
    let fd = file(b"f", b"hello world")?;
    let mut buffer = [b'.'; 16];
    check_eq!(sys::read(fd, &mut buffer[..5]), Ok(5));
    check_eq!(&buffer[..6], b"hello.");
    check_eq!(sys::read(fd, &mut buffer), Ok(6));
    check_eq!(&buffer[..7], b" world.");
    check_eq!(sys::read(fd, &mut buffer), Ok(0));
    check_eq!(sys::read(fd, &mut []), Ok(0));
    check_eq!(sys::write(fd, b"!"), Ok(1));
    ok!(sys::close(fd));
    check_eq!(content(b"f")?, b"hello world!");
    check_eq!(sys::read(fd, &mut buffer), Err(Errno::EBADF));
    let reader = ok!(sys::open(b"f", abi::O_RDONLY, 0));
    check_eq!(sys::write(reader, b"x"), Err(Errno::EBADF));
    let writer = ok!(sys::open(b"f", abi::O_WRONLY, 0));
    check_eq!(sys::read(writer, &mut buffer), Err(Errno::EBADF));
    Ok(())
}

#[guest_test]
fn file_offsets() -> Outcome {
    let fd = file(b"f", b"0123456789")?;
    check_eq!(sys::lseek(fd, 3, abi::SEEK_SET), Ok(3));
    check_eq!(sys::lseek(fd, 2, abi::SEEK_CUR), Ok(5));
    check_eq!(sys::lseek(fd, -1, abi::SEEK_END), Ok(9));
    let mut byte = [0];
    check_eq!(sys::read(fd, &mut byte), Ok(1));
    check_eq!(&byte, b"9");
    check_eq!(sys::pread(fd, &mut byte, FileOffset(4)), Ok(1));
    check_eq!(&byte, b"4");
    check_eq!(sys::lseek(fd, 0, abi::SEEK_CUR), Ok(10));
    check_eq!(sys::pwrite(fd, b"x", FileOffset::ZERO), Ok(1));
    check_eq!(sys::lseek(fd, 0, abi::SEEK_CUR), Ok(10));
    check_eq!(sys::pread(fd, &mut byte, FileOffset(10)), Ok(0));
    check_eq!(sys::lseek(fd, -11, abi::SEEK_END), Err(Errno::EINVAL));
    check_eq!(sys::lseek(fd, 100, abi::SEEK_SET), Ok(100));
    check_eq!(sys::read(fd, &mut byte), Ok(0));
    check_eq!(content(b"f")?, b"x123456789");
    Ok(())
}

#[guest_test]
fn file_append() -> Outcome {
    file(b"f", b"start")?;
    let one = ok!(sys::open(b"f", abi::O_RDWR | abi::O_APPEND, 0));
    let two = ok!(sys::open(b"f", abi::O_WRONLY | abi::O_APPEND, 0));
    check_eq!(sys::write(one, b"-one"), Ok(4));
    check_eq!(sys::write(two, b"-two"), Ok(4));
    check_eq!(sys::write(one, b"-three"), Ok(6));
    check_eq!(content(b"f")?, b"start-one-two-three");
    check_eq!(sys::lseek(one, 0, abi::SEEK_CUR), Ok(19));
    // Linux appends here, contrary to POSIX.
    check_eq!(sys::pwrite(two, b"!", FileOffset::ZERO), Ok(1));
    check_eq!(content(b"f")?, b"start-one-two-three!");
    Ok(())
}

#[guest_test]
fn file_truncate() -> Outcome {
    let fd = file(b"f", &[7; 10000])?;
    check_eq!(sys::ftruncate(fd, ByteCount(5000)), Ok(0));
    check_eq!(ok!(sys::fstat(fd)).st_size, 5000);
    check_eq!(sys::truncate(b"f", ByteCount(9000)), Ok(()));
    let bytes = content(b"f")?;
    check_eq!(bytes.len(), 9000);
    check!(
        bytes[..5000].iter().all(|byte| *byte == 7) && bytes[5000..].iter().all(|byte| *byte == 0)
    );
    check_eq!(sys::ftruncate(fd, ByteCount::ZERO), Ok(0));
    check_eq!(sys::read(fd, &mut [0; 4]), Ok(0));
    check_eq!(ok!(sys::stat(b"f")).st_size, 0);
    let reader = ok!(sys::open(b"f", abi::O_RDONLY, 0));
    check_eq!(sys::ftruncate(reader, ByteCount(1)), Err(Errno::EINVAL));
    check_eq!(sys::truncate(b".", ByteCount(1)), Err(Errno::EISDIR));
    check_eq!(sys::truncate(b"none", ByteCount(1)), Err(Errno::ENOENT));
    file(b"g", b"something")?;
    let again = ok!(sys::open(b"g", abi::O_WRONLY | abi::O_TRUNC, 0));
    check_eq!(ok!(sys::fstat(again)).st_size, 0);
    Ok(())
}

#[guest_test]
fn file_sparse() -> Outcome {
    const FAR: u64 = 5 << 30;
    let fd = file(b"f", b"begin")?;
    check_eq!(sys::pwrite(fd, b"end", FileOffset(FAR)), Ok(3));
    let stat = ok!(sys::fstat(fd));
    check_eq!(stat.st_size as u64, FAR + 3);
    check!(stat.st_blocks < 1000);
    let mut bytes = vec![1; 100_000];
    check_eq!(sys::pread(fd, &mut bytes, FileOffset(FAR - 99_999)), Ok(100_000));
    check!(bytes[..99_999].iter().all(|byte| *byte == 0));
    check_eq!(bytes[99_999], b'e');
    check_eq!(sys::pread(fd, &mut bytes[..8], FileOffset::ZERO), Ok(8));
    check_eq!(&bytes[..8], b"begin\0\0\0");
    Ok(())
}

fn vector(bytes: &mut [u8]) -> [usize; 2] {
    [bytes.as_mut_ptr() as usize, bytes.len()]
}

#[guest_test]
fn file_vectored() -> Outcome {
    let fd = file(b"f", b"")?;
    let (mut one, mut two, mut empty) = (*b"abc", *b"defgh", []);
    let vectors = [vector(&mut one), vector(&mut empty), vector(&mut two)];
    let list = vectors.as_ptr() as usize;
    check_eq!(proof::kit::raw(abi::__NR_writev, &[fd.argument(), list, 3]), Ok(8));
    check_eq!(content(b"f")?, b"abcdefgh");
    let (mut first, mut second) = ([b'.'; 5], [b'.'; 5]);
    let vectors = [vector(&mut first), vector(&mut second)];
    let list = vectors.as_ptr() as usize;
    check_eq!(proof::kit::raw(abi::__NR_preadv, &[fd.argument(), list, 2, 1, 0]), Ok(7));
    check_eq!((&first, &second), (b"bcdef", b"gh..."));
    check_eq!(sys::lseek(fd, 0, abi::SEEK_SET), Ok(0));
    check_eq!(proof::kit::raw(abi::__NR_readv, &[fd.argument(), list, 2]), Ok(8));
    check_eq!((&first, &second), (b"abcde", b"fgh.."));
    check_eq!(proof::kit::raw(abi::__NR_readv, &[fd.argument(), list, 0]), Ok(0));
    check_eq!(proof::kit::raw(abi::__NR_readv, &[fd.argument(), list, 1025]), Err(Errno::EINVAL));
    Ok(())
}

#[guest_test]
fn file_shared_offset() -> Outcome {
    let fd = file(b"f", b"0123456789")?;
    let status = in_child(|| i32::from(sys::read(fd, &mut [0; 4]) != Ok(4)))?;
    check_eq!(status.exit_code(), Some(0));
    check_eq!(sys::lseek(fd, 0, abi::SEEK_CUR), Ok(4));
    let copy = ok!(sys::dup(fd));
    check_eq!(sys::lseek(copy, 1, abi::SEEK_CUR), Ok(5));
    check_eq!(sys::lseek(fd, 0, abi::SEEK_CUR), Ok(5));
    let other = ok!(sys::open(b"f", abi::O_RDONLY, 0));
    check_eq!(sys::lseek(other, 0, abi::SEEK_CUR), Ok(0));
    Ok(())
}

#[guest_test]
fn file_unlinked_but_open() -> Outcome {
    let fd = file(b"f", b"still here")?;
    ok!(sys::unlink(b"f"));
    check_eq!(sys::stat(b"f").map(drop), Err(Errno::ENOENT));
    check_eq!(ok!(sys::fstat(fd)).st_nlink, 0);
    let mut bytes = [0; 10];
    check_eq!(sys::pread(fd, &mut bytes, FileOffset::ZERO), Ok(10));
    check_eq!(&bytes, b"still here");
    check_eq!(sys::pwrite(fd, b"S", FileOffset::ZERO), Ok(1));
    let other = file(b"f", b"another")?;
    check_eq!(sys::pread(fd, &mut bytes, FileOffset::ZERO), Ok(10));
    check_eq!(&bytes, b"Still here");
    check!(ok!(sys::fstat(fd)).st_ino != ok!(sys::fstat(other)).st_ino);
    Ok(())
}

/// Writes and reads megabytes in odd sizes.
#[guest_test]
fn file_large() -> Outcome {
    const LEN: usize = 3_000_001;
    let mut bytes = vec![0; LEN];
    proof::random::fill(1, 0, &mut bytes);
    let fd = file(b"f", &bytes)?;
    let mut back = vec![0; LEN];
    let mut at = 0;
    for piece in [1, 4095, 4097, 65_537, 1 << 20, LEN] {
        let end = LEN.min(at + piece);
        check_eq!(sys::read(fd, &mut back[at..end]), Ok(end - at));
        at = end;
    }
    check!(back == bytes);
    check_eq!(sys::pwrite(fd, &bytes[..70_000], FileOffset(12_345)), Ok(70_000));
    check_eq!(sys::pread(fd, &mut back, FileOffset::ZERO), Ok(LEN));
    check!(back[..12_345] == bytes[..12_345]);
    check!(back[12_345..82_345] == bytes[..70_000]);
    check!(back[82_345..] == bytes[82_345..]);
    Ok(())
}

#[guest_test]
fn device_files() -> Outcome {
    let open = |path: &[u8]| sys::open(path, abi::O_RDWR, 0);
    let mut bytes = [7; 5000];
    let null = ok!(open(b"/dev/null"));
    check_eq!(sys::read(null, &mut bytes), Ok(0));
    check_eq!(sys::write(null, &bytes), Ok(5000));
    let zero = ok!(open(b"/dev/zero"));
    check_eq!(sys::read(zero, &mut bytes), Ok(5000));
    check!(bytes.iter().all(|byte| *byte == 0));
    let full = ok!(open(b"/dev/full"));
    check_eq!(sys::write(full, &bytes), Err(Errno::ENOSPC));
    check_eq!(sys::read(full, &mut bytes), Ok(5000));
    let random = ok!(sys::open(b"/dev/urandom", abi::O_RDONLY, 0));
    check_eq!(sys::read(random, &mut bytes), Ok(5000));
    check!(bytes.iter().filter(|byte| **byte == 0).count() < 100);
    let mut more = [0; 64];
    check_eq!(sys::getrandom(&mut more), Ok(64));
    check!(more != bytes[..64]);
    Ok(())
}
