//! W8: after a write, the written pages are backed by a snapshot of what was written.

use crate::stack::Stack;
use crate::write::{check_file, write_from};
use core::sync::atomic::{AtomicUsize, Ordering};
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{
    Buffer, Child, Content, File, Named, Outcome, PAGE, ZEROS, pattern, read_lazily, store, within,
};
use proof::lazy::{self, Knob, Meter};
use proof::thread::Thread;
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 64;
const BYTES: usize = PAGES * PAGE;
const P: u64 = PAGE as u64;

/// While this lives, every write of a whole page makes it clean, however small the write. Dropped
/// early, so that the test's other writes leave nothing behind.
fn clean_always() -> Outcome<Knob> {
    Knob::set("min_clean_pages", 1)
}

/// Writes a buffer and checks how many pages were sent as references, how many bytes as data, and
/// how many pages became clean.
fn write_and_count(file: &File, buffer: &Buffer, referenced: usize, cleaned: usize) -> Outcome {
    let meter = Meter::start()?;
    let knob = clean_always()?;
    write_from(file, buffer, 0, buffer.len_bytes(), 0)?;
    drop(knob);
    meter.expect("pages_referenced", referenced as i64)?;
    meter.expect("bytes_written", (buffer.len_bytes() - referenced * PAGE) as i64)?;
    meter.expect("pages_cleaned", cleaned as i64)
}

/// Pages that were written stay mapped, are not sent again and keep their bytes when the file
/// changes; a store makes them private.
#[guest_test(mutants: &[Mutant::LeakResultSnapshot])]
fn w8_after_write() -> Outcome {
    let start = Meter::start()?;
    let file = File::make("file", 1, 0)?;
    let buffer = Buffer::filled(BYTES, pattern(2, 0))?;
    write_and_count(&file, &buffer, 0, PAGES)?;
    start.expect_system("snapshots_live", 1)?;
    file.overwrite(3, 0, BYTES as u64)?;
    within("after the file was overwritten", buffer.check(0, BYTES, pattern(2, 0)))?;
    write_and_count(&file, &buffer, PAGES, 0)?;
    check_file(&file, 0, BYTES, 2, 0)?;
    let child = Child::start("child", || {
        store(buffer.at(7 * PAGE), 0x77);
        write_and_count(&file, &buffer, PAGES - 1, 1)?;
        buffer.check(8 * PAGE, BYTES - 8 * PAGE, pattern(2, 8 * P))
    })?;
    child.join()?;
    within("after a child stored to it", buffer.check(0, BYTES, pattern(2, 0)))?;
    buffer.put(5 * PAGE, PAGE, pattern(4, 0));
    write_and_count(&file, &buffer, PAGES - 1, 1)?;
    check_file(&file, 5 * PAGE, PAGE, 4, 0)?;
    check_file(&file, 6 * PAGE, BYTES - 6 * PAGE, 2, 6 * P)?;
    drop(buffer);
    start.expect_system("snapshots_live", 0)
}

/// Whole pages of each buffer of a written vector are clean: they stay mapped and are not sent
/// again.
#[guest_test]
fn w8_vectors() -> Outcome {
    let file = File::make("file", 1, 0)?;
    let small = Buffer::filled(PAGE, pattern(4, 0))?;
    let buffer = Buffer::filled(20 * PAGE, pattern(2, 0))?;
    let parts = [[small.at(0), 24], [buffer.at(100), 12 * PAGE], [buffer.at(14 * PAGE), 4 * PAGE]];
    let write = |referenced: i64, cleaned: i64| {
        let meter = Meter::start()?;
        let _knob = clean_always()?;
        let written = os::raw(
            abi::__NR_pwritev,
            &[file.fd.argument(), parts.as_ptr().addr(), parts.len(), 0, 0],
        )
        .named("pwritev")?;
        check_eq!(written, 16 * PAGE + 24, "bytes that pwritev took");
        meter.expect("pages_referenced", referenced)?;
        meter.expect("pages_cleaned", cleaned)
    };
    write(0, 11 + 4)?;
    file.overwrite(3, 0, 17 * P)?;
    buffer.check(0, 20 * PAGE, pattern(2, 0))?;
    write(11 + 4, 0)?;
    check_file(&file, 0, 24, 4, 0)?;
    check_file(&file, 24, 12 * PAGE, 2, 100)?;
    check_file(&file, 24 + 12 * PAGE, 4 * PAGE, 2, 14 * P)
}

