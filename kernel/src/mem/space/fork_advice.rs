//! What a child does not get of its parent's memory: `MADV_DONTFORK` and `MADV_WIPEONFORK`.
//!
//! A region records it, and a fork follows it where it copies regions. A child inherits what is
//! said about the regions that it gets; a new program begins without.
#![forbid(unsafe_code)]

use super::{Space, SpaceState};
use crate::mem::{Backing, Page, PageRange, Region, RegionMap, UserSlice, region::ForkAdvice};
use foundation::{Errno, PageCount};

impl Space {
    /// Sets or unsets what a child does not get of a range. ENOMEM where part of it is not mapped,
    /// and EINVAL where shared memory would be wiped. May wait; called with no lock held.
    pub fn advise_fork(
        &self,
        range: UserSlice,
        unset: ForkAdvice,
        set: ForkAdvice,
    ) -> Result<(), Errno> {
        let range = range.touched_pages();
        self.require_mapped(range)?;
        self.in_parts(range, |state, part| state.advise_fork(part, unset, set))
    }
}

impl SpaceState {
    fn advise_fork(
        &mut self,
        range: PageRange,
        unset: ForkAdvice,
        set: ForkAdvice,
    ) -> Result<(), Errno> {
        let is_shared = |region: &Region| region.backing.is_shared();
        let is_any_shared = self.regions.overlapping(range).any(|(_, region)| is_shared(region));
        if set.contains(ForkAdvice::WIPE) && is_any_shared {
            return Err(Errno::EINVAL);
        }
        self.split_ends(range)?;
        self.regions.change(range, |_, region| region.on_fork = (region.on_fork - unset) | set);
        self.regions.merge(range);
        self.has_fork_advice |= !set.is_empty();
        Ok(())
    }
}

/// Makes copies of a parent's regions, within a range, what its child gets.
pub(super) fn follow(regions: &mut RegionMap, range: PageRange) {
    let mut rest = range;
    while let Some((start, region)) = regions.first_with(rest, |it| !it.on_fork.is_empty()) {
        rest.start = Page(start.0 + 1);
        if region.on_fork.contains(ForkAdvice::OMIT) {
            let _ = regions.pop(PageRange { start, ..rest });
        } else {
            region.backing = Backing::Anonymous;
            (region.associated, region.touched) = (PageCount::ZERO, false);
        }
    }
}
