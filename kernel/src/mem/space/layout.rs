//! The shape of an address space: map, unmap, protect, move, grow. Regions are split without
//! fetching anything (A4).

use super::{AddressSpace, Space, fault::base_flags};
use crate::mem::{
    Backing, Frame, Page, PageRange, Prot, Region, USER_END, USER_START, UserAddr,
    frame::OutOfMemory,
    heap,
    page_table::{EntryFlags, Flush},
};
use alloc::vec::Vec;
use foundation::knob;
use foundation::{ByteCount, Errno, PageCount};

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the hint if there is room, or anywhere.
    Anywhere(UserAddr),
    /// Exactly there, in the place of what is there.
    Fixed(UserAddr),
    /// Exactly there, or EEXIST.
    FixedNoReplace(UserAddr),
}

/// Mappings are placed below this: the stack's place and a gap.
const MMAP_END: UserAddr = UserAddr(USER_END.0 - 16 * 1024 * 1024);

/// The pages of a range given in bytes; ENOMEM where that is no part of a program's half.
fn user_range(address: UserAddr, bytes: ByteCount) -> Result<PageRange, Errno> {
    if !address.is_page_aligned() || bytes.is_zero() {
        return Err(Errno::EINVAL);
    }
    let end = address.checked_add(bytes).filter(|&end| end <= USER_END).ok_or(Errno::ENOMEM)?;
    Ok(PageRange { start: address.page(), end: end.page_at_or_above() })
}

impl Space {
    /// Maps `bytes` bytes, rounded up to pages; nothing is spent before a page is touched. `label`
    /// is for /proc.
    pub fn map(
        &self,
        placement: Placement,
        bytes: ByteCount,
        prot: Prot,
        backing: Backing,
        label: &'static str,
    ) -> Result<UserAddr, Errno> {
        heap::headroom(self.policy.claim())?;
        self.with(|space| space.map(placement, bytes, prot, backing, label))
    }

    /// Maps frames that hold their contents already, one after the other, as private memory.
    pub fn map_frames(
        &self,
        placement: Placement,
        prot: Prot,
        frames: Vec<Frame>,
    ) -> Result<UserAddr, Errno> {
        heap::headroom(self.policy.claim())?;
        self.with(|space| {
            let bytes = PageCount::of_len(frames.len()).bytes();
            let address = space.map(placement, bytes, prot, Backing::Anonymous, "")?;
            for (index, frame) in frames.into_iter().enumerate() {
                if let Err(error) =
                    space.install_private(address.page() + PageCount::of_len(index), frame)
                {
                    space.unmap(user_range(address, bytes)?)?;
                    return Err(error.into());
                }
            }
            Ok(address)
        })
    }

    /// Unmaps what is mapped in a range.
    pub fn unmap(&self, address: UserAddr, bytes: ByteCount) -> Result<(), Errno> {
        // What lies beyond a program's half is EINVAL here, other than in mmap.
        let range = user_range(address, bytes).map_err(|_| Errno::EINVAL)?;
        heap::headroom(self.policy.claim())?;
        self.with(|space| space.unmap(range))
    }

    /// Changes rights. ENOMEM where something in the range is not mapped.
    pub fn protect(&self, address: UserAddr, bytes: ByteCount, prot: Prot) -> Result<(), Errno> {
        if bytes.is_zero() && address.is_page_aligned() {
            return Ok(());
        }
        let range = user_range(address, bytes)?;
        heap::headroom(self.policy.claim())?;
        self.with(|space| space.protect(range, prot))
    }

