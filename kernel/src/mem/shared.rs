//! Memory shared by several address spaces: `mmap(MAP_SHARED)`, anonymous or of a file (which
//! `file::mapped` keeps coherent).
//!
//! The memory owns its frames, and each address space maps those that it touched. A frame that no
//! space maps any more can be swapped out (Q3): the memory's entry holds the slot then, and the
//! next access by any of the owners brings the page back for all of them. The clock unmaps pages
//! that their owners did not use, and swaps out a frame with its last mapping
//! ([`SharedMemory::leave`]). The memory itself is on the clock as well, for frames that lost their
//! last mapping in another way.
//!
//! A frame of shared memory is stored to by all owners. So it is never one that somebody else
//! reads, such as a swap server that is still writing it out: such a page gets a new frame.
//!
//! Lock: the memory's own, inside an address space's. It is held while slots are looked up, so that
//! no slot is freed meanwhile, and never across a wait.

use super::{
    Account, Charge, Claim, Frame, OutOfMemory, PAGE_BYTES, Page, PageRange,
    account::Kind,
    mutants,
    page_table::{Bounds, Entry, FrameTree, Held, Swept, Verdict},
    phys::phys_to_virt,
    reclaim::{self, Reclaimable, Visit},
    stores::{MemoryId, Share, Store, Stored},
    swap::{self, Owners, PageIn, PageOutBatch, Source, Unavailable},
};
use crate::sync::{Interrupt, Mutex, rank, relax};
use alloc::sync::{Arc, Weak};
use core::ops::Range;
use foundation::{Errno, PageCount, knob};

/// Looks at a page after which an access by the kernel fails (F5): three page-ins.
const MAX_ATTEMPTS: u32 = 4;

/// Pages that one step frees: some 50,000 instructions.
const PAGES_AT_ONCE: usize = 512;

/// Frames and slots by page number. Frames are allocated at the first access, and everything is
/// freed with the last region that refers to the memory.
#[derive(Debug)]
pub struct SharedMemory {
    pages: Mutex<Pages, rank::SharedMemory>,
    /// What is paid for noting stores, if the memory is of a file.
    noting: Option<Charge>,
    place: reclaim::Place,
}

#[derive(Debug)]
struct Pages {
    tree: FrameTree,
    /// The page that the clock of reclaim visits next.
    hand: Page,
    /// A server maps the memory: no page leaves (F8).
    pinned: bool,
    /// Of a mapped file: its dirty pages.
    stored: Option<Stored>,
}

/// What an access to a page finds.
pub(super) enum Found {
    /// The page's frame, and the pages around it that were brought back with it.
    Frame(Frame, PageRange),
    /// The page has to be read from swap: the caller waits for this with no lock held, and looks
    /// again.
    PageIn(Arc<PageIn>),
}

impl SharedMemory {
    /// Memory of zeros, for which `account` pays.
    pub fn new(account: &Arc<Account>) -> Arc<Self> {
        Self::with(account, None)
    }

    /// Memory for the first `pages` pages of a file, whose dirty pages count in `share` (see
    /// [`stores`](super::stores)).
    pub fn of_file(
        account: &Arc<Account>,
        share: &Arc<Share>,
        pages: PageCount,
    ) -> Result<Arc<Self>, OutOfMemory> {
        let charge = Charge::take(account, Kind::Files, Stored::bytes(pages))?;
        let stored = Stored::new(share.clone(), pages)?;
        Ok(Self::with(account, Some((charge, stored))))
    }

    fn with(account: &Arc<Account>, stores: Option<(Charge, Stored)>) -> Arc<Self> {
        let tree = FrameTree::new(account.clone());
        let (noting, stored) = stores.unzip();
        let pages = Pages { tree, hand: Page(0), pinned: false, stored };
        let pages = Mutex::new(pages);
        let memory = Arc::new(Self { pages, noting, place: reclaim::Place::default() });
        reclaim::register(&memory.place, Arc::downgrade(&memory) as Weak<dyn Reclaimable>);
        memory
    }

    /// Looks for a page, which is allocated now at the first access. Does not wait.
    pub(super) fn look(&self, page: Page, claim: Claim) -> Result<Found, Unavailable> {
        self.pages.lock().look(page, claim)
    }

    /// Identifies this memory.
    pub(super) fn id(&self) -> MemoryId {
        MemoryId(core::ptr::from_ref(self) as usize)
    }

    /// Whether first stores to pages are noted, because the memory is of a file.
    pub(super) fn notes_stores(&self) -> bool {
        self.noting.is_some()
    }

