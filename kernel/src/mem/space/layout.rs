//! Operations on regions: map, unmap, protect, move, grow. Regions are split without fetching
//! anything (A4).
#![forbid(unsafe_code)]

use super::{Space, SpaceState, access::base_flags, limits::is_data};
use crate::mem::{
    Backing, Frame, Page, PageRange, Prot, Region, USER_END, USER_START, UserAddr,
    frame::OutOfMemory,
    heap,
    page_table::{EntryFlags, Flush},
};
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
fn user_range(address: UserAddr, bytes: ByteCount) -> Result<PageRange, Errno> {
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
        heap::headroom(self.policy.claim())?;
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
        heap::headroom(self.policy.claim())?;
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
        heap::headroom(self.policy.claim())?;
        self.with(|state| state.unmap(range))
    }

    /// Changes permissions. ENOMEM where part of the range is not mapped.
    pub fn protect(&self, address: UserAddr, bytes: ByteCount, prot: Prot) -> Result<(), Errno> {
        if bytes.is_zero() && address.is_page_aligned() {
            return Ok(());
        }
        let range = user_range(address, bytes)?;
        heap::headroom(self.policy.claim())?;
        self.with(|state| state.protect(range, prot))
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
        if old_bytes.is_zero() || new_bytes.is_zero() {
            return Err(Errno::EINVAL);
        }
        let old = user_range(old, old_bytes).map_err(|_| Errno::EFAULT)?;
        heap::headroom(self.policy.claim())?;
        self.with(|state| state.remap(old, new_bytes, to))
    }

    /// Sets the start of the heap, for exec.
    pub fn set_heap_start(&self, start: UserAddr) {
        self.with(|state| state.heap = (start, start));
    }

    /// Moves the end of the heap. Returns the new end, which is the old one where the move failed.
    pub fn brk(&self, end: UserAddr) -> UserAddr {
        let ready = heap::headroom(self.policy.claim()).is_ok();
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
        heap::headroom(self.policy.claim())?;
        self.with(|state| state.discard(range))
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
            let mut resident = Vec::new();
            let pages = range.pages().to_usize();
            resident.try_reserve_exact(pages).map_err(|_| Errno::ENOMEM)?;
            resident.resize(pages, 0);
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

impl SpaceState {
    fn is_mapped(&self, range: PageRange) -> bool {
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

    fn find_free(&self, hint: UserAddr, pages: PageCount) -> Result<Page, Errno> {
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

    fn unmap(&mut self, range: PageRange) -> Result<(), Errno> {
        self.check_regions(range, 0)?;
        for (start, region) in self.take_regions(range) {
            if region.touched {
                self.release_frames(PageRange::new(start, region.pages));
            }
            self.garbage.push(region.backing);
        }
        Ok(())
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Errno> {
        if !self.is_mapped(range) {
            return Err(Errno::ENOMEM);
        }
        self.check_protection(range, prot)?;
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

    /// Splits regions at both ends of a range.
    fn split_ends(&mut self, range: PageRange) -> Result<(), Errno> {
        self.check_regions(range, 0)?;
        let (table, regions) = (&self.table, &mut self.regions);
        for page in [range.start, range.end] {
            regions.split_at(page, &mut |part| table.count_private(part));
        }
        Ok(())
    }

    fn discard(&mut self, range: PageRange) -> Result<(), Errno> {
        if !self.is_mapped(range) {
            return Err(Errno::ENOMEM);
        }
        self.split_ends(range)?;
        for (start, mut region) in self.take_regions(range) {
            if region.touched {
                self.release_frames(PageRange::new(start, region.pages));
            }
            if matches!(region.backing, Backing::Snapshot { .. }) {
                self.garbage.push(core::mem::replace(&mut region.backing, Backing::Anonymous));
            }
            self.regions
                .insert(start, Region { associated: PageCount::ZERO, touched: false, ..region });
        }
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
        // Tables first: the steps after that cannot fail.
        self.make_tables(kept, target)?;
        self.unmap(PageRange { start: kept.end, end: old.end })?;
        for (start, region) in self.take_regions(kept) {
            self.regions.insert(target(start), region);
        }
        let mut entries = Vec::new();
        self.table.clear(kept, |page, entry, held| entries.push((page, entry, held)));
        for (page, entry, held) in entries {
            drop(self.table.put(target(page), held, entry.flags())?);
        }
        self.flush.merge(Flush::range(kept));
        if new.pages() > kept.pages() {
            self.extend(PageRange { start: target(kept.end), end: new.end });
        }
        self.regions.merge(new);
        Ok(new.start.user_start())
    }

    fn make_tables(
        &mut self,
        range: PageRange,
        target: impl Fn(Page) -> Page,
    ) -> Result<(), OutOfMemory> {
        let mut result = Ok(());
        self.table.for_each(range, |page, _| {
            if result.is_ok() {
                result = self.table.make_tables(target(page));
            }
        });
        result
    }
}
