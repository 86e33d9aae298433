//! F: page faults on lazy pages, by a program and by the kernel itself.

use crate::scripted::{Action, Script, Server, USUAL, content};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use foundation::mutant::Mutant;
use fsproto::{Op, Request};
use proof::guest_test;
use proof::kit::{
    Buffer, Child, Content, File, Named, Outcome, PAGE, UNTOUCHED, ZEROS, pattern, polled,
    read_lazily, store, within,
};
use proof::lazy::{self, Meter};
use proof::thread::Thread;
use proof::{check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// A load fetches its page and some neighbours in one message, each page once, and no page
/// elsewhere.
#[guest_test(mutants: &[Mutant::NoFaultAround])]
fn f1_load() -> Outcome {
    for (around, most_fetches) in [(1, 64), (4, 24), (16, 8)] {
        let _knob = lazy::fault_around(around)?;
        let file = File::make("file", 1, 100 * P)?;
        let buffer = Buffer::filled(66 * PAGE, UNTOUCHED)?;
        read_lazily(&file, &buffer, PAGE, 64 * PAGE, 10 * P)?;
        let meter = Meter::start()?;
        check_eq!(buffer.load(21 * PAGE), proof::kit::byte(1, 30 * P), "first byte of a page");
        meter.expect_system("fetches", 1)?;
        meter.expect_system("pages_fetched", around as i64)?;
        meter.expect_system("bytes_fetched", around as i64 * PAGE as i64)?;
        buffer.check(PAGE, 64 * PAGE, pattern(1, 10 * P))?;
        meter.expect_system("pages_fetched", 64)?;
        meter.expect_system_within("fetches", 64 / around as i64, most_fetches)?;
        buffer.check(0, PAGE, UNTOUCHED)?;
        buffer.check(65 * PAGE, PAGE, UNTOUCHED)?;
        // The same bytes of the same version are cached.
        let again = Buffer::new(64 * PAGE)?;
        read_lazily(&file, &again, 0, 64 * PAGE, 10 * P)?;
        again.check(0, 64 * PAGE, pattern(1, 10 * P))?;
        meter.expect_system("pages_fetched", 64)?;
    }
    Ok(())
}

/// A store makes a private copy of the right bytes that nobody else sees.
#[guest_test(mutants: &[Mutant::StoreShared])]
fn f2_store() -> Outcome {
    let file = File::make("file", 1, 16 * P)?;
    let buffers = [Buffer::new(16 * PAGE)?, Buffer::new(16 * PAGE)?];
    for buffer in &buffers {
        read_lazily(&file, buffer, 0, 16 * PAGE, 0)?;
    }
    let meter = Meter::start()?;
    // A first touch, and a page that was loaded before.
    buffers[1].load(9 * PAGE);
    for page in [3, 9] {
        store(buffers[0].at(page * PAGE + 7), 0);
    }
    meter.expect_least("pages_cow", 2)?;
    file.overwrite(2, 0, 16 * P)?;
    let mut next = 0;
    for page in [3, 9] {
        let at = page * PAGE + 7;
        buffers[0].check(next, at - next, pattern(1, next as u64))?;
        check_eq!(buffers[0].load(at), 0, "the byte stored to page {page}");
        next = at + 1;
    }
    buffers[0].check(next, 16 * PAGE - next, pattern(1, next as u64))?;
    within("the other buffer", buffers[1].check(0, 16 * PAGE, pattern(1, 0)))?;
    // A page that was stored to completely is private; the page beside it is still lazy.
    buffers[1].put(4 * PAGE, PAGE, UNTOUCHED);
    within("beside the page stored to", buffers[1].check(5 * PAGE, 11 * PAGE, pattern(1, 5 * P)))?;
    within("the first buffer", buffers[0].check(4 * PAGE, PAGE, pattern(1, 4 * P)))
}

/// A byte that several threads load.
struct Loads {
    addr: usize,
    seen: [AtomicI32; 4],
    next: AtomicUsize,
}

impl Loads {
    fn of(addr: usize) -> Self {
        Self { addr, seen: [const { AtomicI32::new(-1) }; 4], next: AtomicUsize::new(0) }
    }

    extern "C" fn run(argument: usize) {
        // SAFETY: the address of a `Loads` that lives until the threads were joined.
        let this = unsafe { &*(argument as *const Self) };
        let index = this.next.fetch_add(1, Ordering::SeqCst);
        let byte = proof::kit::load(this.addr);
        if let Some(seen) = this.seen.get(index) {
            seen.store(byte.into(), Ordering::SeqCst);
        }
    }
}

/// Yields until other runnable threads have run.
pub fn let_others_run() {
    for _ in 0..100 {
        let _: sys::Result<i32> = sys::sched_yield();
    }
}

/// Holds back replies to reads of snapshots.
fn hold_page_ins() -> Script {
    Box::new(
        |_, asked, _| {
            if asked.of_snapshot && asked.op == Op::Read { Action::Hold } else { Action::Send }
        },
    )
}

/// Fails reads of snapshots from this byte on.
pub fn fail_page_ins(from: u64) -> Script {
    Box::new(move |_, asked, reply| {
        if let Request::Read(read) = asked.fields
            && asked.of_snapshot
            && read.offset + u64::from(read.length) > from
        {
            reply.fail(asked.op, asked.tag, Errno::EIO);
        }
        Action::Send
    })
}

/// A buffer that holds a lazy read of file 0 of a server.
pub fn lazy_buffer(server: &Server, pages: usize) -> Outcome<Buffer> {
    let fd = server.open(0)?;
    let buffer = Buffer::new(pages * PAGE)?;
    let meter = Meter::start()?;
    check_eq!(
        os::pread(fd, buffer.at(0), pages * PAGE, 0).named("pread")?,
        pages * PAGE,
        "bytes read"
    );
    meter.expect("reads_lazy", 1)?;
    sys::close(fd).named("close")?;
    Ok(buffer)
}

/// Four threads that touch one page cause one request.
#[guest_test(mutants: &[Mutant::FetchTwice])]
fn f3_one_fetch() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let _knob = lazy::fault_around(1)?;
    let server = Server::mount("f3", USUAL, hold_page_ins())?;
    let buffer = lazy_buffer(&server, 8)?;
    let loads = Loads::of(buffer.at(3 * PAGE));
    let threads = [(); 4].map(|()| Thread::start(Loads::run, &raw const loads as usize));
    server.wait_held()?;
    let_others_run();
    check_eq!(loads.next.load(Ordering::SeqCst), 4, "threads that got as far as the page");
    server.release()?;
    for thread in threads {
        thread?.join();
    }
    let expected = i32::from(proof::kit::byte(1000, 3 * P));
    for seen in &loads.seen {
        check_eq!(seen.load(Ordering::SeqCst), expected, "byte that a thread saw");
    }
    check_eq!(server.wire.requests(Op::Read), 1, "requests for the page");
    Ok(())
}

