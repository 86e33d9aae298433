//! Mapped files of servers that fail, refuse space, fall silent or end.

use super::compare::SIGBUS;
use crate::fault::let_others_run;
use crate::outage::mind_own_business;
use crate::scripted::{Action, Script, Server, WRITABLE, content};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::kit::{Buffer, Child, Gate, Named, Outcome, PAGE, byte, signal_of, within};
use proof::thread::Thread;
use proof::{check, check_eq, guest_test, lazy, os};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 32;
const LENGTH: usize = PAGES * PAGE;

/// The second phase of a script; the first one is honest.
const TROUBLE: u64 = 1;

/// In the second phase, requests of an operation fail.
fn fails(op: Op, error: Errno) -> Script {
    Box::new(move |wire, asked, reply| {
        if asked.op == op && wire.phase() == TROUBLE {
            reply.fail(asked.op, asked.tag, error);
        }
        Action::Send
    })
}

/// In the second phase, replies to an operation are held back.
fn holds(op: Op) -> Script {
    Box::new(
        move |wire, asked, _| {
            if asked.op == op && wire.phase() == TROUBLE { Action::Hold } else { Action::Send }
        },
    )
}

/// A mapping of file 0, whose descriptor is closed.
fn map_file(server: &Server) -> Outcome<Buffer> {
    let fd = os::open(&server.file(0)).named("open")?;
    let map = Buffer::of_file(fd, LENGTH)?;
    sys::close(fd).named("close")?;
    Ok(map)
}

/// A server that holds reads while there is trouble, and its mapped file, whose pages are fetched
/// one by one while the first part of the result lives.
fn map_held(name: &str) -> Outcome<([lazy::Knob; 2], Server, Buffer)> {
    let knobs = lazy::fault_around(1)?;
    let server = Server::mount(name, WRITABLE, holds(Op::Read))?;
    let map = map_file(&server)?;
    Ok((knobs, server, map))
}

/// The byte that file 0 has at an offset.
fn original(at: usize) -> u8 {
    byte(1000, at as u64)
}

/// Fails unless a byte of file 0 is this one, by read(2).
fn expect_byte(server: &Server, at: usize, expected: u8) -> Outcome {
    let fd = server.open(0)?;
    let mut found = [0];
    let count = sys::pread(fd, &mut found, FileOffset(at as u64)).named("pread")?;
    sys::close(fd).named("close")?;
    check_eq!((count, found[0]), (1, expected), "the byte at {at}");
    Ok(())
}

/// An absent page that its server cannot deliver is SIGBUS for loads and stores, and EIO in a
/// system call. It is never zeros, other stores are kept, and later it is there.
#[guest_test]
fn m1_a_page_that_cannot_be_fetched() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let _knob = lazy::fault_around(1)?;
    let server = Server::mount("m1", WRITABLE, fails(Op::Read, Errno::EIO))?;
    let map = map_file(&server)?;
    map.store(0, 1);
    server.wire.choose(TROUBLE);
    check_eq!(signal_of(|| _ = map.load(9 * PAGE))?, SIGBUS, "signal for a load");
    check_eq!(signal_of(|| map.store(9 * PAGE, 1))?, SIGBUS, "signal for a store");
    let [from, to] = sys::pipe(abi::O_NONBLOCK).named("pipe")?;
    check_eq!(os::write(to, map.at(9 * PAGE), 10), Err(Errno::EIO), "write from the page");
    sys::write_all(to, b"x").named("write")?;
    check_eq!(os::read(from, map.at(9 * PAGE), 1), Err(Errno::EIO), "read into the page");
    check_eq!(map.load(0), 1, "a page that was stored to");
    server.wire.choose(0);
    map.check(9 * PAGE, PAGE, content(0, 0, 9 * PAGE as u64))?;
    map.store(9 * PAGE, 2);
    map.sync().named("msync")?;
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }
    expect_byte(&server, 0, 1)?;
    expect_byte(&server, 9 * PAGE, 2)?;
    expect_byte(&server, 9 * PAGE + 1, original(9 * PAGE + 1))
}

