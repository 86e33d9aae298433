//! R: what read(2) returns and where it stores it.

use crate::scripted::{self, Action, Server, USUAL};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicI64, Ordering};
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{
    Buffer, Child, Content, File, Named, Outcome, PAGE, UNTOUCHED, pattern, read_lazily,
    whole_pages, within,
};
use proof::lazy::{self, Knob, Meter};
use proof::thread::Thread;
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// Changes the mapping at an address.
type Change = fn(usize) -> sys::Result<()>;

/// Fragments and pages are of the same instant, although the file changes before they are touched.
#[guest_test(mutants: &[Mutant::SkipRescue])]
fn r1_one_instant() -> Outcome {
    let file = File::make("file", 1, 64 * P)?;
    let buffer = Buffer::filled(66 * PAGE, UNTOUCHED)?;
    read_lazily(&file, &buffer, 100, 64 * PAGE, 0)?;
    Child::start("writer", || file.overwrite(2, 0, 64 * P))?.join()?;
    buffer.check(0, 100, UNTOUCHED)?;
    buffer.check(100, 64 * PAGE, pattern(1, 0))?;
    buffer.check(100 + 64 * PAGE, 2 * PAGE - 100, UNTOUCHED)
}

/// No read mixes two versions of a file that another process overwrites continuously, one message
/// for each version.
#[guest_test]
fn r1_one_instant_under_writes() -> Outcome {
    if !lazy::present() {
        // Linux guarantees this on some file systems only.
        return Ok(());
    }
    const BYTES: usize = 48 * PAGE;
    let file = File::make("file", 1, BYTES as u64)?;
    file.overwrite_bytes(0, 0, BYTES)?;
    let writer = Child::start("writer", || {
        let source = Buffer::new(BYTES)?;
        for version in (0..=255).cycle() {
            source.put(0, BYTES, Content::Only(version));
            check_eq!(
                os::pwrite(file.fd, source.at(0), BYTES, 0).named("pwrite")?,
                BYTES,
                "bytes written"
            );
        }
        Ok(())
    })?;
    let meter = Meter::start()?;
    let mut versions_seen = 0;
    let mut last = 0;
    for round in 0..150usize {
        let buffer = Buffer::new(BYTES + PAGE)?;
        let at = round * 61 % PAGE;
        file.read_into(&buffer, at, BYTES, 0)?;
        let version = buffer.load(at);
        within(format_args!("round {round}"), buffer.check(at, BYTES, Content::Only(version)))?;
        versions_seen += u32::from(version != last);
        last = version;
    }
    writer.kill()?;
    check!(versions_seen > 3, "the writer hardly ran: {versions_seen} versions seen");
    meter.expect("reads_lazy", 150)
}

/// Fragments come in the reply that made the snapshot: the server's file changes right after that
/// reply.
#[guest_test(mutants: &[Mutant::LiveFragments])]
fn r1_fragments_in_the_same_reply() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let script: scripted::Script = Box::new(|wire, asked, _| {
        if asked.op == Op::Snapshot {
            wire.change_files();
        }
        Action::Send
    });
    let server = Server::mount("r1", USUAL, script)?;
    let fd = server.open(0)?;
    let buffer = Buffer::filled(22 * PAGE, UNTOUCHED)?;
    let before = server.wire.messages_in();
    check_eq!(os::pread(fd, buffer.at(77), 20 * PAGE, 11).named("pread")?, 20 * PAGE, "bytes read");
    check_eq!(server.wire.messages_in() - before, 1, "messages for one read");
    buffer.check(77, 20 * PAGE, scripted::content(0, 0, 11))?;
    sys::close(fd).named("close")
}

