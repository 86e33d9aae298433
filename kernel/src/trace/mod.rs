//! Tracing (E4): which processes are traced, and what happened to the pages of their lazy reads.
//! The output goes to the kernel's log.
//!
//! Nothing here reads a program's buffers: that could page in data which the program never touched.
//! While no process is traced, the cost is one load in each system call ([`selector`]), page fault,
//! signal and fork ([`is_active`]). The system-call layer logs the calls.
//!
//! Lock: `TRACED`, a spin lock; only that of the log is taken under it.

#![forbid(unsafe_code)]

mod mutants;
mod read;

pub use read::Bytes;

use crate::mem::{Access, PAGE_BYTES, fallible};
use crate::sync::{Mutex, rank};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::counter::{Counter, Counters};
use read::{Pages, Read};

/// Reads that are followed for each process. Beyond that, the oldest is reported and dropped.
const MAX_READS: usize = 256;

/// All ones if any process is traced, else zero.
static ACTIVE: AtomicU64 = AtomicU64::new(0);
/// The traced processes, by process number.
static TRACED: Mutex<BTreeMap<u32, Trace>, rank::Traced> = Mutex::new(BTreeMap::new());

/// Whether something is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// Traced, or at least one process is.
    On,
    /// Not traced, or no process is.
    Off,
}

/// A traced process.
#[derive(Default)]
struct Trace {
    /// Reads that have pages left, oldest first.
    reads: Vec<Read>,
    /// Reads so far: the number of the newest one.
    count: u64,
}

/// The counters of a process that a trace line is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Pages that reads associated.
    pub lazy: u64,
    /// Bytes that reads copied.
    pub copied: u64,
    /// Pages that writes sent by reference.
    pub referenced: u64,
    /// Pages fetched by page-ins.
    pub fetched: u64,
    /// Pages mapped without a copy.
    pub mapped: u64,
    /// Faults on holes.
    pub holes: u64,
    /// Pages copied because of a store.
    pub copied_pages: u64,
}

impl Figures {
    /// The present values.
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

    /// The difference from earlier values.
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

/// `number` while no process is traced, else `u64::MAX`, which is no system call's number. The
/// dispatcher's check of the number then serves as the check for tracing too.
#[inline]
pub fn selector(number: u64) -> u64 {
    number | ACTIVE.load(Ordering::Relaxed)
}

/// Whether any process is traced.
#[inline]
pub fn is_active() -> bool {
    ACTIVE.load(Ordering::Relaxed) != 0
}

/// Whether this process is traced.
pub fn is_traced(pid: u32) -> bool {
    is_active() && TRACED.lock().contains_key(&pid)
}

/// Begins or ends the tracing of a process and of children that it forks from now on.
pub fn set(pid: u32, tracing: Tracing) {
    let mut traced = TRACED.lock();
    let ended = match tracing {
        Tracing::On => {
            traced.entry(pid).or_default();
            None
        }
        Tracing::Off => traced.remove(&pid),
    };
    let active = if traced.is_empty() { 0 } else { u64::MAX };
    ACTIVE.store(active, Ordering::Relaxed);
    drop(traced);
    ended.into_iter().flat_map(|trace| trace.reads).for_each(|read| read.report(pid));
}

/// After a fork: the child of a traced process is traced too.
pub fn inherit(parent: u32, child: u32) {
    if is_traced(parent) {
        set(child, Tracing::On);
    }
}

/// Records a read that filled `buffers` and associated `lazy` pages. Returns the read's number, or
/// `None` where the process is not traced.
pub fn note_read(pid: u32, buffers: &[Bytes], lazy: u64) -> Option<u64> {
    let pages = buffers.iter().map(Bytes::whole_pages).filter(|pages| !pages.is_empty());
    let pages = fallible::collect(pages).ok()?;
    report_gone(pid, &pages);
    let mut traced = TRACED.lock();
    let trace = traced.get_mut(&pid)?;
    let oldest = if trace.reads.len() >= MAX_READS { Some(trace.reads.remove(0)) } else { None };
    trace.count += 1;
    let number = trace.count;
    if fallible::reserve(&mut trace.reads, 1).is_ok() {
        trace.reads.push(Read::new(number, pages, lazy));
    }
    drop(traced);
    oldest.into_iter().for_each(|read| read.report(pid));
    Some(number)
}

/// Removes the pages `gone` from all reads. Reports and drops the reads that have no page left.
fn report_gone(pid: u32, gone: &[Pages]) {
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return };
    trace.reads.retain_mut(|read| {
        gone.iter().for_each(|gone| read.lose(gone));
        if read.pages.is_empty() {
            read.report(pid);
        }
        !read.pages.is_empty()
    });
}

