//! A5 to A7 and X3: shared frames, other processes' memory, and untrusted servers.

use crate::scripted::{Action, Server, Setting, USUAL, content};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use foundation::mutant::Mutant;
use fsproto::{Op, Request};
use proof::guest_test;
use proof::kit::{
    Buffer, Child, File, Gate, Named, Outcome, PAGE, pattern, read_lazily, store, within,
};
use proof::lazy::{self, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// Unrelated processes that read the same bytes of a version share frames and fetch them once.
#[guest_test(mutants: &[Mutant::ShareNothing])]
fn a5_shared_frames() -> Outcome {
    const PAGES: usize = 1024;
    let file = File::make("file", 1, PAGES as u64 * P)?;
    let path = file.path.clone();
    let free = || {
        if !lazy::present() {
            return Outcome::Ok(0);
        }
        lazy::value(&lazy::read_text("/proc/meminfo")?, "MemFree")
    };
    let meter = Meter::start()?;
    let read = |ready: &Gate| {
        let fd = os::open(&path).named("open")?;
        let buffer = Buffer::new(PAGES * PAGE)?;
        check_eq!(
            os::read(fd, buffer.at(0), PAGES * PAGE).named("read")?,
            PAGES * PAGE,
            "bytes read"
        );
        buffer.check(0, PAGES * PAGE, pattern(1, 0))?;
        ready.open()?;
        Gate::new()?.pass()
    };
    let gates = [Gate::new()?, Gate::new()?];
    let first = Child::start("first reader", || read(&gates[0]))?;
    gates[0].pass()?;
    let before = free()?;
    let second = Child::start("second reader", || read(&gates[1]))?;
    gates[1].pass()?;
    let taken = (before - free()?) * 1024 / PAGE as i64;
    check!(taken < PAGES as i64 / 4, "the second reader of {PAGES} pages took {taken} frames");
    meter.expect_system("reads_lazy", 2)?;
    meter.expect_system("pages_fetched", PAGES as i64)?;
    // The stores of one are not visible to the other.
    let buffer = Buffer::new(PAGES * PAGE)?;
    read_lazily(&file, &buffer, 0, PAGES * PAGE, 0)?;
    (0..PAGES).for_each(|page| store(buffer.at(page * PAGE), 0));
    let other = Buffer::new(PAGES * PAGE)?;
    read_lazily(&file, &other, 0, PAGES * PAGE, 0)?;
    other.check(0, PAGES * PAGE, pattern(1, 0))?;
    first.kill()?;
    second.kill()
}

/// Option of this program: report on descriptor 0, wait there for a byte, and only then continue.
pub const LATE: &str = "--late";

/// Does what [`LATE`] asks for.
pub fn wait_for_go() {
    let _: sys::Result<usize> = sys::write(Fd::STDIN, b"r");
    let _: sys::Result<usize> = sys::read(Fd::STDIN, &mut [0]);
}

/// A running program is not affected when its file is overwritten, truncated and removed, although
/// most of its pages are loaded afterwards.
#[guest_test(mutants: &[Mutant::SkipRescue])]
fn a6_program_overwritten() -> Outcome {
    let own = sys::open(b"/proc/self/exe", abi::O_RDONLY, 0).named("/proc/self/exe")?;
    let copy = File::sparse("program", 0)?;
    let mut bytes = vec![0; 256 * PAGE];
    let mut length = 0;
    loop {
        let count = sys::read_full(own, &mut bytes).named("read")?;
        if count == 0 {
            break;
        }
        sys::write_all(copy.fd, &bytes[..count]).named("write")?;
        length += count as u64;
    }
    sys::chmod(copy.path.as_bytes(), 0o755).named("chmod")?;
    // Linux does not execute a file that is open for writing, nor write to a running program.
    if !lazy::present() {
        crate::change::drop_descriptor(&copy)?;
    }
    let [ours, theirs] = os::socket_pair().named("socketpair")?;
    let program = Child::start("the copy", || {
        sys::dup2(theirs, Fd::STDIN).named("dup2")?;
        for fd in [ours, theirs, own, copy.fd] {
            sys::close(fd).named("close")?;
        }
        let arguments: [&[u8]; 3] = [b"rules", LATE.as_bytes(), b"a4_split"];
        let error = sys::execve(copy.path.as_bytes(), &arguments, &[]);
        Err(format!("execve: {error:?}"))
    })?;
    sys::close(theirs).named("close")?;
    check_eq!(sys::read(ours, &mut [0]).named("the copy's word")?, 1, "bytes of it");
    if lazy::present() {
        copy.overwrite(1, 0, length)?;
        sys::ftruncate(copy.fd, ByteCount(100)).named("ftruncate")?;
    }
    drop(copy);
    sys::write_all(ours, b"g").named("write")?;
    let joined = program.join();
    let _ = (sys::close(ours), sys::close(own));
    joined
}

/// /proc/PID/mem shows the bytes of lazy pages; what is written there is private to that process.
#[guest_test(mutants: &[Mutant::DebuggerSeesZeros, Mutant::WriteSharedFrame])]
fn a7_debugger() -> Outcome {
    const PAGES: usize = 32;
    let file = File::make("file", 1, PAGES as u64 * P)?;
    let buffer = Buffer::new(PAGES * PAGE)?;
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let child = Child::start("the one that is looked at", || {
        read_lazily(&file, &buffer, 0, PAGES * PAGE, 0)?;
        ready.open()?;
        go.pass()?;
        buffer.check(0, 5 * PAGE + 1, pattern(1, 0))?;
        check_eq!(buffer.load(5 * PAGE + 1), 0xee, "byte that the debugger wrote");
        check_eq!(buffer.load(9 * PAGE - 1), 0xee, "last byte that it wrote");
        buffer.check(9 * PAGE, 23 * PAGE, pattern(1, 9 * P))
    })?;
    ready.pass()?;
    let memory = sys::open(format!("/proc/{}/mem", child.pid).as_bytes(), abi::O_RDWR, 0)
        .named("/proc/PID/mem")?;
    let mut bytes = vec![0; 3 * PAGE];
    check_eq!(
        sys::pread(memory, &mut bytes, FileOffset((buffer.at(PAGE) + 100) as u64))
            .named("pread")?,
        3 * PAGE,
        "bytes of its memory"
    );
    for (at, byte) in bytes.iter().enumerate() {
        check_eq!(*byte, proof::kit::byte(1, P + 100 + at as u64), "byte {at} of its memory");
    }
    let written = sys::pwrite(
        memory,
        &vec![0xee; 4 * PAGE - 1],
        FileOffset((buffer.at(5 * PAGE) + 1) as u64),
    )
    .named("pwrite")?;
    check_eq!(written, 4 * PAGE - 1, "bytes written");
    check_eq!(
        sys::pread(memory, &mut bytes, FileOffset::ZERO),
        Err(Errno::EIO),
        "what is read where nothing is mapped"
    );
    sys::close(memory).named("close")?;
    // Its stores are not visible to anyone else.
    let other = Buffer::new(PAGES * PAGE)?;
    read_lazily(&file, &other, 0, PAGES * PAGE, 0)?;
    other.check(0, PAGES * PAGE, pattern(1, 0))?;
    go.open()?;
    child.join()
}

/// An untrusted server, which answers differently each time, is asked for each page once, also
/// under memory pressure.
#[guest_test(memory_mib: 48, mutants: &[Mutant::AskTwice])]
fn x3_asked_once() -> Outcome {
    const BYTES: usize = 80 << 20;
    const PAGES: usize = BYTES / PAGE;
    if !lazy::present() {
        return Ok(());
    }
    let mut sent = BTreeSet::new();
    let script: crate::scripted::Script = Box::new(move |_, asked, reply| {
        if let Request::Read(read) = &asked.fields
            && asked.op == Op::Read
            && asked.of_snapshot
        {
            for (index, page) in reply.payload.chunks_mut(PAGE).enumerate() {
                if !sent.insert(read.offset / P + index as u64) {
                    page.fill(0xbb);
                }
            }
        }
        Action::Send
    });
    let (server, fd) = Server::start("x3", Setting { size: BYTES as u64, ..USUAL }, script)?;
    os::mount_untrusted(fd, &server.path).named("mount")?;
    sys::close(fd).named("close")?;
    let file = server.open(0)?;
    let buffer = Buffer::new(BYTES)?;
    let meter = Meter::start()?;
    check_eq!(os::read(file, buffer.at(0), BYTES).named("read")?, BYTES, "bytes read");
    meter.expect("reads_lazy", 1)?;
    let child = Child::start("child", || {
        (0..PAGES)
            .step_by(7)
            .try_for_each(|page| buffer.check(page * PAGE, PAGE, content(0, 0, page as u64 * P)))
    })?;
    for turn in 0..2 {
        within(format!("turn {turn}"), buffer.check(0, BYTES, content(0, 0, 0)))?;
    }
    child.join()?;
    meter.expect_system("pages_fetched", PAGES as i64)?;
    drop(buffer);
    sys::close(file).named("close")
}