/// If the process that started a fetch is killed, other waiters get the page by the same request.
#[guest_test(mutants: &[Mutant::FetchTwice])]
fn f3_fetch_outlives_its_starter() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let server = Server::mount("f3", USUAL, hold_page_ins())?;
    let buffer = lazy_buffer(&server, 8)?;
    let touch = |what: &str| {
        Child::start(what, || {
            check_eq!(buffer.load(3 * PAGE), proof::kit::byte(1000, 3 * P), "the byte");
            Ok(())
        })
    };
    let starter = touch("starter")?;
    server.wait_held()?;
    let second = touch("second")?;
    let_others_run();
    starter.kill()?;
    let_others_run();
    server.release()?;
    second.join()?;
    check_eq!(server.wire.requests(Op::Read), 1, "requests for the page");
    Ok(())
}

/// Remaps or overwrites a buffer.
type Change = fn(&Server, &Buffer) -> Outcome;

/// A page that arrives after its address was remapped is not mapped there.
#[guest_test(mutants: &[Mutant::NoGeneration])]
fn f3_generation() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let changes: [(&str, Content, Change); 3] = [
        ("read over", content(5, 0, 0), |server, buffer| {
            let fd = server.open(5)?;
            check_eq!(
                os::pread(fd, buffer.at(0), buffer.len_bytes(), 0).named("pread")?,
                buffer.len_bytes(),
                "bytes read"
            );
            sys::close(fd).named("close")
        }),
        ("mapped anew", ZEROS, |_, buffer| {
            os::mmap(
                buffer.at(0),
                buffer.len_bytes(),
                os::READ_WRITE,
                abi::MAP_PRIVATE | abi::MAP_FIXED,
            )
            .named("mmap")
            .map(drop)
        }),
        ("moved away and back, one page on", content(0, 0, P), |_, buffer| {
            let elsewhere =
                os::mremap_to(buffer.at(0), 8 * PAGE, 8 * PAGE, Buffer::new(8 * PAGE)?.leak())
                    .named("mremap")?;
            os::mremap_to(elsewhere + PAGE, 7 * PAGE, 7 * PAGE, buffer.at(0)).named("mremap")?;
            os::munmap(elsewhere, PAGE).named("munmap")?;
            os::mmap(buffer.at(7 * PAGE), PAGE, os::READ_WRITE, abi::MAP_PRIVATE | abi::MAP_FIXED)
                .named("mmap")
                .map(drop)
        }),
    ];
    for (what, expected, change) in changes {
        let mut first = true;
        let script: Script = Box::new(move |_, asked, _| {
            let hold = asked.of_snapshot && asked.op == Op::Read && core::mem::take(&mut first);
            if hold { Action::Hold } else { Action::Send }
        });
        let server = Server::mount("f3", USUAL, script)?;
        let buffer = lazy_buffer(&server, 8)?;
        let loads = Loads::of(buffer.at(3 * PAGE));
        let thread = Thread::start(Loads::run, &raw const loads as usize)?;
        server.wait_held()?;
        within(what, change(&server, &buffer))?;
        server.release()?;
        thread.join();
        let length = if expected == content(0, 0, P) { 7 * PAGE } else { 8 * PAGE };
        within(what, buffer.check(0, length, expected))?;
        let mut byte = [0];
        if let Content::Pattern { seed, from } = expected {
            proof::kit::fill(&mut byte, seed, from + 3 * P);
        }
        check_eq!(
            loads.seen[0].load(Ordering::SeqCst),
            i32::from(byte[0]),
            "byte that the thread saw, buffer {what}"
        );
    }
    Ok(())
}

