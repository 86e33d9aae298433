//! After a write: pages that were just written become clean (W8).
//!
//! A write copies whole private pages from their frames, and keeps the frames until the server has
//! replied. A page whose frame has another owner is write-protected, so any store in between gives
//! the page another frame. After the reply, a page that still has the frame that was sent holds
//! what the file got, and is associated with those bytes of the snapshot that came with the reply.
//! So are pages that were sent as references and are still backed by the same bytes. All other
//! pages are left alone.
#![forbid(unsafe_code)]

use super::mutants;
use super::{Space, SpaceState, access::base_flags};
use crate::mem::{
    Backing, Frame, OutOfMemory, Page, PageRange, RegionMap, Snapshot, UserSlice, fallible, heap,
    page_table::EntryFlags, reclaim, snapshot::cache,
};
use alloc::{sync::Arc, vec::Vec};
use foundation::{Errno, PageCount, SnapshotOffset};

/// Whole pages that a write sends, as they were when the message was put together.
pub enum SentPages {
    /// Private pages, sent as data and write-protected since.
    Data {
        /// The first page.
        first: Page,
        /// The frames of the pages.
        frames: Vec<Frame>,
    },
    /// Pages backed by a snapshot, sent as a reference.
    Reference {
        /// The range that was sent as a reference.
        pages: PageRange,
        /// The snapshot that backs them.
        snapshot: Arc<Snapshot>,
        /// Position of the first page in the snapshot.
        offset: SnapshotOffset,
    },
}

impl SentPages {
    /// The range of pages in the address space.
    pub fn pages(&self) -> PageRange {
        match self {
            Self::Data { first, frames } => PageRange::new(*first, PageCount::of_len(frames.len())),
            Self::Reference { pages, .. } => *pages,
        }
    }
}

impl Space {
    /// Associates pages of one buffer with the snapshot of what was written from them: those of
    /// `sent`, in ascending order, that lie in it as a whole and are unchanged. The first of them
    /// is at `offset` in the snapshot. Moves no data. Returns how many private pages became clean:
    /// none where regions or memory run out.
    pub fn associate_written(
        &self,
        sent: &[SentPages],
        snapshot: &Arc<Snapshot>,
        offset: SnapshotOffset,
    ) -> PageCount {
        let (Some(first), Some(last)) = (sent.first(), sent.last()) else {
            return PageCount::ZERO;
        };
        let all = PageRange { start: first.pages().start, end: last.pages().end };
        let in_snapshot = SnapshotOffset(snapshot.len.0).saturating_since(offset).whole_pages();
        let beyond = mutants::clean_beyond_written();
        let pages = if beyond { all.pages() } else { in_snapshot.min(all.pages()) };
        if reclaim::ready::<Errno>(self.policy.claim()).is_err() {
            return PageCount::ZERO;
        }
        let written = Written { pages: PageRange::new(all.start, pages), snapshot, offset };
        self.with(|state| state.associate_written(sent, &written)).unwrap_or_default()
    }

    /// Whether pages of a slice became clean by an earlier write. Where none of them is clean now,
    /// that was in vain: the buffer is filled again for each write.
    pub fn was_cleaned(&self, slice: UserSlice) -> bool {
        self.with(|state| {
            state.regions.overlapping(slice.whole_pages()).any(|(_, region)| region.habit.cleaned)
        })
    }
}

/// What was written of one buffer.
struct Written<'a> {
    pages: PageRange,
    /// The snapshot that holds the bytes of these pages.
    snapshot: &'a Arc<Snapshot>,
    /// Position of the first page in the snapshot.
    offset: SnapshotOffset,
}

impl Written<'_> {
    /// Position of a page in the snapshot.
    fn byte_of(&self, page: Page) -> SnapshotOffset {
        self.offset + (page - self.pages.start).bytes()
    }
}

/// The pages of a write that can be associated with its result.
#[derive(Default)]
struct Unchanged {
    /// Ranges of pages, each of which may lie in a region of the new snapshot, ascending.
    ranges: Vec<PageRange>,
    /// The private pages among them that become clean, ascending.
    private: Vec<(Page, Frame)>,
}

impl Unchanged {
    fn add(&mut self, pages: PageRange) -> Result<(), OutOfMemory> {
        debug_assert!(self.ranges.last().is_none_or(|last| last.end <= pages.start));
        match self.ranges.last_mut().filter(|last| last.end == pages.start) {
            Some(last) => last.end = pages.end,
            None if pages.is_empty() => {}
            None => fallible::push(&mut self.ranges, pages)?,
        }
        Ok(())
    }
}