    /// Notes that `claim` stores to a page.
    pub(super) fn note_store(&self, page: Page, claim: Claim) -> Store {
        if !self.notes_stores() {
            return Store::Noted;
        }
        self.with_stored(|stored| stored.note(page, claim)).unwrap_or(Store::Noted)
    }

    /// The file's server has agreed that a page becomes dirty.
    pub fn agree_to_store(&self, page: u64) {
        self.with_stored(|stored| stored.agree(Page(page)));
    }

    /// Whether the file's server has refused dirty pages of it.
    pub fn has_refused_pages(&self) -> bool {
        self.with_stored(|stored| stored.has_refused()) == Some(true)
    }

    /// Whether a page may be mapped writable.
    pub(super) fn is_stored(&self, page: Page) -> bool {
        !self.notes_stores() || self.with_stored(|stored| stored.contains(page)) == Some(true)
    }

    /// Number of dirty pages; 0 unless the memory is of a file.
    pub fn dirty_pages(&self) -> usize {
        self.with_stored(|stored| stored.count()).unwrap_or(0)
    }

    /// Looks at the dirty pages, if the memory is of a file.
    pub(super) fn with_stored<T>(&self, look: impl FnOnce(&mut Stored) -> T) -> Option<T> {
        self.pages.lock().stored.as_mut().map(look)
    }

    /// The frame of a page that is in memory.
    pub(super) fn resident(&self, page: Page) -> Option<Frame> {
        let entry = self.pages.lock().tree.get(page)?;
        (!entry.is_swapped()).then(|| entry.frame())
    }

    /// The clock unmaps a page of a space that did not use it. If nobody else maps it, its frame
    /// joins the batch. Returns whether the page may be unmapped: in a batch of [`Owners::Sole`]
    /// only then. Called with the space locked, before its entry is emptied.
    pub(super) fn leave(&self, page: Page, batch: &mut PageOutBatch) -> bool {
        let mut pages = self.pages.lock();
        let Some(entry) = pages.tree.get(page).filter(|_| !pages.pinned) else { return false };
        // The memory's own reference, and the space's.
        if entry.references() > 2 && !mutants::swap_mapped_shared() {
            return batch.owners == Owners::Any;
        }
        debug_assert!(!entry.is_swapped(), "a page that is mapped is in memory");
        let slot = batch.add(entry.frame());
        slot.map(|slot| pages.tree.replace(page, Held::Slot(slot))).is_some()
    }

    /// Frees all pages, in steps between which others run. For the last owner, with no lock held.
    pub(super) fn dismantle(&self) {
        while self.pages.lock().tree.clear_some(PAGES_AT_ONCE) {
            // A thread that ends goes on although it is killed.
            let _ = relax(Interrupt::Killable);
        }
    }

    /// Keeps all pages in memory from now on, because a server maps them.
    pub(super) fn pin(&self) {
        self.pages.lock().pinned = true;
    }

    /// The first page from `from` on that was accessed.
    pub(super) fn next(&self, from: Page) -> Option<Page> {
        self.pages.lock().tree.next(from)
    }

    /// The number of the first page from `from` on that was accessed.
    pub fn next_page(&self, from: u64) -> Option<u64> {
        self.next(Page(from)).map(|page| page.0)
    }

    /// Number of pages of a range that were accessed: they are in memory or swapped out.
    pub(super) fn count(&self, range: PageRange) -> PageCount {
        self.pages.lock().tree.count_in(range)
    }

    /// Calls `look` for each frame that the memory owns.
    pub(super) fn for_each_frame(&self, look: &mut impl FnMut(super::PhysAddr)) {
        self.pages.lock().tree.for_each_frame(look);
    }

    /// Copies a page's bytes. Returns false for a page that was never accessed, which is all zeros;
    /// `into` is unchanged then. May wait for a page-in. EIO where that fails.
    pub fn read(&self, page: u64, into: &mut [u8; PAGE_BYTES]) -> Result<bool, Errno> {
        let resident = {
            let pages = self.pages.lock();
            let Some(entry) = pages.tree.get(Page(page)) else { return Ok(false) };
            // A frame that is being written out can be read, and need not be replaced for that.
            entry.slot().map_or_else(|| Some(entry.frame()), swap::resident)
        };
        let frame = match resident {
            Some(frame) => frame,
            None => self.frame(page)?,
        };
        // SAFETY: the frame is held, and a frame of shared memory is read and written only through
        // raw pointers. Programs may store to it at the same time; each byte is then the old or the
        // new one.
        unsafe { phys_to_virt(frame.addr()).copy_to_nonoverlapping(into.as_mut_ptr(), PAGE_BYTES) };
        Ok(true)
    }

