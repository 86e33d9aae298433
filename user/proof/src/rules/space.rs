//! A: fork, exec, exit and changes of mappings on lazy pages.

use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{
    Buffer, Child, File, Gate, Named, Outcome, PAGE, UNTOUCHED, ZEROS, check_memory, load, pattern,
    read_lazily, store, within,
};
use proof::lazy::{self, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// Parent, child and grandchild keep what was read, whichever of them touches first; each page is
/// fetched once.
#[guest_test(mutants: &[Mutant::ForkDropsAssociation])]
fn a1_fork_shares() -> Outcome {
    const PAGES: usize = 32;
    let file = File::make("file", 1, PAGES as u64 * P)?;
    let buffer = Buffer::new(PAGES * PAGE)?;
    let meter = Meter::start()?;
    read_lazily(&file, &buffer, 0, PAGES * PAGE, 0)?;
    store(buffer.at(5 * PAGE), 0);
    let (go, go_late) = (Gate::new()?, Gate::new()?);
    let child = Child::start("child", || {
        go.pass()?;
        buffer.check(6 * PAGE, 26 * PAGE, pattern(1, 6 * P))?;
        store(buffer.at(20 * PAGE), 0);
        Child::start("grandchild", || {
            check_eq!(buffer.load(20 * PAGE), 0, "byte that the child stored");
            buffer.check(20 * PAGE + 1, 12 * PAGE - 1, pattern(1, 20 * P + 1))
        })?
        .join()
    })?;
    let late = Child::start("late child", || {
        go_late.pass()?;
        check_eq!(buffer.load(5 * PAGE), 0, "byte stored before the fork");
        buffer.check(0, 5 * PAGE, pattern(1, 0))?;
        buffer.check(5 * PAGE + 1, 27 * PAGE - 1, pattern(1, 5 * P + 1))
    })?;
    file.overwrite(2, 0, PAGES as u64 * P)?;
    // The parent's own association ends; those of the children do not.
    drop(buffer);
    meter.expect_system("snapshots_live", 1)?;
    go.open()?;
    child.join()?;
    go_late.open()?;
    late.join()?;
    meter.expect_system("snapshots_live", 0)?;
    // Each page is fetched once.
    meter.expect_system_within("pages_fetched", PAGES as i64, PAGES as i64)
}

/// The hidden mode of this program that `a2_exec_arguments` executes: its arguments must be what
/// the test wrote.
pub fn exec_target(args: &Args) -> i32 {
    let expected = arguments();
    let got = args.get(2..).unwrap_or_default();
    let wrong = got.iter().zip(&expected).position(|(got, expected)| got != expected);
    if got.len() == expected.len() && wrong.is_none() {
        return EXEC_OK;
    }
    eprintln!("{} arguments, first wrong one: {wrong:?}", got.len());
    1
}

/// The name of that mode on the command line.
pub const EXEC_TARGET: &str = "--exec-target";
/// What a program in that mode exits with if its arguments are right.
pub const EXEC_OK: i32 = 42;
const ARGUMENTS: usize = 40;

fn argument(index: usize) -> String {
    let mut text = format!("argument {index} ");
    while text.len() < 300 + index * 13 {
        text.push((b'a' + (text.len() * 7 + index) as u8 % 26) as char);
    }
    text
}

/// The arguments after the mode that the program expects.
pub fn arguments() -> Vec<Vec<u8>> {
    (0..ARGUMENTS).map(|index| argument(index).into_bytes()).collect()
}

/// execve reads path, vector and strings from lazy pages of a removed file that nobody has touched.
#[guest_test(mutants: &[Mutant::ExecLateArguments])]
fn a2_exec_arguments() -> Outcome {
    let mut strings: Vec<Vec<u8>> =
        vec![b"/proc/self/exe".to_vec(), b"rules".to_vec(), EXEC_TARGET.as_bytes().to_vec()];
    strings.extend(arguments());
    let buffer = Buffer::new(32 * PAGE)?;
    // The first page holds the vector, the others the strings.
    let (mut vector, mut text) = (Vec::new(), vec![0; PAGE]);
    for string in &strings {
        vector.push(buffer.at(text.len()));
        text.extend_from_slice(string);
        text.push(0);
    }
    let path = vector.remove(0);
    vector.push(0);
    text.resize(32 * PAGE, 0);
    for (slot, pointer) in text.chunks_exact_mut(8).zip(&vector) {
        slot.copy_from_slice(&pointer.to_ne_bytes());
    }
    let file = File::sparse("file", 0)?;
    check_eq!(
        sys::pwrite(file.fd, &text, FileOffset::ZERO).named("pwrite")?,
        text.len(),
        "bytes written"
    );
    read_lazily(&file, &buffer, 0, text.len(), 0)?;
    sys::ftruncate(file.fd, ByteCount::ZERO).named("ftruncate")?;
    let child = Child::start("program", || {
        let nothing = 0usize;
        let error = os::raw(abi::__NR_execve, &[path, buffer.at(0), &raw const nothing as usize]);
        Err(format!("execve: {error:?}"))
    })?;
    check_eq!(child.status()?.exit_code(), Some(EXEC_OK), "status of the program");
    Ok(())
}

/// `MemFree` in bytes; zero on Linux, where other programs use memory too.
pub fn memory_free() -> Outcome<Option<i64>> {
    if !lazy::present() {
        return Ok(None);
    }
    Ok(Some(lazy::value(&lazy::read_text("/proc/meminfo")?, "MemFree")? << 10))
}

/// exit and kill release everything, many times over.
#[guest_test(mutants: &[Mutant::LeakSpace])]
fn a3_exit_releases() -> Outcome {
    const PAGES: usize = 256;
    let file = File::make("file", 1, PAGES as u64 * P)?;
    let meter = Meter::start()?;
    let run = |how: usize| {
        let ready = Gate::new()?;
        let child = Child::start("child", || {
            let buffer = Buffer::new(600 * PAGE)?;
            for turn in 0..4 {
                read_lazily(&file, &buffer, turn * 100 * PAGE, PAGES * PAGE, 0)?;
            }
            buffer.check(300 * PAGE, PAGES * PAGE, pattern(1, 0))?;
            buffer.put(0, 200 * PAGE, UNTOUCHED);
            core::mem::forget(buffer);
            ready.open()?;
            if how == 0 { Ok(()) } else { Gate::new()?.pass() }
        })?;
        ready.pass()?;
        if how == 0 { child.join() } else { child.kill() }
    };
    // The first rounds fill caches.
    run(0)?;
    run(1)?;
    let before = memory_free()?;
    for turn in 0..40 {
        run(turn % 2)?;
    }
    if let (Some(before), Some(after)) = (before, memory_free()?) {
        let lost = before - after;
        check!(
            lost < 100 * PAGE as i64,
            "{lost} bytes are lost after 40 processes with {} each",
            200 * PAGE
        );
    }
    meter.expect_system("snapshots_live", 0)
}

/// Parts of a lazy buffer are unmapped, protected and moved without a fetch, and every part keeps
/// its bytes.
#[guest_test(mutants: &[Mutant::SplitForgetsOffset])]
fn a4_split() -> Outcome {
    const PAGES: usize = 64;
    let file = File::make("file", 1, PAGES as u64 * P + 777)?;
    let buffer = Buffer::new((PAGES + 8) * PAGE)?;
    // The file offset is not aligned: offsets within pages of file and snapshot differ.
    read_lazily(&file, &buffer, 0, PAGES * PAGE, 777)?;
    let at = |page: usize| pattern(1, 777 + page as u64 * P);
    buffer.check(40 * PAGE, PAGE, at(40))?;
    let meter = Meter::start()?;

    os::munmap(buffer.at(10 * PAGE), 3 * PAGE).named("munmap")?;
    os::mprotect(buffer.at(20 * PAGE), 4 * PAGE, abi::PROT_READ).named("mprotect")?;
    os::mprotect(buffer.at(22 * PAGE), PAGE, abi::PROT_NONE).named("mprotect")?;
    os::mprotect(buffer.at(22 * PAGE), PAGE, os::READ_WRITE).named("mprotect")?;
    // Moved and enlarged: the new part is zero.
    let moved = os::mremap(buffer.at(30 * PAGE), 4 * PAGE, 6 * PAGE).named("mremap")?;
    // Moved to a fixed address, from the middle of what was moved.
    let target = Buffer::filled(8 * PAGE, UNTOUCHED)?;
    let moved_to =
        os::mremap_to(moved + PAGE, 2 * PAGE, 2 * PAGE, target.at(3 * PAGE)).named("mremap")?;
    check_eq!(moved_to, target.at(3 * PAGE), "address after mremap");
    // Truncated at the end.
    let cut = os::mremap(buffer.at(60 * PAGE), 4 * PAGE, 2 * PAGE).named("mremap")?;
    check_eq!(cut, buffer.at(60 * PAGE), "address after a cut");
    // New memory in the middle.
    os::mmap(buffer.at(50 * PAGE), 2 * PAGE, os::READ_WRITE, abi::MAP_PRIVATE | abi::MAP_FIXED)
        .named("mmap")?;
    meter.expect_system("fetches", 0)?;
    meter.expect_system("snapshots_live", 0)?;
    file.overwrite(2, 0, PAGES as u64 * P + 777)?;

    for (first, pages) in [(0, 10), (13, 17), (34, 16), (52, 8), (60, 2)] {
        within(
            format_args!("{pages} pages from page {first}"),
            buffer.check(first * PAGE, pages * PAGE, at(first)),
        )?;
    }
    within("fresh pages in the middle", buffer.check(50 * PAGE, 2 * PAGE, ZEROS))?;
    within("moved", check_memory(moved, PAGE, at(30)))?;
    within("moved, end", check_memory(moved + 3 * PAGE, PAGE, at(33)))?;
    within("grown", check_memory(moved + 4 * PAGE, 2 * PAGE, ZEROS))?;
    within("moved twice", target.check(3 * PAGE, 2 * PAGE, at(31)))?;
    within("before the place", target.check(0, 3 * PAGE, UNTOUCHED))?;
    within("behind the place", target.check(5 * PAGE, 3 * PAGE, UNTOUCHED))?;
    os::munmap(moved, PAGE).named("munmap")?;
    os::munmap(moved + 3 * PAGE, 3 * PAGE).named("munmap")?;

    // Protected pages stay protected, lazy or not.
    let status = Child::start("storing process", || {
        store(buffer.at(21 * PAGE), 1);
        Ok(())
    })?
    .status()?;
    check_eq!(status.signal(), Some(abi::SIGSEGV as i32), "signal for a store to a read-only page");
    Child::start("storing process", || {
        store(buffer.at(22 * PAGE), 1);
        buffer.check(22 * PAGE + 1, PAGE - 1, pattern(1, 777 + 22 * P + 1))
    })?
    .join()?;
    drop(buffer);
    drop(target);
    meter.expect_system("snapshots_live", -1)
}

/// Stores after fork, and after a message was sent, are visible to nobody else, for pages of every
/// kind.
#[guest_test(mutants: &[Mutant::ForkLeavesWritable])]
fn a8_write_protected() -> Outcome {
    let file = File::make("file", 1, 8 * P)?;
    let buffer = Buffer::filled(12 * PAGE, UNTOUCHED)?;
    // Pages 0 to 3 lazy and untouched, 4 and 5 loaded, 6 and 7 stored to; 8 to 11 anonymous.
    read_lazily(&file, &buffer, 0, 8 * PAGE, 0)?;
    buffer.check(4 * PAGE, 2 * PAGE, pattern(1, 4 * P))?;
    for page in 6..8 {
        store(buffer.at(page * PAGE + 1), 0x11);
    }
    let (child_turn, parent_turn) = (Gate::new()?, Gate::new()?);
    let child = Child::start("child", || {
        child_turn.pass()?;
        for page in 0..12 {
            check!(
                buffer.load(page * PAGE) != 0x22,
                "the child sees the parent's store to page {page}"
            );
            store(buffer.at(page * PAGE + 2), 0x33);
        }
        parent_turn.open()?;
        child_turn.pass()?;
        for page in 0..12 {
            check_eq!(buffer.load(page * PAGE + 2), 0x33, "the child's own store to page {page}");
            check!(
                buffer.load(page * PAGE + 3) != 0x44,
                "the child sees the parent's second store to page {page}"
            );
        }
        Ok(())
    })?;
    for page in 0..12 {
        store(buffer.at(page * PAGE), 0x22);
    }
    child_turn.open()?;
    parent_turn.pass()?;
    for page in 0..12 {
        check_eq!(buffer.load(page * PAGE), 0x22, "the parent's own store to page {page}");
        check!(
            buffer.load(page * PAGE + 2) != 0x33,
            "the parent sees the child's store to page {page}"
        );
        store(buffer.at(page * PAGE + 3), 0x44);
    }
    child_turn.open()?;
    child.join()?;
    for page in 0..6u64 {
        let at = page * P + 4;
        within(format_args!("page {page}"), buffer.check(at as usize, PAGE - 4, pattern(1, at)))?;
    }
    message_keeps_its_bytes()
}

/// A message of whole pages keeps the bytes that it was sent with, whatever the sender stores
/// later.
fn message_keeps_its_bytes() -> Outcome {
    let [from, to] = os::socket_pair().named("socketpair")?;
    let source = Buffer::filled(4 * PAGE, pattern(5, 0))?;
    let head = [0u8; 128];
    let parts = [[head.as_ptr() as usize, head.len()], [source.at(0), 4 * PAGE]];
    check_eq!(os::writev(to, &parts).named("writev")?, 128 + 4 * PAGE, "bytes sent");
    source.put(0, 4 * PAGE, UNTOUCHED);
    let target = Buffer::new(4 * PAGE)?;
    let mut head = [1u8; 128];
    let parts = [[head.as_mut_ptr() as usize, head.len()], [target.at(0), 4 * PAGE]];
    check_eq!(os::readv(from, &parts).named("readv")?, 128 + 4 * PAGE, "bytes received");
    target.check(0, 4 * PAGE, pattern(5, 0))?;
    target.put(0, 4 * PAGE, ZEROS);
    source.check(0, 4 * PAGE, UNTOUCHED)?;
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }
    check_eq!(load(target.at(0)), 0, "a byte of the message");
    Ok(())
}
