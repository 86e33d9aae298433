//! One lazy read of a traced process, and what became of its pages.

use super::{Figures, Touch};
use crate::mem::PAGE_BYTES;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use foundation::mutant::{Mutant, active};

/// Pages in a row, by number.
pub(super) type Pages = Range<u64>;

/// Bytes of a program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// The first.
    pub address: u64,
    /// How many.
    pub length: u64,
}

impl Bytes {
    /// The pages that lie in them as a whole.
    pub(super) fn whole_pages(&self) -> Pages {
        let page = PAGE_BYTES as u64;
        self.address.div_ceil(page)..self.address.saturating_add(self.length) / page
    }

    /// The pages that they lie in.
    pub(super) fn touched_pages(&self) -> Pages {
        let page = PAGE_BYTES as u64;
        self.address / page..self.address.saturating_add(self.length).div_ceil(page)
    }
}

/// How many pages both have.
fn common(one: &Pages, other: &Pages) -> u64 {
    one.end.min(other.end).saturating_sub(one.start.max(other.start))
}

/// A lazy read, and what became of its pages so far.
#[derive(Default)]
pub(super) struct Read {
    pub number: u64,
    /// Those that nothing has replaced yet.
    pub pages: Vec<Pages>,
    /// Pages that it associated.
    pub lazy: u64,
    fetched: u64,
    holes: u64,
    copied: u64,
    /// Pages that a write sent by reference.
    referenced: u64,
    /// Pages that came to be in memory, for whichever reason.
    came: u64,
}

impl Read {
    pub(super) fn new(number: u64, pages: Vec<Pages>, lazy: u64) -> Self {
        Self { number, pages, lazy, ..Self::default() }
    }

    pub(super) fn has(&self, page: u64) -> bool {
        self.pages.iter().any(|pages| pages.contains(&page))
    }

    /// These pages are its own no more.
    pub(super) fn lose(&mut self, gone: &Pages) {
        if self.pages.iter().all(|pages| common(pages, gone) == 0) {
            return;
        }
        if active(Mutant::TraceForgets) {
            return self.pages.clear();
        }
        let rest = |pages: &Pages| {
            [pages.start..pages.end.min(gone.start), pages.start.max(gone.end)..pages.end]
        };
        self.pages = self.pages.iter().flat_map(rest).filter(|pages| !pages.is_empty()).collect();
    }

    pub(super) fn note_fault(&mut self, touch: Touch, figures: Figures) {
        self.note(figures);
        // A hole that is stored to is no copy, and is counted as a hole already.
        let is_new = touch.is_store && !touch.was_there && figures.holes == 0;
        self.came += u64::from(is_new);
    }

    /// A call touched these pages; takes its own share of what that brought.
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
        self.came += figures.mapped + figures.holes;
    }

    /// One line on what became of its pages.
    pub(super) fn tell(&self, pid: u32) {
        log::info!("trace {pid}: read #{}: {}", self.number, self.fate());
    }

    pub(super) fn fate(&self) -> String {
        let Self { lazy, fetched, holes, copied, referenced, came, .. } = self;
        // What went for want of memory and came again counts again.
        let never = lazy.saturating_sub(*came);
        format!(
            "of {lazy} lazy pages {fetched} were fetched, {holes} holes, {copied} copied for a store, {referenced} written by reference; {never} never came"
        )
    }
}
