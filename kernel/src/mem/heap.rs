//! The kernel's heap: lists of fixed-size blocks in front of a first-fit allocator, which grows by
//! frames mapped at the end of its area.
//!
//! Blocks of a size class stay in that class. Allocations larger than a page go to the first-fit
//! part. The heap never shrinks.
//!
//! Running out: `alloc` returns null after the reserve of frames is used up too, and most of Rust's
//! collections then end the kernel. Therefore each entry from a program first asks for
//! [`headroom`], which does not use the reserve and returns an error.
//!
//! Locks: `GROWTH` outside `HEAP`, and never `HEAP` while frames are taken: reclaim frees memory.

#![cfg_attr(not(target_os = "none"), allow(dead_code))]

use super::{
    Claim, OutOfMemory, PAGE_BYTES,
    kernel::{self, HEAP_PAGES},
};
use crate::sync::{Mutex, rank};
use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::NonNull,
};
use foundation::{ByteCount, PageCount};
use linked_list_allocator::Heap;

/// Block sizes: powers of two from 16 bytes to a page.
const CLASSES: usize = 9;
const SMALLEST_SHIFT: u32 = 4;
/// Minimum of bytes by which the heap grows.
const GROWTH_BYTES: usize = 16 * PAGE_BYTES;
/// Bytes kept free for one system call or fault: more than any of them allocates between two calls
/// of [`headroom`], apart from allocations that are tried and may fail.
const HEADROOM_BYTES: usize = 16 * PAGE_BYTES;
/// Bytes of blocks that are made at once.
const REFILL_BYTES: usize = 1024;

struct Block {
    next: Option<NonNull<Block>>,
}

struct Blocks {
    free: [Option<NonNull<Block>>; CLASSES],
    large: Heap,
}

// SAFETY: the blocks are the heap's own memory, reached only under its lock.
unsafe impl Send for Blocks {}

/// The allocator.
pub struct KernelHeap {
    blocks: Mutex<Blocks, rank::HeapBlocks>,
    /// Pages mapped at the start of the area.
    growth: Mutex<PageCount, rank::HeapGrowth>,
}

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: KernelHeap = KernelHeap {
    blocks: Mutex::new(Blocks { free: [None; CLASSES], large: Heap::empty() }),
    growth: Mutex::new(PageCount::ZERO),
};

/// The size class of a layout; `None` for one larger than a page.
fn class(layout: Layout) -> Option<usize> {
    let bytes = layout.size().max(layout.align()).max(1 << SMALLEST_SHIFT).next_power_of_two();
    let class = (bytes.trailing_zeros() - SMALLEST_SHIFT) as usize;
    (class < CLASSES).then_some(class)
}

fn block_layout(class: usize) -> Layout {
    let bytes = 1 << (class as u32 + SMALLEST_SHIFT);
    // SAFETY: a power of two that is at most a page.
    unsafe { Layout::from_size_align_unchecked(bytes, bytes) }
}

impl Blocks {
    fn take(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let Some(class) = class(layout) else { return self.large.allocate_first_fit(layout).ok() };
        if self.free[class].is_none() {
            self.refill(class);
        }
        let block = self.free[class]?;
        // SAFETY: blocks in the list are free memory that was written by `put`.
        self.free[class] = unsafe { block.read() }.next;
        Some(block.cast())
    }

    fn refill(&mut self, class: usize) {
        let layout = block_layout(class);
        for _ in 0..(REFILL_BYTES / layout.size()).max(1) {
            let Ok(block) = self.large.allocate_first_fit(layout) else { return };
            // SAFETY: fresh memory of this class.
            unsafe { self.put(block, class) };
        }
    }

    /// # Safety
    /// `block` is memory of this class that nobody uses.
    unsafe fn put(&mut self, block: NonNull<u8>, class: usize) {
        let block = block.cast::<Block>();
        // SAFETY: the caller gives us the memory; it is at least 16 bytes, aligned to its size.
        unsafe { block.write(Block { next: self.free[class] }) };
        self.free[class] = Some(block);
    }
}

impl KernelHeap {
    /// Maps more pages at the end, enough for `bytes`. Fails where this very call chain is growing
    /// the heap already.
    fn grow(&self, bytes: usize, claim: Claim) -> Result<(), OutOfMemory> {
        let mut mapped = self.growth.try_lock().ok_or(OutOfMemory)?;
        let bytes = bytes.checked_add(GROWTH_BYTES).ok_or(OutOfMemory)?;
        let pages = ByteCount::of_len(bytes).covering_pages();
        // Each rank leaves the reserves above it alone, and does not begin a growth that cannot succeed.
        let stats = super::frame::stats();
        let kept = super::frame::reserve_below(claim);
        if *mapped + pages > HEAP_PAGES
            || stats.free < kept + pages.to_usize() && super::shrinker::run() == 0
        {
            return Err(OutOfMemory);
        }
        for _ in 0..pages.0 {
            // Pages mapped before a failure stay mapped and are used.
            kernel::map(kernel::area() + *mapped, claim)?;
            let mut blocks = self.blocks.lock();
            let page = (kernel::area() + *mapped).start().0 as *mut u8;
            // SAFETY: the page was just mapped, for the heap alone, right behind what it had.
            unsafe {
                if mapped.is_zero() {
                    blocks.large.init(page, PAGE_BYTES)
                } else {
                    blocks.large.extend(PAGE_BYTES)
                }
            }
            *mapped += PageCount(1);
        }
        Ok(())
    }
}

// SAFETY: memory comes from the heap's own area, each block to one caller at a time; size and
// alignment are those of a class or of the first-fit allocator.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            if let Some(block) = self.blocks.lock().take(layout) {
                return block.as_ptr();
            }
            if self.grow(layout.size() + layout.align(), Claim::Kernel).is_err() {
                return core::ptr::null_mut();
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(pointer) else { return };
        let mut blocks = self.blocks.lock();
        // SAFETY: the caller returns memory that `alloc` returned for this layout.
        unsafe {
            match class(layout) {
                Some(class) => blocks.put(block, class),
                None => blocks.large.deallocate(block, layout),
            }
        }
    }
}

/// Makes sure that the small allocations of a system call or a fault will succeed. Uses the reserve
/// of frames only where `claim` may.
#[cfg(target_os = "none")]
pub fn headroom(claim: Claim) -> Result<(), OutOfMemory> {
    let free = HEAP.blocks.lock().large.free();
    if free >= HEADROOM_BYTES { Ok(()) } else { HEAP.grow(HEADROOM_BYTES, claim) }
}

/// Bytes of the heap that are in use.
pub fn used_bytes() -> usize {
    let blocks = HEAP.blocks.lock();
    let free = |(class, first): (usize, &Option<NonNull<Block>>)| {
        // SAFETY: blocks in the list are free memory that was written by `put`, and the lock is
        // held.
        let chain = core::iter::successors(*first, |block| unsafe { block.read() }.next);
        chain.count() * block_layout(class).size()
    };
    blocks.large.used() - blocks.free.iter().enumerate().map(free).sum::<usize>()
}

/// On the host, the heap is the host's.
#[cfg(not(target_os = "none"))]
pub fn headroom(_: Claim) -> Result<(), OutOfMemory> {
    if super::host::failure::is_due() { Err(OutOfMemory) } else { Ok(()) }
}
