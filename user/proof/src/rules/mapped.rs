//! M1 to M6: files that are mapped shared. Here, how many of their pages may be dirty.

mod absent;
mod calls;
mod changes;
mod compare;
mod cost;
mod ends;
mod past_end;
mod programs;
mod readers;
mod servers;
mod stores;

use crate::scripted::{Action, Server, Setting, WRITABLE};
use alloc::boxed::Box;
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::check;
use proof::guest_test;
use proof::kit::{Child, Gate, Named, Outcome, PAGE, store, within};
use proof::{lazy, os};
use user::prelude::*;
use user::sys::abi;

const BYTES: usize = 8 << 20;

fn value(page: usize) -> u8 {
    (page * 7 + 3) as u8
}

fn figure(name: &str) -> Outcome<i64> {
    lazy::value(&lazy::read_text("/proc/meminfo")?, name)
}

/// Maps a file.
fn map(fd: Fd, bytes: usize) -> Outcome<usize> {
    let given = [0, bytes, os::READ_WRITE as usize, abi::MAP_SHARED as usize, fd.argument(), 0];
    os::raw(abi::__NR_mmap, &given).named("mmap")
}

/// A program stores to more pages of a mapped file than may be dirty. Each store succeeds,
/// and a reader of the file finds all of them.
#[guest_test(memory_mib: 32, timeout_s: 120, mutants: &[Mutant::ManyDirtyPages])]
fn q6_dirty_pages_are_limited() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let flags = abi::O_RDWR | abi::O_CREAT | abi::O_TRUNC;
    let fd = sys::open(b"/tmp/mapped", flags, 0o600).named("/tmp/mapped")?;
    sys::ftruncate(fd, ByteCount(BYTES as u64)).named("ftruncate")?;
    let start = map(fd, BYTES)?;
    let mut most = 0;
    for page in 0..BYTES / PAGE {
        store(start + page * PAGE, value(page));
        if page % 32 == 0 {
            most = most.max(figure("Dirty")?);
        }
    }
    // One server's files may have half of what the others leave.
    let limit = figure("MemTotal")? / 16;
    check!(most > limit / 2 && most <= limit, "{most} of {limit} KiB were dirty");
    let mut byte = [0];
    for page in 0..BYTES / PAGE {
        sys::pread(fd, &mut byte, FileOffset((page * PAGE) as u64)).named("pread")?;
        check!(byte[0] == value(page), "page {page}: {}", byte[0]);
    }
    check!(figure("Dirty")? == 0, "pages are dirty although the file was read");
    os::munmap(start, BYTES).named("munmap")?;
    sys::close(fd).named("close")?;
    sys::unlink(b"/tmp/mapped").named("unlink")
}

/// A store beyond the limit waits for its own server, and can be killed meanwhile. Stores to other
/// servers' files go on, however many dirty pages the silent one's files have.
#[guest_test(memory_mib: 24, timeout_s: 120)]
fn x9_dirty_pages_of_a_silent_server() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let hold_writes = |asked: Op| if asked == Op::Write { Action::Hold } else { Action::Send };
    let setting = Setting { size: BYTES as u64, ..WRITABLE };
    let server = Server::mount("x9", setting, Box::new(move |_, asked, _| hold_writes(asked.op)))?;
    let stored = Gate::new()?;
    let client = Child::start("client", || {
        let fd = os::open(&server.file(0)).named("open")?;
        let start = map(fd, BYTES)?;
        // A child shares the pages that are dirty, and stores to others.
        Child::start("child", || {
            store(start, 77);
            Ok(())
        })?
        .join()?;
        stored.open()?;
        (0..BYTES / PAGE).for_each(|page| store(start + page * PAGE, value(page)));
        Err(String::from("all pages are dirty"))
    })?;
    stored.pass()?;
    server.wait_held()?;
    let fd = os::create("/tmp/x9").named("/tmp/x9")?;
    sys::ftruncate(fd, ByteCount(BYTES as u64)).named("ftruncate")?;
    let start = map(fd, BYTES)?;
    (0..BYTES / PAGE).for_each(|page| store(start + page * PAGE, value(page)));
    check!(figure("Dirty")? <= figure("MemTotal")? / 8, "too many pages are dirty");
    os::munmap(start, BYTES).named("munmap")?;
    within("client", client.kill())?;
    sys::close(fd).named("close")?;
    sys::unlink(b"/tmp/x9").named("unlink")
}
