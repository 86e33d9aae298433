//! Operations on regions: map, unmap, protect, grow. Regions are split without fetching anything
//! (A4).
#![forbid(unsafe_code)]

use super::{
    Space, SpaceState, SpaceStats,
    access::base_flags,
    associate::{release_frames, reserve_garbage},
    limits::is_data,
    steps::{EVERYTHING, Step},
};
use crate::mem::{
    Backing, Frame, Lock, Page, PageRange, Prot, Region, RegionMap, USER_END, USER_START, UserAddr,
    UserSlice, fallible,
    page_table::{EntryFlags, Flush},
    reclaim,
    region::Gap,
};
use crate::sync::{Interrupt, relax};
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, PageCount};

/// Where a mapping is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At this address if the range is free, or anywhere.
    Anywhere(UserAddr),
    /// At this address, replacing what is mapped there.
    Fixed(UserAddr),
    /// At this address; EEXIST where something is mapped there.
    FixedNoReplace(UserAddr),
}

/// Mappings without a fixed address are placed below this; above are a gap and the stack.
const MMAP_END: UserAddr = UserAddr(USER_END.0 - 16 * 1024 * 1024);

/// The pages of a range given in bytes. EINVAL where it is empty or not aligned, ENOMEM where it
/// leaves the program's half.
pub(super) fn user_range(address: UserAddr, bytes: ByteCount) -> Result<PageRange, Errno> {
    if !address.is_page_aligned() || bytes.is_zero() {
        return Err(Errno::EINVAL);
    }
    let end = address.checked_add(bytes).filter(|&end| end <= USER_END).ok_or(Errno::ENOMEM)?;
    Ok(PageRange { start: address.page(), end: end.page_at_or_above() })
}

/// A search for free pages, from the top down.
struct Search {
    hint: Option<PageRange>,
    pages: PageCount,
    /// Where it goes on.
    within: PageRange,
}

impl Search {
    fn new(hint: UserAddr, pages: PageCount) -> Result<Self, Errno> {
        let within = PageRange { start: USER_START.page(), end: MMAP_END.page() };
        if pages.is_zero() {
            return Err(Errno::EINVAL);
        }
        if pages > within.pages() {
            return Err(Errno::ENOMEM);
        }
        let hinted = PageRange::new(hint.page(), pages);
        let is_possible = hint >= USER_START && hinted.end <= USER_END.page();
        Ok(Self { hint: is_possible.then_some(hinted), pages, within })
    }

    /// Looks at the next regions. `None` where there are more; ENOMEM where there is no place.
    fn step(&mut self, regions: &RegionMap) -> Result<Option<Page>, Errno> {
        if let Some(hinted) = self.hint.take().filter(|&hinted| regions.is_free(hinted)) {
            return Ok(Some(hinted.start));
        }
        match regions.find_gap(self.pages, self.within) {
            Gap::Found(start) => Ok(Some(start)),
            Gap::Below(end) => {
                self.within.end = end;
                Ok(None)
            }
            Gap::None => Err(Errno::ENOMEM),
        }
    }
}

impl Space {
    /// Maps `bytes` bytes, rounded up to pages. Frames are allocated when pages are touched.
    /// `label` is shown in /proc.
    pub fn map(
        &self,
        placement: Placement,
        bytes: ByteCount,
        prot: Prot,
        backing: Backing,
        label: &'static str,
    ) -> Result<UserAddr, Errno> {
        reclaim::ready::<Errno>(self.policy.claim())?;
        if let Backing::Shared { memory, .. } = &backing
            && self.policy.is_server()
        {
            memory.pin();
        }
        match placement {
            Placement::Anywhere(hint) => self.map_anywhere(hint, bytes, prot, backing, label),
            Placement::Fixed(address) if address >= USER_START => {
                self.map_over(address, bytes, prot, backing, label)
            }
            _ => self.change_regions(|state| state.map(placement, bytes, prot, backing, label)),
        }
    }

