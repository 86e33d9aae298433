//! The heap: dlmalloc over anonymous mappings, behind a spin lock; on a host, that of `std`.
//!
//! A server must not end for want of memory, and it cannot undo a request in which some small
//! allocation failed. So it keeps a *reserve*: blocks of memory that a small allocation takes when
//! the kernel has no more. Before each request the server [replenishes](replenish) the reserve, or
//! refuses the request. What a request takes in small allocations is less than the reserve, so it
//! does not fail halfway. Large allocations never take from the reserve: they are fallible.
//!
//! A server learns from mmap(2) that memory is short, and not in a fault: the kernel loads what it
//! maps while memory is short. Memory that is freed is used again, or unmapped when a mapping is
//! free as a whole.

use crate::prelude::*;

/// Bytes of a block of the reserve.
const BLOCK_BYTES: usize = 64 << 10;

/// Keeps a reserve of at least `bytes` from now on. For servers. ENOMEM.
pub fn reserve(bytes: usize) -> Result<()> {
    #[cfg(target_os = "none")]
    guest::HEAP.reserve(bytes.div_ceil(BLOCK_BYTES));
    #[cfg(not(target_os = "none"))]
    let _ = bytes.div_ceil(BLOCK_BYTES);
    replenish()
}

/// Makes the reserve complete again; ENOMEM if there is no memory for that.
pub fn replenish() -> Result<()> {
    #[cfg(target_os = "none")]
    if !guest::HEAP.replenish() {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

#[cfg(target_os = "none")]
mod guest {
    use super::BLOCK_BYTES;
    use crate::sys;
    use core::alloc::{GlobalAlloc, Layout};
    use core::ptr::NonNull;
    use dlmalloc::{Allocator, Dlmalloc};

    /// The smallest mapping requested from the kernel: growing page by page would need a system
    /// call for each page.
    const CHUNK_BYTES: usize = 256 << 10;

    /// Blocks of the reserve, at most.
    const MAX_BLOCKS: usize = 32;

    /// An allocation of less than this may take a block of the reserve.
    const SMALL_BYTES: usize = BLOCK_BYTES / 2;

    struct Mappings;

    // SAFETY: what `alloc` returns is a fresh private mapping of at least the size asked for, and
    // `free` unmaps it.
    unsafe impl Allocator for Mappings {
        fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
            let whole = size.checked_next_multiple_of(CHUNK_BYTES);
            // Where a whole chunk is not available, the size alone may be.
            for size in whole.into_iter().chain([size]) {
                if let Ok(start) = sys::map_anonymous(size) {
                    return (start, size, 0);
                }
            }
            (core::ptr::null_mut(), 0, 0)
        }
        fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
            core::ptr::null_mut()
        }
        fn free_part(&self, start: *mut u8, old_size: usize, new_size: usize) -> bool {
            // SAFETY: dlmalloc releases only the tail of a mapping.
            unsafe { sys::unmap(start.add(new_size), old_size - new_size).is_ok() }
        }
        fn free(&self, start: *mut u8, size: usize) -> bool {
            // SAFETY: dlmalloc no longer uses the range.
            unsafe { sys::unmap(start, size).is_ok() }
        }
        fn can_release_part(&self, _: u32) -> bool {
            true
        }
        fn allocates_zeros(&self) -> bool {
            true
        }
        fn page_size(&self) -> usize {
            crate::pages::PAGE_BYTES
        }
    }

    struct State {
        memory: Dlmalloc<Mappings>,
        /// The blocks of the reserve that are there, in front.
        blocks: [Option<NonNull<u8>>; MAX_BLOCKS],
        held: usize,
        wanted: usize,
    }

    // SAFETY: the blocks are this heap's own allocations.
    unsafe impl Send for State {}

    impl State {
        /// Allocates blocks until the reserve is complete. Returns whether it is.
        fn replenish(&mut self) -> bool {
            while self.held < self.wanted {
                // SAFETY: the size is not 0, and the alignment a power of two.
                let block = NonNull::new(unsafe { self.memory.malloc(BLOCK_BYTES, 16) });
                let (Some(place), Some(_)) = (self.blocks.get_mut(self.held), block) else {
                    return false;
                };
                *place = block;
                self.held += 1;
            }
            true
        }

        /// Frees a block of the reserve, if there is one.
        fn take_block(&mut self) -> bool {
            let Some(last) = self.held.checked_sub(1) else { return false };
            let Some(block) = self.blocks.get_mut(last).and_then(Option::take) else {
                return false;
            };
            self.held = last;
            // SAFETY: the block was allocated with this size and alignment, and nobody uses it.
            unsafe { self.memory.free(block.as_ptr(), BLOCK_BYTES, 16) };
            true
        }

        /// Allocates by `attempt`, from the reserve if a small allocation fails otherwise.
        fn allocate(
            &mut self,
            size: usize,
            mut attempt: impl FnMut(&mut Dlmalloc<Mappings>) -> *mut u8,
        ) -> *mut u8 {
            loop {
                let start = attempt(&mut self.memory);
                if !start.is_null() || size >= SMALL_BYTES || !self.take_block() {
                    return start;
                }
            }
        }
    }

    pub struct Heap(spin::Mutex<State>);

    impl Heap {
        pub fn reserve(&self, blocks: usize) {
            self.0.lock().wanted = blocks.min(MAX_BLOCKS);
        }

        pub fn replenish(&self) -> bool {
            self.0.lock().replenish()
        }
    }

    // SAFETY: dlmalloc keeps GlobalAlloc's contract, and the lock serialises threads.
    unsafe impl GlobalAlloc for Heap {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let (size, align) = (layout.size(), layout.align());
            // SAFETY: the caller keeps dlmalloc's contract.
            self.0.lock().allocate(size, |memory| unsafe { memory.malloc(size, align) })
        }
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            let (size, align) = (layout.size(), layout.align());
            // SAFETY: as above.
            self.0.lock().allocate(size, |memory| unsafe { memory.calloc(size, align) })
        }
        unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
            // SAFETY: as above.
            unsafe { self.0.lock().memory.free(start, layout.size(), layout.align()) }
        }
        unsafe fn realloc(&self, start: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: as above; on a failure dlmalloc leaves the allocation as it is.
            self.0.lock().allocate(new_size, |memory| unsafe {
                memory.realloc(start, layout.size(), layout.align(), new_size)
            })
        }
    }

    #[global_allocator]
    pub static HEAP: Heap = Heap(spin::Mutex::new(State {
        memory: Dlmalloc::new_with_allocator(Mappings),
        blocks: [None; MAX_BLOCKS],
        held: 0,
        wanted: 0,
    }));
}
