//! Clean pages go when memory runs out: they can be fetched again.

use super::{AddressSpace, Space};
use crate::mem::{
    Backing, Page, PageRange, USER_END, VirtAddr,
    page_table::{EntryFlags, Flush, Swept, Verdict},
};

impl Space {
    /// Unmaps up to `enough` clean pages that were not used since the last time; `None` where the lock is held. Allocates nothing.
    pub(in crate::mem) fn unmap_clean(&self, enough: usize) -> Option<Swept> {
        let inner = self.inner.try_lock()?;
        Some(self.change(inner, |space| space.unmap_clean(enough)))
    }
}

impl AddressSpace {
    fn unmap_clean(&mut self, enough: usize) -> Swept {
        let end = VirtAddr(USER_END).page();
        let from = self.hand;
        let mut swept = self.sweep(PageRange { start: from, end }, enough);
        if swept.stopped.is_none() && from > Page(0) {
            let rest = self.sweep(PageRange { start: Page(0), end: from }, enough - swept.entries.min(enough));
            swept = Swept { entries: swept.entries + rest.entries, tables: swept.tables + rest.tables, stopped: rest.stopped };
        }
        self.hand = swept.stopped.unwrap_or_default();
        swept
    }

    fn sweep(&mut self, range: PageRange, enough: usize) -> Swept {
        let (regions, flush) = (&self.regions, &mut self.flush);
        let mut region = None;
        self.table.sweep(range, enough, |page, entry| {
            if entry.has(EntryFlags::PRIVATE) {
                return Verdict::Keep;
            }
            region = region.filter(|(range, _): &(PageRange, _)| range.contains(page)).or_else(|| regions.find(page));
            // A frame of shared memory is not clean: it is the only place of its bytes.
            let clean = region.is_some_and(|(_, region)| !matches!(region.backing, Backing::Shared { .. }));
            if !clean {
                Verdict::Keep
            } else if entry.has(EntryFlags::ACCESSED) {
                Verdict::Age
            } else {
                flush.merge(Flush::page(page));
                Verdict::Drop
            }
        })
    }
}
