//! Pages become private: by a store, or by frames that are handed to the space.
#![forbid(unsafe_code)]

use super::mutants;
use super::{
    SpaceState,
    access::{FaultError, PRIVATE_WRITABLE, base_flags},
    resolution::{Coverage, PageRequest},
};
use crate::mem::{
    Backing, Frame, Page, PageRange, Prot,
    page_table::{Entry, EntryFlags, Flush},
};
use foundation::PageCount;
use foundation::counter::Counter;

impl SpaceState {
    /// Makes a page private and writable, for a store to an entry that is not writable in a region
    /// that is. `range` and `flags` are the region's.
    #[inline]
    pub(super) fn make_private(
        &mut self,
        request: &PageRequest<'_>,
        entry: Entry,
        (range, flags): (PageRange, EntryFlags),
    ) -> Result<(), FaultError> {
        debug_assert!(request.stores() && !entry.is_swapped() && !entry.has(EntryFlags::WRITE));
        let page = request.page;
        if !entry.is_shared() || mutants::store_shared() && !entry.is_zero_page() {
            // A sole owner need not copy. Access grows, so no translation is stale.
            self.table.set_flags(page, flags | PRIVATE_WRITABLE);
            self.table.allow_stores_around(page, range);
        } else {
            let claim = self.table.claim;
            let copy = match request.coverage {
                Coverage::Whole => Frame::recycled(claim)?,
                Coverage::Partial => entry.frame().duplicate(claim)?,
            };
            request.counters.add(Counter::PagesCow, 1);
            // The other owners keep the old frame alive. Nobody runs on the stale translation
            // before the flush at the end of the lock.
            drop(self.table.map(page, copy, flags | PRIVATE_WRITABLE)?);
            self.flush.merge(Flush::page(page));
        }
        if !entry.has(EntryFlags::PRIVATE) {
            self.end_association(page);
        }
        Ok(())
    }

    /// Maps a private frame for a store, where nothing was mapped. An association of the page ends.
    pub(super) fn map_private(
        &mut self,
        page: Page,
        frame: Frame,
        flags: EntryFlags,
    ) -> Result<(), FaultError> {
        debug_assert!(!frame.is_shared(), "others would see the store");
        self.table.fill(page, frame, flags | PRIVATE_WRITABLE)?;
        self.end_association(page);
        Ok(())
    }

    /// The region's flags for a page, without write permission.
    pub(super) fn flags_at(&self, page: Page) -> EntryFlags {
        base_flags(self.regions.find(page).map_or(Prot::empty(), |(_, region)| region.prot))
    }

    /// Maps a frame where nothing was mapped.
    pub(super) fn install(
        &mut self,
        page: Page,
        frame: Frame,
        flags: EntryFlags,
    ) -> Result<(), FaultError> {
        let flags = self.flags_at(page) | flags;
        let old = self.table.map(page, frame, flags)?;
        debug_assert!(old.is_none() || mutants::no_generation());
        if let Some((_, region)) = self.regions.find_mut(page) {
            region.touched = true;
        }
        Ok(())
    }

    /// Maps a frame as private memory, where nothing was mapped. An association of the page ends.
    pub(super) fn install_private(&mut self, page: Page, frame: Frame) -> Result<(), FaultError> {
        let region = self.regions.find(page).map(|(_, region)| region);
        let is_writable = region.is_some_and(|region| region.prot.contains(Prot::WRITE));
        let flags =
            if is_writable && !frame.is_shared() { PRIVATE_WRITABLE } else { EntryFlags::PRIVATE };
        self.install(page, frame, flags)?;
        self.end_association(page);
        Ok(())
    }

    /// A page has become private. With its last associated page, a region drops its snapshot (C10),
    /// and may merge with its neighbours.
    pub(super) fn end_association(&mut self, page: Page) {
        let Some((range, region)) = self.regions.find_mut(page) else { return };
        let is_backed = matches!(region.backing, Backing::Snapshot { .. });
        debug_assert!(region.associated <= region.pages);
        debug_assert_eq!(is_backed, !region.associated.is_zero());
        if region.associated.is_zero() {
            return;
        }
        region.associated -= PageCount(1);
        if region.associated.is_zero() {
            self.garbage.push(core::mem::replace(&mut region.backing, Backing::Anonymous));
            self.regions.merge(range);
        }
    }
}
