//! The policy of short lazy reads: whether the next one copies.
//!
//! A snapshot, a fetch and a close cost more than the one message that brings the bytes of a short
//! read. So laziness pays only for reads that are hardly touched, and reads of the same process
//! mostly are alike.
//!
//! **Contract.** [`Space::copies_short_reads`] is asked before each read of whole pages that one
//! message could bring, and returns whether it shall copy. Either is correct (R8). The evidence is
//! what became of the last short read that was lazy: where most of its pages were fetched or stored
//! to, the next ones copy for a while ([`Copies`]). Before there is evidence, reads are lazy; those
//! that load the program are none, since nobody asks for them. How long such a read is, the caller
//! decides; one message brings it.
#![forbid(unsafe_code)]

use super::{Space, SpaceState};
use crate::mem::{Backing, Copies, Page, PageRange, UserAddr};
use foundation::PAGE_BYTES;

/// Pages of a read that could have been copied, at most.
const LONGEST: u64 = (fsproto::MAX_PAYLOAD / PAGE_BYTES) as u64;

/// What became of short reads.
#[derive(Debug, Default)]
pub(super) struct ShortReads {
    /// The first page of the last one that was lazy, until it was looked at.
    last: Option<Page>,
    copies: Copies,
    /// The next association is that of a read that asked whether it shall copy.
    is_asked: bool,
}

impl Space {
    /// Whether a read that one message could bring shall copy.
    pub fn copies_short_reads(&self) -> bool {
        self.with(|state| state.copies_short_read())
    }
}

impl Space {
    /// Whether the page before `addr` is one that a read associated, and was touched since.
    pub fn was_touched_before(&self, addr: UserAddr) -> bool {
        let Some(page) = addr.page().0.checked_sub(1).map(Page) else { return false };
        self.with(|state| {
            let region = state.regions.find(page);
            region.is_some_and(|(_, region)| matches!(region.backing, Backing::Snapshot { .. }))
                && state.table.get(page).is_some()
        })
    }
}

impl SpaceState {
    /// Records that a read associated these pages.
    #[inline]
    pub(super) fn note_lazy_read(&mut self, range: PageRange) {
        let is_asked = core::mem::take(&mut self.short_reads.is_asked);
        if is_asked && range.pages().0 <= LONGEST {
            self.short_reads.last = Some(range.start);
        }
    }

    fn copies_short_read(&mut self) -> bool {
        if let Some(page) = self.short_reads.last.take()
            && let Some((_, region)) = self.regions.find(page)
        {
            let touched = match &region.backing {
                Backing::Snapshot { .. } => region.habit.is_mostly_fetched(region.pages),
                // Each page was stored to.
                _ => true,
            };
            self.short_reads.copies.learn(touched);
        }
        let copies = self.short_reads.copies.next();
        self.short_reads.is_asked = !copies;
        copies
    }
}
