//! Pages of file bytes: where they are, who shares them, and how many there are.
//!
//! A page is named by a [`Page`], which its owners keep; it counts them, and is free when the last
//! has given it back. It lies in memory ([`Slabs`]), in the archive, or, where there is a device
//! for what does not fit into a *budget* of memory, in a slot of that ([`Spill`]).
//!
//! Invariants. Each `Page` that exists is one of its page's `users`. It is neither `Clone` nor
//! dropped: who has one gives it to [`Pages::release`]. A page that is written out is in memory
//! until the device has it, and on the device until it is in memory again; whether it is shared
//! makes no difference.
//!
//! Only [`Pages::room`] writes pages out, so what was brought in by [`Pages::load`] stays until
//! somebody asks for room again. Who changes something asks for all the room that it takes first,
//! then brings in what it leaves parts of, and then nothing can go wrong any more. The budget is
//! exceeded by the pages of one request.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::ops::{Add, AddAssign};

use foundation::{Errno, PAGE_BYTES};

use super::slab::{Place, Slabs};
use super::spill::{RUN_PAGES, Spill, rows};
use crate::blocks::BlockDevice;
use crate::buffer::Page as Bytes;

/// The share of the budget that goes to the device or comes from it at once, where that is not too
/// much for one run.
const BATCH_SHARE: u64 = 8;

/// A share in a page.
#[derive(Debug)]
#[must_use = "a page that is not released stays in use for ever"]
pub(super) struct Page(NonZeroU32);

impl Page {
    /// The page with this entry.
    fn of(entry: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(entry as u32))
    }

    /// Its entry.
    fn entry(&self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Where a page's bytes are.
enum Storage {
    /// Nowhere: the number is free.
    None,
    /// In memory.
    Slab(Place),
    /// In this slot of the device.
    Disk(u32),
    /// In the archive that the tree was built from; fewer than a page at a file's end, zeros
    /// follow.
    Archive(&'static [u8]),
}

struct Entry {
    users: u32,
    storage: Storage,
}

/// What a change takes from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Pages that there will be more.
    pub pages: u64,
    /// Places in memory.
    pub places: u64,
}

impl Add for Needs {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { pages: self.pages + other.pages, places: self.places + other.places }
    }
}

impl AddAssign for Needs {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl core::iter::Sum for Needs {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// All pages.
pub(super) struct Pages {
    entries: Vec<Entry>,
    free_entries: Vec<u32>,
    slabs: Slabs,
    /// What is beyond the budget.
    spill: Option<Spill>,
    /// Places in memory that may be in use, where there is a device.
    budget: u64,
    /// Pages that there can be, those of the archive included.
    pub capacity: u64,
    /// Pages that there are. A shared page counts once.
    pub used: u64,
}

impl Pages {
    /// None yet; all of them in memory.
    pub fn new(capacity: u64) -> Self {
        Self {
            entries: Vec::new(),
            free_entries: Vec::new(),
            slabs: Slabs::default(),
            spill: None,
            budget: capacity,
            capacity,
            used: 0,
        }
    }

    /// From now on so many are in memory, and as many more as fit there on a device.
    pub fn spill_to(&mut self, device: Box<dyn BlockDevice>, budget: u64) -> Result<(), Errno> {
        let spill = Spill::new(device)?;
        self.capacity = self.capacity.saturating_add(spill.capacity());
        (self.spill, self.budget) = (Some(spill), budget);
        self.slabs.keep_memory();
        Ok(())
    }