/// Records that the pages of a range are gone: unmapped, moved, discarded or mapped over.
pub fn note_gone(pid: u32, bytes: Bytes) {
    report_gone(pid, &[bytes.touched_pages()]);
}

/// Records that all memory of the process is gone (exec, exit).
pub fn note_all_gone(pid: u32) {
    report_gone(pid, core::slice::from_ref(&(0..u64::MAX)));
}

/// Attributes the costs of a system call to the reads whose pages its buffers contain.
pub fn note_call(pid: u32, buffers: &[Bytes], mut figures: Figures) {
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return };
    for touched in buffers.iter().map(Bytes::touched_pages) {
        trace.reads.iter_mut().for_each(|read| read.note_call(&touched, &mut figures));
    }
}

/// A page fault.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// The faulting address.
    pub address: u64,
    /// The access that faulted.
    pub access: Access,
    /// Whether the page was mapped before.
    pub before: Presence,
}

/// Whether a page is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is mapped; the access needed more permissions.
    Present,
    /// It is not mapped.
    Absent,
}

/// Records a page fault that was resolved at the cost of `figures`.
pub fn note_fault(pid: u32, touch: Touch, figures: Figures) {
    let Touch { address, access, .. } = touch;
    let page = address / PAGE_BYTES as u64;
    let mut traced = TRACED.lock();
    let Some(trace) = traced.get_mut(&pid) else { return };
    let found = trace.reads.iter_mut().find(|read| read.has(page)).map(|read| {
        read.note_fault(touch, figures);
        read.number
    });
    drop(traced);
    let access = if access == Access::Write { "store" } else { "load" };
    match found {
        Some(number) => log::info!(
            "trace {pid}: {access} at {address:#x}, read #{number}: {} pages fetched",
            figures.fetched
        ),
        // Anonymous memory: nothing to report.
        None if figures.fetched == 0 => {}
        None => {
            log::info!("trace {pid}: {access} at {address:#x}: {} pages fetched", figures.fetched)
        }
    }
}

/// Reports and forgets a process that has ended.
pub fn ended(pid: u32) {
    if is_traced(pid) {
        note_all_gone(pid);
        log::info!("trace {pid}: ended");
        set(pid, Tracing::Off);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4_a_reads_pages_are_followed_until_they_go() {
        const PID: u32 = 4_000_001;
        let bytes = |address, length| Bytes { address, length };
        assert_eq!(note_read(PID, &[bytes(0x1000, 0x4000)], 4), None, "not traced");
        set(PID, Tracing::On);
        assert!(is_active());
        assert_eq!(note_read(PID, &[bytes(0x1800, 0x4000)], 3), Some(1));
        let brought = Figures { fetched: 2, mapped: 2, ..Figures::default() };
        note_fault(
            PID,
            Touch { address: 0x2000, access: Access::Read, before: Presence::Absent },
            brought,
        );
        note_call(PID, &[bytes(0x1800, 0x1000)], Figures { referenced: 1, ..Figures::default() });
        let fate = |read: usize| TRACED.lock()[&PID].reads[read].fate();
        assert_eq!(
            fate(0),
            "of 3 lazy pages 2 were fetched, 0 holes, 0 copied for a store, \
             1 written by reference; 1 never came"
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
        set(PID, Tracing::Off);
        assert!(!is_traced(PID));
    }
}