/// The count is short at end of file and 0 behind it, without a snapshot; the offset advances by
/// the count.
#[guest_test(mutants: &[Mutant::OffsetByRequest])]
fn r2_count() -> Outcome {
    let length = 10 * P + 123;
    let file = File::make("file", 1, length)?;
    let whole = 20 * PAGE;
    for (offset, expected) in [
        (0, 10 * PAGE + 123),
        (1, 10 * PAGE + 122),
        (5 * P, 5 * PAGE + 123),
        (10 * P, 123),
        (length - 1, 1),
        (length, 0),
        (length + 1, 0),
        (100 * P, 0),
        (1 << 40, 0),
    ] {
        let buffer = Buffer::filled(whole, UNTOUCHED)?;
        let meter = Meter::start()?;
        os::seek(file.fd, offset).named("lseek")?;
        let count = os::read(file.fd, buffer.at(0), whole).named("read")?;
        check_eq!(count, expected, "bytes read at {offset}");
        check_eq!(
            os::position(file.fd).named("lseek")?,
            offset + expected as u64,
            "offset after a read at {offset}"
        );
        meter.expect_system("snapshots_made", (expected >= 2 * PAGE).into())?;
        buffer.check(0, expected, pattern(1, offset))?;
        buffer.check(expected, whole - expected, UNTOUCHED)?;
    }
    os::seek(file.fd, 0).named("lseek")?;
    let buffer = Buffer::new(whole)?;
    let mut total = 0;
    loop {
        match os::read(file.fd, buffer.at(total), 3 * PAGE + 5).named("read")? {
            0 => break,
            count => total += count,
        }
    }
    check_eq!(total as u64, length, "bytes read in turn");
    buffer.check(0, total, pattern(1, 0))
}

/// Processes that share an open file get every byte exactly once.
#[guest_test(mutants: &[Mutant::NoPositionLock])]
fn r2_position_lock() -> Outcome {
    const CHUNK: usize = 5 * PAGE + 24;
    const CHUNKS: usize = 120;
    // Every word of the file holds its own index.
    let file = File::make("file", 0, 0)?;
    let words: Vec<u8> = (0..(CHUNK * CHUNKS / 8) as u64).flat_map(u64::to_le_bytes).collect();
    for (index, chunk) in words.chunks(1 << 16).enumerate() {
        check_eq!(
            sys::pwrite(file.fd, chunk, FileOffset((index << 16) as u64)).named("pwrite")?,
            chunk.len(),
            "bytes written"
        );
    }
    os::seek(file.fd, 0).named("lseek")?;
    let [from, to] = sys::pipe(0).named("pipe")?;
    let reader = || {
        let meter = Meter::start()?;
        let buffer = Buffer::new(CHUNK)?;
        let mut turns = 0;
        loop {
            let count = os::read(file.fd, buffer.at(0), CHUNK).named("read")?;
            if count == 0 {
                break;
            }
            check_eq!(count, CHUNK, "bytes read");
            let first = buffer.load_word(0);
            for index in 0..(CHUNK / 8) as u64 {
                check_eq!(
                    buffer.load_word(8 * index as usize),
                    first + index,
                    "word {index} behind word {first}"
                );
            }
            sys::write_all(to, &first.to_le_bytes()).named("write")?;
            turns += 1;
        }
        meter.expect("reads_lazy", turns)
    };
    let readers = [(); 4].map(|()| Child::start("reader", reader));
    for child in readers {
        child?.join()?;
    }
    sys::close(to).named("close")?;
    let mut turns = vec![0; 16 * CHUNKS];
    let count = sys::read_full(from, &mut turns).named("read")?;
    sys::close(from).named("close")?;
    let mut firsts: Vec<u64> = turns[..count]
        .chunks_exact(8)
        .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
        .collect();
    firsts.sort_unstable();
    let expected: Vec<u64> = (0..CHUNKS as u64).map(|turn| turn * CHUNK as u64 / 8).collect();
    let first_wrong = firsts.iter().zip(&expected).find(|(got, expected)| got != expected);
    check!(
        firsts == expected,
        "{} chunks of {CHUNKS}; first that is wrong (got, expected): {first_wrong:?}",
        firsts.len()
    );
    Ok(())
}

/// No byte before the buffer or past n changes, at any alignment of the buffer.
#[guest_test(mutants: &[Mutant::ZeroPastEnd])]
fn r3_nothing_past_n() -> Outcome {
    let length = 5 * PAGE + 77;
    let file = File::make("file", 1, length as u64)?;
    for at in [0, 1, 300, PAGE - 77, PAGE - 76, PAGE, 2 * PAGE - 1] {
        let buffer = Buffer::filled(16 * PAGE, UNTOUCHED)?;
        let meter = Meter::start()?;
        let count = os::pread(file.fd, buffer.at(at), 12 * PAGE, 0).named("pread")?;
        check_eq!(count, length, "bytes read");
        meter.expect("reads_lazy", 1)?;
        meter.expect("pages_lazy", whole_pages(buffer.at(at), length))?;
        within(format_args!("before, at {at}"), buffer.check(0, at, UNTOUCHED))?;
        within(
            format_args!("past n, at {at}"),
            buffer.check(at + length, buffer.len_bytes() - at - length, UNTOUCHED),
        )?;
        within(format_args!("inside, at {at}"), buffer.check(at, length, pattern(1, 0)))?;
    }
    Ok(())
}

