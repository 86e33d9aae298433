//! Pages are read back from the swap file (Q3): with a page, those neighbours in memory that are
//! also its neighbours in the file.
#![forbid(unsafe_code)]

use super::{
    SpaceState,
    access::{FaultError, base_flags},
    resolution::{Attempt, PageRequest, Resolution, SnapshotPage, SwappedPage},
};
use crate::mem::{
    Frame, Page, PageRange, Prot,
    page_table::EntryFlags,
    snapshot::cache,
    swap::{self, PageIn, Source},
};
use alloc::sync::Arc;
use core::ops::Range;
use foundation::{PageCount, knob};

/// Whether a store follows under the same lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Now,
    Later,
}

impl SpaceState {
    /// Tries to make a swapped page usable: maps it if its bytes are in memory.
    pub(super) fn look_swapped(
        &mut self,
        swapped: &SwappedPage,
        request: &PageRequest<'_>,
    ) -> Attempt {
        let entry = self.table.get(swapped.page);
        debug_assert!(entry.is_some_and(|entry| entry.slot() == Some(swapped.slot)));
        debug_assert!(swapped.region.contains(swapped.page));
        let store = if request.stores() { Store::Now } else { Store::Later };
        if request.overwrites() {
            let frame = Frame::recycled(self.table.claim)?;
            self.map_again(swapped.page, swapped.prot, frame, store)?;
            return Ok(Resolution::Done);
        }
        let claim = self.table.claim;
        match swap::find(swapped.slot, || self.neighbours(swapped), claim)? {
            Source::Pending(page_in) => return Ok(Resolution::PageIn(page_in)),
            Source::Resident(frame) => {
                self.map_again(swapped.page, swapped.prot, frame, store)?;
            }
            Source::Arrived(frame, page_in) => {
                self.map_again(swapped.page, swapped.prot, frame, store)?;
                self.map_neighbours(swapped, &page_in)?;
            }
        }
        Ok(Resolution::Done)
    }

    /// Brings a page back into the frame cache that was swapped out of it, because its snapshot's
    /// server is not trusted and must not be asked again (X3). `None`: the page is cached.
    pub(super) fn restore_cached(
        &mut self,
        lazy: &SnapshotPage,
        slot: u32,
    ) -> Result<Option<Resolution>, FaultError> {
        debug_assert!(!lazy.snapshot.is_trusted());
        let frame = match swap::find(slot, || slot..slot + 1, self.table.claim)? {
            Source::Pending(page_in) => return Ok(Some(Resolution::PageIn(page_in))),
            Source::Resident(frame) | Source::Arrived(frame, _) => frame,
        };
        cache::restore(&lazy.snapshot, lazy.wanted(), frame);
        Ok(None)
    }

    /// The slots of adjacent pages that are adjacent in the swap file as well, and of the page.
    fn neighbours(&self, swapped: &SwappedPage) -> Range<u32> {
        let window = knob::SWAP_AROUND.get().max(1);
        let start = Page(swapped.page.0 - swapped.page.0 % window);
        let within = PageRange::new(start, PageCount(window)).intersect(swapped.region);
        let is_adjacent = |page: Page| {
            let expected = i64::from(swapped.slot) + page.0 as i64 - swapped.page.0 as i64;
            self.table
                .get(page)
                .and_then(|entry| entry.slot())
                .is_some_and(|slot| i64::from(slot) == expected)
        };
        let before = PageRange { start: within.start, end: swapped.page };
        let before = before.iter().rev().take_while(|&page| is_adjacent(page)).count() as u32;
        let behind = PageRange { start: swapped.page.next(), end: within.end };
        let behind = behind.iter().take_while(|&page| is_adjacent(page)).count() as u32;
        swapped.slot - before..swapped.slot + 1 + behind
    }

    /// Maps the neighbours that were read with a page.
    fn map_neighbours(
        &mut self,
        swapped: &SwappedPage,
        page_in: &Arc<PageIn>,
    ) -> Result<(), FaultError> {
        for slot in page_in.row.numbers() {
            let page =
                Page((swapped.page.0 + u64::from(slot)).wrapping_sub(u64::from(swapped.slot)));
            let is_there = swapped.region.contains(page)
                && self.table.get(page).and_then(|entry| entry.slot()) == Some(slot);
            if is_there && let Some(frame) = page_in.take(slot) {
                self.map_again(page, swapped.prot, frame, Store::Later)?;
            }
        }
        Ok(())
    }

    /// Maps a frame in place of a slot.
    fn map_again(
        &mut self,
        page: Page,
        prot: Prot,
        frame: Frame,
        store: Store,
    ) -> Result<(), FaultError> {
        debug_assert!(self.table.get(page).is_some_and(|entry| entry.is_swapped()));
        let claim = self.table.claim;
        let frame =
            if store == Store::Now && frame.is_shared() { frame.duplicate(claim)? } else { frame };
        debug_assert!(store == Store::Later || !frame.is_shared(), "others would see the store");
        let writable = prot.contains(Prot::WRITE) && !frame.is_shared();
        let mut flags = base_flags(prot) | EntryFlags::PRIVATE;
        flags.set(EntryFlags::WRITE, writable);
        drop(self.table.map(page, frame, flags)?);
        Ok(())
    }
}
