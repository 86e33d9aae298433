//! Pages of file bytes: where they are, who shares them, and how many there are.
//!
//! A page is named by a [`Page`], which its owners keep; it counts them, and is free when the last has given it back. Pages lie in *slabs*, since an
//! allocator that has to place each of them on a page border needs about twice the memory. A slab in which no page is in use goes back to the
//! allocator, and pages are taken from the slabs in front first, so that those behind get empty.
//!
//! Invariant: each `Page` that exists is one of its page's `users`. It is neither `Clone` nor dropped: who has one gives it to [`Pages::release`].

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use fsproto::{Errno, PAGE_BYTES};

use crate::buffer::Page as Bytes;

/// Pages in a slab: 256 KiB, of which at most one page is lost to the allocator's border.
const SLAB_PAGES: usize = 64;

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
    /// Nowhere: the number is free, or its slab has been given back.
    None,
    /// In this slab, at this place.
    Slab(u32, u8),
    /// In the archive that the tree was built from; fewer than a page at a file's end, zeros follow.
    Archive(&'static [u8]),
}

struct Entry {
    users: u32,
    storage: Storage,
}

/// Memory for [`SLAB_PAGES`] pages.
#[derive(Default)]
struct Slab {
    /// Empty while no page is in use.
    pages: Box<[Bytes]>,
    /// One bit for each page in use.
    used: u64,
}

const _: () = assert!(SLAB_PAGES == u64::BITS as usize);

/// All pages.
pub(super) struct Pages {
    entries: Vec<Entry>,
    free_entries: Vec<u32>,
    slabs: Vec<Slab>,
    /// Slabs that have a free page, or no memory.
    roomy: BTreeSet<u32>,
    /// Pages that there can be, those of the archive included.
    pub capacity: u64,
    /// Pages that there are. A shared page counts once.
    pub used: u64,
}

impl Pages {
    /// None yet.
    pub fn new(capacity: u64) -> Self {
        Self { entries: Vec::new(), free_entries: Vec::new(), slabs: Vec::new(), roomy: BTreeSet::new(), capacity, used: 0 }
    }

    /// ENOSPC unless so many more can be had.
    pub fn check(&self, pages: u64) -> Result<(), Errno> {
        let free = self.capacity.saturating_sub(self.used);
        if pages <= free { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// The bytes; where they are fewer than a page, zeros follow.
    pub fn bytes(&self, page: &Page) -> &[u8] {
        match self.entries.get(page.entry()).map(|entry| &entry.storage) {
            Some(Storage::Archive(bytes)) => bytes,
            Some(&Storage::Slab(slab, place)) => {
                let bytes = self.slabs.get(slab as usize).and_then(|slab| slab.pages.get(usize::from(place)));
                bytes.map_or(&[], |page| &page.0)
            }
            _ => &[],
        }
    }

    /// Whether someone else has the page too.
    pub fn is_shared(&self, page: &Page) -> bool {
        self.entries.get(page.entry()).is_some_and(|entry| entry.users > 1)
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
        if let Storage::Slab(number, place) = storage
            && let Some(slab) = self.slabs.get_mut(number as usize)
        {
            slab.used &= !(1 << place);
            if slab.used == 0 {
                slab.pages = Box::default();
            }
            self.roomy.insert(number);
        }
    }

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

    /// A place for a page, and its slab. ENOMEM where there is no memory for another slab.
    fn place(&mut self) -> Result<(u32, u8), Errno> {
        let number = match self.roomy.first() {
            Some(&number) => number,
            None => {
                self.slabs.push(Slab::default());
                self.roomy.insert(self.slabs.len() as u32 - 1);
                self.slabs.len() as u32 - 1
            }
        };
        let slab = self.slabs.get_mut(number as usize).ok_or(Errno::EIO)?;
        if slab.pages.is_empty() {
            let mut pages = Vec::new();
            pages.try_reserve_exact(SLAB_PAGES).map_err(|_| Errno::ENOMEM)?;
            pages.resize_with(SLAB_PAGES, || Bytes([0; PAGE_BYTES]));
            slab.pages = pages.into_boxed_slice();
        }
        let place = slab.used.trailing_ones() as u8;
        slab.used |= 1 << place;
        if slab.used == u64::MAX {
            self.roomy.remove(&number);
        }
        Ok((number, place))
    }

    /// A new page of zeros. The caller has checked that there is room.
    pub fn allocate(&mut self) -> Result<Page, Errno> {
        let (slab, place) = self.place()?;
        let page = self.add(Storage::Slab(slab, place));
        if let Some(bytes) = self.own_bytes(&page) {
            bytes.fill(0);
        }
        Ok(page)
    }

    /// The bytes to write to, where they are in memory of this server.
    fn own_bytes(&mut self, page: &Page) -> Option<&mut [u8; PAGE_BYTES]> {
        match self.entries.get(page.entry())?.storage {
            Storage::Slab(slab, place) => self.slabs.get_mut(slab as usize)?.pages.get_mut(usize::from(place)).map(|page| &mut page.0),
            _ => None,
        }
    }

    /// The page's bytes, to write to; copied first where others share them, or the archive holds them. The caller has checked that there is room.
    pub fn writable<'a>(&'a mut self, page: &mut Page) -> Result<&'a mut [u8; PAGE_BYTES], Errno> {
        if self.is_shared(page) || self.own_bytes(page).is_none() {
            let copy = self.copy_of(page)?;
            self.release(core::mem::replace(page, copy));
        }
        self.own_bytes(page).ok_or(Errno::EIO)
    }

    /// A page of its own with the same bytes.
    fn copy_of(&mut self, page: &Page) -> Result<Page, Errno> {
        let mut bytes = Bytes([0; PAGE_BYTES]);
        let from = self.bytes(page);
        bytes.0.get_mut(..from.len()).ok_or(Errno::EIO)?.copy_from_slice(from);
        let copy = self.allocate()?;
        *self.own_bytes(&copy).ok_or(Errno::EIO)? = bytes.0;
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_without_pages_give_their_memory_back() {
        let mut pages = Pages::new(1000);
        let taken: Vec<Page> = (0..200).map(|_| pages.allocate().unwrap()).collect();
        assert!(taken.iter().all(|page| pages.bytes(page).as_ptr().addr().is_multiple_of(PAGE_BYTES)));
        assert_eq!((pages.slabs.len(), pages.used), (4, 200));
        for page in taken {
            pages.release(page);
        }
        assert_eq!(pages.used, 0);
        assert!(pages.slabs.iter().all(|slab| slab.pages.is_empty()));
        let again = pages.allocate().unwrap();
        assert_eq!((pages.slabs.len(), pages.entries.len()), (4, 200));
        pages.release(again);
    }

    #[test]
    fn a_page_is_clean_whoever_had_its_place_before() {
        let mut pages = Pages::new(10);
        let mut one = pages.allocate().unwrap();
        let keep = pages.allocate().unwrap();
        pages.writable(&mut one).unwrap().fill(7);
        pages.release(one);
        let two = pages.allocate().unwrap();
        assert_eq!(pages.bytes(&two), [0; PAGE_BYTES]);
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
        assert_eq!((&pages.bytes(&one)[..8], pages.bytes(&two)), (&b"Archive\0"[..], &b"archive"[..]));
        assert_eq!((pages.used, pages.is_shared(&two)), (2, false));
        pages.release(one);
        pages.release(two);
        assert_eq!(pages.used, 0);
    }
}