/// A buffer that is changed and written back repeatedly sends the changed page each time and needs
/// one snapshot.
#[guest_test]
fn w8_again() -> Outcome {
    let file = File::make("file", 1, BYTES as u64)?;
    let buffer = Buffer::new(BYTES)?;
    let start = Meter::start()?;
    read_lazily(&file, &buffer, 0, BYTES, 0)?;
    for round in 0..20 {
        let page = round * 7 % PAGES;
        buffer.put(page * PAGE, PAGE, pattern(10 + round as u64, 0));
        write_and_count(&file, &buffer, PAGES - 1, 1)?;
        start.expect_system("snapshots_live", 1)?;
    }
    for round in 10..20 {
        check_file(&file, round * 7 % PAGES * PAGE, PAGE, 10 + round as u64, 0)?;
    }
    drop(buffer);
    start.expect_system("snapshots_live", 0)
}

/// The next reader gets the written pages without a page-in.
#[guest_test]
fn w8_shared() -> Outcome {
    let file = File::make("file", 1, 0)?;
    let written = Buffer::filled(BYTES, pattern(2, 0))?;
    write_and_count(&file, &written, 0, PAGES)?;
    let reader = Child::start("reader", || {
        let buffer = Buffer::new(BYTES)?;
        read_lazily(&file, &buffer, 0, BYTES, 0)?;
        let meter = Meter::start()?;
        buffer.check(0, BYTES, pattern(2, 0))?;
        meter.expect("fetches", 0)
    })?;
    reader.join()?;
    // The store is not visible to anyone else.
    let reader = Buffer::new(BYTES)?;
    read_lazily(&file, &reader, 0, BYTES, 0)?;
    reader.check(0, BYTES, pattern(2, 0))?;
    written.put(0, BYTES, pattern(5, 0));
    within("after stores to what was written", reader.check(0, BYTES, pattern(2, 0)))
}

/// Written pages are evicted under pressure and fetched from their snapshot, although the file has
/// changed.
#[guest_test]
fn w8_evicted() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let file = File::make("file", 1, 0)?;
    let buffer = Buffer::filled(16 * BYTES, pattern(2, 0))?;
    write_and_count(&file, &buffer, 0, 16 * PAGES)?;
    file.overwrite(3, 0, 8 * BYTES as u64)?;
    let pressure = Meter::start()?;
    let hog = Child::start("hog", || {
        let hog = Buffer::new(160 << 20)?;
        for page in 0..hog.len_bytes() / PAGE {
            store(hog.at(page * PAGE), 1);
        }
        Ok(())
    })?;
    // It may be killed for lack of memory.
    hog.status()?;
    check!(
        pressure.system("pages_unmapped")?.is_some_and(|unmapped| unmapped > 0),
        "no clean page was unmapped"
    );
    let meter = Meter::start()?;
    buffer.check(0, 16 * BYTES, pattern(2, 0))?;
    meter.expect_least("pages_fetched", 1)
}

/// A write of another thread.
struct Writing {
    fd: Fd,
    addr: usize,
    length: usize,
    written: AtomicUsize,
}

impl Writing {
    fn of(file: &File, buffer: &Buffer) -> Self {
        Self {
            fd: file.fd,
            addr: buffer.at(0),
            length: buffer.len_bytes(),
            written: AtomicUsize::new(0),
        }
    }

    extern "C" fn run(writing: usize) {
        // SAFETY: the thread's starter keeps it until the thread has ended.
        let writing = unsafe { &*(writing as *const Self) };
        if let Ok(written) = os::pwrite(writing.fd, writing.addr, writing.length, 0) {
            writing.written.store(written, Ordering::SeqCst);
        }
    }
}

/// Writes a buffer to a file, and runs something after the server has executed the write and before
/// it replies.
fn write_with(
    stack: &Stack,
    file: &File,
    buffer: &Buffer,
    meanwhile: impl FnOnce() -> Outcome,
) -> Outcome {
    let _knob = clean_always()?;
    let writing = Writing::of(file, buffer);
    stack.look.hold(Some(Op::Write));
    let thread = Thread::start(Writing::run, &raw const writing as usize)?;
    stack.wait_held()?;
    stack.look.hold(None);
    meanwhile()?;
    stack.release()?;
    thread.join();
    check_eq!(writing.written.load(Ordering::SeqCst), buffer.len_bytes(), "bytes that pwrite took");
    Ok(())
}

