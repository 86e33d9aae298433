//! Clean pages of mapped files leave memory where it is short. Dirty ones never go to swap: their
//! keeper is asked to write them.
#![forbid(unsafe_code)]

use super::{COPYING, DIRTY, FilePages, OWN, USED, WRITING, mutants};
use crate::mem::Page;
use crate::mem::page_table::{Bounds, Entry, Swept, Verdict};
use crate::mem::reclaim::{Reclaimable, Visit};
use crate::mem::swap::PageOutBatch;

/// References to the frame of a page that one space maps: the space's and the file's.
const MAPPED_ONCE: u64 = 2;

impl Reclaimable for FilePages {
    fn evict_pages(
        &self,
        visit: &mut Visit,
        bounds: Bounds,
        _: Option<&mut PageOutBatch>,
    ) -> Option<Swept> {
        let mut pages = self.inner.try_lock()?;
        let range = visit.range(pages.hand, Page(u64::MAX));
        let mut has_dirty = false;
        let swept = pages.tree.sweep(range, bounds, |_, entry: Entry| {
            has_dirty |= entry.has(DIRTY);
            if is_kept(entry) || entry.is_shared() {
                Verdict::Keep
            } else if entry.has(USED) {
                Verdict::Age
            } else {
                Verdict::Drop
            }
        });
        pages.hand = visit.step(swept.stopped);
        if has_dirty {
            self.want_to_leave();
        }
        Some(swept)
    }
}

/// Whether a page stays in memory whoever maps it.
fn is_kept(entry: Entry) -> bool {
    entry.flags().intersects(DIRTY | WRITING | OWN | COPYING) && !mutants::drop_dirty()
}

impl FilePages {
    /// The clock unmaps a page of a space that did not use it. Returns whether it may. If nobody
    /// else maps it, its frame leaves memory. Called with the space locked.
    pub(in crate::mem) fn leave(&self, page: Page) -> bool {
        // The caller may need a frame for this very file.
        let Some(mut pages) = self.inner.try_lock() else { return false };
        let Some(entry) = pages.tree.get(page) else { return true };
        if is_kept(entry) {
            return false;
        }
        if entry.references() <= MAPPED_ONCE {
            drop(pages.tree.take(page));
        }
        true
    }
}
