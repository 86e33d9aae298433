//! The lazy read: pages are associated with a snapshot, which backs them from then on.
#![forbid(unsafe_code)]

use super::{Space, SpaceState, steps::Step};
use crate::mem::{
    Backing, OutOfMemory, PageRange, Prot, Region, RegionMap, Snapshot, UserAddr, UserSlice,
    fallible,
    page_table::{Flush, PageTable},
    reclaim,
};
use crate::sync::{Interrupt, relax};
use alloc::{sync::Arc, vec::Vec};
use foundation::{Errno, PageCount, SnapshotOffset};

impl Space {
    /// Number of bytes from the start of `slice` that lie in writable regions. Looks only at
    /// regions and touches no page (R5).
    pub fn writable_prefix(&self, slice: UserSlice) -> usize {
        self.prefix(slice, |region| region.prot.contains(Prot::WRITE))
    }

    /// Number of bytes from the start of `slice` that lie in regions whose pages can be associated:
    /// writable, and not shared memory.
    pub fn lazy_prefix(&self, slice: UserSlice) -> usize {
        self.prefix(slice, can_be_lazy)
    }

    fn prefix(&self, slice: UserSlice, accept: impl Fn(&Region) -> bool) -> usize {
        let all = slice.touched_pages();
        let (mut rest, mut pages) = (all, PageCount::ZERO);
        while !rest.is_empty() {
            let (part, accepted) = self.with(|state| {
                let part = state.take_regions(&mut rest);
                (part, state.prefix(part, &accept))
            });
            pages += accepted;
            // What a killed program would have read is of no interest to it.
            let goes_on = accepted == part.pages() && part != all;
            if !goes_on || relax(Interrupt::Killable).is_err() {
                break;
            }
        }
        let bytes = pages.bytes().to_usize().saturating_sub(slice.addr().offset_in_page());
        slice.len().min(bytes)
    }

    /// Associates `pages` pages from `first` (page-aligned) on with the bytes of `snapshot` from
    /// `offset` on. The old contents are released without being fetched (R6, R7). Costs time for
    /// pages that were mapped, not for the length.
    ///
    /// Returns the number of pages associated: all, or those in front of the first one that is not
    /// mapped, not writable or shared memory (the space may have changed since the caller looked).
    /// EINVAL where the arguments are not aligned or exceed the snapshot. ENOMEM where the space
    /// has the maximum of regions (Q4), or memory is short.
    pub fn associate(
        &self,
        first: UserAddr,
        pages: PageCount,
        snapshot: &Arc<Snapshot>,
        offset: SnapshotOffset,
    ) -> Result<PageCount, Errno> {
        let bytes = pages.checked_bytes().ok_or(Errno::EINVAL)?;
        let slice = UserSlice::new(first, bytes)?;
        let fits = offset.checked_add(bytes).is_some_and(|end| end.0 <= snapshot.len.0);
        if !first.is_page_aligned() || !fits {
            return Err(Errno::EINVAL);
        }
        reclaim::ready::<Errno>(self.policy.claim())?;
        let all = slice.whole_pages();
        let (mut rest, mut done) = (all, PageCount::ZERO);
        let result = self.in_steps(|state| {
            state.note_lazy_read(all);
            let part = state.take_part(&mut rest);
            let position = offset + (part.start - all.start).bytes();
            let count = state.associate(part, snapshot, position)?;
            done += count;
            let is_last = rest.is_empty() || count < part.pages();
            Ok(if is_last { Step::Last } else { Step::More })
        });
        // After a failure in the middle, the read is short.
        result.map(|()| done).or_else(|error| if done.is_zero() { Err(error) } else { Ok(done) })
    }
}

fn can_be_lazy(region: &Region) -> bool {
    region.prot.contains(Prot::WRITE) && !region.backing.is_shared()
}

impl SpaceState {
    /// Number of pages from the start of `range` that lie in regions that `accept` accepts.
    fn prefix(&self, range: PageRange, accept: impl Fn(&Region) -> bool) -> PageCount {
        let mut end = range.start;
        for (found, region) in self.regions.overlapping(range) {
            if found.start > end || !accept(region) {
                break;
            }
            end = found.end.min(range.end);
        }
        end - range.start
    }

    fn associate(
        &mut self,
        range: PageRange,
        snapshot: &Arc<Snapshot>,
        offset: SnapshotOffset,
    ) -> Result<PageCount, Errno> {
        let range = PageRange::new(range.start, self.prefix(range, can_be_lazy));
        if range.is_empty() {
            return Ok(PageCount::ZERO);
        }
        self.split_ends(range)?;
        let Self { table, regions, flush, garbage, .. } = self;
        reserve_garbage(garbage, regions, range)?;
        regions.change(range, |part, region| {
            if region.touched {
                release_frames(table, flush, part);
            }
            let backing = Backing::Snapshot {
                snapshot: snapshot.clone(),
                offset: offset + (part.start - range.start).bytes(),
            };
            garbage.push(core::mem::replace(&mut region.backing, backing));
            region.habit.start_over(region.pages);
            (region.associated, region.touched) = (region.pages, false);
        });
        self.regions.merge(range);
        debug_assert!(self.regions.find(range.start).is_some());
        debug_assert_eq!(self.table.count_private(range), PageCount::ZERO);
        Ok(range.pages())
    }
}

/// Makes space for what the regions of a range release, so that releasing it needs no memory.
pub(super) fn reserve_garbage(
    garbage: &mut Vec<Backing>,
    regions: &RegionMap,
    range: PageRange,
) -> Result<(), OutOfMemory> {
    fallible::reserve(garbage, regions.overlapping(range).count())
}

/// Empties the page-table entries of a range.
pub(super) fn release_frames(table: &mut PageTable, flush: &mut Flush, range: PageRange) {
    let mut stale: Option<PageRange> = None;
    table.clear(range, |pages| {
        let start = stale.map_or(pages.start, |stale| stale.start);
        stale = Some(PageRange { start, end: pages.end });
    });
    if let Some(stale) = stale {
        flush.merge(Flush::range(stale));
    }
}
