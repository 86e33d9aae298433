//! One attempt to make a page usable that belongs to a file which is mapped shared.
//!
//! What the page is, and what it needs, the file's pages know ([`FilePages`]). A page that may be
//! stored to is mapped writable, any other one read-only. With a page come others of its window
//! that are in memory.
#![forbid(unsafe_code)]

use super::{
    SpaceState,
    access::{FaultError, base_flags},
    resolution::{Attempt, FetchState, FileStep, PageRequest, Resolution},
};
use crate::mem::{
    Backing, FilePages, Frame, OutOfMemory, Page, PageRange, Prot, file_pages::Found,
    page_table::EntryFlags, window,
};
use alloc::sync::Arc;
use foundation::PageCount;

impl SpaceState {
    /// Tries to make a page of a mapped file usable. Not inlined: other faults would pay for its
    /// registers.
    #[inline(never)]
    pub(super) fn look_file(&mut self, request: &PageRequest<'_>) -> Attempt {
        let page = request.page;
        let (range, region) = self.regions.find_mut(page).ok_or(FaultError::Segv)?;
        let Backing::File { mapping, first } = &region.backing else {
            return Err(FaultError::Segv);
        };
        let (file, first, prot) = (mapping.file().clone(), Page(*first), region.prot);
        region.touched = true;
        let number = |page: Page| first + (page - range.start);
        let table = &self.table;
        let window = region.habit.window(page, range, || table.used_around(page));
        let wanted = PageRange { start: number(window.start), end: number(window.end) };
        let found =
            file.look(number(page), wanted, request.stores(), self.table.claim, request.counters)?;
        let step = match found {
            Found::Frame(frame, is_own) => {
                self.map_file_page(page, frame, is_own, prot)?;
                let along = window::mapped_along(window, page, range);
                if along.pages() > PageCount(1) {
                    self.map_file_pages_along(&file, along, range.start, first, prot);
                }
                return Ok(Resolution::Done);
            }
            Found::Begun(fetch) => {
                region.habit.note(window.end, window.pages(), fetch.pages);
                FileStep::Fetch(fetch, FetchState::New)
            }
            Found::UnderWay(fetch) => FileStep::Fetch(fetch, FetchState::UnderWay),
            Found::Store => FileStep::Store,
            Found::NoLease => FileStep::Lease,
            Found::Blocked => FileStep::Settle(request.access),
            Found::Beyond => return Err(FaultError::Denied),
        };
        Ok(Resolution::File(file, number(page), step))
    }

    /// Maps a page, in place of what its entry has: the same frame, with fewer permissions.
    fn map_file_page(
        &mut self,
        page: Page,
        frame: Frame,
        is_own: bool,
        prot: Prot,
    ) -> Result<(), OutOfMemory> {
        let flags = file_flags(is_own, prot);
        if self.table.get(page).is_some_and(|entry| entry.address() == frame.addr()) {
            // Access grows, so no translation is stale.
            self.table.set_flags(page, flags);
            return Ok(());
        }
        drop(self.table.map(page, frame, flags)?);
        Ok(())
    }

    /// Maps other pages that are in memory, as far as there are tables for them. The region begins
    /// at `start`, with page `first` of the file.
    fn map_file_pages_along(
        &mut self,
        file: &Arc<FilePages>,
        along: PageRange,
        start: Page,
        first: Page,
        prot: Prot,
    ) {
        let number = |page: Page| first + (page - start);
        let pages = PageRange { start: number(along.start), end: number(along.end) };
        let table = &mut self.table;
        file.for_each_frame_in(pages, |page, frame, is_own| {
            let at = start + (page - first);
            if table.get(at).is_none() {
                // Those that find no frame for a table are mapped when they are touched.
                let _ = table.map(at, frame, file_flags(is_own, prot));
            }
        });
    }
}

/// The flags of a page of a mapped file.
fn file_flags(is_own: bool, prot: Prot) -> EntryFlags {
    let mut flags = base_flags(prot);
    flags.set(EntryFlags::WRITE, prot.contains(Prot::WRITE) && is_own);
    flags
}
