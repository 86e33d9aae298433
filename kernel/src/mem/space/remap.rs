//! Mappings change their size and their address.
#![forbid(unsafe_code)]

use super::{Space, SpaceState, layout::user_range, limits::is_data, steps::Step};
use crate::mem::{
    Backing, Lock, Page, PageRange, Placement, Region, RegionMap, USER_END, USER_START, UserAddr,
    heap, page_table::Flush, reclaim,
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

/// What is left at the old address of a mapping that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// Free address space.
    Hole,
    /// A mapping without the contents, unless it is shared: `MREMAP_DONTUNMAP`.
    Mapping,
}

impl Space {
    /// Maps the memory of a shared mapping, from an address on, a second time. EFAULT where nothing
    /// is mapped, EINVAL for private memory.
    pub fn map_again(&self, old: UserAddr, bytes: ByteCount, to: Move) -> Result<UserAddr, Errno> {
        let (prot, backing, label) = self.with(|state| {
            let (range, region) = state.regions.find(old.page()).ok_or(Errno::EFAULT)?;
            if !region.backing.is_shared() {
                return Err(Errno::EINVAL);
            }
            let rest = PageRange { start: old.page(), ..range };
            let part = region.part(range, rest, |_| PageCount::ZERO);
            Ok((region.prot, part.backing, region.label))
        })?;
        let placement = match to {
            Move::Never => return Err(Errno::ENOMEM),
            Move::IfNeeded => Placement::Anywhere(UserAddr::NULL),
            Move::To(address) => Placement::Fixed(address),
        };
        self.map(placement, bytes, prot, backing, label)
    }

    /// Changes the size of a mapping, and its address where `to` allows that. EFAULT where the old
    /// range is not one mapping, ENOMEM where there is no state.
    pub fn remap(
        &self,
        old: UserAddr,
        old_bytes: ByteCount,
        new_bytes: ByteCount,
        to: Move,
    ) -> Result<UserAddr, Errno> {
        self.remap_leaving(old, (old_bytes, new_bytes), to, Behind::Hole)
    }

    /// Moves the contents of a mapping. The mapping stays, without them unless it is shared. Errors
    /// are those of [`Self::remap`].
    pub fn move_contents(
        &self,
        old: UserAddr,
        bytes: ByteCount,
        to: Move,
    ) -> Result<UserAddr, Errno> {
        self.remap_leaving(old, (bytes, bytes), to, Behind::Mapping)
    }

    fn remap_leaving(
        &self,
        old: UserAddr,
        (old_bytes, new_bytes): (ByteCount, ByteCount),
        to: Move,
        behind: Behind,
    ) -> Result<UserAddr, Errno> {
        if old_bytes.is_zero() || new_bytes.is_zero() {
            return Err(Errno::EINVAL);
        }
        let old = user_range(old, old_bytes).map_err(|_| Errno::EFAULT)?;
        reclaim::ready::<Errno>(self.policy.claim())?;
        let mut plan = None;
        self.in_steps(|state| {
            let plan = match &mut plan {
                Some(plan) => plan,
                None => plan.insert(state.plan(old, new_bytes, to, behind)?),
            };
            state.carry_out(plan)
        })?;
        Ok(plan.map_or(UserAddr::NULL, |plan| plan.new.start.user_start()))
    }
}

/// What remains to be done, in this order. Each range becomes shorter with each step.
struct Plan {
    /// Where the mapping is in the end.
    new: PageRange,
    /// Pages that are unmapped at the new place.
    replaced: PageRange,
    /// Pages for which there must be tables at the new place.
    tables: PageRange,
    /// Pages that are unmapped behind the end of what is kept.
    cut: PageRange,
    /// Pages that move to the new place.
    moved: PageRange,
    /// From where these move, and to where.
    distance: (Page, Page),
    /// Pages by which the mapping grows at its new place.
    added: PageRange,
    /// What is left at the old place.
    behind: Behind,
}

const NOTHING: PageRange = PageRange { start: Page(0), end: Page(0) };

