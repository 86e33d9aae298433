//! Operations on regions: map, unmap, protect, grow. Regions are split without fetching anything
//! (A4).
#![forbid(unsafe_code)]

use super::{
    Space, SpaceState,
    access::base_flags,
    associate::{release_frames, reserve_garbage},
    limits::is_data,
};
use crate::mem::{
    Backing, Frame, Page, PageRange, Prot, Region, USER_END, USER_START, UserAddr, fallible,
    page_table::{EntryFlags, Flush},
    reclaim,
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

/// Regions that are changed under one lock: some 50 µs.
const REGIONS_AT_ONCE: usize = 512;

/// The pages of a range given in bytes. EINVAL where it is empty or not aligned, ENOMEM where it
/// leaves the program's half.
pub(super) fn user_range(address: UserAddr, bytes: ByteCount) -> Result<PageRange, Errno> {
    if !address.is_page_aligned() || bytes.is_zero() {
        return Err(Errno::EINVAL);
    }
    let end = address.checked_add(bytes).filter(|&end| end <= USER_END).ok_or(Errno::ENOMEM)?;
    Ok(PageRange { start: address.page(), end: end.page_at_or_above() })
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
        self.with(|state| state.map(placement, bytes, prot, backing, label))
    }

    /// Maps frames with their contents at adjacent pages, as private memory.
    pub fn map_frames(
        &self,
        placement: Placement,
        prot: Prot,
        frames: Vec<Frame>,
    ) -> Result<UserAddr, Errno> {
        reclaim::ready::<Errno>(self.policy.claim())?;
        self.with(|state| {
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
        self.in_parts(range, SpaceState::unmap)
    }

    /// Changes a range part by part, each of at most [`REGIONS_AT_ONCE`] regions. Others can run
    /// between the parts, and a kill ends the change.
    fn in_parts(
        &self,
        range: PageRange,
        mut change: impl FnMut(&mut SpaceState, PageRange) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut rest = range;
        loop {
            rest.start = self.with(|state| {
                let next = state.regions.overlapping(rest).nth(REGIONS_AT_ONCE);
                let end = next.map_or(rest.end, |(next, _)| next.start);
                change(state, PageRange { start: rest.start, end }).map(|()| end)
            })?;
            if rest.is_empty() {
                return Ok(());
            }
            relax(Interrupt::Killable)?;
        }
    }

    /// Changes permissions. ENOMEM where part of the range is not mapped.
    pub fn protect(&self, address: UserAddr, bytes: ByteCount, prot: Prot) -> Result<(), Errno> {
        if bytes.is_zero() && address.is_page_aligned() {
            return Ok(());
        }
        let range = user_range(address, bytes)?;
        reclaim::ready::<Errno>(self.policy.claim())?;
        self.with(|state| {
            if state.is_mapped(range) {
                state.check_protection(range, prot)
            } else {
                Err(Errno::ENOMEM)
            }
        })?;
        self.in_parts(range, |state, part| state.protect(part, prot))
    }

    /// Sets the start of the heap, for exec.
    pub fn set_heap_start(&self, start: UserAddr) {
        self.with(|state| state.heap = (start, start));
    }

    /// Moves the end of the heap. Returns the new end, which is the old one where the move failed.
    pub fn brk(&self, end: UserAddr) -> UserAddr {
        let ready = reclaim::ready::<Errno>(self.policy.claim()).is_ok();
        self.with(|state| {
            if ready && state.set_heap_end(end).is_ok() {
                state.heap.1 = end;
            }
            state.heap.1
        })
    }

    /// Discards the contents of private memory, which then reads as zeros (MADV_DONTNEED). Shared
    /// memory keeps its contents. ENOMEM where part of the range is not mapped.
    pub fn discard(&self, address: UserAddr, bytes: ByteCount) -> Result<(), Errno> {
        if bytes.is_zero() && address.is_page_aligned() {
            return Ok(());
        }
        let range = user_range(address, bytes)?;
        reclaim::ready::<Errno>(self.policy.claim())?;
        if !self.with(|state| state.is_mapped(range)) {
            return Err(Errno::ENOMEM);
        }
        self.in_parts(range, SpaceState::discard)
    }

    /// Whether every page of a range lies in a region.
    pub fn is_mapped(&self, address: UserAddr, bytes: ByteCount) -> bool {
        user_range(address, bytes).is_ok_and(|range| self.with(|state| state.is_mapped(range)))
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
        self.unmap(range)?;
        self.regions.insert(start, Region::new(pages, prot, backing, label));
        self.regions.merge(range);
        Ok(start.user_start())
    }

    pub(super) fn find_free(&self, hint: UserAddr, pages: PageCount) -> Result<Page, Errno> {
        let all = PageRange { start: USER_START.page(), end: MMAP_END.page() };
        if pages > all.pages() {
            return Err(Errno::ENOMEM);
        }
        let hinted = PageRange::new(hint.page(), pages);
        if hint >= USER_START && hinted.end <= USER_END.page() && self.regions.is_free(hinted) {
            return Ok(hinted.start);
        }
        self.regions.find_gap(pages, all).ok_or(Errno::ENOMEM)
    }

    pub(super) fn unmap(&mut self, range: PageRange) -> Result<(), Errno> {
        self.split_ends(range)?;
        let Self { table, regions, flush, garbage, .. } = self;
        reserve_garbage(garbage, regions, range)?;
        while let Some((start, region)) = regions.pop(range) {
            if region.touched {
                release_frames(table, flush, PageRange::new(start, region.pages));
            }
            garbage.push(region.backing);
        }
        Ok(())
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Errno> {
        self.split_ends(range)?;
        let (table, flush) = (&mut self.table, &mut self.flush);
        self.regions.change(range, |part, region| {
            region.prot = prot;
            if !region.touched {
                return;
            }
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
        let (table, regions) = (&self.table, &mut self.regions);
        for page in [range.start, range.end] {
            regions.split_at(page, &mut |part| table.count_private(part));
        }
        Ok(())
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

    fn set_heap_end(&mut self, end: UserAddr) -> Result<(), Errno> {
        let (start, old) = self.heap;
        if end < start || end >= MMAP_END {
            return Err(Errno::ENOMEM);
        }
        let (old, new) = (old.page_at_or_above(), end.page_at_or_above());
        if new < old {
            return self.unmap(PageRange { start: new, end: old });
        }
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
