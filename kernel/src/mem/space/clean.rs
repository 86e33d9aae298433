//! After a write: pages that were just written become clean (W8).
//!
//! What a write takes from whole pages of the program's own, it takes from their frames, and holds
//! on to these until the server has answered: a page whose frame is held elsewhere is
//! write-protected, so that a store meanwhile gives the page another frame, whichever way the store
//! comes. After the answer, a page that still has the frame that was sent holds what the file got.
//! It comes to stand for those bytes of the snapshot that came with the answer, as pages do that
//! were sent as references and still stand for the same bytes as then; all else is left alone.

use super::{AddressSpace, FaultError, Space, fault::base_flags};
use crate::mem::{
    Backing, Frame, Page, PageRange, Snapshot, UserSlice, cache, heap, page_table::EntryFlags,
};
use alloc::{sync::Arc, vec::Vec};
use foundation::knob;
use foundation::{
    PageCount, SnapshotOffset,
    mutant::{self, Mutant},
};

/// Whole pages that a write sends, as they were when it was put together.
pub enum Gathered {
    /// The program's own, write-protected since.
    Own {
        /// The first of them.
        first: Page,
        /// What they held.
        frames: Vec<Frame>,
    },
    /// Those that stand for bytes of a snapshot.
    Same {
        /// Which pages.
        pages: PageRange,
        /// The snapshot.
        snapshot: Arc<Snapshot>,
        /// Byte of it at the first page.
        offset: SnapshotOffset,
    },
}

impl Gathered {
    /// Where they are.
    pub fn pages(&self) -> PageRange {
        match self {
            Self::Own { first, frames } => PageRange::new(*first, PageCount::of_len(frames.len())),
            Self::Same { pages, .. } => *pages,
        }
    }

    /// The deliberate break of W8: protects only when the bytes are long gone.
    pub fn protect_late(&mut self, space: &Space) -> Result<(), FaultError> {
        if let Self::Own { first, frames } = self {
            *frames = space.lend(PageRange::new(*first, PageCount::of_len(frames.len())))?;
        }
        Ok(())
    }
}

impl Space {
    /// Lets pages of one buffer stand for bytes of a snapshot of what was written from them, whose
    /// byte `offset` came from the start of the first of them; those of `gathered` that lie in it
    /// as a whole and are as they were. No data moves. Says how many of the program's own became
    /// clean: none where regions or memory run out.
    pub fn clean_written(
        &self,
        gathered: &[Gathered],
        snapshot: &Arc<Snapshot>,
        offset: SnapshotOffset,
    ) -> PageCount {
        let (Some(first), Some(last)) = (gathered.first(), gathered.last()) else {
            return PageCount::ZERO;
        };
        let all = PageRange { start: first.pages().start, end: last.pages().end };
        let beyond = mutant::active(Mutant::CleanBeyondWritten);
        let pages = if beyond {
            all.pages()
        } else {
            SnapshotOffset(snapshot.len.0).saturating_since(offset).whole_pages()
        };
        if heap::headroom(self.policy.claim()).is_err() {
            return PageCount::ZERO;
        }
        let written =
            Written { pages: PageRange::new(all.start, pages.min(all.pages())), snapshot, offset };
        self.with(|space| space.clean_written(gathered, &written))
    }
}

impl Space {
    /// Whether pages of a slice became clean by an earlier write. Where none of them is clean now,
    /// that was in vain: the buffer is filled anew for each.
    pub fn was_cleaned(&self, slice: UserSlice) -> bool {
        self.with(|space| {
            space.regions.overlapping(slice.whole_pages()).any(|(_, region)| region.habit.cleaned)
        })
    }
}

/// What was written of one buffer.
struct Written<'a> {
    /// From these pages.
    pages: PageRange,
    /// It is these bytes of this snapshot.
    snapshot: &'a Arc<Snapshot>,
    offset: SnapshotOffset,
}

impl Written<'_> {
    /// Byte of the snapshot at a page.
    fn byte_of(&self, page: Page) -> SnapshotOffset {
        self.offset + (page - self.pages.start).bytes()
    }
}

/// What of a write can stand for its result.
#[derive(Default)]
struct Fit {
    /// Runs of pages each of which may lie in a region of the new snapshot, in order.
    runs: Vec<PageRange>,
    /// Those among them that become clean, in order.
    own: Vec<(Page, Frame)>,
}

