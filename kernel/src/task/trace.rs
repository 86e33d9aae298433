//! Tracing: which processes are traced, and what became of the pages of their reads (E4). Lines go
//! to the kernel's log.
//!
//! Nothing here looks at a program's buffers: that would bring in what the program never asked for.
//! While nobody is traced, it costs nothing but one look at [`is_active`] on the slow paths (a page
//! fault, a signal, a fork).
//!
//! Lock: `TRACED`, a spin lock; no other lock is taken under it.

mod read;

pub use read::Bytes;

use crate::mem::{Counter, Counters, PAGE_BYTES};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use read::{Pages, Read};

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
    /// Pages that came to be mapped as they are.
    pub mapped: u64,
    /// Touches of holes.
    pub holes: u64,
    /// Pages copied for a store.
    pub copied_pages: u64,
}

impl Figures {
    /// As they are now.
    pub fn of(counters: &Counters) -> Self {
        Self {
            lazy: counters.get(Counter::PagesLazy),
            copied: counters.get(Counter::BytesReadEager),
            referenced: counters.get(Counter::PagesReferenced),
            fetched: counters.get(Counter::PagesFetched),
            mapped: counters.get(Counter::PagesMapped),
            holes: counters.get(Counter::PagesHole),
            copied_pages: counters.get(Counter::PagesCow),
        }
    }

    /// What came since.
    pub fn since(self, before: Self) -> Self {
        Self {
            lazy: self.lazy.saturating_sub(before.lazy),
            copied: self.copied.saturating_sub(before.copied),
            referenced: self.referenced.saturating_sub(before.referenced),
            fetched: self.fetched.saturating_sub(before.fetched),
            mapped: self.mapped.saturating_sub(before.mapped),
            holes: self.holes.saturating_sub(before.holes),
            copied_pages: self.copied_pages.saturating_sub(before.copied_pages),
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

/// A read that filled these buffers, whole pages of them lazily; gives it a number.
pub fn note_read(pid: u32, buffers: &[Bytes], lazy: u64) -> Option<u64> {
    let pages: Vec<Pages> =
        buffers.iter().map(Bytes::whole_pages).filter(|pages| !pages.is_empty()).collect();
    let replaced = take_gone(pid, &pages);
    let mut traced = TRACED.lock();
    let trace = traced.get_mut(&pid)?;
    let oldest = if trace.reads.len() >= MAX_READS { Some(trace.reads.remove(0)) } else { None };
    trace.count += 1;
    let number = trace.count;
    if trace.reads.try_reserve(1).is_ok() {
        trace.reads.push(Read::new(number, pages, lazy));
    }
    drop(traced);
    replaced.into_iter().chain(oldest).for_each(|read| read.tell(pid));
    Some(number)
}

/// Pages of reads are replaced; takes out the reads that have none left.
fn take_gone(pid: u32, gone: &[Pages]) -> Vec<Read> {
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return Vec::new() };
    trace.reads.iter_mut().for_each(|read| gone.iter().for_each(|gone| read.lose(gone)));
    let (gone, kept) =
        core::mem::take(&mut trace.reads).into_iter().partition(|read| read.pages.is_empty());
    trace.reads = kept;
    gone
}

/// What is in a range of bytes goes: unmapped, moved, discarded or mapped over.
pub fn note_gone(pid: u32, bytes: Bytes) {
    take_gone(pid, &[bytes.touched_pages()]).into_iter().for_each(|read| read.tell(pid));
}

/// All memory of the process goes (exec, exit).
pub fn note_all_gone(pid: u32) {
    take_gone(pid, core::slice::from_ref(&(0..u64::MAX)))
        .into_iter()
        .for_each(|read| read.tell(pid));
}

/// A call took bytes from these buffers, or put some into pages that it covers only partly: what
/// that brought and sent.
pub fn note_call(pid: u32, buffers: &[Bytes], mut figures: Figures) {
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return };
    for touched in buffers.iter().map(Bytes::touched_pages) {
        trace.reads.iter_mut().for_each(|read| read.note_call(&touched, &mut figures));
    }
}

/// A touch of memory that the CPU did not allow at once.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// Where.
    pub address: u64,
    /// Whether it stores.
    pub is_store: bool,
    /// Whether a page was there.
    pub was_there: bool,
}

/// A page fault was resolved.
pub fn note_fault(pid: u32, touch: Touch, figures: Figures) {
    let Touch { address, is_store, .. } = touch;
    let page = address / PAGE_BYTES as u64;
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return };
    let found = trace.reads.iter_mut().find(|read| read.has(page)).map(|read| {
        read.note_fault(touch, figures);
        read.number
    });
    drop(traced);
    let access = if is_store { "store" } else { "load" };
    match found {
        Some(number) => log::info!(
            "trace {pid}: {access} at {address:#x}, read #{number}: {} pages fetched",
            figures.fetched
        ),
        // Stacks, heaps, programs: not what this is about.
        None if figures.fetched == 0 => {}
        None => {
            log::info!("trace {pid}: {access} at {address:#x}: {} pages fetched", figures.fetched)
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4_a_reads_pages_are_followed_until_they_go() {
        const PID: u32 = 4_000_001;
        let bytes = |address, length| Bytes { address, length };
        assert_eq!(note_read(PID, &[bytes(0x1000, 0x4000)], 4), None, "nobody is traced");
        assert!(set(PID, true));
        assert_eq!(note_read(PID, &[bytes(0x1800, 0x4000)], 3), Some(1));
        let brought = Figures { fetched: 2, mapped: 2, ..Figures::default() };
        note_fault(PID, Touch { address: 0x2000, is_store: false, was_there: false }, brought);
        note_call(PID, &[bytes(0x1800, 0x1000)], Figures { referenced: 1, ..Figures::default() });
        let fate = |read: usize| TRACED.lock()[&PID].reads[read].fate();
        assert_eq!(
            fate(0),
            "of 3 lazy pages 2 were fetched, 0 holes, 0 copied for a store, 1 written by reference; 1 never came"
        );
        assert_eq!(note_read(PID, &[bytes(0x4000, 0x2000)], 2), Some(2));
        assert_eq!(
            TRACED.lock()[&PID].reads[0].pages.as_slice(),
            core::slice::from_ref(&(2..4)),
            "one of its pages was read over"
        );
        note_gone(PID, bytes(0x2fff, 1));
        assert_eq!(
            TRACED.lock()[&PID].reads[0].pages.as_slice(),
            core::slice::from_ref(&(3..4)),
            "one was unmapped"
        );
        note_gone(PID, bytes(0x3000, 0x1000));
        assert_eq!(TRACED.lock()[&PID].reads.len(), 1, "all of the first are gone");
        set(PID, false);
        assert!(!is_traced(PID));
    }
}
