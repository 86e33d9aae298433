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
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::PageCount;

static ROOT: AtomicU64 = AtomicU64::new(0);
static AREA: AtomicU64 = AtomicU64::new(0);

/// Maximum of pages of the heap: more memory than any supported machine has.
pub(super) const HEAP_PAGES: PageCount = PageCount(1 << 24);
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

/// First page of the area, where the heap begins.
pub(super) fn area() -> Page {
    VirtAddr(AREA.load(Ordering::Relaxed)).page()
}

/// Maps a fresh page.
pub(super) fn map(page: Page, claim: Claim) -> Result<(), OutOfMemory> {
    let root = root().ok_or(OutOfMemory)?;
    let cell = make_cell(root, page, TABLE, (claim, None))?;
    cell.store(Frame::zeroed_for(claim)?.into_raw().0 | LEAF.bits(), Ordering::Release);
    Ok(())
}

/// Unmaps a page and frees its frame.
fn unmap(page: Page) {
    let Some(root) = root() else { return };
    let Ok(cell) = make_cell(root, page, TABLE, (Claim::Kernel, None)) else { return };
    let entry = cell.swap(0, Ordering::AcqRel);
    mmu::invalidate_page(root, page);
    if entry != 0 {
        // SAFETY: the entry came from `map`, and neither the table nor the CPU has it any more.
        drop(unsafe { Frame::from_raw(PhysAddr(entry & 0x000f_ffff_ffff_f000)) });
    }
}

/// Pages of a thread's kernel stack (32 KiB).
pub const STACK_PAGES: PageCount = PageCount(8);

/// First pages (guard pages) of stacks that were dropped, and the number of stacks ever placed.
static PLACES: Mutex<(Vec<Page>, u64), rank::StackAddresses> = Mutex::new((Vec::new(), 0));

/// A kernel stack, with an unmapped page below it, so that an overflow faults and corrupts nothing.
#[derive(Debug)]
pub struct Stack {
    first: Page,
}

impl Stack {
    /// Maps a stack, on behalf of the process that makes the thread.
    pub fn new(claim: Claim) -> Result<Self, OutOfMemory> {
        let guard = {
            let mut places = PLACES.lock();
            places.0.pop().unwrap_or_else(|| {
                places.1 += 1;
                area() + HEAP_PAGES + PageCount((places.1 - 1) * (STACK_PAGES.0 + 1))
            })
        };
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
        PLACES.lock().0.push(self.first.previous());
    }
}