/// System calls read and write lazy memory: data, paths, vectors and results.
#[guest_test]
fn f4_kernel_access() -> Outcome {
    let file = File::make("file", 1, 20 * P)?;
    let buffer = Buffer::new(20 * PAGE)?;
    let [from, to] = sys::pipe(0).named("pipe")?;
    // From lazy memory into a pipe, across a page boundary, and into another file.
    read_lazily(&file, &buffer, 0, 20 * PAGE, 0)?;
    file.overwrite(2, 0, 20 * P)?;
    check_eq!(
        os::write(to, buffer.at(3 * PAGE + 100), 2 * PAGE).named("write")?,
        2 * PAGE,
        "bytes into the pipe"
    );
    let target = Buffer::new(4 * PAGE)?;
    check_eq!(
        os::read(from, target.at(0), 2 * PAGE).named("read")?,
        2 * PAGE,
        "bytes out of the pipe"
    );
    within("through a pipe", target.check(0, 2 * PAGE, pattern(1, 3 * P + 100)))?;
    let copy = File::sparse("copy", 0)?;
    check_eq!(
        os::pwrite(copy.fd, buffer.at(6 * PAGE + 1), 10 * PAGE, 0).named("pwrite")?,
        10 * PAGE,
        "bytes into a file"
    );
    let check = Buffer::new(10 * PAGE)?;
    copy.read_into(&check, 0, 10 * PAGE, 0)?;
    within("through a file", check.check(0, 10 * PAGE, pattern(1, 6 * P + 1)))?;
    // Into lazy memory, so that parts of pages keep their bytes.
    sys::write_all(to, &[0x61; 5000]).named("write")?;
    check_eq!(
        os::read(from, buffer.at(17 * PAGE + 50), 5000).named("read")?,
        5000,
        "bytes from the pipe"
    );
    buffer.check(17 * PAGE, 50, pattern(1, 17 * P))?;
    buffer.check(17 * PAGE + 50, 5000, Content::Only(0x61))?;
    buffer.check(17 * PAGE + 5050, 3 * PAGE - 5050, pattern(1, 17 * P + 5050))?;
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }
    arguments_in_lazy_memory(&file, &target)
}

