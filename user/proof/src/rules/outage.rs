//! F5 and F7: a page that its server cannot deliver, and a server that does not reply.

use crate::fault::{fail_page_ins, lazy_buffer, let_others_run};
use crate::scripted::{Action, Script, Server, USUAL, content};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{Buffer, Child, Named, Outcome, PAGE, store, within};
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
