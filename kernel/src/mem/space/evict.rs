//! Eviction: clean pages are unmapped, private ones are collected for the swap file.
#![forbid(unsafe_code)]

use super::mutants;
use super::{Space, SpaceState};
use crate::mem::{
    Backing, Page, PageRange, SharedMemory, USER_END,
    mutants::reclaim_locked,
    page_table::{Bounds, Entry, EntryFlags, Flush, Locks, Swept, Verdict},
    reclaim::{self, Reclaimable, Visit},
    swap::{Owners, PageOutBatch},
};
use crate::sync::{Interrupt, relax};

impl Reclaimable for Space {
    /// `None` also for a server and for init, whose pages stay (F8).
    fn evict_pages(
        &self,
        visit: &mut Visit,
        bounds: Bounds,
        batch: Option<&mut PageOutBatch>,
    ) -> Option<Swept> {
        let stays = self.policy.is_pinned() && !mutants::swap_servers();
        if stays || mutants::no_clock() {
            return None;
        }
        let inner = self.inner.try_lock()?;
        Some(self.change(inner, |state| state.evict_pages(visit, bounds, batch)))
    }
}

impl Space {
    /// Unmaps clean pages, and frees tables that have no others, until the account may have another
    /// table. Returns whether it may. Others run in between; called with no lock held.
    pub(super) fn drop_tables(&self) -> bool {
        // The first visit may only mark pages as unused.
        let (mut visit, mut visits_in_vain, mut is_in_vain) = (Visit::default(), 0, true);
        while !self.account.admits_table() {
            let swept = self.evict_pages(&mut visit, reclaim::STEP, None);
            is_in_vain &= swept.as_ref().is_none_or(|swept| swept.entries == 0);
            if swept.is_none() || visit.is_over() {
                visits_in_vain = if is_in_vain { visits_in_vain + 1 } else { 0 };
                (visit, is_in_vain) = (Visit::default(), true);
            }
            if visits_in_vain == 2 || relax(Interrupt::Killable).is_err() {
                return false;
            }
        }
        true
    }
}

impl SpaceState {
    fn evict_pages(
        &mut self,
        visit: &mut Visit,
        bounds: Bounds,
        batch: Option<&mut PageOutBatch>,
    ) -> Swept {
        let end = USER_END.page();
        let swept = self.sweep(visit.range(self.hand, end), bounds, batch);
        debug_assert!(swept.entries <= bounds.enough);
        debug_assert!(swept.stopped.is_none_or(|page| page < end));
        self.hand = visit.step(swept.stopped);
        swept
    }

    fn sweep(
        &mut self,
        range: PageRange,
        bounds: Bounds,
        mut batch: Option<&mut PageOutBatch>,
    ) -> Swept {
        let (regions, flush) = (&self.regions, &mut self.flush);
        let mut region = None;
        // Without a batch, this may be for a claim of anyone.
        let locks = if batch.is_some() { Locks::Any } else { Locks::Free };
        self.table.sweep(range, bounds, locks, |page, entry| {
            let private = entry.has(EntryFlags::PRIVATE) && !mutants::evict_private();
            if private && batch.is_none() {
                return Verdict::Keep;
            }
            region = region
                .filter(|(range, _): &(PageRange, _)| range.contains(page))
                .or_else(|| regions.find(page));
            let Some((range, region)) = region.filter(|_| !entry.is_swapped()) else {
                return Verdict::Keep;
            };
            if region.is_locked() && !reclaim_locked() {
                return Verdict::Keep;
            }
            if entry.has(EntryFlags::ACCESSED) {
                return Verdict::Age;
            }
            let verdict = match &region.backing {
                _ if private => swap_out(entry, batch.as_deref_mut()),
                Backing::Shared { memory, first } => {
                    let page = Page(*first) + (page - range.start);
                    unmap_shared(memory, page, batch.as_deref_mut())
                }
                Backing::File { mapping, first } => {
                    let page = Page(*first) + (page - range.start);
                    if mapping.leave(page) { Verdict::Drop } else { Verdict::Keep }
                }
                _ => Verdict::Drop,
            };
            if verdict != Verdict::Keep {
                flush.merge(Flush::page(page));
            }
            verdict
        })
    }
}

/// Unmaps a page of shared memory, whose frame is swapped out with its last mapping. Without a
/// batch that would free nothing.
fn unmap_shared(memory: &SharedMemory, page: Page, batch: Option<&mut PageOutBatch>) -> Verdict {
    let unmaps = batch.is_some_and(|batch| memory.leave(page, batch));
    if unmaps { Verdict::Drop } else { Verdict::Keep }
}

/// Adds the frame of a private page to the batch, if it may leave and there is a slot for it.
fn swap_out(entry: Entry, batch: Option<&mut PageOutBatch>) -> Verdict {
    let Some(batch) = batch else { return Verdict::Keep };
    let stays = entry.is_zero_page() || batch.owners == Owners::Sole && entry.is_shared();
    if stays {
        return Verdict::Keep;
    }
    batch.add(entry.frame()).map_or(Verdict::Keep, Verdict::Swap)
}
