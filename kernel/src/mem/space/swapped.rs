//! Pages come back from the swap file (Q3), and with a page its neighbours in memory that are its
//! neighbours there.

use super::{
    AddressSpace, Space,
    fault::{Awaited, Extent, FaultError, LazyPage, Resolution, base_flags},
};
use crate::mem::{
    Frame, Page, PageRange, Prot, cache,
    page_table::EntryFlags,
    swap::{self, PageIn},
};
use alloc::sync::Arc;
use foundation::PageCount;
use foundation::knob;

/// A page that is in the swap file.
pub(super) struct SwappedPage {
    pub page: Page,
    /// Its region.
    pub range: PageRange,
    pub prot: Prot,
    pub slot: u32,
}

/// Whether a store is to follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Now,
    Later,
}

impl AddressSpace {
    /// Looks at such a page once: brings it back if its bytes are in memory.
    pub(super) fn look_swapped(
        &mut self,
        swapped: &SwappedPage,
        write: bool,
        extent: Extent,
    ) -> Result<Resolution, FaultError> {
        let store = if write { Store::Now } else { Store::Later };
        if write && extent == Extent::Whole {
            self.bring_back(swapped.page, swapped.prot, Frame::recycled(self.table.claim)?, store)?;
            return Ok(Resolution::Done);
        }
        if let Some(frame) = swap::resident(swapped.slot) {
            self.bring_back(swapped.page, swapped.prot, frame, store)?;
            return Ok(Resolution::Done);
        }
        let around = self.neighbours(swapped);
        let coming = swap::page_in(swapped.slot, around).ok_or(FaultError::OutOfMemory)?;
        if !coming.has_arrived() {
            return Ok(Resolution::Swapped(coming));
        }
        let Some(frame) = coming.take(swapped.slot) else {
            // Somebody took it and could not map it.
            coming.invalidate();
            return self.look_swapped(swapped, write, extent);
        };
        self.bring_back(swapped.page, swapped.prot, frame, store)?;
        self.bring_neighbours(swapped, &coming)?;
        Ok(Resolution::Done)
    }

    /// A page that stands for bytes of a snapshot which cannot be asked for again (X3), and were
    /// swapped out of the cache.
    pub(super) fn look_away(
        &mut self,
        lazy: &LazyPage,
        slot: u32,
        write: bool,
        space: &Space,
        held: Option<&Awaited>,
    ) -> Result<Resolution, FaultError> {
        let frame = match swap::resident(slot) {
            Some(frame) => frame,
            None => {
                let coming = swap::page_in(slot, slot..slot + 1).ok_or(FaultError::OutOfMemory)?;
                if !coming.has_arrived() {
                    return Ok(Resolution::Swapped(coming));
                }
                match coming.take(slot) {
                    Some(frame) => frame,
                    None => {
                        coming.invalidate();
                        return self.look_away(lazy, slot, write, space, held);
                    }
                }
            }
        };
        cache::restore(&lazy.snapshot, lazy.wanted(), frame);
        self.look_lazy(lazy, write, space, held)
    }

    /// The slots that hold the pages around, as far as they lie like these.
    fn neighbours(&self, swapped: &SwappedPage) -> core::ops::Range<u32> {
        let window = knob::FAULT_AROUND.get().max(1);
        let start = Page(swapped.page.0 - swapped.page.0 % window);
        let within = PageRange::new(start, PageCount(window)).intersect(swapped.range);
        let lies_alike = |page: Page| {
            let expected = i64::from(swapped.slot) + page.0 as i64 - swapped.page.0 as i64;
            self.table
                .get(page)
                .and_then(|entry| entry.slot())
                .is_some_and(|slot| i64::from(slot) == expected)
        };
        let before = (within.start.0..swapped.page.0)
            .rev()
            .take_while(|&page| lies_alike(Page(page)))
            .count() as u32;
        let behind = (swapped.page.0 + 1..within.end.0)
            .take_while(|&page| lies_alike(Page(page)))
            .count() as u32;
        swapped.slot - before..swapped.slot + 1 + behind
    }

    /// Maps what came along with a page.
    fn bring_neighbours(
        &mut self,
        swapped: &SwappedPage,
        coming: &Arc<PageIn>,
    ) -> Result<(), FaultError> {
        for index in 0..coming.row.len() {
            let Some(slot) = coming.row.get(index) else { break };
            let page =
                Page((swapped.page.0 + u64::from(slot)).wrapping_sub(u64::from(swapped.slot)));
            let is_there = swapped.range.contains(page)
                && self.table.get(page).and_then(|entry| entry.slot()) == Some(slot);
            if is_there && let Some(frame) = coming.take(slot) {
                self.bring_back(page, swapped.prot, frame, Store::Later)?;
            }
        }
        Ok(())
    }

    /// Maps a frame in the place of a slot.
    fn bring_back(
        &mut self,
        page: Page,
        prot: Prot,
        frame: Frame,
        store: Store,
    ) -> Result<(), FaultError> {
        let claim = self.table.claim;
        let frame =
            if store == Store::Now && frame.is_shared() { frame.duplicate(claim)? } else { frame };
        let writable = prot.contains(Prot::WRITE) && !frame.is_shared();
        let mut flags = base_flags(prot) | EntryFlags::PRIVATE;
        flags.set(EntryFlags::WRITE, writable);
        drop(self.table.map(page, frame, flags)?);
        Ok(())
    }
}