    /// ENOSPC unless so many more can be had.
    pub fn check(&self, pages: u64) -> Result<(), Errno> {
        let free = self.capacity.saturating_sub(self.used);
        if pages <= free { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// Sees to it that a change can be made. ENOSPC, ENOMEM; EIO where the device fails. After an
    /// error all is as before.
    pub fn prepare(&mut self, needs: Needs) -> Result<(), Errno> {
        self.check(needs.pages)?;
        self.room(needs.places)
    }

    /// Sees to it that there is memory for so many pages more: others are written out for them, as
    /// far as the budget demands and the device has slots.
    pub fn room(&mut self, places: u64) -> Result<(), Errno> {
        self.entries.try_reserve(places as usize).map_err(|_| Errno::ENOMEM)?;
        if self.spill.is_some() && self.excess(places) > 0 {
            self.write_out(places)?;
        }
        self.slabs.reserve(places)
    }

    /// Places too many, if so many more were taken.
    fn excess(&self, places: u64) -> u64 {
        (self.slabs.used() + places).saturating_sub(self.budget)
    }

    /// Pages that are written out or brought in at once, where it need not be so many.
    pub fn batch(&self) -> u64 {
        (self.budget / BATCH_SHARE).clamp(1, RUN_PAGES as u64)
    }

    fn write_out(&mut self, places: u64) -> Result<(), Errno> {
        let batch = self.batch();
        for _ in 0..self.slabs.sweeps_twice_around(batch as usize) {
            let excess = self.excess(places);
            if excess == 0 {
                break;
            }
            let idle = self.slabs.sweep(excess.clamp(batch, RUN_PAGES as u64) as usize);
            match self.write_out_these(&idle) {
                Ok(()) => {}
                // What does not fit on the device stays in memory.
                Err(Errno::ENOSPC) => break,
                Err(error) => return if self.excess(places) == 0 { Ok(()) } else { Err(error) },
            }
        }
        Ok(())
    }

    fn write_out_these(&mut self, mut idle: &[(u32, Place)]) -> Result<(), Errno> {
        let Self { entries, slabs, spill: Some(spill), .. } = self else { return Ok(()) };
        while !idle.is_empty() {
            let pages: Option<Vec<_>> = idle.iter().map(|(_, place)| slabs.peek(*place)).collect();
            let row = spill.write_out(&pages.ok_or(Errno::EIO)?)?;
            let (out, rest) =
                idle.split_at_checked((row.end - row.start) as usize).ok_or(Errno::EIO)?;
            for (slot, &(owner, place)) in row.zip(out) {
                if let Some(entry) = entries.get_mut(owner as usize) {
                    entry.storage = Storage::Disk(slot as u32);
                }
                slabs.give(place);
            }
            idle = rest;
        }
        Ok(())
    }

    /// Whether any page is on the device.
    pub fn has_spilled(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| !spill.is_empty())
    }

    /// Whether this one is.
    pub fn is_on_disk(&self, page: &Page) -> bool {
        self.entries
            .get(page.entry())
            .is_some_and(|entry| matches!(entry.storage, Storage::Disk(_)))
    }

    /// Brings pages into memory that are on the device, for which there is [room](Self::room). EIO
    /// where it fails: those that did not come are still there.
    pub fn load<'p>(&mut self, pages: impl Iterator<Item = &'p Page>) -> Result<(), Errno> {
        let Self { entries, slabs, spill: Some(spill), .. } = self else { return Ok(()) };
        let slot_of = |page: &Page| match entries.get(page.entry())?.storage {
            Storage::Disk(slot) => Some((slot.into(), page.entry())),
            _ => None,
        };
        let mut slots: Vec<(u64, usize)> = pages.filter_map(slot_of).collect();
        for (row, pages) in rows(&mut slots) {
            slabs.reserve(row.end - row.start)?;
            let bytes = spill.read_in(row)?;
            for (from, &(_, owner)) in bytes.chunks_exact(PAGE_BYTES).zip(pages) {
                let place = slabs.take(owner as u32)?;
                slabs.bytes_mut(place).ok_or(Errno::EIO)?.copy_from_slice(from);
                entries.get_mut(owner).ok_or(Errno::EIO)?.storage = Storage::Slab(place);
            }
            pages.iter().for_each(|&(slot, _)| spill.release(slot));
        }
        Ok(())
    }

    /// Bytes that the page has; zeros follow up to the end of it.
    pub fn length(&self, page: &Page) -> usize {
        match self.entries.get(page.entry()).map(|entry| &entry.storage) {
            Some(Storage::Archive(bytes)) => bytes.len(),
            _ => PAGE_BYTES,
        }
    }

    /// The bytes; where they are fewer than a page, zeros follow. EIO for a page that was not
    /// brought in.
    pub fn bytes(&self, page: &Page) -> Result<&[u8], Errno> {
        match self.entries.get(page.entry()).map(|entry| &entry.storage) {
            Some(&Storage::Slab(place)) => {
                self.slabs.bytes(place).map(|bytes| &bytes[..]).ok_or(Errno::EIO)
            }
            Some(Storage::Archive(bytes)) => Ok(bytes),
            _ => Err(Errno::EIO),
        }
    }

    /// Whether someone else has the page too.
    pub fn is_shared(&self, page: &Page) -> bool {
        self.entries.get(page.entry()).is_some_and(|entry| entry.users > 1)
    }

    /// What it takes to change this page, which others may have too by way of something above it.
    pub fn change_needs(&self, page: &Page, is_shared_above: bool) -> Needs {
        let Some(entry) = self.entries.get(page.entry()) else { return Needs::default() };
        let is_shared = is_shared_above || entry.users > 1;
        let is_at_hand = matches!(entry.storage, Storage::Slab(_));
        Needs { pages: is_shared.into(), places: (is_shared || !is_at_hand).into() }
    }

    /// One more share in the page.
    pub fn share(&mut self, page: &Page) -> Page {
        if let Some(entry) = self.entries.get_mut(page.entry()) {
            entry.users += 1;
        }
        Page(page.0)
    }

