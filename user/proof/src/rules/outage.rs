//! F5 and F7: a page that its server cannot deliver, and a server that does not reply.

use crate::fault::{fail_page_ins, lazy_buffer, let_others_run};
use crate::scripted::{Action, Script, Server, USUAL, WRITABLE, content};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{Buffer, Child, Gate, Named, Outcome, PAGE, store, within};
use proof::lazy::{self, Knob};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;
const SIGBUS: i32 = abi::SIGBUS as i32;

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn leave(_: i32) {
    sys::exit(43)
}

extern "C" fn count_signal(_: i32) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

/// A page that cannot be fetched is SIGBUS for a program and EIO for a system call, never zeros.
/// Resident pages stay valid.
#[guest_test(mutants: &[Mutant::ZeroOnError])]
fn f5_page_in_error() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let _knob = lazy::fault_around(4)?;
    let server = Server::mount("f5", USUAL, fail_page_ins(16 * P))?;
    let buffer = lazy_buffer(&server, 32)?;
    buffer.check(0, 4 * PAGE, content(0, 0, 0))?;
    let touch = |what: &str, handler: Option<sys::Handler>, touch: &dyn Fn()| {
        Child::start(what, || {
            if let Some(handler) = handler {
                sys::signal_handle(SIGBUS, handler, 0).named("sigaction")?;
            }
            touch();
            Err(String::from("the page was there"))
        })?
        .status()
    };
    let before = server.wire.requests(Op::Read);
    let status = touch("load", None, &|| _ = buffer.load(20 * PAGE))?;
    check_eq!(status.signal(), Some(SIGBUS), "signal for a load");
    let tries = server.wire.requests(Op::Read) - before;
    check!((1..=16).contains(&tries), "{tries} requests for an unavailable page");
    check_eq!(
        touch("store", None, &|| store(buffer.at(20 * PAGE), 1))?.signal(),
        Some(SIGBUS),
        "signal for a store"
    );
    check_eq!(
        touch("load", Some(leave), &|| _ = buffer.load(25 * PAGE))?.exit_code(),
        Some(43),
        "status by the handler"
    );
    let [from, to] = sys::pipe(0).named("pipe")?;
    check_eq!(os::write(to, buffer.at(20 * PAGE), 10), Err(Errno::EIO), "write from the page");
    sys::write_all(to, b"x").named("write")?;
    let mut got = [0; 10];
    check_eq!(sys::read(from, &mut got).named("read")?, 1, "bytes in the pipe");
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }
    // Pages before the bad ones can be fetched, resident or not.
    buffer.check(0, 16 * PAGE, content(0, 0, 0))?;
    // Other memory works, and so do the bad pages after they are remapped.
    let fd = server.open(1)?;
    check_eq!(
        os::pread(fd, buffer.at(16 * PAGE), 16 * PAGE, 0).named("pread")?,
        16 * PAGE,
        "bytes read over bad pages"
    );
    sys::close(fd).named("close")?;
    buffer.check(16 * PAGE, 16 * PAGE, content(1, 0, 0))
}

/// A failed page-in is retried at the next touch and succeeds after the server has recovered.
#[guest_test]
fn f5_error_is_not_kept() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let script: Script = Box::new(|wire, asked, reply| {
        if asked.of_snapshot && asked.op == Op::Read && wire.requests(Op::Stat) == 0 {
            reply.fail(asked.op, asked.tag, Errno::EIO);
        }
        Action::Send
    });
    let server = Server::mount("f5", USUAL, script)?;
    let buffer = lazy_buffer(&server, 16)?;
    let status = Child::start("load", || {
        buffer.load(0);
        Ok(())
    })?
    .status()?;
    check_eq!(status.signal(), Some(SIGBUS), "signal for a load");
    sys::stat(server.file(0).as_bytes()).named("stat")?;
    buffer.check(0, 16 * PAGE, content(0, 0, 0))
}

/// Holds back all replies to an operation.
fn hold(op: Op) -> Script {
    Box::new(move |_, asked, _| if asked.op == op { Action::Hold } else { Action::Send })
}

/// A process that waits for a server, in a fault or in a system call, can be killed. Late replies
/// do no harm and leave nothing open.
#[guest_test(mutants: &[Mutant::NotKillable])]
fn f7_killable() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let cases: [(&str, Op, u64); 4] = [
        ("fault", Op::Read, 1),
        ("read", Op::Snapshot, 1),
        ("copying read", Op::Read, 0),
        ("open", Op::Open, 1),
    ];
    for (what, op, laziness) in cases {
        let _knob = Knob::set("lazy", laziness)?;
        let server = Server::mount("f7", USUAL, hold(op))?;
        let child = Child::start(what, || {
            let fd = server.open(0)?;
            let buffer = Buffer::new(16 * PAGE)?;
            os::pread(fd, buffer.at(0), 16 * PAGE, 0).named("pread")?;
            buffer.load(PAGE);
            Err(String::from("nothing kept it waiting"))
        })?;
        server.wait_held()?;
        within(what, child.kill())?;
        server.release()?;
        // The server replies late; then it answers another request, as a sign that it has finished.
        sys::stat(server.file(1).as_bytes()).named("stat")?;
        sys::stat(server.file(1).as_bytes()).named("stat")?;
        check_eq!(server.wire.snapshots(), 0, "snapshots left open after a kill in {what}");
    }
    Ok(())
}

