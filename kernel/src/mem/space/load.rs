//! Loading of all pages that would have to be fetched (F8).
#![forbid(unsafe_code)]

use super::{Access, Space, SpaceState, fault::FaultError, resolution::Coverage};
use crate::mem::{Backing, Page, PageRange, SharedMemory, USER_END, UserSlice, reclaim};

impl Space {
    /// Fetches every page that is backed by a snapshot or swapped out, as a process needs before it
    /// serves files: from then on its progress depends on no other server. (Once it is marked as a
    /// server, none of its pages is evicted.)
    pub fn load_all(&self) -> Result<(), FaultError> {
        let mut at = Page(0);
        while let Some(page) = self.with(|state| state.next_missing(at)) {
            debug_assert!(page >= at);
            match self.resolve(page, Access::Read, Coverage::Partial, |_| ()) {
                // A page that may not be accessed at all is not needed.
                Ok(()) | Err(FaultError::Segv) => at = page.next(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes what a server has just mapped resident where memory is short: it learns here that
    /// there is not enough, and not in a fault that cannot be met. Within its floor the server gets
    /// its pages, even if programs have to be ended; beyond it only what is free or clean. May
    /// wait.
    pub fn secure(&self, slice: UserSlice) -> Result<(), FaultError> {
        let pages = slice.touched_pages().pages();
        if !self.policy.is_server() || reclaim::is_plenty(pages) {
            return Ok(());
        }
        let is_within_floor = self.policy.is_within_floor(self.stats().resident + pages);
        if !is_within_floor && !reclaim::drop_clean(pages) {
            return Err(FaultError::OutOfMemory);
        }
        loop {
            match self.prepare(slice, Access::Write) {
                Ok(bytes) if bytes == slice.len() => return Ok(()),
                // Memory that is not stored to takes no frames.
                Err(FaultError::Segv) => return Ok(()),
                Ok(_) | Err(FaultError::OutOfMemory)
                    if is_within_floor && reclaim::last_resort()? => {}
                Ok(_) => return Err(FaultError::OutOfMemory),
                Err(error) => return Err(error),
            }
        }
    }
}

impl SpaceState {
    /// The first page from `at` on that has to be fetched or read from swap.
    fn next_missing(&self, at: Page) -> Option<Page> {
        let rest = PageRange { start: at, end: USER_END.page() };
        self.regions.overlapping(rest).find_map(|(range, region)| {
            let part = range.intersect(rest);
            if matches!(region.backing, Backing::Snapshot { .. }) {
                return part
                    .iter()
                    .find(|&page| self.table.get(page).is_none_or(|entry| entry.is_swapped()));
            }
            if let Backing::Shared { memory, first } = &region.backing {
                memory.pin();
                return self.next_unmapped(memory, part, Page(*first) + (part.start - range.start));
            }
            let mut swapped = None;
            self.table.for_each(part, |page, entry| {
                if swapped.is_none() && entry.is_swapped() {
                    swapped = Some(page);
                }
            });
            swapped
        })
    }

    /// The first page of a range of shared memory that was accessed and is not mapped here. `first`
    /// is the range's first page in the memory.
    fn next_unmapped(&self, memory: &SharedMemory, range: PageRange, first: Page) -> Option<Page> {
        let mut at = range.start;
        while let Some(found) = memory.next(first + (at - range.start)) {
            at = range.start + (found - first);
            if !range.contains(at) {
                return None;
            }
            if self.table.get(at).is_none() {
                return Some(at);
            }
            at = at.next();
        }
        None
    }
}