/// Large reads whose pages have bytes of two pages of the file: all bytes are right, in any order
/// of touches, although the file changes before.
#[guest_test(mutants: &[Mutant::ComposeOfOnePage])]
fn r4_incongruent_pages() -> Outcome {
    let file = File::make("file", 1, 300 * P)?;
    let mut reads = Vec::new();
    for (offset, at, pages) in [(100, 0, 20), (P - 1, 0, 200), (0, 1, 32), (7 * P + 9, 8, 256)] {
        let length = pages * PAGE + 77;
        let buffer = Buffer::filled(length + 2 * PAGE, UNTOUCHED)?;
        file.read_into(&buffer, at, length, offset)?;
        reads.push((buffer, at, length, offset));
    }
    file.overwrite(2, 0, 300 * P)?;
    for (buffer, at, length, offset) in reads {
        let what = format!("{length} bytes from {offset} to {at}");
        // From the middle on, then from the front.
        let (middle, rest) = (length / 2, length - length / 2);
        within(&what, buffer.check(at + middle, rest, pattern(1, offset + middle as u64)))?;
        within(&what, buffer.check(0, at, UNTOUCHED))?;
        within(&what, buffer.check(at, length, pattern(1, offset)))?;
        within(&what, buffer.check(at + length, buffer.len_bytes() - at - length, UNTOUCHED))?;
    }
    Ok(())
}

/// Every alignment of file offset, buffer and length gives the same bytes, although the file
/// changes before a page is touched.
#[guest_test(mutants: &[Mutant::AlignOffset])]
fn r4_any_offset() -> Outcome {
    let _knob = Knob::set("min_lazy_pages", 1)?;
    let file = File::make("file", 1, 16 * P)?;
    let mut reads = Vec::new();
    let meter = Meter::start()?;
    let mut pages = 0;
    for offset in [0, 1, 511, P - 1, P, P + 1, 2 * P + 1234] {
        for at in [0, 1, 100, PAGE - 1] {
            for length in [1, 100, PAGE - 1, PAGE, 2 * PAGE - 1, 3 * PAGE, 7 * PAGE + 17] {
                let buffer = Buffer::filled(9 * PAGE, UNTOUCHED)?;
                file.read_into(&buffer, at, length, offset)?;
                pages += whole_pages(buffer.at(at), length);
                reads.push((buffer, at, length, offset));
            }
        }
    }
    meter.expect("pages_lazy", pages)?;
    file.overwrite(2, 0, 16 * P)?;
    for (buffer, at, length, offset) in reads {
        let what = format!("{length} bytes from {offset} to {at}");
        within(&what, buffer.check(0, at, UNTOUCHED))?;
        within(&what, buffer.check(at, length, pattern(1, offset)))?;
        within(&what, buffer.check(at + length, buffer.len_bytes() - at - length, UNTOUCHED))?;
    }
    Ok(())
}

