//! Q2 to Q4 and F8: more pages than memory.
//!
//! The tests only assume that the machine has less memory than their buffers; each attribute says
//! how much it has.

use crate::scripted::{Server, Setting, USUAL, content, honest};
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{
    Buffer, Child, File, Gate, Named, Outcome, PAGE, load, pattern, read_lazily, store, within,
};
use proof::lazy::{self, Knob, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;
const MIB: usize = 1 << 20;

/// A server of large files with generated contents.
fn large_files(name: &str, bytes: usize) -> Outcome<Server> {
    Server::mount(name, Setting { size: bytes as u64, ..USUAL }, honest())
}

/// Pages in the swap file, after the kernel has released those of processes that exited.
fn swapped() -> Outcome<i64> {
    let text = lazy::read_text("/proc/meminfo")?;
    check!(lazy::value(&text, "SwapTotal")? > 0, "there is no swap file");
    Ok((lazy::value(&text, "SwapTotal")? - lazy::value(&text, "SwapFree")?) / (P as i64 / 1024))
}

/// Every page in the swap file must belong to a living process, and none to shared memory.
pub fn nothing_lost(when: &str) -> Outcome {
    let mut theirs = 0;
    let names = user::fs::list(b"/proc").named("/proc")?;
    for pid in names.iter().filter_map(|name| core::str::from_utf8(name).ok()?.parse::<u32>().ok())
    {
        // It may have exited meanwhile.
        if let Ok(status) = lazy::read_text(&format!("/proc/{pid}/status")) {
            theirs += lazy::value(&status, "VmSwap")? / (P as i64 / 1024);
        }
    }
    let all = swapped()?;
    check!(
        all <= theirs,
        "{all} pages are in the swap file {when}, of which {theirs} are anybody's"
    );
    Ok(())
}

/// A buffer larger than memory is read twice: clean pages are evicted and fetched again, stored-to
/// pages keep their bytes.
#[guest_test(memory_mib: 48, mutants: &[Mutant::EvictPrivate])]
fn q2_pressure() -> Outcome {
    const BYTES: usize = 80 * MIB;
    if !lazy::present() {
        return Ok(());
    }
    let server = large_files("q2", BYTES)?;
    let file = server.open(0)?;
    let buffer = Buffer::new(BYTES)?;
    let meter = Meter::start()?;
    check_eq!(os::read(file, buffer.at(0), BYTES).named("read")?, BYTES, "bytes read");
    let mine = |page: usize| page % 100 == 7;
    let own = |page: usize| (page / 100) as u8;
    let pages = BYTES / PAGE;
    (0..pages).filter(|&page| mine(page)).for_each(|page| store(buffer.at(page * PAGE), own(page)));
    for turn in 0..2 {
        for page in 0..pages {
            let skipped = usize::from(mine(page));
            if mine(page) {
                check_eq!(load(buffer.at(page * PAGE)), own(page), "byte stored to page {page}");
            }
            let at = page * PAGE + skipped;
            within(
                format!("turn {turn}"),
                buffer.check(at, PAGE - skipped, content(0, 0, at as u64)),
            )?;
        }
    }
    meter.expect("reads_lazy", 1)?;
    let unmapped = meter.system("pages_unmapped")?.unwrap_or(0);
    check!(unmapped > (pages / 2) as i64, "{unmapped} clean pages went");
    let fetched = meter.system("pages_fetched")?.unwrap_or(0);
    check!(fetched > pages as i64, "{fetched} pages were fetched: none twice");
    drop(buffer);
    sys::close(file).named("close")
}

/// Pages that several processes map are evicted after the last mapping is dropped, and fetched
/// again by each process.
#[guest_test(memory_mib: 48, mutants: &[Mutant::NoClock])]
fn q2_last_reference() -> Outcome {
    const BYTES: usize = 24 * MIB;
    const FILES: u64 = 3;
    if !lazy::present() {
        return Ok(());
    }
    let server = large_files("q2", BYTES)?;
    let buffer = Buffer::new(FILES as usize * BYTES)?;
    for number in 0..FILES {
        let file = server.open(number)?;
        check_eq!(
            os::read(file, buffer.at(number as usize * BYTES), BYTES).named("read")?,
            BYTES,
            "bytes read"
        );
        sys::close(file).named("close")?;
    }
    let look = || {
        for number in (0..FILES).chain([0]) {
            within(
                format!("file {number}"),
                buffer.check(number as usize * BYTES, BYTES, content(number, 0, 0)),
            )?;
        }
        Ok(())
    };
    buffer.check(0, BYTES, content(0, 0, 0))?;
    let children = ["one child", "another child"].map(|name| Child::start(name, look));
    look()?;
    children.into_iter().try_for_each(|child| child?.join())
}

/// A program fills a buffer of four times the machine's memory and reads its bytes back.
#[guest_test(
    memory_mib: 64,
    timeout_s: 120,
    mutants: &[Mutant::SwapWrongSlot, Mutant::LeakSwapSlot],
)]
fn q3_swap() -> Outcome {
    let bytes = if lazy::present() { 256 * MIB } else { 16 * MIB };
    let meter = Meter::start()?;
    let buffer = Buffer::new(bytes)?;
    buffer.put(0, bytes, pattern(5, 0));
    buffer.check(0, bytes, pattern(5, 0))?;
    // Stores and loads in random order.
    for step in 0..2000 {
        let page = proof::kit::word(9, step) as usize % (bytes / PAGE);
        buffer.check(page * PAGE + 8, PAGE - 8, pattern(5, page as u64 * P + 8))?;
        store(buffer.at(page * PAGE), page as u8);
        check_eq!(load(buffer.at(page * PAGE)), page as u8, "byte stored");
    }
    if !lazy::present() {
        return Ok(());
    }
    let (out, back) = (
        meter.system("pages_swapped_out")?.unwrap_or(0),
        meter.system("pages_swapped_in")?.unwrap_or(0),
    );
    let least = (bytes / PAGE) as i64 * 3 / 4;
    check!(
        out >= least && back >= least,
        "{out} pages went and {back} came back, at least {least} must have"
    );
    drop(buffer);
    nothing_lost("when the buffer is gone")
}

