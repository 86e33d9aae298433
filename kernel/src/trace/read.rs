//! One lazy read of a traced process, and what happened to its pages.

use super::{Figures, Presence, Touch, mutants};
use crate::mem::{Access, PAGE_BYTES, fallible};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// A range of page numbers.
pub(super) type Pages = Range<u64>;

/// A range of a program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Address of the first byte.
    pub address: u64,
    /// Length in bytes.
    pub length: u64,
}

impl Bytes {
    /// The pages that the range covers completely.
    pub(super) fn whole_pages(&self) -> Pages {
        let page = PAGE_BYTES as u64;
        self.address.div_ceil(page)..self.address.saturating_add(self.length) / page
    }

    /// The pages that the range overlaps.
    pub(super) fn touched_pages(&self) -> Pages {
        let page = PAGE_BYTES as u64;
        self.address / page..self.address.saturating_add(self.length).div_ceil(page)
    }
}

/// The number of pages in both ranges.
fn common(one: &Pages, other: &Pages) -> u64 {
    one.end.min(other.end).saturating_sub(one.start.max(other.start))
}

/// A lazy read; all counts are pages.
#[derive(Default)]
pub(super) struct Read {
    /// Counted from 1 in each process.
    pub number: u64,
    /// The pages that nothing has replaced yet.
    pub pages: Vec<Pages>,
    /// Associated by the read.
    pub lazy: u64,
    fetched: u64,
    holes: u64,
    /// Copied because of a store.
    copied: u64,
    /// Sent by reference in a write.
    referenced: u64,
    /// Brought into memory in any way.
    arrived: u64,
}

impl Read {
    pub(super) fn new(number: u64, pages: Vec<Pages>, lazy: u64) -> Self {
        Self { number, pages, lazy, ..Self::default() }
    }

    /// Whether `page` belongs to this read.
    pub(super) fn has(&self, page: u64) -> bool {
        self.pages.iter().any(|pages| pages.contains(&page))
    }

    /// Removes the pages `gone` from this read.
    pub(super) fn lose(&mut self, gone: &Pages) {
        if self.pages.iter().all(|pages| common(pages, gone) == 0) {
            return;
        }
        if mutants::trace_forgets(&mut self.pages) {
            return;
        }
        let rest = |pages: &Pages| {
            [pages.start..pages.end.min(gone.start), pages.start.max(gone.end)..pages.end]
        };
        let kept = self.pages.iter().flat_map(rest).filter(|pages| !pages.is_empty());
        // Without memory, all its pages count as gone.
        self.pages = fallible::collect(kept).unwrap_or_default();
    }

    /// Adds the costs of a fault on one of its pages.
    pub(super) fn note_fault(&mut self, touch: Touch, figures: Figures) {
        self.note(figures);
        // A store to an absent page maps a copy. Stores to holes are already counted as holes.
        let is_new =
            touch.access == Access::Write && touch.before == Presence::Absent && figures.holes == 0;
        self.arrived += u64::from(is_new);
    }

    /// Takes this read's share of the costs of a system call that touched the pages `touched`.
    pub(super) fn note_call(&mut self, touched: &Pages, figures: &mut Figures) {
        let most: u64 = self.pages.iter().map(|pages| common(pages, touched)).sum();
        let share = |figure: &mut u64| {
            let taken = most.min(*figure);
            *figure -= taken;
            taken
        };
        self.note(Figures {
            fetched: share(&mut figures.fetched),
            mapped: share(&mut figures.mapped),
            holes: share(&mut figures.holes),
            copied_pages: share(&mut figures.copied_pages),
            ..Figures::default()
        });
        self.referenced += share(&mut figures.referenced);
    }

    fn note(&mut self, figures: Figures) {
        self.fetched += figures.fetched;
        self.holes += figures.holes;
        self.copied += figures.copied_pages;
        self.arrived += figures.mapped + figures.holes;
    }

    /// Logs one line that says what happened to its pages.
    pub(super) fn report(&self, pid: u32) {
        log::info!("trace {pid}: read #{}: {}", self.number, self.fate());
    }

    /// What happened to its pages, as text.
    pub(super) fn fate(&self) -> String {
        let Self { lazy, fetched, holes, copied, referenced, arrived, .. } = self;
        // Pages that were evicted and fetched again count twice.
        let never = lazy.saturating_sub(*arrived);
        format!(
            "of {lazy} lazy pages {fetched} were fetched, {holes} holes, \
             {copied} copied for a store, \
             {referenced} written by reference; {never} never came"
        )
    }
}