    /// Maps in place of what is mapped there. Nothing else can be mapped there in the meantime.
    fn map_over(
        &self,
        address: UserAddr,
        bytes: ByteCount,
        prot: Prot,
        backing: Backing,
        label: &'static str,
    ) -> Result<UserAddr, Errno> {
        let all = user_range(address, bytes)?;
        let (mut replaced, mut backing) = (all, Some(backing));
        self.in_steps(|state| {
            let part = state.take_part(&mut replaced);
            let Some(new) = backing.take_if(|_| replaced.is_empty()) else {
                if let Some(new) = backing.as_ref().filter(|_| part.start == all.start) {
                    state.check_growth(all, all.pages(), is_data(prot, new, label))?;
                }
                state.unmap_behind(all.start, part)?;
                return Ok(Step::More);
            };
            state.map(Placement::Fixed(address), bytes, prot, new, label)?;
            Ok(Step::Last)
        })?;
        Ok(address)
    }

    /// Maps at a free place. The search for it is long where there are many regions.
    fn map_anywhere(
        &self,
        hint: UserAddr,
        bytes: ByteCount,
        prot: Prot,
        backing: Backing,
        label: &'static str,
    ) -> Result<UserAddr, Errno> {
        let (mut search, mut backing) = (Search::new(hint, bytes.covering_pages())?, Some(backing));
        let mut start = UserAddr::NULL;
        self.in_steps(|state| {
            let Some(found) = search.step(&state.regions)? else { return Ok(Step::More) };
            let backing = backing.take().ok_or(Errno::EINVAL)?;
            let place = Placement::FixedNoReplace(found.user_start());
            start = state.map(place, bytes, prot, backing, label)?;
            Ok(Step::Last)
        })?;
        Ok(start)
    }

    /// Maps frames with their contents at adjacent pages, as private memory.
    pub fn map_frames(
        &self,
        placement: Placement,
        prot: Prot,
        frames: Vec<Frame>,
    ) -> Result<UserAddr, Errno> {
        reclaim::ready::<Errno>(self.policy.claim())?;
        self.change_regions(|state| {
            let bytes = PageCount::of_len(frames.len()).bytes();
            let address = state.map(placement, bytes, prot, Backing::Anonymous, "")?;
            for (index, frame) in frames.into_iter().enumerate() {
                if let Err(error) =
                    state.install_private(address.page() + PageCount::of_len(index), frame)
                {
                    state.unmap(user_range(address, bytes)?)?;
                    return Err(error.into());
                }
            }
            Ok(address)
        })
    }

    /// Unmaps a range.
    pub fn unmap(&self, address: UserAddr, bytes: ByteCount) -> Result<(), Errno> {
        // A range that leaves the program's half is EINVAL here, unlike in mmap.
        let range = user_range(address, bytes).map_err(|_| Errno::EINVAL)?;
        reclaim::ready::<Errno>(self.policy.claim())?;
        self.in_parts(range, |state, part| state.unmap_behind(range.start, part))
    }

    /// Changes permissions. ENOMEM where part of the range is not mapped.
    pub fn protect(&self, address: UserAddr, bytes: ByteCount, prot: Prot) -> Result<(), Errno> {
        if bytes.is_zero() && address.is_page_aligned() {
            return Ok(());
        }
        let range = user_range(address, bytes)?;
        reclaim::ready::<Errno>(self.policy.claim())?;
        self.require_mapped(range)?;
        self.with(|state| state.check_protection(range, prot))?;
        self.in_parts(range, |state, part| state.protect(part, prot))
    }

    /// Sets the start of the heap, for exec.
    pub fn set_heap_start(&self, start: UserAddr) {
        self.with(|state| state.heap = (start, start));
    }

    /// Moves the end of the heap. Returns the new end, which is the old one where the move failed.
    pub fn brk(&self, end: UserAddr) -> UserAddr {
        let _ = self.move_heap_end(end);
        let (start, end) = self.with(|state| state.heap);
        // Pages that cannot be made resident now are when they are touched.
        let heap = UserSlice::new(start, ByteCount(end.0 - start.0));
        let _ = heap.map(|heap| self.populate_locked(heap));
        end
    }

    fn move_heap_end(&self, end: UserAddr) -> Result<(), Errno> {
        reclaim::ready::<Errno>(self.policy.claim())?;
        let mut rest = None;
        self.in_steps(|state| {
            let (start, old) = state.heap;
            if end < start || end >= MMAP_END {
                return Err(Errno::ENOMEM);
            }
            if end < old {
                let pages =
                    PageRange { start: end.page_at_or_above(), end: old.page_at_or_above() };
                let rest = rest.get_or_insert(pages);
                let part = state.take_part(rest);
                state.unmap(part)?;
                if !rest.is_empty() {
                    return Ok(Step::More);
                }
            } else {
                state.extend_heap(end)?;
            }
            state.heap.1 = end;
            Ok(Step::Last)
        })
    }