    /// Changes the size of a mapping, and its place if `to` says so.
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
        self.with(|space| space.remap(old, new_bytes, to))
    }

    /// Where the heap begins (exec says so).
    pub fn set_heap_start(&self, start: UserAddr) {
        self.with(|space| space.heap = (start, start));
    }

    /// Moves the end of the heap; gives the end as it is then, which is the old one where it could
    /// not be moved.
    pub fn brk(&self, end: UserAddr) -> UserAddr {
        let ready = heap::headroom(self.policy.claim()).is_ok();
        self.with(|space| {
            if ready && space.set_heap_end(end).is_ok() {
                space.heap.1 = end;
            }
            space.heap.1
        })
    }

    /// Lets the contents of private memory go: it reads as zeros (MADV_DONTNEED). Shared memory
    /// keeps its own. ENOMEM where something is not mapped.
    pub fn discard(&self, address: UserAddr, bytes: ByteCount) -> Result<(), Errno> {
        if bytes.is_zero() && address.is_page_aligned() {
            return Ok(());
        }
        let range = user_range(address, bytes)?;
        heap::headroom(self.policy.claim())?;
        self.with(|space| space.discard(range))
    }

    /// Whether every page of a range is mapped by a region.
    pub fn is_mapped(&self, address: UserAddr, bytes: ByteCount) -> bool {
        user_range(address, bytes).is_ok_and(|range| self.with(|space| space.is_mapped(range)))
    }

    /// Which pages of a range have a frame now (mincore). ENOMEM where something is not mapped.
    pub fn residency(&self, address: UserAddr, bytes: ByteCount) -> Result<Vec<u8>, Errno> {
        let range = user_range(address, bytes)?;
        self.with(|space| {
            if !space.is_mapped(range) {
                return Err(Errno::ENOMEM);
            }
            let mut resident = Vec::new();
            let pages = range.pages().to_usize();
            resident.try_reserve_exact(pages).map_err(|_| Errno::ENOMEM)?;
            resident.resize(pages, 0);
            space.table.for_each(range, |page, entry| {
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
    /// It stays, or ENOMEM.
    Never,
    /// It moves if it must.
    IfNeeded,
    /// It goes there, in the place of what is there.
    To(UserAddr),
}

impl AddressSpace {
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

    /// Fails where a change of this range, with `more` regions to come, could exceed the bound
    /// (Q4).
    fn check_regions(&self, range: PageRange, more: usize) -> Result<(), Errno> {
        let splits =
            |page: Page| self.regions.find(page).is_some_and(|(found, _)| found.start != page);
        let splits = usize::from(splits(range.start)) + usize::from(splits(range.end));
        if self.regions.len() + splits + more > knob::MAX_REGIONS.get() as usize {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
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
            Placement::Anywhere(hint) => self.find_room(hint, pages)?,
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
        self.check_regions(range, 1)?;
        self.unmap(range)?;
        self.regions.insert(start, Region::new(pages, prot, backing, label));
        self.regions.merge(range);
        Ok(start.user_start())
    }

    fn find_room(&self, hint: UserAddr, pages: PageCount) -> Result<Page, Errno> {
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
                // Where others see the frame, the first store makes a copy.
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

    /// Makes both ends of a range borders of regions.
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
        let start = self.find_room(UserAddr::NULL, new_pages)?;
        self.move_to(old, PageRange::new(start, new_pages))
    }

    /// Whether a program sees one mapping: associations split regions, which it must not notice.
    fn is_uniform(&self, range: PageRange) -> bool {
        let mut kinds = self.regions.overlapping(range).map(|(_, region)| {
            let shared = matches!(region.backing, Backing::Shared { .. });
            (region.prot, region.label, shared)
        });
        let first = kinds.next();
        kinds.all(|kind| Some(kind) == first)
    }

    /// Continues the region that ends where the range begins.
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

    /// Moves `old` to the start of `new`, which is free; cuts or extends it to that size.
    fn move_to(&mut self, old: PageRange, new: PageRange) -> Result<UserAddr, Errno> {
        self.check_regions(old, 1)?;
        let kept = PageRange::new(old.start, old.pages().min(new.pages()));
        let target = |page: Page| new.start + (page - old.start);
        // Tables first: after this nothing can fail.
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