impl SpaceState {
    fn associate_written(
        &mut self,
        sent: &[SentPages],
        written: &Written<'_>,
    ) -> Result<PageCount, OutOfMemory> {
        let mut unchanged = Unchanged::default();
        for part in sent {
            match part {
                SentPages::Data { first, frames } => {
                    self.find_private(*first, frames, written.pages, &mut unchanged)?
                }
                SentPages::Reference { pages, snapshot, offset } => {
                    let sent = (*pages, snapshot, *offset);
                    self.find_backed(sent, written.pages, &mut unchanged)?
                }
            }
        }
        // Each range may split a region at both of its ends.
        let regions = self.regions.len() + 2 * unchanged.ranges.len();
        if unchanged.private.is_empty() || self.require_regions(regions).is_err() {
            return Ok(PageCount::ZERO);
        }
        // All that is allocated from here on is paid for.
        heap::prepay(RegionMap::bytes(1) * unchanged.ranges.len(), self.table.claim)?;
        let overlapping = |range: &PageRange| self.regions.overlapping(*range).count();
        let released = unchanged.ranges.iter().map(overlapping).sum();
        fallible::reserve(&mut self.garbage, released)?;
        let is_first = !sent.iter().any(|part| matches!(part, SentPages::Reference { .. }));
        for range in &unchanged.ranges {
            self.associate_unchanged(*range, &unchanged.private, written);
            if is_first {
                self.regions.change(*range, |_, region| region.habit.cleaned = true);
            }
            self.regions.merge(*range);
        }
        for (page, frame) in &unchanged.private {
            cache::insert(written.snapshot, written.byte_of(*page), frame);
        }
        Ok(PageCount::of_len(unchanged.private.len()))
    }

    /// Finds private pages that still have the same frame; and, to keep regions whole, those that
    /// were stored to, which stay private.
    fn find_private(
        &self,
        first: Page,
        frames: &[Frame],
        written: PageRange,
        unchanged: &mut Unchanged,
    ) -> Result<(), OutOfMemory> {
        for (index, frame) in frames.iter().enumerate() {
            let page = first + PageCount::of_len(index);
            let Some(entry) = self
                .table
                .get(page)
                .filter(|entry| written.contains(page) && entry.has(EntryFlags::PRIVATE))
            else {
                continue;
            };
            let region = self.regions.find(page).map(|(_, region)| &region.backing);
            if region.is_none_or(Backing::is_shared) {
                continue;
            }
            unchanged.add(PageRange::single(page))?;
            if entry.is_swapped() {
                continue;
            }
            if entry.address() == frame.addr() {
                debug_assert!(!entry.has(EntryFlags::WRITE), "a store would not be noticed");
                fallible::push(&mut unchanged.private, (page, frame.clone()))?;
            } else if mutants::associate_stored_page() {
                fallible::push(&mut unchanged.private, (page, entry.frame()))?;
            }
        }
        Ok(())
    }

    /// Finds pages that are still backed by the bytes that they were sent as.
    fn find_backed(
        &self,
        (pages, snapshot, offset): (PageRange, &Arc<Snapshot>, SnapshotOffset),
        written: PageRange,
        unchanged: &mut Unchanged,
    ) -> Result<(), OutOfMemory> {
        for (range, region) in self.regions.overlapping(pages) {
            let same = range.intersect(pages);
            let sent_as = offset + (same.start - pages.start).bytes();
            let is_same = match &region.backing {
                Backing::Snapshot { snapshot: now, offset: first } => {
                    Arc::ptr_eq(now, snapshot)
                        && *first + (same.start - range.start).bytes() == sent_as
                }
                _ => false,
            };
            let same = same.intersect(written);
            if is_same && !same.is_empty() {
                unchanged.add(same)?;
            }
        }
        Ok(())
    }

    /// Associates the regions of a range with the new snapshot. `private` are the pages that become
    /// clean.
    fn associate_unchanged(
        &mut self,
        range: PageRange,
        private: &[(Page, Frame)],
        written: &Written<'_>,
    ) {
        let Self { table, regions, garbage, .. } = self;
        for page in [range.start, range.end] {
            regions.split_at(page, &mut |part| table.count_private(part));
        }
        regions.change(range, |range, region| {
            let from = private.partition_point(|(page, _)| *page < range.start);
            let to = private.partition_point(|(page, _)| *page < range.end);
            for (page, _) in private.get(from..to).unwrap_or_default() {
                // No translation is stale: the page has been read-only since it was sent.
                table.set_flags(*page, base_flags(region.prot));
            }
            region.associated += PageCount::of_len(to - from);
            debug_assert!(region.associated <= region.pages);
            if !region.associated.is_zero() {
                let backing = Backing::Snapshot {
                    snapshot: written.snapshot.clone(),
                    offset: written.byte_of(range.start),
                };
                garbage.push(core::mem::replace(&mut region.backing, backing));
            }
        });
    }
}
