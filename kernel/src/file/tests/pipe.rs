//! Tests of pipes.

use super::*;
use crate::file::pipe::pipe;
use crate::file::ring::{CAPACITY, Moved, PIPE_BUF, Ring};
use crate::mem::host;
use foundation::mutant::{Mutant, choose};

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

#[test]
fn a_thread_that_waits_gets_few_bytes_where_it_wants_them() {
    let process = Process::with_memory();
    let (read, write) = pipe();
    let space = process.space.clone();
    let thread = std::thread::spawn(move || {
        let io = Io { space: &space, caller: None, nonblocking: false };
        let mut to = UserBuffers::one(UserSlice::new(UserAddr(BASE), ByteCount(100)).unwrap());
        [read.read(&io, &mut to, FileOffset::ZERO), read.read(&io, &mut to, FileOffset::ZERO)]
    });
    assert_eq!(process.write(&*write, b"few"), Ok(3));
    drop(write);
    assert_eq!(thread.join().unwrap(), [Ok(ByteCount(3)), Ok(ByteCount::ZERO)]);
    assert_eq!(process.bytes(0, 3), b"few");
}

#[test]
fn bytes_that_cannot_be_handed_over_are_queued() {
    let process = Process::with_memory();
    let ring = Ring::new();
    let write = |bytes: &[u8]| {
        let mut from = UserBuffers::kernel_bytes(bytes.to_vec());
        assert_eq!(ring.write(&process.io(), &mut from), Ok(ByteCount::of_len(bytes.len())));
    };
    let place = |at: u64| UserSlice::new(UserAddr(BASE + at), ByteCount(8)).unwrap();
    process.filled(0, &[0; 8]);
    ring.begin_wait((&process.space, place(0)));
    write(b"too long for it");
    assert_eq!(ring.len(), 15);
    assert_eq!(ring.end_wait(&mut UserBuffers::one(place(0))), Err(Errno::EINTR));
    ring.close_reader();
    ring.set_sides(true, true);
    // Memory that is not mapped for stores.
    ring.begin_wait((&process.space, place(PAGES * 4096)));
    write(b"a fault");
    assert_eq!(ring.len(), 7);
}

/// F4: what was handed over before a signal came is not lost; and bytes keep their order.
fn hands_over_in_order() -> bool {
    let process = Process::with_memory();
    let ring = Ring::new();
    let write = |bytes: &[u8]| {
        ring.write(&process.io(), &mut UserBuffers::kernel_bytes(bytes.to_vec())).unwrap();
    };
    let to = UserSlice::new(UserAddr(BASE), ByteCount(8)).unwrap();
    // A page that is mapped for stores.
    process.filled(0, &[0; 8]);
    ring.begin_wait((&process.space, to));
    write(b"one");
    write(b"two");
    let mut rest = UserBuffers::one(to);
    let kept = ring.end_wait(&mut rest) == Ok(Moved::Handed(3)) && rest.remaining() == ByteCount(5);
    let queued = ring.len() == 3;
    ring.begin_wait((&process.space, to));
    write(b"three");
    kept && queued && ring.len() == 8 && process.bytes(0, 3) == b"one"
}

#[test]
fn f4_bytes_that_were_handed_over_are_read() {
    let _alone = host::exclusive();
    assert!(hands_over_in_order());
}

/// F4: what is written after a signal to one that waits is in the queue.
fn hands_nothing_to_the_killed() -> bool {
    let process = Process::with_memory();
    let ring = Ring::new();
    let to = UserSlice::new(UserAddr(BASE), ByteCount(8)).unwrap();
    process.filled(0, &[0; 8]);
    ring.begin_wait((&process.space, to));
    host::kill(Some(host::current()));
    ring.write(&process.io(), &mut UserBuffers::kernel_bytes(b"one".to_vec())).unwrap();
    host::kill(None);
    ring.len() == 3 && ring.end_wait(&mut UserBuffers::one(to)) == Err(Errno::EINTR)
}

#[test]
fn f4_bytes_are_not_handed_to_the_killed() {
    let _alone = host::exclusive();
    assert!(hands_nothing_to_the_killed());
}

/// F4: a thread that was killed while it waited leaves bytes that came later.
#[test]
fn f4_bytes_are_not_read_by_the_killed() {
    let _alone = host::exclusive();
    let process = Process::with_memory();
    let ring = Ring::new();
    let (me, its) = std::sync::mpsc::channel();
    let (waiting, space) = (ring.clone(), process.space.clone());
    let reader = std::thread::spawn(move || {
        me.send(host::current()).unwrap();
        let io = Io { space: &space, caller: None, nonblocking: false };
        let to = UserSlice::new(UserAddr(BASE), ByteCount(8)).unwrap();
        waiting.read(&io, &mut UserBuffers::one(to))
    });
    let reader_id = its.recv().unwrap();
    while !ring.is_awaited() {
        std::thread::yield_now();
    }
    host::kill(Some(reader_id));
    ring.write(&process.io(), &mut UserBuffers::kernel_bytes(b"one".to_vec())).unwrap();
    assert_eq!(reader.join().unwrap(), Err(Errno::EINTR));
    host::kill(None);
    assert_eq!(ring.len(), 3);
}

#[test]
fn mutants_of_hand_over_are_noticed() {
    let _alone = host::exclusive();
    for wrong in [Mutant::DropHanded, Mutant::Overtake, Mutant::HandToKilled] {
        choose(Some(wrong));
        let is_right = hands_over_in_order() && hands_nothing_to_the_killed();
        choose(None);
        assert!(!is_right, "{wrong:?}");
    }
}
