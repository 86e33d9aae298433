//! Tracing: which processes are traced, and what became of the pages of their reads (E4). Lines go to the kernel's log.
//!
//! Nothing here looks at a program's buffers: that would bring in what the program never asked for. While nobody is traced, it costs nothing but one
//! look at [`is_active`] on the slow paths (a page fault, a signal, a fork).
//!
//! Lock: `TRACED`, a spin lock; no other lock is taken under it.

use crate::mem::{Counter, Counters, PAGE_BYTES};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

/// Reads of a process that are kept in mind; of more, the oldest is told and forgotten.
const MAX_READS: usize = 256;

/// Whether anybody is traced.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// Who, by process number.
static TRACED: Mutex<BTreeMap<u32, Trace>> = Mutex::new(BTreeMap::new());

/// What is known of a traced process.
#[derive(Default)]
struct Trace {
    reads: Vec<Read>,
    count: u64,
}

/// A lazy read, and what became of its pages so far.
struct Read {
    number: u64,
    pages: Range<u64>,
    /// Pages that it associated.
    lazy: u64,
    loads: u64,
    stores: u64,
    fetched: u64,
    /// Pages that a write sent by reference.
    referenced: u64,
}

/// What counts, of a process's counters, before and after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Pages that reads associated.
    pub lazy: u64,
    /// Bytes that reads copied.
    pub copied: u64,
    /// Pages that writes sent by reference.
    pub referenced: u64,
    /// Pages that page-ins brought.
    pub fetched: u64,
    /// Messages to servers.
    pub messages: u64,
}

impl Figures {
    /// As they are now.
    pub fn of(counters: &Counters) -> Self {
        Self {
            lazy: counters.get(Counter::PagesLazy),
            copied: counters.get(Counter::BytesReadEager),
            referenced: counters.get(Counter::PagesReferenced),
            fetched: counters.get(Counter::PagesFetched),
            messages: counters.get(Counter::MessagesSent),
        }
    }

    /// What came since.
    pub fn since(self, before: Self) -> Self {
        Self {
            lazy: self.lazy.saturating_sub(before.lazy),
            copied: self.copied.saturating_sub(before.copied),
            referenced: self.referenced.saturating_sub(before.referenced),
            fetched: self.fetched.saturating_sub(before.fetched),
            messages: self.messages.saturating_sub(before.messages),
        }
    }
}

/// Whether anybody is traced: one look, on paths that are not the fastest.
#[inline]
pub fn is_active() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}

/// Whether this process is.
pub fn is_traced(pid: u32) -> bool {
    is_active() && TRACED.lock().contains_key(&pid)
}

/// Begins or ends the tracing of a process; says whether anybody is traced now.
pub fn set(pid: u32, on: bool) -> bool {
    let mut traced = TRACED.lock();
    let gone = if on {
        traced.entry(pid).or_default();
        None
    } else {
        traced.remove(&pid)
    };
    let active = !traced.is_empty();
    ACTIVE.store(active, Ordering::Relaxed);
    drop(traced);
    gone.into_iter().flat_map(|trace| trace.reads).for_each(|read| read.tell(pid));
    active
}

/// A child of a traced process is traced too.
pub fn inherit(parent: u32, child: u32) {
    if is_traced(parent) {
        set(child, true);
    }
}

/// A read of `length` bytes to `address` was lazy; gives it a number.
pub fn note_read(pid: u32, address: u64, length: u64, lazy: u64) -> Option<u64> {
    let page = PAGE_BYTES as u64;
    let pages = address.div_ceil(page)..address.saturating_add(length) / page;
    let replaced = take_reads(pid, &pages);
    let mut traced = TRACED.lock();
    let trace = traced.get_mut(&pid)?;
    let oldest = if trace.reads.len() >= MAX_READS { Some(trace.reads.remove(0)) } else { None };
    trace.count += 1;
    let number = trace.count;
    if trace.reads.try_reserve(1).is_ok() {
        trace.reads.push(Read { number, pages, lazy, loads: 0, stores: 0, fetched: 0, referenced: 0 });
    }
    drop(traced);
    replaced.into_iter().chain(oldest).for_each(|read| read.tell(pid));
    Some(number)
}

