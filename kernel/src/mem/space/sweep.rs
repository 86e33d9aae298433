//! Pages go when memory runs out: clean ones can be fetched again, private ones go to the swap
//! file.

use super::{AddressSpace, Space};
use crate::mem::{
    Backing, Frame, Page, PageRange, USER_END,
    page_table::{Entry, EntryFlags, Flush, Swept, Verdict},
    swap::{Slot, SlotRow},
};
use alloc::vec::Vec;
use foundation::mutant::{self, Mutant};

/// Private pages that are about to be written to a row of slots.
pub(in crate::mem) struct Leaving {
    pub row: SlotRow,
    /// As many as have gone from their spaces; there is room for as many as there are slots.
    pub frames: Vec<Frame>,
    /// Whether frames that others see go too: their memory is free only once all have let go of
    /// them.
    pub shared_too: bool,
}

impl Leaving {
    /// Takes the frame of an entry that can go; gives the slot that it goes to.
    fn take(&mut self, entry: Entry) -> Option<Slot> {
        let can_go =
            !entry.is_swapped() && !entry.is_zero_page() && (self.shared_too || !entry.is_shared());
        if can_go { self.take_frame(entry.frame()) } else { None }
    }

    /// Takes a frame, if there is a slot left.
    pub fn take_frame(&mut self, frame: Frame) -> Option<Slot> {
        let slot = self.row.get(self.frames.len())?;
        self.frames.push(frame);
        Some(Slot::share(slot))
    }
}

impl Space {
    /// Takes up to `enough` pages away that were not used since the last time: clean ones, and if
    /// `leaving` says so private ones; `None` where the lock is held, or the space is a server's,
    /// whose pages stay (F8). Allocates nothing and sends nothing: any lock may be held.
    pub(in crate::mem) fn take_pages(
        &self,
        enough: usize,
        leaving: Option<&mut Leaving>,
    ) -> Option<Swept> {
        if mutant::active(Mutant::NoClock)
            || self.policy.is_server() && !mutant::active(Mutant::SwapServers)
        {
            return None;
        }
        let inner = self.inner.try_lock()?;
        Some(self.change(inner, |space| space.take_pages(enough, leaving)))
    }
}

impl AddressSpace {
    fn take_pages(&mut self, enough: usize, mut leaving: Option<&mut Leaving>) -> Swept {
        let end = USER_END.page();
        let from = self.hand;
        let mut swept = self.sweep(PageRange { start: from, end }, enough, leaving.as_deref_mut());
        if swept.stopped.is_none() && from > Page(0) {
            let rest = self.sweep(
                PageRange { start: Page(0), end: from },
                enough - swept.entries.min(enough),
                leaving,
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
        mut leaving: Option<&mut Leaving>,
    ) -> Swept {
        let (regions, flush) = (&self.regions, &mut self.flush);
        let mut region = None;
        self.table.sweep(range, enough, |page, entry| {
            let private = entry.has(EntryFlags::PRIVATE) && !mutant::active(Mutant::EvictPrivate);
            if private && leaving.is_none() {
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
                leaving
                    .as_deref_mut()
                    .and_then(|leaving| leaving.take(entry))
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
