//! Changes of the file by other means than stores to its memory.
#![forbid(unsafe_code)]

use super::own::Reserved;
use super::{
    COPYING, DIRTY, FilePages, OWN, Pages, REFUSED, STEP_PAGES, Treatment, WRITING, mutants,
};
use crate::mem::page_table::{Bounds, Entry, Verdict};
use crate::mem::{Page, PageRange};
use crate::sync::{Interrupt, Interrupted, relax};

/// Which pages of a change leave memory at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// All: the file is the only one to know their bytes.
    All,
    /// Clean ones: the change failed, and what it did is not known.
    Clean,
}

impl FilePages {
    /// A change of the file that concerns these pages begins. They are mapped nowhere until it
    /// ends, and no fetch brings what the file held before. The caller holds the file's lock, and
    /// calls [`end_change`](Self::end_change), unless this fails. May wait for other threads.
    pub fn begin_change(&self, range: PageRange) -> Result<(), Interrupted> {
        self.take_out(range).inspect_err(|_| {
            // Some pages may be mapped: none leaves memory.
            self.end_change(PageRange { end: range.start, ..range }, Leaving::Clean);
        })
    }

    fn take_out(&self, range: PageRange) -> Result<(), Interrupted> {
        {
            let mut pages = self.inner.lock();
            pages.changing = Some(range);
            pages.note_change();
            for pending in &mut pages.fetches {
                pending.is_stale |= !pending.pages.intersect(range).is_empty();
            }
        }
        // A page that is being copied is mapped nowhere, and looked at again before it is stored
        // to.
        self.settled
            .wait(Interrupt::Killable, || (self.inner.lock().copying == 0).then_some(()))?;
        self.treat(range, Treatment::Unmap)
    }

    /// The change has ended. Pages of `range`, some or all of its own, leave memory.
    pub fn end_change(&self, range: PageRange, leaving: Leaving) {
        let mut next = range.start;
        loop {
            let mut pages = self.inner.lock();
            match pages.drop_some(PageRange { start: next, ..range }, leaving) {
                Some((stopped, dropped)) => {
                    next = stopped;
                    self.forget(dropped);
                }
                None => break,
            }
            drop(pages);
            // The change is over in any case.
            let _ = relax(Interrupt::Killable);
        }
        let mut pages = self.inner.lock();
        pages.changing = None;
        pages.note_change();
        drop(pages);
        self.settled.wake_all();
    }

    /// Takes all pages out of memory, where what was stored cannot be kept. Returns how many dirty
    /// ones were lost.
    pub fn drop_pages(&self) -> usize {
        let all = PageRange { start: Page(0), end: Page(u64::MAX) };
        let before = self.dirty_pages();
        if self.begin_change(all).is_ok() {
            self.end_change(all, Leaving::All);
        }
        before - self.dirty_pages()
    }

    fn forget(&self, dropped: Dropped) {
        self.share.subtract(dropped.dirty);
        self.share.subtract_refused(dropped.refused);
    }
}

/// Pages that left memory and were not clean.
#[derive(Default)]
struct Dropped {
    dirty: usize,
    refused: usize,
}

impl Pages {
    /// A change begins or ends: what was known of the end of the file is no longer certain.
    fn note_change(&mut self) {
        self.reserved = Reserved::default();
        self.changes += 1;
        self.end = Page(u64::MAX);
    }

    /// Drops some pages of a range. Returns where to go on, and what was dropped; nothing once all
    /// are.
    fn drop_some(&mut self, range: PageRange, leaving: Leaving) -> Option<(Page, Dropped)> {
        if range.is_empty() || mutants::change_keeps_pages() {
            return None;
        }
        let mut dropped = Dropped::default();
        let bounds = Bounds { enough: STEP_PAGES as usize, most: 8 * STEP_PAGES as usize };
        let swept = self.tree.sweep(range, bounds, |_, entry: Entry| {
            let is_dirty = entry.flags().intersects(DIRTY | WRITING | OWN);
            if entry.has(COPYING) || is_dirty && leaving == Leaving::Clean {
                return Verdict::Keep;
            }
            dropped.dirty += usize::from(is_dirty);
            dropped.refused += usize::from(entry.has(REFUSED));
            Verdict::Drop
        });
        self.dirty -= dropped.dirty;
        self.refused -= dropped.refused;
        let stopped = swept.stopped.unwrap_or(range.end);
        Some((stopped, dropped))
    }
}
