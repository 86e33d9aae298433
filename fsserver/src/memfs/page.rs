//! Pages of file bytes: their location, their owners and their number.
//!
//! Each owner of a page holds a [`Page`], a counted reference; the page is freed with the last one.
//! Its bytes are in memory ([`Slabs`]), in the archive, or, with a device for what exceeds a
//! *budget* of memory, in a slot of the device ([`Spill`]). A [placed](Placed) page has no entry:
//! its reference is the block.
//!
//! Invariants: each existing `Page` is counted in its entry's `users`, if it has one. It is neither
//! `Clone` nor dropped; its owner passes it to [`Pages::release`]. An evicted page is in memory
//! until the device has it, and on the device until it is in memory again, shared or not.
//!
//! Only [`Pages::make_space`] evicts pages, so what [`Pages::load`] has brought in stays until the
//! next call of it. A change first makes all the space that it takes, then loads the pages that it
//! changes partly; after that it cannot fail. The budget may be exceeded by the pages of one
//! request.
//!
//! # Memory
//!
//! The server's memory is limited as a whole, if at all: pages, their entries, tree nodes, inodes,
//! names and targets of links. All but the pages is *metadata*, counted in bytes when it is made
//! and when it is freed. What metadata takes, pages cannot: without a device a change gets ENOSPC,
//! with one pages are evicted. The counts include what the allocator needs, so they are upper
//! bounds.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Add, AddAssign};

use foundation::{Errno, PAGE_BYTES};

use super::entries::{Entries, Entry, Storage};
use super::placed::Placed;
use super::reference::MAX_PAGES;
pub(super) use super::reference::Page;
use super::slab::{Place, SLAB_EXTRA_BYTES, SLAB_PAGES, Slabs};
use super::spill::{RUN_PAGES, Spill, rows};
use crate::blocks::BlockDevice;
use crate::buffer::Page as Bytes;

/// Divisor of the budget: the part of it that one transfer moves, limited to one run.
const BATCH_SHARE: u64 = 8;

/// Part of the memory that remains for pages, whatever the metadata: one in this many.
const PAGES_SHARE: u64 = 8;

/// Metadata that one change adds at most, besides what it checks for itself: the tree nodes above
/// the pages of a message, and their entries.
const CHANGE_BYTES: u64 = 96 << 10;

/// What a change takes from the page store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Number of additional pages.
    pub pages: u64,
    /// Number of places in memory.
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

/// The page store.
pub(super) struct Pages {
    pub(super) entries: Entries,
    pub(super) slabs: Slabs,
    /// Maximum of bytes that pages and metadata take, if there is one.
    memory: Option<u64>,
    /// Bytes of metadata, the table of entries apart.
    metadata: u64,
    /// Bytes of the table of entries, which never shrinks.
    table: u64,
    /// Holds the pages beyond the budget, if there is a device.
    spill: Option<Spill>,
    /// Holds the placed pages, if there are any.
    placed: Option<Placed>,
    /// Maximum number of places in use in memory, if there is a device.
    budget: u64,
    /// Maximum number of pages, including those of the archive.
    pub capacity: u64,
    /// Number of pages. A shared page counts once.
    pub used: u64,
}

impl Pages {
    /// An empty store in memory.
    pub fn new(capacity: u64) -> Self {
        Self {
            entries: Entries::default(),
            slabs: Slabs::default(),
            memory: None,
            metadata: 0,
            table: 0,
            spill: None,
            placed: None,
            budget: capacity,
            capacity: capacity.min(MAX_PAGES),
            used: 0,
        }
    }

    /// Adds a device: from now on at most `budget` pages are in memory, and the others on the
    /// device.
    pub fn spill_to(&mut self, device: Box<dyn BlockDevice>, budget: u64) -> Result<(), Errno> {
        let spill = Spill::new(device)?;
        self.capacity = self.capacity.saturating_add(spill.capacity()).min(MAX_PAGES);
        (self.spill, self.budget) = (Some(spill), budget);
        self.slabs.keep(self.max_slabs());
        Ok(())
    }

    /// Adds a device with placed pages.
    pub fn placed_on(&mut self, device: Box<dyn BlockDevice>) -> Result<(), Errno> {
        self.placed = Some(Placed::new(device)?);
        Ok(())
    }

