//! Mappings that grow downwards when memory below them is touched: `MAP_GROWSDOWN`.
//!
//! A region records it. Such a mapping keeps a distance from what is mapped below it, so that one
//! thread's stack does not run into other memory unnoticed.
#![forbid(unsafe_code)]

use super::{Space, SpaceState, limits::is_data};
use crate::mem::limits::{INFINITE, Resource};
use crate::mem::{Backing, Lock, Page, PageRange, Region, USER_END, USER_START, UserSlice};
use foundation::Errno;

/// Pages that stay free between such a mapping and accessible memory below it, as on Linux.
const GAP_PAGES: u64 = 256;

impl Space {
    /// Lets the mappings of a range grow downwards. May wait; called with no lock held.
    pub fn let_grow(&self, range: UserSlice) -> Result<(), Errno> {
        self.in_parts(range.touched_pages(), |state, part| {
            state.split_ends(part)?;
            state.regions.change(part, |_, region| region.grows_down = true);
            state.regions.merge(part);
            Ok(())
        })
    }

    /// Extends the mapping above a page to that page, if it grows downwards. Returns whether it
    /// did: not past a limit, and not next to other memory.
    #[cold]
    pub(super) fn grow_down(&self, page: Page) -> bool {
        self.with(|state| state.grow_down(page)) == Ok(true)
    }
}

impl SpaceState {
    fn grow_down(&mut self, page: Page) -> Result<bool, Errno> {
        let above = PageRange { start: page, end: USER_END.page() };
        let Some((range, region)) = self.regions.overlapping(above).next() else {
            return Ok(false);
        };
        let is_plain = matches!(region.backing, Backing::Anonymous);
        if !region.grows_down || !is_plain || range.start <= page || page < USER_START.page() {
            return Ok(false);
        }
        let is_data = is_data(region.prot, &region.backing, region.label);
        let more =
            Region { pages: PageRange { start: page, end: range.start }.pages(), ..region.clone() };
        let (start, lock) = (range.start, region.lock);
        let more_pages = more.pages;
        let near = PageRange { start: Page(page.0.saturating_sub(GAP_PAGES)), end: page };
        let is_in_the_way = |region: &Region| !region.grows_down && !region.prot.is_empty();
        if self.regions.overlapping(near).any(|(_, region)| is_in_the_way(region)) {
            return Ok(false);
        }
        let limit = self.charge.account().limits.get(Resource::Stack);
        let length = PageRange { start: page, end: range.end }.pages().bytes();
        if limit != INFINITE && length.0 > limit {
            return Ok(false);
        }
        self.check_growth(PageRange { start, end: start }, more_pages, is_data)?;
        self.check_regions(near, 1)?;
        self.check_lock(lock, more_pages)?;
        if lock != Lock::Unlocked {
            self.count_locked(more_pages)?;
        }
        self.regions.insert(page, more);
        self.regions.merge(PageRange { start: page, end: start });
        Ok(true)
    }
}