/// A file of three times the machine's memory is written, read lazily and overwritten. File and
/// buffer have the right bytes: memfs writes pages to its device, rescued ones included.
#[guest_test(memory_mib: 64, timeout_s: 180, mutants: &[Mutant::SpillWrongSlot])]
fn q3_file_larger_than_memory() -> Outcome {
    let bytes = if lazy::present() { 200 * MIB } else { 4 * MIB };
    let file = File::make("large", 1, bytes as u64)?;
    let buffer = Buffer::new(bytes)?;
    read_lazily(&file, &buffer, 0, bytes, 0)?;
    file.overwrite(2, 0, bytes as u64)?;
    within("what was read", buffer.check(0, bytes, pattern(1, 0)))?;
    read_lazily(&file, &buffer, 0, bytes, 0)?;
    within("what was written", buffer.check(0, bytes, pattern(2, 0)))
}

/// Parent, child and grandchild share pages in the swap file until they store to them.
#[guest_test(memory_mib: 64, mutants: &[Mutant::SwapWrongSlot])]
fn q3_fork() -> Outcome {
    let bytes = if lazy::present() { 96 * MIB } else { 4 * MIB };
    let buffer = Buffer::new(bytes)?;
    buffer.put(0, bytes, pattern(1, 0));
    let child = Child::start("child", || {
        buffer.check(bytes / 2, bytes / 2, pattern(1, bytes as u64 / 2))?;
        buffer.put(bytes / 2, bytes / 4, pattern(2, 0));
        Child::start("grandchild", || {
            buffer.check(bytes / 2, bytes / 4, pattern(2, 0))?;
            buffer.put(0, bytes / 4, pattern(3, 0));
            buffer.check(bytes / 4, bytes / 4, pattern(1, bytes as u64 / 4))
        })?
        .join()?;
        buffer.check(0, bytes / 2, pattern(1, 0))?;
        buffer.check(bytes / 2, bytes / 4, pattern(2, 0))
    })?;
    buffer.check(0, bytes, pattern(1, 0))?;
    child.join()?;
    buffer.check(0, bytes, pattern(1, 0))?;
    drop(buffer);
    if lazy::present() {
        nothing_lost("when all have ended")?;
    }
    Ok(())
}