/// Takes out the reads that have pages in a range.
fn take_reads(pid: u32, pages: &Range<u64>) -> Vec<Read> {
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return Vec::new() };
    let is_met = |read: &Read| read.pages.start < pages.end && pages.start < read.pages.end;
    let (taken, kept) = core::mem::take(&mut trace.reads).into_iter().partition(is_met);
    trace.reads = kept;
    taken
}

/// What is in a range of bytes goes: unmapped, or mapped over.
pub fn note_gone(pid: u32, address: u64, length: u64) {
    let page = PAGE_BYTES as u64;
    let pages = address / page..address.saturating_add(length).div_ceil(page);
    take_reads(pid, &pages).into_iter().for_each(|read| read.tell(pid));
}

/// All memory of the process goes (exec, exit).
pub fn note_all_gone(pid: u32) {
    take_reads(pid, &(0..u64::MAX)).into_iter().for_each(|read| read.tell(pid));
}

/// A write sent pages by reference from this buffer.
pub fn note_referenced(pid: u32, address: u64, pages: u64) {
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return };
    let page = address.div_ceil(PAGE_BYTES as u64);
    if let Some(read) = trace.reads.iter_mut().find(|read| read.pages.contains(&page)) {
        read.referenced += pages;
    }
}

/// A page fault was resolved.
pub fn note_fault(pid: u32, address: u64, is_store: bool, figures: Figures) {
    let page = address / PAGE_BYTES as u64;
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return };
    let found = trace.reads.iter_mut().find(|read| read.pages.contains(&page)).map(|read| {
        read.loads += u64::from(!is_store);
        read.stores += u64::from(is_store);
        read.fetched += figures.fetched;
        (read.number, page - read.pages.start)
    });
    drop(traced);
    let access = if is_store { "store" } else { "load" };
    match found {
        Some((number, page)) => {
            log::info!("trace {pid}: {access} at {address:#x}, page {page} of read #{number}: {} pages fetched", figures.fetched);
        }
        // Stacks, heaps, programs: not what this is about.
        None if figures.fetched == 0 => {}
        None => log::info!("trace {pid}: {access} at {address:#x}: {} pages fetched", figures.fetched),
    }
}

/// The process has ended.
pub fn ended(pid: u32) {
    if is_traced(pid) {
        note_all_gone(pid);
        log::info!("trace {pid}: ended");
        set(pid, false);
    }
}

impl Read {
    /// One line on what became of its pages.
    fn tell(&self, pid: u32) {
        log::info!("trace {pid}: read #{}: {}", self.number, self.fate());
    }

    fn fate(&self) -> String {
        let Self { lazy, fetched, loads, stores, referenced, .. } = self;
        let mut line = String::new();
        let _ = write!(
            line,
            "of {lazy} lazy pages {fetched} were fetched; {loads} faults to load, {stores} to store, {referenced} written by reference"
        );
        if *fetched == 0 && *loads == 0 && *stores == 0 {
            line.push_str(", none ever looked at");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reads_pages_are_followed_until_they_go() {
        const PID: u32 = 4_000_001;
        assert_eq!(note_read(PID, 0x1000, 0x4000, 4), None, "nobody is traced");
        assert!(set(PID, true));
        assert_eq!(note_read(PID, 0x1800, 0x4000, 3), Some(1));
        note_fault(PID, 0x2000, true, Figures { fetched: 2, ..Figures::default() });
        note_referenced(PID, 0x1800, 1);
        {
            let traced = TRACED.lock();
            let read = &traced[&PID].reads[0];
            assert_eq!(read.pages, 2..5);
            assert_eq!(read.fate(), "of 3 lazy pages 2 were fetched; 0 faults to load, 1 to store, 1 written by reference");
        }
        assert_eq!(take_reads(PID, &(5..9)).len(), 0);
        assert_eq!(note_read(PID, 0x4000, 0x2000, 2), Some(2));
        assert_eq!(TRACED.lock()[&PID].reads.len(), 1, "the first was read over");
        set(PID, false);
        assert!(!is_traced(PID));
    }
}
