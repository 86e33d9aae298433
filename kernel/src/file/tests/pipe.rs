//! Tests of pipes.

use super::*;
use crate::file::pipe::{CAPACITY, PIPE_BUF, pipe};

#[test]
fn bytes_are_read_as_written() {
    let process = Process::with_memory();
    let (read, write) = pipe();
    assert_eq!(process.read(&*read, 10), Err(Errno::EAGAIN));
    assert_eq!(process.write(&*write, b"hello, world"), Ok(12));
    assert_eq!(process.read(&*read, 5), Ok(b"hello".to_vec()));
    assert_eq!(process.read(&*read, 100), Ok(b", world".to_vec()));
}

#[test]
fn the_end_is_reported_after_the_last_byte() {
    let process = Process::with_memory();
    let (read, write) = pipe();
    process.write(&*write, b"last").unwrap();
    drop(write);
    assert_eq!(read.poll(), Ready::READ | Ready::HANG_UP);
    assert_eq!(process.read(&*read, 100), Ok(b"last".to_vec()));
    assert_eq!(process.read(&*read, 100), Ok(vec![]));
}

#[test]
fn writing_without_a_reader_is_an_error() {
    let process = Process::with_memory();
    let (read, write) = pipe();
    drop(read);
    assert_eq!(process.write(&*write, b"x"), Err(Errno::EPIPE));
    assert!(write.poll().contains(Ready::ERROR | Ready::WRITE));
}

#[test]
fn a_full_pipe_accepts_only_atomic_writes_that_fit() {
    let process = Process::with_memory();
    let (read, write) = pipe();
    assert_eq!(process.write(&*write, &vec![1; CAPACITY + 1]), Ok(CAPACITY as u64));
    assert_eq!(process.write(&*write, b"x"), Err(Errno::EAGAIN));
    assert!(!write.poll().contains(Ready::WRITE));
    assert_eq!(process.read(&*read, 100).unwrap().len(), 100);
    // There is less space than an atomic write needs.
    assert_eq!(process.write(&*write, &[2; PIPE_BUF]), Err(Errno::EAGAIN));
    assert_eq!(process.write(&*write, &[2; 100]), Ok(100));
}

/// F4: bytes that cannot be delivered are not consumed.
#[test]
fn f4_a_bad_buffer_leaves_the_bytes_in_the_pipe() {
    let process = Process::with_memory();
    let (read, write) = pipe();
    process.write(&*write, b"precious").unwrap();
    assert_eq!(read.read(&process.io(), &mut nowhere(8), FileOffset::ZERO), Err(Errno::EFAULT));
    // A part of the buffer is mapped: only the bytes that fit there are consumed.
    let end = PAGES * 4096 - 3;
    assert_eq!(
        read.read(&process.io(), &mut process.buffer(end, 8), FileOffset::ZERO),
        Ok(ByteCount(3))
    );
    assert_eq!(process.bytes(end, 3), b"pre");
    assert_eq!(process.read(&*read, 100), Ok(b"cious".to_vec()));
}

#[test]
fn an_unreadable_source_writes_nothing() {
    let process = Process::with_memory();
    let (read, write) = pipe();
    assert_eq!(
        write.write(&process.io(), &mut nowhere(8), WritePosition::End).err(),
        Some(Errno::EFAULT)
    );
    drop(write);
    assert_eq!(process.read(&*read, 8), Ok(vec![]));
}

#[test]
fn reading_no_bytes_does_not_wait() {
    let process = Process::with_memory();
    let (read, _write) = pipe();
    assert_eq!(process.read(&*read, 0), Ok(vec![]));
}