/// A store to a clean page for which the server refuses space is SIGBUS and changes nothing. Dirty
/// pages can be stored to, loads succeed, and with space the store succeeds.
#[guest_test(mutants: &[Mutant::ReserveNothing])]
fn m2_space_is_refused() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    for error in [Errno::ENOSPC, Errno::EIO] {
        let server = Server::mount("m2", WRITABLE, fails(Op::Allocate, error))?;
        let map = map_file(&server)?;
        map.store(5, 1);
        server.wire.choose(TROUBLE);
        check_eq!(signal_of(|| map.store(7 * PAGE, 1))?, SIGBUS, "signal for a store");
        check_eq!(map.load(7 * PAGE), original(7 * PAGE), "the byte after that");
        check_eq!(signal_of(|| map.store(6, 2))?, None, "signal for a store to a dirty page");
        let [from, to] = sys::pipe(0).named("pipe")?;
        sys::write_all(to, b"x").named("write")?;
        let read = os::read(from, map.at(7 * PAGE), 1);
        check!(read.is_err(), "read into a page that has no space: {read:?}");
        map.sync().named("msync")?;
        server.wire.choose(0);
        map.store(7 * PAGE, 3);
        map.sync().named("msync")?;
        for fd in [from, to] {
            sys::close(fd).named("close")?;
        }
        for (at, byte) in [(5, 1), (6, 2), (7 * PAGE, 3)] {
            expect_byte(&server, at, byte)?;
        }
    }
    Ok(())
}

/// A write-back that fails is reported once to each file that was open then, by msync, fsync or
/// close. The pages stay dirty, and are written when the server can.
#[guest_test(mutants: &[Mutant::StoreUnnoticed])]
fn m2_failed_write_back_is_reported_once() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let server = Server::mount("m2", WRITABLE, fails(Op::Write, Errno::EIO))?;
    let open = || os::open(&server.file(0)).named("open");
    let (mapped, synced, closed) = (open()?, open()?, open()?);
    let map = Buffer::of_file(mapped, LENGTH)?;
    map.store(3 * PAGE, 1);
    map.store(20 * PAGE, 2);
    server.wire.choose(TROUBLE);
    check_eq!(map.sync(), Err(Errno::EIO), "msync while writes fail");
    check_eq!((map.load(3 * PAGE), map.load(20 * PAGE)), (1, 2), "bytes after that");
    server.wire.choose(0);
    check_eq!(map.sync(), Ok(()), "msync when writes succeed");
    check_eq!(os::sync(mapped), Ok(()), "fsync of the file that was mapped");
    check_eq!(os::sync(synced), Err(Errno::EIO), "fsync of another open file");
    check_eq!(os::sync(synced), Ok(()), "its next fsync");
    check_eq!(sys::close(closed), Err(Errno::EIO), "close of a third one");
    let late = open()?;
    check_eq!(os::sync(late), Ok(()), "fsync of a file that was opened afterwards");
    for fd in [mapped, synced, late] {
        check_eq!(sys::close(fd), Ok(()), "close");
    }
    expect_byte(&server, 3 * PAGE, 1)?;
    expect_byte(&server, 20 * PAGE, 2)
}

/// Pages whose write-back failed are written later without any call, although nobody maps or opens
/// the file any more.
#[guest_test(mutants: &[Mutant::RefusedIsWritten, Mutant::DropDirty])]
fn m2_failed_write_back_is_tried_again() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let server = Server::mount("m2", WRITABLE, fails(Op::Write, Errno::ENOSPC))?;
    server.wire.choose(TROUBLE);
    Child::start("client", || {
        let map = map_file(&server)?;
        map.store(5, 1);
        map.store(9 * PAGE, 2);
        check!(map.sync().is_err(), "msync while writes fail");
        Ok(())
    })?
    .join()?;
    check_eq!(server.wire.writes(), 0, "writes that the server carried out");
    // Memory is short meanwhile: the pages stay all the same.
    let ballast = Buffer::new(120 << 20)?;
    (0..ballast.len_bytes()).step_by(PAGE).for_each(|at| ballast.store(at, 1));
    drop(ballast);
    let map = map_file(&server)?;
    check_eq!((map.load(5), map.load(9 * PAGE)), (1, 2), "what was stored");
    drop(map);
    server.wire.choose(0);
    while server.wire.writes() < 2 {
        sys::sleep(Duration::from_millis(20)).named("sleep")?;
    }
    expect_byte(&server, 5, 1)?;
    expect_byte(&server, 9 * PAGE, 2)?;
    expect_byte(&server, 6, original(6))
}

/// How a process ends whose pages are dirty.
type End = fn(Buffer) -> Outcome;

