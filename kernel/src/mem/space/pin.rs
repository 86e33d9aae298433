//! Everything that would have to come from a server comes now (F8).

use super::{
    Access, AddressSpace, Space,
    fault::{Extent, FaultError},
};
use crate::mem::{Backing, Page, PageRange, USER_END};

impl Space {
    /// Brings in every page that stands for bytes of a snapshot or lies in the swap file, as a
    /// process needs it before it serves files: from then on its own progress waits for nobody's.
    /// (Once it is marked, nothing of it is taken away any more.)
    pub fn load_all(&self) -> Result<(), FaultError> {
        let mut at = Page(0);
        while let Some(page) = self.with(|space| space.next_missing(at)) {
            match self.resolve(page, Access::Read, Extent::Part, |_| ()) {
                // What may not be touched at all is not missed.
                Ok(()) | Err(FaultError::Segv) => at = page.next(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AddressSpace {
    /// The first page from `at` on that has to come from somewhere.
    fn next_missing(&self, at: Page) -> Option<Page> {
        let rest = PageRange { start: at, end: USER_END.page() };
        self.regions.overlapping(rest).find_map(|(range, region)| {
            let part = range.intersect(rest);
            if matches!(region.backing, Backing::Snapshot { .. }) {
                return part
                    .iter()
                    .find(|&page| self.table.get(page).is_none_or(|entry| entry.is_swapped()));
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
}