    /// Writes bytes to a page from `offset` on, cut at the page's end. May wait for a page-in, but
    /// for no frame: ENOMEM where none is free.
    pub fn write(&self, page: u64, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        let frame = self.frame(page)?;
        let offset = offset.min(PAGE_BYTES);
        let length = bytes.len().min(PAGE_BYTES - offset);
        // SAFETY: as above; offset and length lie within the frame and `bytes`.
        unsafe {
            phys_to_virt(frame.addr()).add(offset).copy_from_nonoverlapping(bytes.as_ptr(), length)
        };
        Ok(())
    }

    /// The frame of a page, for the kernel. It stays the page's as long as it is held.
    fn frame(&self, page: u64) -> Result<Frame, Errno> {
        // The last page-in: what it brought stays in memory until it was looked at.
        let mut held = None;
        for _ in 0..MAX_ATTEMPTS {
            match self.look(Page(page), Claim::Program)? {
                Found::Frame(frame, _) => return Ok(frame),
                Found::PageIn(page_in) => {
                    page_in.start();
                    page_in.wait()?;
                    drop(held.replace(page_in));
                }
            }
        }
        Err(Errno::EIO)
    }
}

impl Pages {
    fn look(&mut self, page: Page, claim: Claim) -> Result<Found, Unavailable> {
        let single = PageRange::single(page);
        let Some(entry) = self.tree.get(page) else {
            let frame = Frame::zeroed_for(claim)?;
            self.tree.put(page, Held::Frame(frame.clone()), claim)?;
            return Ok(Found::Frame(frame, single));
        };
        let Some(slot) = entry.slot() else { return Ok(Found::Frame(entry.frame(), single)) };
        let (frame, page_in) = match swap::find(slot, || self.neighbours(page, slot), claim)? {
            Source::Pending(page_in) => return Ok(Found::PageIn(page_in)),
            Source::Resident(frame) => (frame, None),
            Source::Arrived(frame, page_in) => (frame, Some(page_in)),
        };
        let frame = if frame.is_shared() { frame.duplicate(claim)? } else { frame };
        self.tree.replace(page, Held::Frame(frame.clone()));
        let back = page_in.map_or(single, |page_in| self.restore(page, slot, &page_in));
        Ok(Found::Frame(frame, back))
    }

    /// The slots of adjacent pages that are adjacent in the swap file as well, and of the page.
    fn neighbours(&self, page: Page, slot: u32) -> Range<u32> {
        let window = knob::SWAP_AROUND.get().max(1);
        let start = Page(page.0 - page.0 % window);
        let slot_of = |page: Page| self.tree.get(page).and_then(Entry::slot);
        let before = (1..=page.0 - start.0)
            .take_while(|&back| {
                let expected = slot.checked_sub(back as u32);
                expected.is_some() && slot_of(Page(page.0 - back)) == expected
            })
            .count() as u32;
        let behind = (1..window - (page.0 - start.0))
            .take_while(|&ahead| slot_of(page + PageCount(ahead)) == slot.checked_add(ahead as u32))
            .count() as u32;
        slot - before..slot + 1 + behind
    }

    /// Puts back the neighbours that were read with a page. Returns the range that is back.
    fn restore(&mut self, page: Page, slot: u32, page_in: &PageIn) -> PageRange {
        let mut back = PageRange::single(page);
        for number in page_in.row.numbers() {
            let other = Page((page.0 + u64::from(number)).wrapping_sub(u64::from(slot)));
            if self.tree.get(other).and_then(Entry::slot) == Some(number)
                && let Some(frame) = page_in.take(number)
            {
                self.tree.replace(other, Held::Frame(frame));
                back.start = back.start.min(other);
                back.end = back.end.max(other.next());
            }
        }
        back
    }
}

impl Reclaimable for SharedMemory {
    /// Swaps out frames that no space maps. `None` also where a server maps the memory (F8).
    fn evict_pages(
        &self,
        visit: &mut Visit,
        bounds: Bounds,
        batch: Option<&mut PageOutBatch>,
    ) -> Option<Swept> {
        let batch = batch?;
        let mut pages = self.pages.try_lock()?;
        if pages.pinned {
            return None;
        }
        let range = visit.range(pages.hand, Page(u64::MAX));
        let swept = pages.tree.sweep(range, bounds, |_, entry: Entry| {
            if entry.is_swapped() || entry.is_shared() {
                return Verdict::Keep;
            }
            batch.add(entry.frame()).map_or(Verdict::Keep, Verdict::Swap)
        });
        pages.hand = visit.step(swept.stopped);
        Some(swept)
    }
}