const ENDS: [(&str, End); 5] = [
    ("exit", |map| {
        map.leak();
        Ok(())
    }),
    ("munmap", |map| {
        drop(map);
        Ok(())
    }),
    ("munmap, then other work", |map| {
        drop(map);
        mind_own_business()
    }),
    ("kill", |map| {
        map.leak();
        sys::kill(sys::getpid(), abi::SIGKILL as i32).named("kill").map(drop)
    }),
    ("exec", |map| {
        map.leak();
        Err(format!("execve: {:?}", sys::execve(b"/bin/true", &[b"true"], &[])))
    }),
];

/// Neither exit nor munmap waits for a server that does not answer to a write. When it does, it has
/// all stores.
#[guest_test]
fn m5_ends_do_not_wait() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    for (name, end) in ENDS {
        let server = Server::mount("m5", WRITABLE, holds(Op::Write))?;
        server.wire.choose(TROUBLE);
        let client = Child::start(name, || {
            let map = map_file(&server)?;
            (0..PAGES).for_each(|page| map.store(page * PAGE, 1));
            end(map)
        })?;
        let status = client.status()?;
        check_eq!(status.exit_code().unwrap_or(0), 0, "status after {name}");
        server.wait_held()?;
        within(name, mind_own_business())?;
        server.wire.choose(0);
        server.release()?;
        for page in [0, 1, PAGES - 1] {
            within(name, expect_byte(&server, page * PAGE, 1))?;
        }
    }
    Ok(())
}

/// What a client does that needs the server.
type Wait = fn(&Server, &Buffer) -> Outcome;

/// A store that waits for a silent server's space, and msync, fsync and read(2) that wait for its
/// write-back, can be killed. Others go on meanwhile, on that mount too where they need nothing of
/// the server.
#[guest_test(timeout_s: 120)]
fn m5_a_silent_server_holds_up_its_clients_only() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let waits: [(&str, Op, Wait); 4] = [
        ("store", Op::Allocate, |_, map| {
            map.store(9 * PAGE, 1);
            Ok(())
        }),
        ("msync", Op::Write, |_, map| map.sync().named("msync")),
        ("fsync", Op::Write, |server, _| {
            os::sync(os::open(&server.file(0)).named("open")?).named("fsync")
        }),
        ("read", Op::Write, |server, _| {
            sys::pread(server.open(0)?, &mut [0; 9], FileOffset(0)).named("pread").map(drop)
        }),
    ];
    for (name, op, wait) in waits {
        let server = Server::mount("m5", WRITABLE, holds(op))?;
        let (stored, go) = (Gate::new()?, Gate::new()?);
        let map = map_file(&server)?;
        map.load(20 * PAGE);
        let client = Child::start(name, || {
            map.store(0, 1);
            stored.open()?;
            go.pass()?;
            wait(&server, &map)?;
            Err(String::from("nothing kept it waiting"))
        })?;
        stored.pass()?;
        server.wire.choose(TROUBLE);
        go.open()?;
        server.wait_held()?;
        let other = Child::start("other client", || {
            check_eq!(map.load(0), 1, "the first client's store");
            check_eq!(map.load(20 * PAGE), original(20 * PAGE), "a byte of the file");
            Ok(())
        })?;
        within(name, other.join())?;
        within(name, mind_own_business())?;
        let_others_run();
        within(name, client.kill())?;
        within(name, mind_own_business())?;
        server.wire.choose(0);
        server.release()?;
        within(name, expect_byte(&server, 0, 1))?;
    }
    Ok(())
}

/// A server ends while pages of its files are dirty. Who needs it gets SIGBUS or EIO; pages that
/// are there are used and unmapped as before, nothing stays dirty, and the machine goes on.
#[guest_test(mutants: &[Mutant::LoseSilently])]
fn m2_server_is_lost() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let dirty = || lazy::value(&lazy::read_text("/proc/meminfo")?, "Dirty");
    let _knob = lazy::fault_around(1)?;
    let server = Server::mount("m2", WRITABLE, {
        Box::new(|wire, _, _| if wire.phase() == TROUBLE { Action::Die } else { Action::Send })
    })?;
    let fd = os::open(&server.file(0)).named("open")?;
    let map = Buffer::of_file(fd, LENGTH)?;
    (0..4).for_each(|page| map.store(page * PAGE, 1));
    server.wire.choose(TROUBLE);
    check_eq!(signal_of(|| _ = map.load(20 * PAGE))?, SIGBUS, "signal for an absent page");
    check_eq!(map.sync(), Err(Errno::EIO), "msync");
    let [from, to] = sys::pipe(0).named("pipe")?;
    check_eq!(os::write(to, map.at(21 * PAGE), 5), Err(Errno::EIO), "write from an absent page");
    check!(sys::pread(fd, &mut [0; 9], FileOffset(0)).is_err(), "the file can be read");
    mind_own_business()?;
    Child::start("client that ends", || {
        _ = signal_of(|| map.store(0, 2))?;
        Ok(())
    })?
    .join()?;
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }
    drop(map);
    let _: Result<()> = sys::close(fd);
    mind_own_business()?;
    check_eq!(dirty()?, 0, "KiB that are dirty");
    let log = sys::kernel_log().named("the kernel's log")?;
    let log = String::from_utf8_lossy(&log);
    let names_it = |line: &str| line.contains("/f0") && line.contains("lost");
    check!(log.lines().any(names_it), "the log does not name the file whose stores are lost");
    Ok(())
}