/// A page that is stored to during the write is written as it was before and stays private.
#[guest_test(mutants: &[Mutant::AssociateStoredPage, Mutant::LateProtect])]
fn w8_store_meanwhile() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("w8", 8 << 20)?;
    let file = File::make_in(&stack.path, "file", 1, 0)?;
    let buffer = Buffer::filled(BYTES / 2, pattern(2, 0))?;
    let meter = Meter::start()?;
    write_with(&stack, &file, &buffer, || {
        buffer.put(3 * PAGE, PAGE, pattern(3, 0));
        store(buffer.at(9 * PAGE), 0x99);
        Ok(())
    })?;
    meter.expect("pages_cleaned", PAGES as i64 / 2 - 2)?;
    check_file(&file, 0, BYTES / 2, 2, 0)?;
    buffer.check(3 * PAGE, PAGE, pattern(3, 0))?;
    buffer.check(9 * PAGE, 1, Content::Only(0x99))?;
    // Two concurrent writes: the one whose page was stored to meanwhile must not associate it.
    write_and_count(&file, &buffer, PAGES / 2 - 2, 2)?;
    check_file(&file, 3 * PAGE, PAGE, 3, 0)?;
    check_file(&file, 4 * PAGE, 5 * PAGE, 2, 4 * P)?;
    buffer.check(4 * PAGE, 5 * PAGE, pattern(2, 4 * P))
}

/// A change of the buffer during the write, and what the buffer holds afterwards.
type Change = fn(&File, &Buffer) -> Outcome;

/// Pages that are unmapped, remapped, read over, protected or moved during the write are left
/// alone, and no snapshot leaks.
#[guest_test]
fn w8_space_changes_meanwhile() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    const EIGHT: usize = 8 * PAGE;
    let changes: [(&str, Content, Change); 5] = [
        ("mapped anew", ZEROS, |_, buffer| {
            os::mmap(buffer.at(0), EIGHT, os::READ_WRITE, abi::MAP_PRIVATE | abi::MAP_FIXED)
                .named("mmap")
                .map(drop)
        }),
        ("read over", pattern(1, P), |other, buffer| {
            check_eq!(
                os::pread(other.fd, buffer.at(0), EIGHT, P).named("pread")?,
                EIGHT,
                "bytes read"
            );
            Ok(())
        }),
        ("protected", pattern(2, 0), |_, buffer| {
            os::mprotect(buffer.at(0), EIGHT, abi::PROT_READ).named("mprotect")
        }),
        ("moved one page on", pattern(2, P), |_, buffer| {
            let elsewhere = os::mremap_to(buffer.at(0), EIGHT, EIGHT, Buffer::new(EIGHT)?.leak())
                .named("mremap")?;
            os::mremap_to(elsewhere + PAGE, EIGHT - PAGE, EIGHT - PAGE, buffer.at(0))
                .named("mremap")?;
            os::munmap(elsewhere, PAGE).named("munmap")?;
            let last = buffer.at(EIGHT - PAGE);
            os::mmap(last, PAGE, os::READ_WRITE, abi::MAP_PRIVATE | abi::MAP_FIXED)
                .named("mmap")?;
            fill_page(last, pattern(2, 8 * P))
        }),
        ("stored to by all", pattern(6, 0), |_, buffer| {
            buffer.put(0, buffer.len_bytes(), pattern(6, 0));
            Ok(())
        }),
    ];
    let other = File::make("other", 1, 16 * P)?;
    for (what, expected, change) in changes {
        let start = Meter::start()?;
        let stack = Stack::mount("w8", 8 << 20)?;
        let file = File::make_in(&stack.path, "file", 1, 0)?;
        let buffer = Buffer::filled(BYTES / 2, pattern(2, 0))?;
        within(what, write_with(&stack, &file, &buffer, || change(&other, &buffer)))?;
        within(what, check_file(&file, 0, BYTES / 2, 2, 0))?;
        file.overwrite(9, 0, BYTES as u64 / 2)?;
        within(what, buffer.check(0, EIGHT, expected))?;
        if expected != pattern(6, 0) {
            within(what, buffer.check(EIGHT, BYTES / 2 - EIGHT, pattern(2, 8 * P)))?;
        }
        drop(buffer);
        start.expect_system("snapshots_live", 0)?;
    }
    // The whole buffer is unmapped: no page is left to be backed by the snapshot.
    let start = Meter::start()?;
    let stack = Stack::mount("w8", 8 << 20)?;
    let file = File::make_in(&stack.path, "file", 1, 0)?;
    let buffer = Buffer::filled(BYTES / 2, pattern(2, 0))?;
    write_with(&stack, &file, &buffer, || {
        os::munmap(buffer.at(0), buffer.len_bytes()).named("munmap")
    })?;
    start.expect_system("snapshots_live", 0)?;
    stack.settle()?;
    check_eq!(stack.look.kept().snapshots, 0, "snapshots that the wrapper keeps");
    check_file(&file, 0, BYTES / 2, 2, 0)
}