/// Counts and errors for partly mapped buffers are Linux's, and no snapshot is left behind.
#[guest_test(mutants: &[Mutant::EarlyFault])]
fn r5_errors_as_eager() -> Outcome {
    let file = File::make("file", 1, 8 * P)?;
    let meter = Meter::start()?;
    let spoilers: [(&str, Change); 3] = [
        ("unmapped", |addr| os::munmap(addr, PAGE)),
        ("no access", |addr| os::mprotect(addr, PAGE, abi::PROT_NONE)),
        ("read only", |addr| os::mprotect(addr, PAGE, abi::PROT_READ)),
    ];
    for (what, spoil) in spoilers {
        for at in [0, 100] {
            let buffer = Buffer::filled(9 * PAGE, UNTOUCHED)?;
            spoil(buffer.at(3 * PAGE)).named(what)?;
            os::seek(file.fd, 0).named("lseek")?;
            let count = os::read(file.fd, buffer.at(at), 8 * PAGE).named(what)?;
            check_eq!(count, 3 * PAGE - at, "bytes read where page 3 is {what}");
            check_eq!(os::position(file.fd).named("lseek")?, count as u64, "offset afterwards");
            within(what, buffer.check(at, count, pattern(1, 0)))?;
            within(what, buffer.check(4 * PAGE, 5 * PAGE, UNTOUCHED))?;
            check_eq!(
                os::read(file.fd, buffer.at(3 * PAGE), 2 * PAGE),
                Err(Errno::EFAULT),
                "read where its first page is {what}"
            );
            check_eq!(os::position(file.fd).named("lseek")?, count as u64, "offset after EFAULT");
            check_eq!(
                os::pread(file.fd, buffer.at(3 * PAGE), 2 * PAGE, 8 * P),
                Ok(0),
                "at end of file, {what}"
            );
        }
    }
    let kernel = 0xffff_8000_0000_0000;
    for (addr, length, at_start, at_end) in [
        (0, 4 * PAGE, Err(Errno::EFAULT), Ok(0)),
        (8, 100, Err(Errno::EFAULT), Ok(0)),
        (kernel, 4 * PAGE, Err(Errno::EFAULT), Err(Errno::EFAULT)),
        (usize::MAX - PAGE + 1, PAGE, Err(Errno::EFAULT), Err(Errno::EFAULT)),
        (0x1000, usize::MAX - 0x2000, Err(Errno::EFAULT), Err(Errno::EFAULT)),
    ] {
        check_eq!(
            os::pread(file.fd, addr, length, 0),
            at_start,
            "read to {addr:#x}, {length:#x} bytes"
        );
        check_eq!(
            os::pread(file.fd, addr, length, 8 * P),
            at_end,
            "read at end of file to {addr:#x}, {length:#x} bytes"
        );
    }
    meter.expect_least("reads_lazy", 6)?;
    meter.expect_system("snapshots_live", 0)
}

/// A read of another thread.
struct ThreadRead {
    fd: Fd,
    addr: usize,
    length: usize,
    result: AtomicI64,
}

impl ThreadRead {
    extern "C" fn run(argument: usize) {
        // SAFETY: the address of a `ThreadRead` that lives until the thread was joined.
        let this = unsafe { &*(argument as *const Self) };
        let result = match os::pread(this.fd, this.addr, this.length, 0) {
            Ok(count) => count as i64,
            Err(error) => -i64::from(error.0),
        };
        this.result.store(result, Ordering::SeqCst);
    }
}

/// A buffer that is unmapped or changed while the read waits for the server shortens the read, and
/// its snapshot is closed.
#[guest_test]
fn r5_space_changes_meanwhile() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    const PAGES: usize = 16;
    let script: scripted::Script =
        Box::new(|_, asked, _| if asked.op == Op::Snapshot { Action::Hold } else { Action::Send });
    let server = Server::mount("r5", USUAL, script)?;
    let fd = server.open(0)?;
    let half = PAGES / 2 * PAGE;
    let fault = -i64::from(Errno::EFAULT.0);
    let changes: [(&str, i64, Change); 4] = [
        ("unmapped", fault, |addr| os::munmap(addr, PAGES * PAGE)),
        ("half unmapped", half as i64, |addr| {
            os::munmap(addr + PAGES / 2 * PAGE, PAGES / 2 * PAGE)
        }),
        ("half read-only", half as i64, |addr| {
            os::mprotect(addr + PAGES / 2 * PAGE, PAGES / 2 * PAGE, abi::PROT_READ)
        }),
        ("replaced", (PAGES * PAGE) as i64, |addr| {
            os::mmap(addr, PAGES * PAGE, os::READ_WRITE, abi::MAP_PRIVATE | abi::MAP_FIXED)
                .map(drop)
        }),
    ];
    for (what, expected, change) in changes {
        let buffer = Buffer::filled(PAGES * PAGE, UNTOUCHED)?;
        let read = ThreadRead {
            fd,
            addr: buffer.at(0),
            length: buffer.len_bytes(),
            result: AtomicI64::new(i64::MIN),
        };
        let thread = Thread::start(ThreadRead::run, &raw const read as usize)?;
        server.wait_held()?;
        change(buffer.at(0)).named(what)?;
        server.release()?;
        thread.join();
        check_eq!(
            read.result.load(Ordering::SeqCst),
            expected,
            "result of the read whose buffer was {what}"
        );
        if expected > 0 {
            within(what, buffer.check(0, expected as usize, scripted::content(0, 0, 0)))?;
        }
        if what == "half read-only" {
            within(what, buffer.check(half, half, UNTOUCHED))?;
        }
        drop(buffer);
        // The server has received every close that was sent before this request.
        sys::fstat(fd).named("fstat")?;
        check_eq!(server.wire.snapshots(), 0, "snapshots open, buffer {what}");
    }
    sys::close(fd).named("close")
}