/// A lazy buffer larger than memory is stored to at many places and has its own bytes there, those
/// that were read elsewhere.
#[guest_test(memory_mib: 48, mutants: &[Mutant::SwapWrongSlot])]
fn q3_dirty_lazy() -> Outcome {
    const BYTES: usize = 80 * MIB;
    if !lazy::present() {
        return Ok(());
    }
    let server = large_files("q3", BYTES)?;
    let file = server.open(0)?;
    let buffer = Buffer::new(BYTES)?;
    check_eq!(os::read(file, buffer.at(0), BYTES).named("read")?, BYTES, "bytes read");
    let (pages, half) = (BYTES / PAGE, PAGE / 2);
    for page in 0..pages {
        buffer.put(page * PAGE, half, pattern(7, page as u64 * P));
    }
    for page in 0..pages {
        let at = page * PAGE;
        buffer.check(at, half, pattern(7, at as u64))?;
        buffer.check(at + half, half, content(0, 0, (at + half) as u64))?;
    }
    check_eq!(server.wire.snapshots(), 0, "snapshots alive when no page is backed by one");
    sys::close(file).named("close")
}

/// munmap, madvise, exec, exit and kill free the swap slots of the pages that they drop.
#[guest_test(memory_mib: 48, mutants: &[Mutant::LeakSwapSlot])]
fn q3_slots_are_freed() -> Outcome {
    const BYTES: usize = 64 * MIB;
    if !lazy::present() {
        return Ok(());
    }
    let full = || {
        let buffer = Buffer::new(BYTES)?;
        buffer.put(0, BYTES, pattern(1, 0));
        let own = lazy::value(&lazy::read_text("/proc/self/status")?, "VmSwap")?;
        check!(own > 16 << 10, "only {own} KiB of {BYTES} bytes were swapped out");
        Outcome::Ok(buffer)
    };
    {
        let buffer = full()?;
        const DONT_NEED: usize = 4;
        os::raw(abi::__NR_madvise, &[buffer.at(0), BYTES / 2, DONT_NEED]).named("madvise")?;
        check_eq!(load(buffer.at(5 * PAGE)), 0, "a discarded byte");
        buffer.check(BYTES / 2, BYTES / 2, pattern(1, BYTES as u64 / 2))?;
    }
    nothing_lost("after munmap")?;
    Child::start("one that ends", || full().map(core::mem::forget))?.join()?;
    nothing_lost("after exit")?;
    let ready = Gate::new()?;
    let child = Child::start("one that is killed", || {
        let _buffer = full()?;
        ready.open()?;
        Gate::new()?.pass()
    })?;
    ready.pass()?;
    child.kill()?;
    nothing_lost("after a kill")?;
    Child::start("one that becomes another program", || {
        core::mem::forget(full()?);
        let error = sys::execve(b"/bin/true", &[b"true"], &[]);
        Err(format!("execve: {error:?}"))
    })?
    .join()?;
    nothing_lost("after exec")
}

/// If memory and swap file are full, the process that needs more is killed; no other process loses
/// a page, and files work.
#[guest_test(memory_mib: 48)]
fn q4_swap_is_full() -> Outcome {
    const SLOTS: usize = 4096;
    if !lazy::present() {
        return Ok(());
    }
    let _knob = Knob::set("swap_pages", SLOTS as u64)?;
    let file = File::make("file", 1, 256 * P)?;
    let kept = Buffer::new(8 * MIB)?;
    kept.put(0, 8 * MIB, pattern(4, 0));
    for _ in 0..3 {
        let hog = Child::start("hog", || {
            let buffer = Buffer::new(256 * MIB)?;
            for page in 0..buffer.len_bytes() / PAGE {
                store(buffer.at(page * PAGE), 1);
            }
            Ok(())
        })?;
        let status = hog.status()?;
        check_eq!(
            status.signal(),
            Some(abi::SIGKILL as i32),
            "signal that ended a process which stored to 256 MiB"
        );
        within("another process's memory", kept.check(0, 8 * MIB, pattern(4, 0)))?;
        let buffer = Buffer::new(256 * PAGE)?;
        read_lazily(&file, &buffer, 0, 256 * PAGE, 0)?;
        buffer.check(0, 256 * PAGE, pattern(1, 0))?;
    }
    drop(kept);
    nothing_lost("at the end")
}