fn fill_page(addr: usize, content: Content) -> Outcome {
    let page = Buffer::filled(PAGE, content)?;
    for byte in 0..PAGE {
        store(addr + byte, page.load(byte));
    }
    Ok(())
}

/// Pages that the base did not write, because it failed midway, are not clean.
#[guest_test(mutants: &[Mutant::CleanBeyondWritten])]
fn w8_short_write() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    const FRONT: usize = 8 * PAGE;
    let stack = Stack::mount("w8", 8 << 20)?;
    let source = File::make_in(&stack.path, "source", 1, BYTES as u64)?;
    let target = File::make_in(&stack.path, "target", 7, BYTES as u64)?;
    let buffer = Buffer::new(2 * FRONT)?;
    read_lazily(&source, &buffer, 0, FRONT, 0)?;
    buffer.put(FRONT, FRONT, pattern(2, 0));
    let start = Meter::start()?;
    stack.look.fail(Some(Op::Write));
    let written = os::pwrite(target.fd, buffer.at(0), 2 * FRONT, 0).named("pwrite");
    stack.look.fail(None);
    check_eq!(written?, FRONT, "bytes that could be written");
    start.expect("pages_cleaned", 0)?;
    check_file(&target, 0, FRONT, 1, 0)?;
    check_file(&target, FRONT, FRONT, 7, FRONT as u64)?;
    buffer.check(0, FRONT, pattern(1, 0))?;
    buffer.check(FRONT, FRONT, pattern(2, 0))?;
    write_and_count(&target, &buffer, 8, 8)?;
    check_file(&target, FRONT, FRONT, 2, 0)?;
    drop(buffer);
    start.expect_system("snapshots_live", -1)
}

/// After a write of several messages, appended or unaligned, each whole page is clean.
#[guest_test]
fn w8_many_messages() -> Outcome {
    const LENGTH: usize = 3 * BYTES;
    for (at, offset, flags) in [
        (0, 0, 0),
        (100, 0, 0),
        (0, 100, 0),
        (4000, 4097, 0),
        (0, 0, abi::O_APPEND),
        (1, 0, abi::O_APPEND),
    ] {
        let what = format!("from byte {at} to byte {offset}, flags {flags:#o}");
        let file = File::make("file", 1, 50)?;
        let fd = sys::open(file.path.as_bytes(), abi::O_WRONLY | flags, 0).named("open")?;
        let buffer = Buffer::filled(LENGTH + 2 * PAGE, pattern(2, 0))?;
        let whole = proof::kit::whole_pages(buffer.at(at), LENGTH);
        let start = Meter::start()?;
        let knob = clean_always()?;
        check_eq!(
            os::pwrite(fd, buffer.at(at), LENGTH, offset).named("pwrite")?,
            LENGTH,
            "bytes that pwrite took"
        );
        drop(knob);
        within(&what, start.expect("pages_cleaned", whole))?;
        let offset = if flags == 0 { offset as usize } else { 50 };
        check_file(&file, offset, LENGTH, 2, at as u64)?;
        file.overwrite(3, 0, (offset + LENGTH) as u64)?;
        within(&what, buffer.check(0, buffer.len_bytes(), pattern(2, 0)))?;
        let again = Meter::start()?;
        check_eq!(
            os::pwrite(file.fd, buffer.at(at), LENGTH, offset as u64).named("pwrite")?,
            LENGTH,
            "bytes that pwrite took"
        );
        within(&what, again.expect("pages_referenced", whole))?;
        check_file(&file, offset, LENGTH, 2, at as u64)?;
        sys::close(fd).named("close")?;
        drop(buffer);
        start.expect_system("snapshots_live", 0)?;
    }
    Ok(())
}

/// A large buffer that is refilled for each write is made clean once; one that is changed in places
/// is made clean each time.
#[guest_test]
fn w8_pays() -> Outcome {
    const LARGE: usize = 512 * PAGE;
    let file = File::make("file", 1, 0)?;
    let buffer = Buffer::filled(LARGE, pattern(2, 0))?;
    for (round, cleaned) in [(2, 512), (3, 0), (4, 0)] {
        let meter = Meter::start()?;
        write_from(&file, &buffer, 0, LARGE, 0)?;
        within(format_args!("round {round}"), meter.expect("pages_cleaned", cleaned))?;
        check_file(&file, 0, LARGE, round, 0)?;
        buffer.put(0, LARGE, pattern(round + 1, 0));
    }
    let small = Buffer::filled(BYTES, pattern(2, 0))?;
    let meter = Meter::start()?;
    write_from(&file, &small, 0, BYTES, 0)?;
    meter.expect("pages_cleaned", 0)
}