/// A signal with a handler neither interrupts nor shortens the read of a file; the handler runs
/// afterwards.
#[guest_test]
fn f7_no_eintr() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    for (op, laziness) in [(Op::Snapshot, 1), (Op::Read, 0)] {
        let _knob = Knob::set("lazy", laziness)?;
        let server = Server::mount("f7", USUAL, hold(op))?;
        let child = Child::start("reader", || {
            sys::signal_handle(abi::SIGUSR1 as i32, count_signal, 0).named("sigaction")?;
            let fd = server.open(0)?;
            let buffer = Buffer::new(16 * PAGE)?;
            check_eq!(os::pread(fd, buffer.at(0), 16 * PAGE, 0), Ok(16 * PAGE), "the read");
            check_eq!(CAUGHT.load(Ordering::SeqCst), 1, "signals caught");
            Ok(())
        })?;
        server.wait_held()?;
        sys::kill(child.pid, abi::SIGUSR1 as i32).named("kill")?;
        let_others_run();
        server.release()?;
        child.join()?;
    }
    Ok(())
}

/// Answers until a Stat comes, then holds back everything until a MakeDir comes.
fn silent_between_stat_and_make_dir() -> Script {
    Box::new(|wire, _, _| {
        let is_silent = wire.requests(Op::Stat) > 0 && wire.requests(Op::MakeDir) == 0;
        if is_silent { Action::Hold } else { Action::Send }
    })
}

/// What a process does that has nothing to do with the server.
pub fn mind_own_business() -> Outcome {
    let map = |flags: u32| os::mmap(0, 4 * PAGE, os::READ_WRITE, flags).named("mmap");
    for flags in [abi::MAP_PRIVATE, abi::MAP_SHARED] {
        let start = map(flags)?;
        store(start, 1);
        os::munmap(start, 4 * PAGE).named("munmap")?;
    }
    Child::start("fork and exit", || Ok(()))?.join()?;
    for file in ["kept", "servers", "mounts", "meminfo", "self/maps", "self/stat"] {
        user::io::read_file(format!("/proc/{file}").as_bytes()).named(file)?;
    }
    let fd = os::create("/tmp/x9").named("create")?;
    sys::write_all(fd, &[7; 3 * PAGE]).named("write")?;
    let given = [0, 3 * PAGE, os::READ_WRITE as usize, abi::MAP_SHARED as usize, fd.argument(), 0];
    let start = os::raw(abi::__NR_mmap, &given).named("mmap of a file")?;
    store(start, 9);
    os::raw(abi::__NR_msync, &[start, PAGE, abi::MS_SYNC as usize]).named("msync")?;
    os::munmap(start, 3 * PAGE).named("munmap of a file")?;
    os::raw(abi::__NR_syncfs, &[fd.argument()]).named("syncfs")?;
    os::sync(fd).named("fsync")?;
    sys::close(fd).named("close")?;
    sys::unlink(b"/tmp/x9").named("unlink")
}

/// A server that does not answer delays its clients only, and these can be killed. Nobody else
/// waits to unmap memory, to end, to read `/proc` or to synchronise another mount; nor do clients
/// that only unmap and end.
#[guest_test]
fn x9_silent_server() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let server = Server::mount("x9", WRITABLE, silent_between_stat_and_make_dir())?;
    let (mapped, go_on) = (Gate::new()?, Gate::new()?);
    let client = Child::start("client", || {
        let fd = os::open(&server.file(0)).named("open")?;
        let given =
            [0, 4 * PAGE, os::READ_WRITE as usize, abi::MAP_SHARED as usize, fd.argument(), 0];
        let start = os::raw(abi::__NR_mmap, &given).named("mmap")?;
        store(start + 100, 77);
        store(start + 2 * PAGE, 77);
        mapped.open()?;
        go_on.pass()?;
        os::munmap(start, 2 * PAGE).named("munmap")
    })?;
    mapped.pass()?;
    let path = server.file(1);
    let asking = Child::start("stat", || sys::stat(path.as_bytes()).named("stat").map(drop))?;
    server.wait_held()?;
    let syncing = Child::start("sync", || {
        sys::sync();
        Ok(())
    })?;
    server.wait_held()?;
    mind_own_business()?;
    go_on.open()?;
    client.join()?;
    mind_own_business()?;
    within("stat", asking.kill())?;
    within("sync", syncing.kill())?;
    mind_own_business()?;
    let made = sys::mkdir(format!("{path}/d").as_bytes(), 0o700);
    check!(made.is_err(), "the server has no directories");
    server.release()?;
    sys::sync();
    Ok(())
}