/// Readers, writers and storing programs finish with the right bytes while all servers run short of
/// memory.
#[guest_test(memory_mib: 48, mutants: &[Mutant::SwapServers])]
fn f8_under_pressure() -> Outcome {
    const DIRTY: usize = 32 * MIB;
    const FILE: usize = 4 * MIB;
    let dirty = |seed: u64| {
        move || {
            let buffer = Buffer::new(DIRTY)?;
            for turn in 0..2 {
                buffer.put(0, DIRTY, pattern(seed + turn, 0));
                buffer.check(0, DIRTY, pattern(seed + turn, 0))?;
            }
            Ok(())
        }
    };
    let files = [File::make("f8-one", 200, FILE as u64)?, File::make("f8-two", 400, FILE as u64)?];
    let reader = |number: usize, seed: u64| {
        let file = &files[number];
        move || {
            for turn in 0..6 {
                let buffer = Buffer::new(FILE)?;
                read_lazily(file, &buffer, 0, FILE, 0)?;
                // The next version is written while this one is still being checked.
                file.overwrite(seed + turn + 1, 0, FILE as u64)?;
                within(format!("turn {turn}"), buffer.check(0, FILE, pattern(seed + turn, 0)))?;
            }
            Ok(())
        }
    };
    let children = [
        Child::start("first that stores", dirty(100))?,
        Child::start("first reader", reader(0, 200))?,
        Child::start("second that stores", dirty(300))?,
        Child::start("second reader", reader(1, 400))?,
    ];
    children.into_iter().try_for_each(Child::join)?;
    if lazy::present() {
        nothing_lost("at the end")?;
    }
    Ok(())
}

/// A server without the mark gets no lazy mount. A marked process and its children read eagerly.
#[guest_test(mutants: &[Mutant::LazyServer])]
fn f8_marks() -> Outcome {
    let file = File::make("file", 1, 16 * P)?;
    let eager = |what: &str| {
        let meter = Meter::start()?;
        let buffer = Buffer::new(16 * PAGE)?;
        file.read_into(&buffer, 0, 16 * PAGE, 0)?;
        within(what, meter.expect("reads_lazy", 0))?;
        within(what, meter.expect("reads_eager_server", 1))?;
        buffer.check(0, 16 * PAGE, pattern(1, 0))
    };
    Child::start("marked process", || {
        match os::become_server() {
            Err(Errno::EPERM) if !lazy::present() => return Ok(()),
            result => result.named("prctl")?,
        }
        eager("marked process")?;
        Child::start("its child", || eager("child of a marked process"))?.join()?;
        if lazy::present() {
            let _: sys::Result<usize> = sys::prctl(57, 0, 0, 0, 0);
            eager("process that would be rid of the mark")?;
        }
        Ok(())
    })?
    .join()?;
    if !lazy::present() {
        return Ok(());
    }
    let server = Server::mount("f8", Setting { marked: false, ..USUAL }, honest())?;
    let fd = server.open(0)?;
    let buffer = Buffer::new(16 * PAGE)?;
    let meter = Meter::start()?;
    check_eq!(os::pread(fd, buffer.at(0), 16 * PAGE, 0).named("pread")?, 16 * PAGE, "bytes read");
    meter.expect("reads_lazy", 0)?;
    check_eq!(
        server.wire.requests(Op::Snapshot),
        0,
        "snapshots asked of a server without the mark"
    );
    buffer.check(0, 16 * PAGE, content(0, 0, 0))?;
    sys::close(fd).named("close")
}