    /// The page that is placed in a block; `None` if the device has no such block.
    pub fn placed(&self, block: u64) -> Option<Page> {
        let blocks = self.placed.as_ref()?.blocks();
        Page::placed(block).filter(|_| block < blocks)
    }

    /// Limits the memory for pages and metadata.
    pub fn limit_memory(&mut self, bytes: u64) {
        self.memory = Some(bytes);
    }

    /// Bytes of metadata, if memory is limited.
    fn held_bytes(&self) -> u64 {
        let slabs = self.slabs.filled() as u64 * SLAB_EXTRA_BYTES;
        if self.memory.is_some() { self.metadata + self.table + slabs } else { 0 }
    }

    /// Number of pages that no file takes, by its bytes or its metadata. Fewer are possible: what
    /// once held entries and pages is kept for others.
    pub fn unused(&self) -> u64 {
        let metadata = if self.memory.is_some() { self.metadata } else { 0 };
        let held = metadata.div_ceil(PAGE_BYTES as u64);
        self.capacity.saturating_sub(self.used).saturating_sub(held)
    }

    /// Number of further pages that are possible.
    pub fn free(&self) -> u64 {
        let held = self.held_bytes().div_ceil(PAGE_BYTES as u64);
        self.capacity.saturating_sub(self.used).saturating_sub(held)
    }

