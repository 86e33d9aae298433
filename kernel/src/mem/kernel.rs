//! The kernel's mappings that are made page by page: thread stacks with a guard page, and the heap.
//!
//! They are in one entry of the root table (512 GiB) that was unused at the start. Its table is
//! made before the first address space, so all spaces share it. All mappings are writable and not
//! executable.

use super::{
    Claim, Frame, OutOfMemory, Page, PageRange, PhysAddr, VirtAddr, mmu,
    page_table::{EntryFlags, make_cell},
    phys::phys_to_virt,
};
use crate::sync::{Mutex, rank};
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::PageCount;
use foundation::counter::{self, Counter};

static ROOT: AtomicU64 = AtomicU64::new(0);
static AREA: AtomicU64 = AtomicU64::new(0);

/// Pages for the runs of the heap: more than any supported machine has memory, for each length of
/// runs.
#[cfg(target_os = "none")]
pub(super) const HEAP_PAGES: PageCount = PageCount(1 << 24);
#[cfg(not(target_os = "none"))]
pub(super) const HEAP_PAGES: PageCount = super::host::AREA_PAGES;
const TABLE: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::WRITE);
const LEAF: EntryFlags = TABLE.union(EntryFlags::NO_EXECUTE).union(EntryFlags::HELD);

/// Sets the kernel's root table and chooses a free entry in it. Needs frames.
///
/// # Safety
/// `root` is the table in use, and its upper half stays the kernel's.
pub(super) unsafe fn init(root: PhysAddr) {
    // SAFETY: the table in use is a page of 512 entries in the direct map, and no other CPU runs.
    let table = unsafe { &*phys_to_virt(root).cast::<[AtomicU64; 512]>() };
    let Some(free) =
        (256..512u64).find(|&index| table[index as usize].load(Ordering::Relaxed) == 0)
    else {
        panic!("the root table is full")
    };
    // Bits 48 to 63 of an address repeat bit 47.
    AREA.store(0xffff_0000_0000_0000 | free << 39, Ordering::Relaxed);
    ROOT.store(root.0, Ordering::Relaxed);
    if make_cell(root, area(), TABLE, (Claim::Kernel, None)).is_err() {
        panic!("no frame for the kernel's tables");
    }
}

/// The root table whose upper half all spaces share; `None` on the host.
pub(super) fn root() -> Option<PhysAddr> {
    let root = ROOT.load(Ordering::Relaxed);
    (root != 0).then_some(PhysAddr(root))
}

/// First page of the area, where the runs of the heap begin.
pub(super) fn area() -> Page {
    VirtAddr(AREA.load(Ordering::Relaxed)).page()
}

/// Sets the area on the host, where [`host`](super::host) keeps the frames of mapped pages.
#[cfg(not(target_os = "none"))]
pub(super) fn set_area(start: u64) {
    AREA.store(start, Ordering::Relaxed);
}

/// Maps a page with old contents.
pub(super) fn map(page: Page, claim: Claim) -> Result<(), OutOfMemory> {
    let frame = Frame::recycled(claim)?;
    #[cfg(not(target_os = "none"))]
    if root().is_none() {
        super::host::keep_mapped(page, frame);
        return Ok(());
    }
    let root = root().ok_or(OutOfMemory)?;
    let cell = make_cell(root, page, TABLE, (claim, None))?;
    cell.store(frame.into_raw().0 | LEAF.bits(), Ordering::Release);
    Ok(())
}

/// Unmaps a page and frees its frame.
pub(super) fn unmap(page: Page) {
    #[cfg(not(target_os = "none"))]
    super::host::drop_mapped(page);
    let Some(root) = root() else { return };
    let Ok(cell) = make_cell(root, page, TABLE, (Claim::Kernel, None)) else { return };
    let entry = cell.swap(0, Ordering::AcqRel);
    counter::count(Counter::Flushes, 1);
    mmu::invalidate_page(root, page);
    if entry != 0 {
        // SAFETY: the entry came from `map`, and neither the table nor the CPU has it any more.
        drop(unsafe { Frame::from_raw(PhysAddr(entry & 0x000f_ffff_ffff_f000)) });
    }
}

/// Pages of a thread's kernel stack (32 KiB).
pub const STACK_PAGES: PageCount = PageCount(8);
/// Pages of a stack with its guard page.
const PLACE_PAGES: u64 = STACK_PAGES.0 + 1;

/// Upper bound for stacks: one for each thread (`task::family`), and for some that have ended and
/// still have theirs.
const MAX_STACKS: usize = 4096 + 64;

/// Which places for stacks are taken, one bit each. A table of fixed size: what it needs does not
/// depend on how many threads there were.
struct Places([u64; MAX_STACKS / u64::BITS as usize]);

static PLACES: Mutex<Places, rank::StackAddresses> =
    Mutex::new(Places([0; MAX_STACKS / u64::BITS as usize]));

impl Places {
    /// The first page (the guard page) of a place that was free.
    fn take(&mut self) -> Option<Page> {
        let (index, word) = (0..).zip(&mut self.0).find(|(_, word)| **word != u64::MAX)?;
        let bit = word.trailing_ones();
        *word |= 1 << bit;
        let number = index * u64::from(u64::BITS) + u64::from(bit);
        Some(area() + HEAP_PAGES + PageCount(number * PLACE_PAGES))
    }

    /// Frees the place that begins at this page.
    fn put(&mut self, first: Page) {
        let number = (first - (area() + HEAP_PAGES)).0 / PLACE_PAGES;
        let (index, bit) = (number / u64::from(u64::BITS), number % u64::from(u64::BITS));
        if let Some(word) = self.0.get_mut(index as usize) {
            debug_assert!(*word & 1 << bit != 0, "a stack is freed twice");
            *word &= !(1 << bit);
        }
    }
}

/// A kernel stack, with an unmapped page below it, so that an overflow faults and corrupts nothing.
#[derive(Debug)]
pub struct Stack {
    first: Page,
}

impl Stack {
    /// Maps a stack, on behalf of the process that makes the thread.
    pub fn new(claim: Claim) -> Result<Self, OutOfMemory> {
        let guard = PLACES.lock().take().ok_or(OutOfMemory)?;
        let stack = Self { first: guard.next() };
        for page in PageRange::new(stack.first, STACK_PAGES).iter() {
            // On failure, dropping `stack` unmaps what was mapped so far.
            map(page, claim)?;
        }
        Ok(stack)
    }

    /// The address above the stack, page-aligned.
    pub fn top(&self) -> VirtAddr {
        (self.first + STACK_PAGES).start()
    }

    /// The stack's lowest address; the page below is the guard.
    pub fn bottom(&self) -> VirtAddr {
        self.first.start()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for page in PageRange::new(self.first, STACK_PAGES).iter() {
            unmap(page);
        }
        PLACES.lock().put(self.first.previous());
    }
}
