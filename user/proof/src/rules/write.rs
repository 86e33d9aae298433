//! W: writes that know where their bytes came from.

use crate::stack::Stack;
use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Buffer, Child, File, Gate, Named, Outcome, PAGE, pattern, read_lazily, within};
use proof::lazy::{self, Knob, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 64;
const BYTES: usize = PAGES * PAGE;

/// Writes a part of a buffer; the count must be complete.
pub fn write_from(file: &File, buffer: &Buffer, at: usize, length: usize, offset: u64) -> Outcome {
    let written = os::pwrite(file.fd, buffer.at(at), length, offset).named("pwrite")?;
    check_eq!(written, length, "bytes that pwrite took");
    Ok(())
}

/// The file must hold the pattern of a seed from its start.
pub fn check_file(file: &File, offset: usize, length: usize, seed: u64, from: u64) -> Outcome {
    let found = Buffer::new(length)?;
    file.read_into(&found, 0, length, offset as u64)?;
    found.check(0, length, pattern(seed, from))
}

/// Pages without a store are sent as references in one message, whatever became of their source;
/// stored-to pages and parts of pages as data.
#[guest_test(mutants: &[Mutant::StoreIgnoredInRuns])]
fn w1_references() -> Outcome {
    let source = File::make("source", 1, BYTES as u64)?;
    let target = File::make("target", 2, 0)?;
    let buffer = Buffer::new(BYTES)?;
    read_lazily(&source, &buffer, 0, BYTES, 0)?;
    source.overwrite(3, 0, BYTES as u64)?;
    buffer.put(5 * PAGE + 7, 10, pattern(4, 0));
    let meter = Meter::start()?;
    write_from(&target, &buffer, 100, BYTES - 200, 0)?;
    meter.expect("pages_referenced", PAGES as i64 - 3)?;
    meter.expect("bytes_written", 3 * PAGE as i64 - 200)?;
    check_file(&target, 0, 5 * PAGE + 7 - 100, 1, 100)?;
    check_file(&target, 5 * PAGE + 7 - 100, 10, 4, 0)?;
    check_file(&target, 5 * PAGE + 17 - 100, BYTES - 5 * PAGE - 117, 1, 5 * PAGE as u64 + 17)
}

/// A vector is written as its bytes in sequence would be: whole pages of each buffer as references,
/// the rest as data, in one message. Also for an append, and up to the first bad address.
#[guest_test(mutants: &[Mutant::VectorByBytes, Mutant::StoreIgnoredInRuns])]
fn w1_vectors() -> Outcome {
    const P: u64 = PAGE as u64;
    // A snapshot that is kept ahead would be closed before the write: one more message.
    let _knob = Knob::set("read_ahead", 0)?;
    let source = File::make("source", 1, BYTES as u64)?;
    let target = File::make("target", 2, 0)?;
    let (buffer, more) = (Buffer::new(BYTES)?, Buffer::new(16 * PAGE)?);
    let small = Buffer::filled(PAGE, pattern(5, 0))?;
    read_lazily(&source, &buffer, 0, BYTES, 0)?;
    read_lazily(&source, &more, 0, 16 * PAGE, 16 * P)?;
    source.overwrite(3, 0, BYTES as u64)?;
    buffer.put(5 * PAGE, 10, pattern(4, 0));
    let parts = [
        [small.at(0), 1000],
        [buffer.at(100), 20 * PAGE - 200],
        [small.at(1000), 24],
        [more.at(0), 16 * PAGE],
        [buffer.at(30 * PAGE), 8 * PAGE],
    ];
    let total = 44 * PAGE + 824;
    let meter = Meter::start()?;
    let written = os::raw(
        abi::__NR_pwritev,
        &[target.fd.argument(), parts.as_ptr().addr(), parts.len(), 10, 0],
    )
    .named("pwritev")?;
    check_eq!(written, total, "bytes that pwritev took");
    // 18 pages of the second buffer are whole, and one of these was stored to.
    meter.expect("pages_referenced", 17 + 16 + 8)?;
    meter.expect("bytes_written", 3 * PAGE as i64 + 824)?;
    // One message, and two for each of the two pages that were taken partly: the base is asked
    // first, and its file has changed (F9).
    meter.expect("fetches", 2)?;
    meter.expect_system("messages_sent", 1 + 2 * 2)?;
    let second = 10 + 1000;
    check_file(&target, 10, 1000, 5, 0)?;
    check_file(&target, second, 5 * PAGE - 100, 1, 100)?;
    check_file(&target, second + 5 * PAGE - 100, 10, 4, 0)?;
    check_file(&target, second + 5 * PAGE - 90, 15 * PAGE - 110, 1, 5 * P + 10)?;
    check_file(&target, second + 20 * PAGE - 200, 24, 5, 1000)?;
    check_file(&target, second + 20 * PAGE - 176, 16 * PAGE, 1, 16 * P)?;
    check_file(&target, second + 36 * PAGE - 176, 8 * PAGE, 1, 30 * P)?;

    let end = 10 + total;
    let append =
        sys::open(target.path.as_bytes(), abi::O_WRONLY | abi::O_APPEND, 0).named("open")?;
    let meter = Meter::start()?;
    let parts = [[more.at(0), 4 * PAGE], [small.at(0), 100], [buffer.at(40 * PAGE), 4 * PAGE]];
    check_eq!(os::writev(append, &parts).named("writev")?, 8 * PAGE + 100, "bytes appended");
    meter.expect("pages_referenced", 8)?;
    meter.expect_system("messages_sent", 1)?;
    check_file(&target, end, 4 * PAGE, 1, 16 * P)?;
    check_file(&target, end + 4 * PAGE, 100, 5, 0)?;
    check_file(&target, end + 4 * PAGE + 100, 4 * PAGE, 1, 40 * P)?;

    let gone = Buffer::new(PAGE)?;
    os::mprotect(gone.at(0), PAGE, abi::PROT_NONE).named("mprotect")?;
    let parts = [[more.at(0), 2 * PAGE], [gone.at(0), PAGE], [more.at(2 * PAGE), PAGE]];
    check_eq!(os::writev(append, &parts), Ok(2 * PAGE), "bytes up to the end of memory");
    check_eq!(
        os::writev(append, &parts[1..]),
        Err(Errno::EFAULT),
        "no byte before the end of memory"
    );
    sys::close(append).named("close")
}

/// Writing a file back sends only its changed page and restores what others changed.
#[guest_test(mutants: &[Mutant::ElideWithoutAsking, Mutant::RestoreSkipped])]
fn w2_same_place() -> Outcome {
    let file = File::make("file", 1, BYTES as u64)?;
    let buffer = Buffer::new(BYTES)?;
    read_lazily(&file, &buffer, 0, BYTES, 0)?;
    buffer.put(9 * PAGE, PAGE, pattern(2, 0));
    file.overwrite(3, 30 * PAGE as u64, 2 * PAGE as u64)?;
    let meter = Meter::start()?;
    write_from(&file, &buffer, 0, BYTES, 0)?;
    meter.expect("pages_referenced", PAGES as i64 - 1)?;
    meter.expect("bytes_written", PAGE as i64)?;
    check_file(&file, 0, 9 * PAGE, 1, 0)?;
    check_file(&file, 9 * PAGE, PAGE, 2, 0)?;
    check_file(&file, 10 * PAGE, BYTES - 10 * PAGE, 1, 10 * PAGE as u64)
}

/// If source and target overlap, by pages or by bytes, in either direction, the result is that of
/// an eager read and write.
#[guest_test(mutants: &[Mutant::ForwardCopy])]
fn w3_shifted_overlap() -> Outcome {
    for shift in [PAGE, 3 * PAGE, 1, 1000, PAGE + 1] {
        let file = File::make("file", 1, BYTES as u64)?;
        let buffer = Buffer::new(BYTES)?;
        let length = BYTES - 4 * PAGE;
        read_lazily(&file, &buffer, 0, length, 0)?;
        write_from(&file, &buffer, 0, length, shift as u64)?;
        check_file(&file, 0, shift, 1, 0)?;
        check_file(&file, shift, length, 1, 0)?;
        // And in the other direction.
        let buffer = Buffer::new(BYTES)?;
        read_lazily(&file, &buffer, 0, length, shift as u64)?;
        write_from(&file, &buffer, 0, length, 0)?;
        check_file(&file, 0, length, 1, 0)?;
    }
    Ok(())
}

/// The server itself copies to another of its files; no byte of the file passes through the client.
#[guest_test(mutants: &[Mutant::CopyByBytes])]
fn w4_other_file() -> Outcome {
    let source = File::make("source", 1, BYTES as u64)?;
    let target = File::make("target", 2, 0)?;
    let buffer = Buffer::new(BYTES)?;
    let meter = Meter::start()?;
    read_lazily(&source, &buffer, 0, BYTES, 0)?;
    write_from(&target, &buffer, 0, BYTES, 0)?;
    meter.expect("pages_referenced", PAGES as i64)?;
    meter.expect("bytes_written", 0)?;
    source.overwrite(3, 0, BYTES as u64)?;
    check_file(&target, 0, BYTES, 1, 0)
}

/// An append is written at the end of the file, in order with other appends, also if it is a
/// reference to the file itself.
#[guest_test(mutants: &[Mutant::ElideAppend])]
fn w6_append() -> Outcome {
    let file = File::make("file", 1, BYTES as u64)?;
    let buffer = Buffer::new(BYTES)?;
    read_lazily(&file, &buffer, 0, BYTES, 0)?;
    let fd = sys::open(file.path.as_bytes(), abi::O_WRONLY | abi::O_APPEND, 0).named("open")?;
    check_eq!(
        os::pwrite(fd, buffer.at(0), BYTES, 0).named("pwrite")?,
        BYTES,
        "bytes that pwrite took"
    );
    sys::close(fd).named("close")?;
    check_file(&file, 0, BYTES, 1, 0)?;
    check_file(&file, BYTES, BYTES, 1, 0)
}

/// To a pipe that is full most of the time: the bytes are fetched, and later changes of the file do
/// not show.
fn to_a_pipe(source: &File) -> Outcome {
    let buffer = Buffer::new(BYTES)?;
    read_lazily(source, &buffer, 0, BYTES, 0)?;
    let [from, to] = sys::pipe(0).named("pipe")?;
    let started = Gate::new()?;
    let writer = Child::start("writer", || {
        sys::close(from).named("close")?;
        started.open()?;
        let mut done = 0;
        while done < BYTES {
            done += os::write(to, buffer.at(done), BYTES - done).named("write")?;
        }
        Ok(())
    })?;
    sys::close(to).named("close")?;
    started.pass()?;
    source.overwrite(3, 0, BYTES as u64)?;
    let arrived = Buffer::new(BYTES)?;
    let mut done = 0;
    loop {
        match os::read(from, arrived.at(done), (BYTES - done).min(1000)).named("read")? {
            0 => break,
            count => done += count,
        }
    }
    sys::close(from).named("close")?;
    writer.join()?;
    check_eq!(done, BYTES, "bytes that came through the pipe");
    arrived.check(0, BYTES, pattern(1, 0))?;
    source.overwrite(1, 0, BYTES as u64)
}

/// A buffer with pages from two servers, written to both: each gets references to its own snapshots
/// only.
fn to_another_server(ours: &File, stack: &Stack) -> Outcome {
    const HALF: usize = BYTES / 2;
    let theirs = File::make_in(&stack.path, "source", 2, HALF as u64)?;
    let buffer = Buffer::new(BYTES)?;
    let targets = [File::make("target", 9, 0)?, File::make_in(&stack.path, "target", 9, 0)?];
    for target in &targets {
        // Read again each time, because the write has changed the associations.
        read_lazily(ours, &buffer, 0, HALF, 0)?;
        read_lazily(&theirs, &buffer, HALF, HALF, 0)?;
        let meter = Meter::start()?;
        write_from(target, &buffer, 0, BYTES, 0)?;
        meter.expect("pages_referenced", PAGES as i64 / 2)?;
        meter.expect("bytes_written", HALF as i64)?;
        check_file(target, 0, HALF, 1, 0)?;
        check_file(target, HALF, HALF, 2, 0)?;
    }
    Ok(())
}

/// Bytes for a pipe, a device or another server are fetched first and sent as data.
#[guest_test(mutants: &[Mutant::ForeignReference])]
fn w5_elsewhere() -> Outcome {
    let source = File::make("source", 1, BYTES as u64)?;
    within("a pipe", to_a_pipe(&source))?;
    let buffer = Buffer::new(BYTES)?;
    read_lazily(&source, &buffer, 0, BYTES, 0)?;
    let null = sys::open(b"/dev/null", abi::O_WRONLY, 0).named("/dev/null")?;
    check_eq!(
        os::write(null, buffer.at(0), BYTES).named("write")?,
        BYTES,
        "bytes that /dev/null took"
    );
    sys::close(null).named("close")?;
    if lazy::present() {
        let stack = Stack::mount("w5", 4 << 20)?;
        within("another server", to_another_server(&source, &stack))?;
    }
    Ok(())
}

/// The time of the last change, after the test has set it far back.
fn changed_since(file: &File, change: impl FnOnce() -> Outcome) -> Outcome<bool> {
    const LONG_AGO: i64 = 1000;
    let long_ago = abi::__kernel_timespec { tv_sec: LONG_AGO, tv_nsec: 0 };
    sys::utimens(file.path.as_bytes(), Some([long_ago, long_ago])).named("utimensat")?;
    change()?;
    let stat = sys::stat(file.path.as_bytes()).named("stat")?;
    Ok(stat.st_mtime as i64 != LONG_AGO)
}

/// A write of references checks permissions and space, advances the times and satisfies fsync like
/// a write of data.
#[guest_test(mutants: &[Mutant::SilentElide, Mutant::FreeReferences])]
fn w7_effects() -> Outcome {
    let file = File::make("file", 1, BYTES as u64)?;
    let copy = File::make("copy", 2, 0)?;
    let buffer = Buffer::new(BYTES)?;
    for target in [&file, &copy] {
        read_lazily(&file, &buffer, 0, BYTES, 0)?;
        let meter = Meter::start()?;
        let changed = changed_since(target, || write_from(target, &buffer, 0, BYTES, 0))?;
        check!(changed, "{}: the time of the last change has not moved", target.path);
        meter.expect("bytes_written", 0)?;
        os::sync(target.fd).named("fsync")?;
    }
    let read_only = sys::open(file.path.as_bytes(), abi::O_RDONLY, 0).named("open")?;
    check_eq!(
        os::pwrite(read_only, buffer.at(0), BYTES, 0),
        Err(Errno::EBADF),
        "write to what is open for reading"
    );
    sys::close(read_only).named("close")?;
    // An open descriptor stays writable.
    sys::chmod(file.path.as_bytes(), 0o400).named("chmod")?;
    read_lazily(&copy, &buffer, 0, BYTES, 0)?;
    write_from(&file, &buffer, 0, BYTES, 0)?;
    check_file(&file, 0, BYTES, 1, 0)?;
    if !lazy::present() {
        return Ok(());
    }
    // Of the space for 100 pages, 40 are used and 40 reserved.
    let stack = Stack::mount("w7", 100 * PAGE as u64)?;
    let source = File::make_in(&stack.path, "source", 1, 40 * PAGE as u64)?;
    let target = File::make_in(&stack.path, "target", 2, 0)?;
    read_lazily(&source, &buffer, 0, 40 * PAGE, 0)?;
    let bytes = Buffer::filled(40 * PAGE, pattern(5, 0))?;
    check_eq!(
        os::pwrite(target.fd, bytes.at(0), 40 * PAGE, 0),
        Err(Errno::ENOSPC),
        "write of bytes without space"
    );
    check_eq!(
        os::pwrite(target.fd, buffer.at(0), 40 * PAGE, 0),
        Err(Errno::ENOSPC),
        "write of references without space"
    );
    check_eq!(sys::fstat(target.fd).named("fstat")?.st_size, 0, "bytes of the file after that");
    // A write over itself needs no space.
    write_from(&source, &buffer, 0, 40 * PAGE, 0)
}