/// Opens and reads `file` by a path, a vector and a result buffer in lazy memory. It holds pattern
/// 2.
fn arguments_in_lazy_memory(file: &File, target: &Buffer) -> Outcome {
    let path = format!("{}\0", file.path);
    let words = Buffer::new(4 * PAGE)?;
    let mut text = vec![0x2e; 4 * PAGE];
    text[PAGE - 5..PAGE - 5 + path.len()].copy_from_slice(path.as_bytes());
    let vector = [target.at(0), 1000, target.at(PAGE), 500];
    for (slot, value) in text[3 * PAGE - 16..].chunks_exact_mut(8).zip(vector) {
        slot.copy_from_slice(&value.to_ne_bytes());
    }
    let source = File::sparse("words", 0)?;
    check_eq!(
        sys::pwrite(source.fd, &text, FileOffset::ZERO).named("pwrite")?,
        text.len(),
        "bytes written"
    );
    read_lazily(&source, &words, 0, 4 * PAGE, 0)?;
    sys::ftruncate(source.fd, ByteCount::ZERO).named("ftruncate")?;
    let fd = os::raw(abi::__NR_open, &[words.at(PAGE - 5), 0]).named("open by a lazy path")?;
    let fd = Fd(fd as i32);
    let count = os::raw(abi::__NR_readv, &[fd.argument(), words.at(3 * PAGE - 16), 2])
        .named("readv by a lazy vector")?;
    check_eq!(count, 1500, "bytes that readv gave");
    target.check(0, 1000, pattern(2, 0))?;
    target.check(PAGE, 500, pattern(2, 1000))?;
    os::raw(abi::__NR_fstat, &[fd.argument(), words.at(2 * PAGE - 70)])
        .named("fstat into lazy memory")?;
    check_eq!(words.load(2 * PAGE - 71), 0x2e, "the byte before the result");
    check_eq!(words.load(2 * PAGE - 70 + 144), 0x2e, "the byte behind the result");
    sys::close(fd).named("close")
}

/// A system call that cannot deliver bytes leaves them where they are.
#[guest_test(mutants: &[Mutant::ConsumeEarly])]
fn f4_nothing_consumed() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let server = Server::mount("f4", USUAL, fail_page_ins(4 * P))?;
    let _knob = lazy::fault_around(1)?;
    let buffer = lazy_buffer(&server, 8)?;
    let [from, to] = sys::pipe(0).named("pipe")?;
    let source = Buffer::filled(2 * PAGE, pattern(3, 0))?;
    let target = Buffer::new(2 * PAGE)?;
    check_eq!(
        os::write(to, source.at(0), 2 * PAGE).named("write")?,
        2 * PAGE,
        "bytes into the pipe"
    );
    // The page cannot be fetched, and it is needed because only a part of it is overwritten.
    check_eq!(
        os::read(from, buffer.at(5 * PAGE + 100), 1000),
        Err(Errno::EIO),
        "read into an unavailable page"
    );
    // The first page can be fetched, the second cannot: the count covers what was delivered, the
    // rest stays in the pipe.
    let count = os::read(from, buffer.at(3 * PAGE + 96), 2 * PAGE - 200).named("read")?;
    check_eq!(count, PAGE - 96, "bytes delivered");
    buffer.check(3 * PAGE + 96, count, pattern(3, 0))?;
    let rest = os::read(from, target.at(0), 2 * PAGE).named("read")?;
    check_eq!(rest, 2 * PAGE - count, "bytes left in the pipe");
    target.check(0, rest, pattern(3, count as u64))?;
    // From such a page: nothing arrives, or the bytes before it.
    check_eq!(
        os::write(to, buffer.at(6 * PAGE), 100),
        Err(Errno::EIO),
        "write from an unavailable page"
    );
    check_eq!(
        os::write(to, buffer.at(PAGE), 4 * PAGE).named("write")?,
        3 * PAGE,
        "bytes of the available pages"
    );
    // The file offset does not advance if the bytes could not be delivered.
    let file = File::make("file", 1, 4 * P)?;
    os::seek(file.fd, 100).named("lseek")?;
    check_eq!(
        os::read(file.fd, buffer.at(7 * PAGE + 1), 300),
        Err(Errno::EIO),
        "file read into an unavailable page"
    );
    check_eq!(os::position(file.fd).named("lseek")?, 100, "the file's offset");
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }
    Ok(())
}