impl SpaceState {
    /// Checks everything that can fail, but for the tables.
    fn plan(
        &mut self,
        old: PageRange,
        new_bytes: ByteCount,
        to: Move,
        behind: Behind,
    ) -> Result<Plan, Errno> {
        let new_pages = new_bytes.covering_pages();
        if !self.is_mapped(old) || !self.is_uniform(old) {
            return Err(Errno::EFAULT);
        }
        let kept = if behind == Behind::Mapping { PageCount::ZERO } else { old.pages() };
        if new_pages > kept {
            let first = self.regions.find(old.start);
            let is_data = first
                .is_some_and(|(_, region)| is_data(region.prot, &region.backing, region.label));
            let nothing = PageRange::new(old.start, PageCount::ZERO);
            self.check_growth(nothing, new_pages - kept, is_data)?;
            let lock = first.map_or(Lock::Unlocked, |(_, region)| region.lock);
            self.check_lock(lock, new_pages - old.pages().min(new_pages))?;
        }
        if let Move::To(address) = to {
            let target = user_range(address, new_bytes).map_err(|_| Errno::EINVAL)?;
            if !target.intersect(old).is_empty() || address < USER_START {
                return Err(Errno::EINVAL);
            }
            self.check_regions(target, 4)?;
            return Ok(Plan { replaced: target, ..self.plan_move(old, target, behind)? });
        }
        let new = PageRange::new(old.start, new_pages);
        let in_place = Plan {
            new,
            replaced: NOTHING,
            tables: NOTHING,
            cut: NOTHING,
            moved: NOTHING,
            distance: (new.start, new.start),
            added: NOTHING,
            behind,
        };
        if behind == Behind::Mapping {
            let start = self.find_free(UserAddr::NULL, new_pages)?;
            return self.plan_move(old, PageRange::new(start, new_pages), behind);
        }
        if new_pages <= old.pages() {
            return Ok(Plan { cut: PageRange { start: new.end, end: old.end }, ..in_place });
        }
        let wanted = PageRange { start: old.end, end: new.end };
        if wanted.end <= USER_END.page() && self.regions.is_free(wanted) {
            self.check_regions(old, 1)?;
            return Ok(Plan { added: wanted, ..in_place });
        }
        if to == Move::Never {
            return Err(Errno::ENOMEM);
        }
        let start = self.find_free(UserAddr::NULL, new_pages)?;
        self.plan_move(old, PageRange::new(start, new_pages), behind)
    }

    /// A move of `old` to `new`, which has nothing then, and which truncates or extends it.
    fn plan_move(&mut self, old: PageRange, new: PageRange, behind: Behind) -> Result<Plan, Errno> {
        let kept = PageRange::new(old.start, old.pages().min(new.pages()));
        let moved = self.regions.overlapping(kept).count();
        let left = if behind == Behind::Mapping { moved } else { 0 };
        // A part that moves is a region of its own for a moment.
        self.check_regions(old, left + 2)?;
        heap::prepay(RegionMap::bytes(moved + left + 2), self.table.claim)?;
        Ok(Plan {
            new,
            replaced: NOTHING,
            tables: kept,
            cut: PageRange { start: kept.end, end: old.end },
            moved: kept,
            distance: (old.start, new.start),
            added: PageRange { start: new.start + kept.pages(), end: new.end },
            behind,
        })
    }

    /// Carries out one step of a plan.
    fn carry_out(&mut self, plan: &mut Plan) -> Result<Step, Errno> {
        let (from, to) = plan.distance;
        let target = |page: Page| to + (page - from);
        if !plan.replaced.is_empty() {
            let part = self.take_part(&mut plan.replaced);
            self.unmap_behind(plan.new.start, part)?;
        } else if !plan.tables.is_empty() {
            let part = self.take_part(&mut plan.tables);
            self.table.make_tables(part, target(part.start))?;
        } else if !plan.cut.is_empty() {
            let part = self.take_part(&mut plan.cut);
            self.unmap(part)?;
        } else if !plan.moved.is_empty() {
            let part = self.take_part(&mut plan.moved);
            self.move_part(from, part, target(part.start), plan.behind);
        } else if !plan.added.is_empty() {
            self.extend(plan.added);
            self.regions.merge(plan.new);
            plan.added = NOTHING;
        }
        let rest = [plan.replaced, plan.tables, plan.cut, plan.moved, plan.added];
        Ok(if rest.iter().all(|range| range.is_empty()) { Step::Last } else { Step::More })
    }

    /// Moves a part to a place where nothing is mapped and for which there are tables. What was
    /// before it, from `first` on, has moved.
    fn move_part(&mut self, first: Page, part: PageRange, to: Page, behind: Behind) {
        self.split_unchecked(part);
        let mut rest = part;
        while let Some((old, region)) = self.regions.pop(rest) {
            if behind == Behind::Mapping {
                rest.start = old + region.pages;
                self.regions.insert(old, region.left_behind());
            }
            let start = to + (old - part.start);
            if let Backing::File { mapping, .. } = &region.backing {
                // The file is known already, so that this takes no memory.
                let _ = self.files.add(mapping, PageRange::new(start, region.pages));
            }
            self.regions.insert(start, region);
        }
        self.table.move_entries(first, part, to);
        self.flush.merge(Flush::range(part));
        self.regions.merge(PageRange::new(to, part.pages()));
        self.regions.merge(part);
    }

    /// Whether a range is one mapping for the program, which does not see splits by associations.
    fn is_uniform(&self, range: PageRange) -> bool {
        let mut kinds = self.regions.overlapping(range).map(|(_, region)| {
            let shared = region.backing.is_shared();
            (region.prot, region.label, region.lock, region.on_fork, shared)
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
            Backing::File { mapping, first } => {
                let _ = self.files.add(mapping, range);
                Backing::File { mapping: mapping.clone(), first: first + last.pages().0 }
            }
            Backing::Beyond => Backing::Beyond,
            _ => Backing::Anonymous,
        };
        let mut more = Region::new(range.pages(), region.prot, backing, region.label);
        (more.on_fork, more.grows_down) = (region.on_fork, region.grows_down);
        let lock = region.lock;
        if lock != Lock::Unlocked && self.count_locked(range.pages()).is_ok() {
            more.lock = lock;
        }
        self.regions.insert(range.start, more);
        self.regions.merge(range);
    }
}