/// Where a thread loads from, and what it found.
static LOAD_AT: AtomicUsize = AtomicUsize::new(0);
static FOUND: AtomicU32 = AtomicU32::new(0);

extern "C" fn load_there(_: usize) {
    let found = proof::kit::load(LOAD_AT.load(Ordering::SeqCst));
    FOUND.store(found.into(), Ordering::SeqCst);
}

/// A page is replaced while a thread waits for its fetch: the thread gets a byte of what is there
/// now. The replacement does not wait, and the late reply does no harm.
#[guest_test]
fn m1_replaced_while_it_is_fetched() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let (_knob, server, map) = map_held("m1")?;
    server.wire.choose(TROUBLE);
    LOAD_AT.store(map.at(5 * PAGE + 7), Ordering::SeqCst);
    let thread = Thread::start(load_there, 0)?;
    server.wait_held()?;
    let flags = abi::MAP_PRIVATE | abi::MAP_FIXED;
    os::mmap(map.at(5 * PAGE), PAGE, os::READ_WRITE, flags).named("mmap over the page")?;
    map.store(5 * PAGE + 7, 0x77);
    server.wire.choose(0);
    server.release()?;
    thread.join();
    check_eq!(FOUND.load(Ordering::SeqCst), 0x77, "the byte that the thread found");
    map.check(6 * PAGE, PAGE, content(0, 0, 6 * PAGE as u64))?;
    let again = map_file(&server)?;
    again.check(0, LENGTH, content(0, 0, 0))
}

/// Processes that touch one absent page wait for one fetch, whether they load or store. A killed
/// one takes nothing from the others.
#[guest_test]
fn m1_one_fetch_for_all() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let (_knob, server, map) = map_held("m1")?;
    server.wire.choose(TROUBLE);
    let before = server.wire.requests(Op::Read);
    let start = |number: usize| {
        Child::start("client", || {
            let at = 3 * PAGE + 1;
            if number % 2 == 1 {
                map.store(at + number, number as u8);
            }
            check_eq!(map.load(at), original(at), "a byte of the page");
            Ok(())
        })
    };
    let killed = start(0)?;
    server.wait_held()?;
    let others = (1..5).map(start).collect::<Outcome<Vec<_>>>()?;
    let_others_run();
    within("the first", killed.kill())?;
    server.wire.choose(0);
    server.release()?;
    others.into_iter().try_for_each(Child::join)?;
    check_eq!(server.wire.requests(Op::Read) - before, 1, "fetches");
    for at in [3 * PAGE + 2, 3 * PAGE + 4] {
        check_eq!(map.load(at), (at - 3 * PAGE - 1) as u8, "a store to the page");
    }
    Ok(())
}

/// A page is written by write(2) while its fetch is under way: whoever waits for the page gets the
/// bytes that were written, although the reply has those of before.
#[guest_test(mutants: &[Mutant::StaleFetch])]
fn m4_written_while_it_is_fetched() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let (_knob, server, map) = map_held("m4")?;
    let fd = os::open(&server.file(0)).named("open")?;
    server.wire.choose(TROUBLE);
    let reader = Child::start("reader", || {
        check_eq!(map.load(5 * PAGE + 7), 0x77, "the byte that was written");
        check_eq!(map.load(5 * PAGE + 6), original(5 * PAGE + 6), "the byte before it");
        Ok(())
    })?;
    server.wait_held()?;
    let at = FileOffset(5 * PAGE as u64 + 7);
    check_eq!(sys::pwrite(fd, &[0x77], at), Ok(1), "bytes written");
    server.wire.choose(0);
    server.release()?;
    reader.join()?;
    sys::close(fd).named("close")?;
    expect_byte(&server, 5 * PAGE + 7, 0x77)
}