    /// Discards the contents of private memory, which then reads as zeros (MADV_DONTNEED). Shared
    /// memory keeps its contents. ENOMEM where part of the range is not mapped, EINVAL where part
    /// is locked.
    pub fn discard(&self, address: UserAddr, bytes: ByteCount) -> Result<(), Errno> {
        if bytes.is_zero() && address.is_page_aligned() {
            return Ok(());
        }
        let range = user_range(address, bytes)?;
        reclaim::ready::<Errno>(self.policy.claim())?;
        self.require_mapped(range)?;
        self.check_unlocked(UserSlice::new(address, bytes)?)?;
        self.in_parts(range, SpaceState::discard)
    }

    /// ENOMEM unless every page of a range lies in a region.
    pub fn check_mapped(&self, address: UserAddr, bytes: ByteCount) -> Result<(), Errno> {
        self.require_mapped(user_range(address, bytes).map_err(|_| Errno::ENOMEM)?)
    }

    /// The same for pages. Others can run in between.
    pub(super) fn require_mapped(&self, range: PageRange) -> Result<(), Errno> {
        let mut rest = range;
        while !rest.is_empty() {
            let part = self.peek(|state| {
                let part = state.take_regions(&mut rest);
                if state.is_mapped(part) { Ok(part) } else { Err(Errno::ENOMEM) }
            })?;
            if part != range {
                relax(Interrupt::Killable)?;
            }
        }
        Ok(())
    }

    /// Sizes for /proc, as [`stats_in`](Self::stats_in) for all regions.
    pub fn stats(&self) -> SpaceStats {
        self.stats_in(EVERYTHING)
    }

    /// For each page of a range, 1 if it has a frame, else 0 (mincore). ENOMEM where part of the
    /// range is not mapped.
    pub fn residency(&self, address: UserAddr, bytes: ByteCount) -> Result<Vec<u8>, Errno> {
        let range = user_range(address, bytes)?;
        self.with(|state| {
            if !state.is_mapped(range) {
                return Err(Errno::ENOMEM);
            }
            let mut resident = fallible::filled(0, range.pages().to_usize())?;
            state.table.for_each(range, |page, entry| {
                if !entry.is_swapped()
                    && let Some(byte) = resident.get_mut((page - range.start).to_usize())
                {
                    *byte = 1;
                }
            });
            Ok(resident)
        })
    }
}

impl SpaceState {
    pub(super) fn is_mapped(&self, range: PageRange) -> bool {
        let mut end = range.start;
        for (found, _) in self.regions.overlapping(range) {
            if found.start > end {
                return false;
            }
            end = found.end;
        }
        end >= range.end
    }

    fn map(
        &mut self,
        placement: Placement,
        bytes: ByteCount,
        prot: Prot,
        backing: Backing,
        label: &'static str,
    ) -> Result<UserAddr, Errno> {
        let pages = bytes.covering_pages();
        if pages.is_zero() {
            return Err(Errno::EINVAL);
        }
        let start = match placement {
            Placement::Anywhere(hint) => self.find_free(hint, pages)?,
            Placement::Fixed(address) | Placement::FixedNoReplace(address) => {
                let range = user_range(address, bytes)?;
                if address < USER_START {
                    return Err(Errno::EPERM);
                }
                if matches!(placement, Placement::FixedNoReplace(_)) && !self.regions.is_free(range)
                {
                    return Err(Errno::EEXIST);
                }
                range.start
            }
        };
        let range = PageRange::new(start, pages);
        self.check_growth(range, pages, is_data(prot, &backing, label))?;
        self.check_regions(range, 1)?;
        let lock = self.future;
        self.check_lock(lock, pages)?;
        if let Backing::File { mapping, .. } = &backing {
            self.files.add(mapping, range)?;
        }
        self.unmap(range)?;
        if lock != Lock::Unlocked {
            self.count_locked(pages)?;
        }
        self.regions.insert(start, Region { lock, ..Region::new(pages, prot, backing, label) });
        self.regions.merge(range);
        Ok(start.user_start())
    }

