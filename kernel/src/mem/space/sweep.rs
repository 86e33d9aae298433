//! Pages go when memory runs out: clean ones can be fetched again, private ones go to the swap
//! file.

use super::{AddressSpace, Space};
use crate::mem::{
    Backing, Page, PageRange, USER_END,
    page_table::{EntryFlags, Flush, Swept, Verdict},
    reclaim::Reclaimable,
    swap::{Owners, PageOutBatch},
};
use foundation::mutant::{self, Mutant};

impl Reclaimable for Space {
    /// Takes up to `enough` pages away that were not used since the last time: clean ones, and if
    /// `batch` says so private ones; `None` where the lock is held, or the space is a server's,
    /// whose pages stay (F8). Allocates nothing and sends nothing: any lock may be held.
    fn evict_pages(&self, enough: usize, batch: Option<&mut PageOutBatch>) -> Option<Swept> {
        if mutant::active(Mutant::NoClock)
            || self.policy.is_server() && !mutant::active(Mutant::SwapServers)
        {
            return None;
        }
        let inner = self.inner.try_lock()?;
        Some(self.change(inner, |space| space.evict_pages(enough, batch)))
    }
}

impl AddressSpace {
    fn evict_pages(&mut self, enough: usize, mut batch: Option<&mut PageOutBatch>) -> Swept {
        let end = USER_END.page();
        let from = self.hand;
        let mut swept = self.sweep(PageRange { start: from, end }, enough, batch.as_deref_mut());
        if swept.stopped.is_none() && from > Page(0) {
            let rest = self.sweep(
                PageRange { start: Page(0), end: from },
                enough - swept.entries.min(enough),
                batch,
            );
            swept = Swept {
                entries: swept.entries + rest.entries,
                tables: swept.tables + rest.tables,
                stopped: rest.stopped,
            };
        }
        self.hand = swept.stopped.unwrap_or_default();
        swept
    }

    fn sweep(
        &mut self,
        range: PageRange,
        enough: usize,
        mut batch: Option<&mut PageOutBatch>,
    ) -> Swept {
        let (regions, flush) = (&self.regions, &mut self.flush);
        let mut region = None;
        self.table.sweep(range, enough, |page, entry| {
            let private = entry.has(EntryFlags::PRIVATE) && !mutant::active(Mutant::EvictPrivate);
            if private && batch.is_none() {
                return Verdict::Keep;
            }
            region = region
                .filter(|(range, _): &(PageRange, _)| range.contains(page))
                .or_else(|| regions.find(page));
            // A frame of shared memory is the only place of its bytes, and others find it there.
            if region.is_none_or(|(_, region)| matches!(region.backing, Backing::Shared { .. })) {
                return Verdict::Keep;
            }
            if entry.is_swapped() {
                return Verdict::Keep;
            }
            if entry.has(EntryFlags::ACCESSED) {
                return Verdict::Age;
            }
            let verdict = if private {
                batch
                    .as_deref_mut()
                    .filter(|batch| {
                        !entry.is_zero_page() && (batch.owners == Owners::Any || !entry.is_shared())
                    })
                    .and_then(|batch| batch.add(entry.frame()))
                    .map_or(Verdict::Keep, Verdict::Swap)
            } else {
                Verdict::Drop
            };
            if verdict != Verdict::Keep {
                flush.merge(Flush::page(page));
            }
            verdict
        })
    }
}
