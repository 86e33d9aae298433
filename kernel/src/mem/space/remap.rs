//! Mappings change their size and their address.
#![forbid(unsafe_code)]

use super::{Space, SpaceState, layout::user_range, limits::is_data};
use crate::mem::{
    Backing, Page, PageRange, Region, RegionMap, USER_END, USER_START, UserAddr, heap,
    page_table::Flush, reclaim,
};
use foundation::{ByteCount, Errno, PageCount};

/// Whether a mapping may move when its size changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It keeps its address, or ENOMEM.
    Never,
    /// It moves if it cannot grow in place.
    IfNeeded,
    /// It moves to this address, replacing what is mapped there.
    To(UserAddr),
}

impl Space {
    /// Changes the size of a mapping, and its address where `to` allows that. EFAULT where the old
    /// range is not one mapping, ENOMEM where there is no state.
    pub fn remap(
        &self,
        old: UserAddr,
        old_bytes: ByteCount,
        new_bytes: ByteCount,
        to: Move,
    ) -> Result<UserAddr, Errno> {
        if old_bytes.is_zero() || new_bytes.is_zero() {
            return Err(Errno::EINVAL);
        }
        let old = user_range(old, old_bytes).map_err(|_| Errno::EFAULT)?;
        reclaim::ready::<Errno>(self.policy.claim())?;
        self.with(|state| state.remap(old, new_bytes, to))
    }
}

impl SpaceState {
    fn remap(&mut self, old: PageRange, new_bytes: ByteCount, to: Move) -> Result<UserAddr, Errno> {
        let new_pages = new_bytes.covering_pages();
        if !self.is_mapped(old) || !self.is_uniform(old) {
            return Err(Errno::EFAULT);
        }
        if new_pages > old.pages() {
            let first = self.regions.find(old.start);
            let is_data = first
                .is_some_and(|(_, region)| is_data(region.prot, &region.backing, region.label));
            let nothing = PageRange::new(old.start, PageCount::ZERO);
            self.check_growth(nothing, new_pages - old.pages(), is_data)?;
        }
        if let Move::To(address) = to {
            let target = user_range(address, new_bytes).map_err(|_| Errno::EINVAL)?;
            if !target.intersect(old).is_empty() || address < USER_START {
                return Err(Errno::EINVAL);
            }
            self.check_regions(target, 2)?;
            self.unmap(target)?;
            return self.move_to(old, target);
        }
        if new_pages <= old.pages() {
            let rest = PageRange { start: old.start + new_pages, end: old.end };
            if !rest.is_empty() {
                self.unmap(rest)?;
            }
            return Ok(old.start.user_start());
        }
        let wanted = PageRange { start: old.end, end: old.start + new_pages };
        if wanted.end <= USER_END.page() && self.regions.is_free(wanted) {
            self.check_regions(old, 1)?;
            self.extend(wanted);
            return Ok(old.start.user_start());
        }
        if to == Move::Never {
            return Err(Errno::ENOMEM);
        }
        let start = self.find_free(UserAddr::NULL, new_pages)?;
        self.move_to(old, PageRange::new(start, new_pages))
    }

    /// Whether a range is one mapping for the program, which does not see splits by associations.
    fn is_uniform(&self, range: PageRange) -> bool {
        let mut kinds = self.regions.overlapping(range).map(|(_, region)| {
            let shared = matches!(region.backing, Backing::Shared { .. });
            (region.prot, region.label, shared)
        });
        let first = kinds.next();
        kinds.all(|kind| Some(kind) == first)
    }

    /// Extends the region that ends where the range begins by the range.
    fn extend(&mut self, range: PageRange) {
        let Some((last, region)) = self.regions.find(range.start.previous()) else { return };
        let backing = match &region.backing {
            Backing::Shared { memory, first } => {
                Backing::Shared { memory: memory.clone(), first: first + last.pages().0 }
            }
            _ => Backing::Anonymous,
        };
        let more = Region::new(range.pages(), region.prot, backing, region.label);
        self.regions.insert(range.start, more);
        self.regions.merge(range);
    }

    /// Moves `old` to `new`, which is free, and truncates or extends it to that length.
    fn move_to(&mut self, old: PageRange, new: PageRange) -> Result<UserAddr, Errno> {
        self.check_regions(old, 1)?;
        let kept = PageRange::new(old.start, old.pages().min(new.pages()));
        let target = |page: Page| new.start + (page - old.start);
        // First all that can fail.
        let moved = self.regions.overlapping(kept).count();
        heap::prepay(RegionMap::bytes(moved), self.table.claim)?;
        self.table.make_tables(kept, new.start)?;
        self.unmap(PageRange { start: kept.end, end: old.end })?;
        self.split_ends(kept)?;
        while let Some((start, region)) = self.regions.pop(kept) {
            self.regions.insert(target(start), region);
        }
        self.table.move_entries(kept, new.start);
        self.flush.merge(Flush::range(kept));
        if new.pages() > kept.pages() {
            self.extend(PageRange { start: target(kept.end), end: new.end });
        }
        self.regions.merge(new);
        Ok(new.start.user_start())
    }
}