    /// Gives a share back.
    pub fn release(&mut self, page: Page) {
        let Some(entry) = self.entries.get_mut(page.entry()) else { return };
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        let storage = core::mem::replace(&mut entry.storage, Storage::None);
        self.free_entries.push(page.entry() as u32);
        self.used -= 1;
        match storage {
            Storage::Slab(place) => self.slabs.give(place),
            Storage::Disk(slot) => {
                self.spill.iter_mut().for_each(|spill| spill.release(slot.into()))
            }
            Storage::Archive(_) | Storage::None => {}
        }
    }

    /// A page of nothing yet.
    fn add(&mut self, storage: Storage) -> Page {
        self.used += 1;
        let entry = Entry { users: 1, storage };
        if let Some(number) = self.free_entries.pop()
            && let Some(free) = self.entries.get_mut(number as usize)
        {
            *free = entry;
            return Page::of(number as usize);
        }
        self.entries.push(entry);
        Page::of(self.entries.len() - 1)
    }

    /// A page of the archive.
    pub fn archived(&mut self, bytes: &'static [u8]) -> Page {
        self.add(Storage::Archive(bytes))
    }

    /// A new page of zeros. The caller has asked for room.
    pub fn allocate(&mut self) -> Result<Page, Errno> {
        let page = self.allocate_dirty()?;
        if let Some(bytes) = self.own_bytes(&page) {
            bytes.fill(0);
        }
        Ok(page)
    }

    /// A new page that holds whatever its place held.
    fn allocate_dirty(&mut self) -> Result<Page, Errno> {
        let page = self.add(Storage::None);
        match self.slabs.take(page.entry() as u32) {
            Ok(place) => {
                if let Some(entry) = self.entries.get_mut(page.entry()) {
                    entry.storage = Storage::Slab(place);
                }
                Ok(page)
            }
            Err(error) => {
                self.release(page);
                Err(error)
            }
        }
    }

    /// The bytes to write to, where they are in memory of this server.
    fn own_bytes(&mut self, page: &Page) -> Option<&mut [u8; PAGE_BYTES]> {
        match self.entries.get(page.entry())?.storage {
            Storage::Slab(place) => self.slabs.bytes_mut(place),
            _ => None,
        }
    }

    /// Whether the page can be written to as it is.
    fn is_own(&mut self, page: &Page) -> bool {
        !self.is_shared(page) && self.own_bytes(page).is_some()
    }

    /// The page's bytes, to write to; copied first where others share them, or the archive holds
    /// them. The caller has asked for room, and brought the page in.
    pub fn writable<'a>(&'a mut self, page: &mut Page) -> Result<&'a mut [u8; PAGE_BYTES], Errno> {
        if !self.is_own(page) {
            let mut bytes = Bytes([0; PAGE_BYTES]);
            let from = self.bytes(page)?;
            bytes.0.get_mut(..from.len()).ok_or(Errno::EIO)?.copy_from_slice(from);
            *self.replaceable(page)? = bytes.0;
        }
        self.own_bytes(page).ok_or(Errno::EIO)
    }

    /// The same for who replaces all of them: they need not be here, and are whoever's. The caller
    /// has asked for room.
    pub fn replaceable<'a>(
        &'a mut self,
        page: &mut Page,
    ) -> Result<&'a mut [u8; PAGE_BYTES], Errno> {
        if !self.is_own(page) {
            let new = self.allocate_dirty()?;
            self.release(core::mem::replace(page, new));
        }
        self.own_bytes(page).ok_or(Errno::EIO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_clean_whoever_had_its_place_before() {
        let mut pages = Pages::new(10);
        let mut one = pages.allocate().unwrap();
        let keep = pages.allocate().unwrap();
        pages.writable(&mut one).unwrap().fill(7);
        pages.release(one);
        let two = pages.allocate().unwrap();
        assert_eq!(pages.bytes(&two).unwrap(), [0; PAGE_BYTES]);
        pages.release(two);
        pages.release(keep);
    }

    #[test]
    fn a_shared_page_is_copied_by_who_writes() {
        let mut pages = Pages::new(10);
        let mut one = pages.archived(b"archive");
        let two = pages.share(&one);
        assert_eq!((pages.used, pages.is_shared(&one)), (1, true));
        pages.writable(&mut one).unwrap()[0] = b'A';
        assert_eq!(
            (&pages.bytes(&one).unwrap()[..8], pages.bytes(&two).unwrap()),
            (&b"Archive\0"[..], &b"archive"[..])
        );
        assert_eq!((pages.used, pages.is_shared(&two)), (2, false));
        pages.release(one);
        pages.release(two);
        assert_eq!(pages.used, 0);
    }
}