impl Fit {
    fn add(&mut self, pages: PageRange) {
        match self.runs.last_mut().filter(|last| last.end == pages.start) {
            Some(last) => last.end = pages.end,
            None if pages.is_empty() => {}
            None => self.runs.push(pages),
        }
    }
}

impl AddressSpace {
    fn clean_written(&mut self, gathered: &[Gathered], written: &Written<'_>) -> PageCount {
        let mut fit = Fit::default();
        for part in gathered {
            match part {
                Gathered::Own { first, frames } => {
                    self.fit_own(*first, frames, written.pages, &mut fit)
                }
                Gathered::Same { pages, snapshot, offset } => {
                    self.fit_same(*pages, snapshot, *offset, written.pages, &mut fit)
                }
            }
        }
        // Each run may split a region at both of its ends.
        if fit.own.is_empty()
            || self.regions.len() + 2 * fit.runs.len() > knob::MAX_REGIONS.get() as usize
        {
            return PageCount::ZERO;
        }
        let is_first = !gathered.iter().any(|part| matches!(part, Gathered::Same { .. }));
        for run in &fit.runs {
            self.stand_for(*run, &fit.own, written);
            if is_first {
                self.regions.change(*run, |_, region| region.habit.cleaned = true);
            }
            self.regions.merge(*run);
        }
        for (page, frame) in &fit.own {
            cache::insert(written.snapshot, written.byte_of(*page), frame);
        }
        PageCount::of_len(fit.own.len())
    }

    /// The program's own pages: those that have the same frame still, and, so as not to tear
    /// regions apart, those stored to, which stay private.
    fn fit_own(&self, first: Page, frames: &[Frame], written: PageRange, fit: &mut Fit) {
        for (index, frame) in frames.iter().enumerate() {
            let page = first + PageCount::of_len(index);
            let Some(entry) = self
                .table
                .get(page)
                .filter(|entry| written.contains(page) && entry.has(EntryFlags::PRIVATE))
            else {
                continue;
            };
            if self
                .regions
                .find(page)
                .is_none_or(|(_, region)| matches!(region.backing, Backing::Shared { .. }))
            {
                continue;
            }
            fit.add(PageRange::single(page));
            if entry.is_swapped() {
                continue;
            }
            if entry.address() == frame.addr() {
                fit.own.push((page, frame.clone()));
            } else if mutant::active(Mutant::AssociateStoredPage) {
                fit.own.push((page, entry.frame()));
            }
        }
    }

    /// Pages that stood for bytes of a snapshot, as far as their regions say the same today.
    fn fit_same(
        &self,
        pages: PageRange,
        snapshot: &Arc<Snapshot>,
        offset: SnapshotOffset,
        written: PageRange,
        fit: &mut Fit,
    ) {
        for (range, region) in self.regions.overlapping(pages) {
            let same = range.intersect(pages);
            let then = offset + (same.start - pages.start).bytes();
            let unchanged = match &region.backing {
                Backing::Snapshot { snapshot: now, offset: first } => {
                    Arc::ptr_eq(now, snapshot)
                        && *first + (same.start - range.start).bytes() == then
                }
                _ => false,
            };
            let same = same.intersect(written);
            if unchanged && !same.is_empty() {
                fit.add(same);
            }
        }
    }

    /// Lets the regions of a run stand for the new snapshot; `own` are the pages that become clean.
    fn stand_for(&mut self, run: PageRange, own: &[(Page, Frame)], written: &Written<'_>) {
        for (first, mut region) in self.take_regions(run) {
            let range = PageRange::new(first, region.pages);
            let from = own.partition_point(|(page, _)| *page < range.start);
            let to = own.partition_point(|(page, _)| *page < range.end);
            for (page, _) in own.get(from..to).unwrap_or_default() {
                // The translation that the CPU may have says the same: read-only since it was
                // gathered.
                self.table.set_flags(*page, base_flags(region.prot));
            }
            region.associated += PageCount::of_len(to - from);
            if !region.associated.is_zero() {
                let backing = Backing::Snapshot {
                    snapshot: written.snapshot.clone(),
                    offset: written.byte_of(first),
                };
                self.garbage.push(core::mem::replace(&mut region.backing, backing));
            }
            self.regions.insert(first, region);
        }
    }
}