    pub(super) fn find_free(&self, hint: UserAddr, pages: PageCount) -> Result<Page, Errno> {
        let mut search = Search::new(hint, pages)?;
        loop {
            if let Some(found) = search.step(&self.regions)? {
                return Ok(found);
            }
        }
    }

    pub(super) fn unmap(&mut self, range: PageRange) -> Result<(), Errno> {
        self.unmap_behind(range.start, range)
    }

    /// Unmaps a part of a range of which all before it, from `first` on, is unmapped already: the
    /// tables that only the range needs are freed with its last part.
    pub(super) fn unmap_behind(&mut self, first: Page, part: PageRange) -> Result<(), Errno> {
        let touched = self.remove_regions(part)?;
        if touched || first < part.start {
            let range = PageRange { start: first, end: part.end };
            release_frames(&mut self.table, &mut self.flush, range);
        }
        Ok(())
    }

    /// Removes the regions of a range, but not what its pages have. Returns whether they may have
    /// anything.
    pub(super) fn remove_regions(&mut self, range: PageRange) -> Result<bool, Errno> {
        self.split_ends(range)?;
        reserve_garbage(&mut self.garbage, &self.regions, range)?;
        let mut touched = false;
        while let Some((_, region)) = self.regions.pop(range) {
            touched |= region.touched;
            if region.is_locked() {
                self.uncount_locked(region.pages);
            }
            self.garbage.push(region.backing);
        }
        Ok(touched)
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Errno> {
        let is_read_only = |(_, region): (PageRange, &Region)| match &region.backing {
            Backing::File { mapping, .. } => !mapping.opened().may_write(),
            _ => false,
        };
        if prot.contains(Prot::WRITE) && self.regions.overlapping(range).any(is_read_only) {
            return Err(Errno::EACCES);
        }
        self.split_ends(range)?;
        let (table, flush) = (&mut self.table, &mut self.flush);
        self.regions.change(range, |part, region| {
            region.prot = prot;
            if !region.touched {
                return;
            }
            // The next store to a page of a mapped file looks at it again.
            let shared = matches!(region.backing, Backing::Shared { .. });
            table.update(part, |_, entry| {
                let private = entry.flags() & EntryFlags::PRIVATE;
                // The first store to a shared frame copies it.
                let writable = prot.contains(Prot::WRITE)
                    && (shared || !private.is_empty() && !entry.is_shared());
                base_flags(prot)
                    | private
                    | if writable { EntryFlags::WRITE } else { EntryFlags::empty() }
            });
            flush.merge(Flush::range(part));
        });
        self.regions.merge(range);
        Ok(())
    }

    /// Splits regions at both ends of a range, unless that would exceed the maximum (Q4).
    pub(super) fn split_ends(&mut self, range: PageRange) -> Result<(), Errno> {
        self.check_regions(range, 0)?;
        self.split_unchecked(range);
        Ok(())
    }

    /// Splits regions at both ends of a range, for which there is space.
    pub(super) fn split_unchecked(&mut self, range: PageRange) {
        let (table, regions) = (&self.table, &mut self.regions);
        for page in [range.start, range.end] {
            regions.split_at(page, &mut |part| table.count_private(part));
        }
    }

    fn discard(&mut self, range: PageRange) -> Result<(), Errno> {
        self.split_ends(range)?;
        let Self { table, regions, flush, garbage, .. } = self;
        reserve_garbage(garbage, regions, range)?;
        regions.change(range, |part, region| {
            if region.touched {
                release_frames(table, flush, part);
            }
            if matches!(region.backing, Backing::Snapshot { .. }) {
                garbage.push(core::mem::replace(&mut region.backing, Backing::Anonymous));
            }
            (region.associated, region.touched) = (PageCount::ZERO, false);
        });
        self.regions.merge(range);
        Ok(())
    }

    fn extend_heap(&mut self, end: UserAddr) -> Result<(), Errno> {
        let (old, new) = (self.heap.1.page_at_or_above(), end.page_at_or_above());
        let range = PageRange { start: old, end: new };
        if range.is_empty() {
            return Ok(());
        }
        let place = Placement::FixedNoReplace(range.start.user_start());
        self.map(
            place,
            range.pages().bytes(),
            Prot::READ | Prot::WRITE,
            Backing::Anonymous,
            "[heap]",
        )
        .map(drop)
    }
}
