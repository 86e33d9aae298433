//! Memory shared by several address spaces: anonymous `mmap(MAP_SHARED)`.
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
    Account, Claim, Frame, Page, PageRange, mutants,
    page_table::{Bounds, Entry, FrameTree, Held, Swept, Verdict},
    reclaim::{self, Reclaimable, Visit},
    swap::{self, Owners, PageIn, PageOutBatch, Source, Unavailable},
};
use crate::sync::{Interrupt, Mutex, rank, relax};
use alloc::sync::{Arc, Weak};
use core::ops::Range;
use foundation::{PageCount, knob};

/// Pages that one step frees: some 50,000 instructions.
const PAGES_AT_ONCE: usize = 512;

/// Frames and slots by page number. Frames are allocated at the first access, and everything is
/// freed with the last region that refers to the memory.
#[derive(Debug)]
pub struct SharedMemory {
    pages: Mutex<Pages, rank::SharedMemory>,
    place: reclaim::Place,
}

#[derive(Debug)]
struct Pages {
    tree: FrameTree,
    /// The page that the clock of reclaim visits next.
    hand: Page,
    /// A server maps the memory: no page leaves (F8).
    pinned: bool,
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
        let tree = FrameTree::new(account.clone());
        let pages = Mutex::new(Pages { tree, hand: Page(0), pinned: false });
        let memory = Arc::new(Self { pages, place: reclaim::Place::default() });
        reclaim::register(&memory.place, Arc::downgrade(&memory) as Weak<dyn Reclaimable>);
        memory
    }

    /// Looks for a page, which is allocated now at the first access. Does not wait.
    pub(super) fn look(&self, page: Page, claim: Claim) -> Result<Found, Unavailable> {
        self.pages.lock().look(page, claim)
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

    /// Number of pages of a range that were accessed: they are in memory or swapped out.
    pub(super) fn count(&self, range: PageRange) -> PageCount {
        self.pages.lock().tree.count_in(range)
    }

    /// Calls `look` for each frame that the memory owns.
    pub(super) fn for_each_frame(&self, look: &mut impl FnMut(super::PhysAddr)) {
        self.pages.lock().tree.for_each_frame(look);
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