    /// ENOSPC unless `pages` more are possible, with their entries and nodes.
    pub fn check(&self, pages: u64) -> Result<(), Errno> {
        let more = if self.memory.is_some() && pages > 0 { CHANGE_BYTES } else { 0 };
        let more = more / PAGE_BYTES as u64;
        if pages.saturating_add(more) <= self.free() { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// Bytes of further metadata that are possible.
    pub fn free_metadata(&self) -> u64 {
        let Some(memory) = self.memory else { return u64::MAX };
        let most = memory - memory / PAGES_SHARE;
        most.saturating_sub(self.held_bytes()).min(self.free().saturating_mul(PAGE_BYTES as u64))
    }

    /// Makes memory available for `bytes` of further metadata, and for the nodes of one change.
    /// ENOSPC, or EIO if the device fails; on an error nothing has changed.
    pub fn make_metadata_space(&mut self, bytes: u64) -> Result<(), Errno> {
        if bytes.saturating_add(CHANGE_BYTES) > self.free_metadata() {
            return Err(Errno::ENOSPC);
        }
        if self.memory.is_none() {
            return Ok(());
        }
        self.metadata += bytes + CHANGE_BYTES;
        let made = self.shrink();
        self.metadata -= bytes + CHANGE_BYTES;
        made
    }

    /// Metadata was made; there is space for it.
    pub fn charge(&mut self, bytes: u64) {
        self.metadata += bytes;
    }

    /// Metadata was freed.
    pub fn refund(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.metadata, "more metadata is freed than was made");
        self.metadata = self.metadata.saturating_sub(bytes);
    }

    /// Number of slabs that may have memory.
    fn max_slabs(&self) -> usize {
        let by_budget = self.budget.div_ceil(SLAB_PAGES as u64);
        let slab_bytes = SLAB_PAGES as u64 * PAGE_BYTES as u64 + SLAB_EXTRA_BYTES;
        let by_memory =
            |memory: u64| (memory.saturating_sub(self.metadata + self.table) / slab_bytes).max(1);
        self.memory.map_or(by_budget, |memory| by_memory(memory).min(by_budget)) as usize
    }

    /// Number of places that may be in use in memory.
    fn max_places(&self) -> u64 {
        self.budget.min((self.max_slabs() * SLAB_PAGES) as u64)
    }

    /// Returns memory that metadata needs: evicts pages, and empties the last slabs.
    fn shrink(&mut self) -> Result<(), Errno> {
        let most = self.max_slabs();
        if self.slabs.filled() <= most {
            return Ok(());
        }
        if self.spill.is_some() {
            self.slabs.keep(most);
            if self.excess(0) > 0 {
                self.evict(0)?;
            }
        }
        while let Some((owner, place)) = self.slabs.pack(most) {
            if let Some(entry) = self.entries.get_mut(owner as usize) {
                entry.storage = Storage::Slab(place);
            }
        }
        if self.slabs.filled() <= most { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// Makes the space that a change takes. ENOSPC, ENOMEM, EIO if the device fails; on an error
    /// nothing has changed.
    pub fn prepare(&mut self, needs: Needs) -> Result<(), Errno> {
        self.check(needs.pages)?;
        self.make_space(needs.places)
    }

    /// Makes memory available for `places` more pages: evicts others as far as the budget demands
    /// and the device has slots.
    pub fn make_space(&mut self, places: u64) -> Result<(), Errno> {
        self.table += self.entries.reserve(places as usize)?;
        if self.spill.is_some() {
            self.slabs.keep(self.max_slabs());
            if self.excess(places) > 0 {
                self.evict(places)?;
            }
        }
        self.slabs.reserve(places)
    }

    /// Number of places beyond the budget if `places` more were taken.
    fn excess(&self, places: u64) -> u64 {
        (self.slabs.used() + places).saturating_sub(self.max_places())
    }

    /// Number of pages that one transfer moves if fewer are required.
    pub fn batch(&self) -> u64 {
        (self.budget / BATCH_SHARE).clamp(1, RUN_PAGES as u64)
    }

    fn evict(&mut self, places: u64) -> Result<(), Errno> {
        let batch = self.batch();
        for _ in 0..self.slabs.sweeps_twice_around(batch as usize) {
            let excess = self.excess(places);
            if excess == 0 {
                break;
            }
            let idle = self.slabs.sweep(excess.clamp(batch, RUN_PAGES as u64) as usize);
            match self.evict_pages(&idle) {
                Ok(()) => {}
                // Pages that do not fit on the device stay in memory.
                Err(Errno::ENOSPC) => break,
                Err(error) => return if self.excess(places) == 0 { Ok(()) } else { Err(error) },
            }
        }
        Ok(())
    }

    fn evict_pages(&mut self, mut idle: &[(u32, Place)]) -> Result<(), Errno> {
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

    /// Whether any page is on a device.
    pub fn has_away(&self) -> bool {
        self.placed.is_some() || self.spill.as_ref().is_some_and(|spill| !spill.is_empty())
    }

    /// Whether this page must be [loaded](Self::load) before its bytes can be read.
    pub fn is_away(&self, page: &Page) -> bool {
        page.block().is_some() || self.is_on_disk(page)
    }

    /// Whether this page is in a slot of the device, and takes a place when it is loaded.
    pub fn is_on_disk(&self, page: &Page) -> bool {
        self.entries
            .get(page.entry())
            .is_some_and(|entry| matches!(entry.storage, Storage::Disk(_)))
    }

    /// Loads pages from the devices, after [space](Self::make_space) was made for those in slots.
    /// Placed pages stay loaded until the next call. On EIO the pages that were not loaded are
    /// still on the device.
    pub fn load(&mut self, pages: &[&Page]) -> Result<(), Errno> {
        if let Some(placed) = &mut self.placed {
            let blocks = pages.iter().filter_map(|page| Some((page.block()?, ())));
            placed.load(blocks.collect())?;
        }
        let Self { entries, slabs, spill: Some(spill), .. } = self else { return Ok(()) };
        let slot_of = |page: &&Page| match entries.get(page.entry())?.storage {
            Storage::Disk(slot) => Some((slot.into(), page.entry())),
            _ => None,
        };
        let mut slots: Vec<(u64, usize)> = pages.iter().filter_map(slot_of).collect();
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

    /// Number of bytes stored for the page; the rest of it is zeros.
    pub fn length(&self, page: &Page) -> usize {
        match self.entries.get(page.entry()).map(|entry| &entry.storage) {
            Some(Storage::Archive(bytes)) => bytes.len(),
            _ => PAGE_BYTES,
        }
    }

    /// The stored bytes; if they are fewer than a page, the rest is zeros. EIO for a page that was
    /// not loaded.
    #[inline]
    pub fn bytes(&self, page: &Page) -> Result<&[u8], Errno> {
        match self.entries.get(page.entry()).map(|entry| &entry.storage) {
            Some(&Storage::Slab(place)) => {
                self.slabs.bytes(place).map(|bytes| &bytes[..]).ok_or(Errno::EIO)
            }
            Some(Storage::Archive(bytes)) => Ok(bytes),
            Some(_) => Err(Errno::EIO),
            None => self.placed_bytes(page).ok_or(Errno::EIO),
        }
    }

    #[cold]
    #[inline(never)]
    fn placed_bytes(&self, page: &Page) -> Option<&[u8]> {
        self.placed.as_ref()?.bytes(page.block()?).map(|bytes| &bytes[..])
    }

    /// Whether the page has several owners.
    pub fn is_shared(&self, page: &Page) -> bool {
        self.entries.get(page.entry()).is_some_and(|entry| entry.users > 1)
    }

    /// What a change of this page takes. `is_shared_above` says whether a tree node above it is
    /// shared.
    pub fn change_needs(&self, page: &Page, is_shared_above: bool) -> Needs {
        let Some(entry) = self.entries.get(page.entry()) else {
            return Needs { pages: 1, places: 1 };
        };
        let is_shared = is_shared_above || entry.users > 1;
        let is_at_hand = matches!(entry.storage, Storage::Slab(_));
        Needs { pages: is_shared.into(), places: (is_shared || !is_at_hand).into() }
    }

    /// Adds an owner. A placed page needs no count of them.
    pub fn share(&mut self, page: &Page) -> Page {
        if let Some(entry) = self.entries.get_mut(page.entry()) {
            entry.users += 1;
        }
        page.same()
    }

    /// Removes an owner.
    pub fn release(&mut self, page: Page) {
        let Some(entry) = self.entries.get_mut(page.entry()) else { return };
        debug_assert!(entry.users > 0, "a page is released more often than it was shared");
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        let storage = self.entries.remove(page.entry());
        self.used -= 1;
        debug_assert_eq!(self.used, self.entries.used as u64);
        match storage {
            Storage::Slab(place) => self.slabs.give(place),
            Storage::Disk(slot) => {
                self.spill.iter_mut().for_each(|spill| spill.release(slot.into()))
            }
            Storage::Archive(_) | Storage::None | Storage::Free(_) => {}
        }
    }

    /// Adds a page with one owner.
    fn add(&mut self, storage: Storage) -> Result<Page, Errno> {
        self.table += self.entries.reserve(1)?;
        let number = self.entries.insert(Entry { users: 1, storage })?;
        self.used += 1;
        Ok(Page::of(number))
    }

    /// Adds a page of the archive.
    pub fn archived(&mut self, bytes: &'static [u8]) -> Result<Page, Errno> {
        self.add(Storage::Archive(bytes))
    }

    /// Adds a page of zeros. The caller has made space for it.
    pub fn allocate(&mut self) -> Result<Page, Errno> {
        let page = self.allocate_dirty()?;
        if let Some(bytes) = self.own_bytes(&page) {
            bytes.fill(0);
        }
        Ok(page)
    }

    /// Adds a page with undefined bytes.
    fn allocate_dirty(&mut self) -> Result<Page, Errno> {
        let page = self.add(Storage::None)?;
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

    /// The bytes, for writing, if they are in a slab.
    fn own_bytes(&mut self, page: &Page) -> Option<&mut [u8; PAGE_BYTES]> {
        match self.entries.get(page.entry())?.storage {
            Storage::Slab(place) => self.slabs.bytes_mut(place),
            _ => None,
        }
    }

    /// Whether the page can be written in place.
    fn is_own(&mut self, page: &Page) -> bool {
        !self.is_shared(page) && self.own_bytes(page).is_some()
    }

    /// The page's bytes, for writing. Copied first if the page is shared or in the archive. The
    /// caller has made space and loaded the page.
    pub fn writable<'a>(&'a mut self, page: &mut Page) -> Result<&'a mut [u8; PAGE_BYTES], Errno> {
        if !self.is_own(page) {
            let mut bytes = Bytes([0; PAGE_BYTES]);
            let from = self.bytes(page)?;
            bytes.0.get_mut(..from.len()).ok_or(Errno::EIO)?.copy_from_slice(from);
            *self.replaceable(page)? = bytes.0;
        }
        self.own_bytes(page).ok_or(Errno::EIO)
    }

    /// The same for a caller that replaces all bytes: the page need not be loaded, and the bytes
    /// are undefined. The caller has made space.
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
    fn a_new_page_is_zeros_in_a_reused_place() {
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
    fn a_write_copies_a_shared_page() {
        let mut pages = Pages::new(10);
        let mut one = pages.archived(b"archive").unwrap();
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