/// A read over lazy pages fetches only the pages that it covers partly.
#[guest_test(mutants: &[Mutant::DropPartialPage])]
fn r6_reread() -> Outcome {
    let _knob = lazy::fault_around(1)?;
    let (first, second) = (File::make("first", 1, 32 * P)?, File::make("second", 2, 32 * P)?);
    let buffer = Buffer::new(32 * PAGE)?;
    read_lazily(&first, &buffer, 0, 32 * PAGE, 0)?;
    let (at, length) = (4 * PAGE + 1000, 10 * PAGE);
    let meter = Meter::start()?;
    read_lazily(&second, &buffer, at, length, 500)?;
    meter.expect_system("pages_fetched", 2)?;
    first.overwrite(3, 0, 32 * P)?;
    second.overwrite(3, 0, 32 * P)?;
    buffer.check(0, at, pattern(1, 0))?;
    buffer.check(at, length, pattern(2, 500))?;
    buffer.check(
        at + length,
        buffer.len_bytes() - at - length,
        pattern(1, (at + length) as u64),
    )?;

    // Covered completely: nothing is fetched, and the old association is dropped.
    let buffer = Buffer::new(32 * PAGE)?;
    let meter = Meter::start()?;
    for seed in 4..8 {
        first.overwrite(seed, 0, 32 * P)?;
        read_lazily(&first, &buffer, 0, 32 * PAGE, 0)?;
    }
    meter.expect_system("pages_fetched", 0)?;
    meter.expect_system("snapshots_live", 1)?;
    buffer.check(0, 32 * PAGE, pattern(7, 0))
}

/// A read drops frames that a child, another buffer or the cache can see; it never writes to them.
#[guest_test(mutants: &[Mutant::WriteSharedFrame])]
fn r7_frames_are_never_written() -> Outcome {
    let (first, second) = (File::make("first", 1, 16 * P)?, File::make("second", 2, 16 * P)?);
    let resident = || {
        let buffer = Buffer::new(16 * PAGE)?;
        read_lazily(&first, &buffer, 0, 16 * PAGE, 0)?;
        buffer.check(0, 16 * PAGE, pattern(1, 0))?;
        Outcome::Ok(buffer)
    };
    let [from, to] = sys::pipe(0).named("pipe")?;
    // Whole pages, a range with fragments, a small copy, and bytes from a pipe.
    let reads: [(usize, usize); 3] =
        [(0, 16 * PAGE), (3 * PAGE + 9, 5 * PAGE), (8 * PAGE + 1, 100)];
    for (at, length) in reads {
        let what = format!("read of {length} bytes at {at}");
        let (ours, other) = (resident()?, resident()?);
        let child = Child::start("reader in a child", || {
            second.read_into(&ours, at, length, 0)?;
            ours.check(at, length, pattern(2, 0))?;
            ours.check(0, at, pattern(1, 0))
        })?;
        child.join()?;
        within(
            format_args!("parent after {what} by a child"),
            ours.check(0, 16 * PAGE, pattern(1, 0)),
        )?;
        second.read_into(&ours, at, length, 0)?;
        within(
            format_args!("other buffer after {what}"),
            other.check(0, 16 * PAGE, pattern(1, 0)),
        )?;
        within(
            format_args!("the same bytes read again after {what}"),
            resident()?.check(0, 16 * PAGE, pattern(1, 0)),
        )?;
    }
    let (ours, other) = (resident()?, resident()?);
    sys::write_all(to, &[0x5a; 3000]).named("write")?;
    check_eq!(os::read(from, ours.at(3 * PAGE), 3000).named("read")?, 3000, "bytes from the pipe");
    ours.check(3 * PAGE, 3000, Content::Only(0x5a))?;
    ours.check(3 * PAGE + 3000, PAGE - 3000, pattern(1, 3 * P + 3000))?;
    within("other buffer after a read from a pipe", other.check(0, 16 * PAGE, pattern(1, 0)))?;
    resident()?.check(0, 16 * PAGE, pattern(1, 0))?;
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }
    Ok(())
}