/// What is written after a reader was killed is for others, and a reader that catches a signal
/// either reads it or leaves it.
#[guest_test(mutants: &[Mutant::HandToKilled])]
fn f4_nothing_for_the_killed() -> Outcome {
    const STREAM: u32 = 1;
    extern "C" fn catch(_: i32) {}
    if !lazy::present() {
        return Ok(());
    }
    sys::signal_handle(abi::SIGUSR1 as i32, catch, 0).named("sigaction")?;
    for (what, pair) in [
        ("pipe", sys::pipe(0)),
        ("stream", sys::socketpair(STREAM)),
        ("packets", os::socket_pair()),
    ] {
        let [from, to] = pair.named(what)?;
        let reader = |signal: u32| {
            let child = Child::start(what, || match sys::read(from, &mut [0; 8]) {
                Ok(1) => sys::exit(1),
                Err(Errno::EINTR) => sys::exit(0),
                other => Err(format!("a read gives {other:?}")),
            })?;
            let status = format!("/proc/{}/status", child.pid);
            while !lazy::read_text(&status)?.contains("S (sleeping)") {
                sys::sched_yield().named("sched_yield")?;
            }
            sys::kill(child.pid, signal as i32).named("kill")?;
            check_eq!(sys::write(to, b"x"), Ok(1), "{what}");
            Ok(child)
        };
        let is_left = || polled(from, abi::POLLIN).map(|ready| ready == abi::POLLIN);
        let killed = reader(abi::SIGKILL)?;
        check_eq!(is_left(), Ok(true), "{what}: after the signal");
        check_eq!(killed.status()?.signal(), Some(abi::SIGKILL as i32), "{what}");
        check_eq!(is_left(), Ok(true), "{what}: after the reader's end");
        check_eq!(sys::read(from, &mut [0; 8]), Ok(1), "{what}");
        let caught = reader(abi::SIGUSR1)?.status()?;
        check_eq!(caught.exit_code(), Some(i32::from(!is_left()?)), "{what}: read, or left");
        for fd in [from, to] {
            sys::close(fd).named("close")?;
        }
    }
    Ok(())
}

/// A system call that waits for a page holds no lock that others need.
#[guest_test]
fn f4_no_lock_while_waiting() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let server = Server::mount("f4", USUAL, hold_page_ins())?;
    // The two pages are not fetched together.
    let _knob = lazy::fault_around(1)?;
    let buffer = lazy_buffer(&server, 32)?;
    let [from, to] = sys::pipe(0).named("pipe")?;
    let file = File::make("file", 1, 4 * P)?;
    let waiters = [
        Child::start("writer to the pipe", || {
            check_eq!(os::write(to, buffer.at(0), 100).named("write")?, 100, "bytes written");
            Ok(())
        })?,
        Child::start("reader from the pipe", || {
            check_eq!(
                os::read(from, buffer.at(16 * PAGE + 3), 10).named("read")?,
                10,
                "bytes read"
            );
            buffer.check(16 * PAGE + 13, 100, content(0, 0, 16 * P + 13))
        })?,
    ];
    server.wait_held()?;
    sys::write_all(to, &[0x62; 10]).named("write")?;
    server.wait_held()?;
    // Both wait for pages. The pipe, the files and this address space still work.
    let target = Buffer::new(4 * PAGE)?;
    sys::write_all(to, &[0x63; 20]).named("write")?;
    let mut got = [0; 20];
    check_eq!(sys::read(from, &mut got).named("read")?, 20, "bytes through the pipe");
    file.read_into(&target, 0, 4 * PAGE, 0)?;
    target.check(0, 4 * PAGE, pattern(1, 0))?;
    let fd = server.open(3)?;
    sys::fstat(fd).named("fstat")?;
    sys::close(fd).named("close")?;
    Child::start("process", || Ok(()))?.join()?;
    // Data for the reader, whose bytes this thread may have consumed.
    sys::write_all(to, &[0x64; 40]).named("write")?;
    server.release()?;
    for waiter in waiters {
        waiter.join()?;
    }
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }
    Ok(())
}
