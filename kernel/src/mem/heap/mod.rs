//! The kernel's heap. Memory that nothing uses goes back to the frames.
//!
//! | request | comes from |
//! |---|---|
//! | up to half a page | a block of a page of equal blocks ([`slab`]), in the direct map |
//! | up to a page | a frame, in the direct map |
//! | up to 4 pages | a first-fit heap in a span of 16 pages ([`span`]) |
//! | more | a run of pages that are mapped one by one ([`run`]) |
//!
//! One empty page of each size of blocks and one empty span are kept for the next request, until
//! memory is short.
//!
//! Running out: a request that may fail ([`fallible`]) leaves the frames alone
//! that are reserved for ranks above the requester's. All others are small, use the reserve of the
//! kernel, and end the kernel when that is used up too. Therefore each entry from a program first
//! asks for [`headroom`], and code that makes many small objects at once for [`prepay`].
//!
//! Lock: `HeapBlocks`. No frame is taken under it: reclaim frees memory.

mod run;
mod slab;
mod span;
#[cfg(test)]
mod tests;

use super::{
    Claim, Frame, OutOfMemory, PAGE_BYTES, PhysAddr, failure, fallible, frame,
    phys::{phys_to_virt, virt_to_phys},
    shrinker::{self, Stage},
};
use crate::sync::{Mutex, Once, rank};
use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::{NonNull, null_mut},
};
use foundation::ByteCount;
use run::Runs;
use slab::Slabs;
use span::Spans;

/// Frames that are free for one system call or fault: more than any of them allocates between two
/// calls of [`headroom`], apart from what is tried or paid for.
pub(super) const HEADROOM_FRAMES: usize = 16;

struct Parts {
    slabs: Slabs,
    spans: Spans,
    runs: Runs,
    /// Frames in the direct map: pages of blocks, and requests of a page.
    frames: usize,
    /// Those of them that are requests of a page.
    pages: usize,
    /// Bytes of runs that are no spans.
    run_bytes: usize,
}

/// The allocator.
pub struct KernelHeap {
    parts: Mutex<Parts, rank::HeapBlocks>,
}

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: KernelHeap = KernelHeap::new();

/// What serves a request.
enum Kind {
    Block(usize),
    Page,
    Span,
    Run,
}

#[inline]
fn kind(layout: Layout) -> Kind {
    match slab::class(layout) {
        Some(class) => Kind::Block(class),
        None if layout.size().max(layout.align()) <= PAGE_BYTES => Kind::Page,
        None if span::fits(layout) => Kind::Span,
        None => Kind::Run,
    }
}

/// The claim of the running thread, registered by the scheduler's layer.
static CLAIM: Once<fn() -> Claim> = Once::new();

/// Registers how the rank of the running thread is found. Must not allocate or acquire locks.
pub fn register_claim(claim: fn() -> Claim) {
    CLAIM.call_once(|| claim);
}

/// Whose frames the request under way may take.
fn claim() -> Claim {
    if fallible::is_requesters() {
        CLAIM.get().map_or(Claim::Program, |claim| claim())
    } else {
        Claim::Kernel
    }
}

impl KernelHeap {
    const fn new() -> Self {
        let parts = Parts {
            slabs: Slabs::new(),
            spans: Spans::new(),
            runs: Runs::new(),
            frames: 0,
            pages: 0,
            run_bytes: 0,
        };
        Self { parts: Mutex::new(parts) }
    }

    /// A block of a class for which there is no free one: from a new page.
    #[cold]
    fn block_of_new_page(&self, class: usize) -> *mut u8 {
        let Some(page) = fresh_page() else { return null_mut() };
        let mut parts = self.parts.lock();
        parts.frames += 1;
        // SAFETY: the page was just taken, for the heap alone.
        unsafe { parts.slabs.add(page, class) };
        parts.slabs.take(class).map_or(null_mut(), NonNull::as_ptr)
    }

    fn page(&self) -> *mut u8 {
        let Some(page) = fresh_page() else { return null_mut() };
        let mut parts = self.parts.lock();
        parts.frames += 1;
        parts.pages += 1;
        page.as_ptr()
    }

    /// Frees a page of the direct map.
    ///
    /// # Safety
    /// The page came from [`fresh_page`], and nobody uses it any more.
    unsafe fn release_page(&self, page: NonNull<u8>) {
        let address = address_of(page);
        // SAFETY: the reference was passed to the heap when the page was taken.
        drop(unsafe { Frame::from_raw(address) });
    }

    fn medium(&self, layout: Layout) -> *mut u8 {
        if let Some(start) = self.parts.lock().spans.take(layout) {
            return start.as_ptr();
        }
        let Some(span) = self.map_run(span::PAGES) else { return null_mut() };
        let mut parts = self.parts.lock();
        // SAFETY: the run was just mapped, for the heap alone, and is aligned to its size.
        unsafe { parts.spans.add(span) };
        parts.spans.take(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    fn large(&self, layout: Layout) -> *mut u8 {
        let pages = run_pages(layout);
        let Some(start) = self.map_run(pages) else { return null_mut() };
        self.parts.lock().run_bytes += pages * PAGE_BYTES;
        start.as_ptr()
    }

    /// Maps a run of pages, at an address that is aligned to its size.
    fn map_run(&self, pages: usize) -> Option<NonNull<u8>> {
        let claim = claim();
        run::order(pages)?;
        available(pages, claim).ok()?;
        let known = self.parts.lock().runs.reuse(pages);
        let place = match known {
            Some(place) => place,
            None => {
                let note = NonNull::new(self.small(run::Place::LAYOUT))?;
                let mut parts = self.parts.lock();
                // SAFETY: the block was just allocated, with this layout.
                unsafe { parts.runs.add_note(note.cast()) };
                parts.runs.fresh(pages)?
            }
        };
        if run::map(place, pages, claim).is_err() {
            self.parts.lock().runs.put_back(place, pages);
            return None;
        }
        NonNull::new(place.start().0 as *mut u8)
    }

    /// # Safety
    /// The run came from [`map_run`](Self::map_run) with this number of pages, and nobody uses it
    /// any more.
    unsafe fn unmap_run(&self, start: NonNull<u8>, pages: usize) {
        let place = run::place_of(start);
        run::unmap(place, pages);
        self.parts.lock().runs.put_back(place, pages);
    }

    fn small(&self, layout: Layout) -> *mut u8 {
        match slab::class(layout) {
            Some(class) => {
                let block = self.parts.lock().slabs.take(class);
                block.map_or_else(|| self.block_of_new_page(class), NonNull::as_ptr)
            }
            None => null_mut(),
        }
    }

    /// Frees what is kept for the next request. Returns the number of frames.
    fn shrink(&self) -> usize {
        let mut freed = 0;
        loop {
            let Some(mut parts) = self.parts.try_lock() else { return freed };
            if let Some(page) = parts.slabs.remove_empty() {
                parts.frames -= 1;
                drop(parts);
                // SAFETY: the page left the slabs, and had no block in use.
                unsafe { self.release_page(page) };
                freed += 1;
            } else if let Some(span) = parts.spans.remove_empty() {
                drop(parts);
                // SAFETY: the span left the list, and nothing in it was in use.
                unsafe { self.unmap_run(span, span::PAGES) };
                freed += span::PAGES;
            } else {
                return freed;
            }
        }
    }

    /// Bytes in use.
    fn used_bytes(&self) -> usize {
        let parts = self.parts.lock();
        let pages = parts.pages * PAGE_BYTES;
        parts.slabs.used_bytes() + pages + parts.spans.used_bytes() + parts.run_bytes
            - parts.runs.note_bytes()
    }
}

fn run_pages(layout: Layout) -> usize {
    ByteCount::of_len(layout.size().max(layout.align())).covering_pages().to_usize()
}

/// A page with old contents, in the direct map.
fn fresh_page() -> Option<NonNull<u8>> {
    let frame = Frame::for_heap(claim()).ok()?;
    NonNull::new(phys_to_virt(frame.into_raw()))
}

fn address_of(page: NonNull<u8>) -> PhysAddr {
    match virt_to_phys(page.as_ptr() as u64, u64::MAX) {
        Some(address) => address,
        None => panic!("{page:?} is not in the direct map"),
    }
}

// SAFETY: memory comes from frames that the heap owns, each block to one caller at a time; size and
// alignment are those of the part that serves the layout.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match kind(layout) {
            Kind::Block(class) => {
                let block = self.parts.lock().slabs.take(class);
                block.map_or_else(|| self.block_of_new_page(class), NonNull::as_ptr)
            }
            Kind::Page => self.page(),
            Kind::Span => self.medium(layout),
            Kind::Run => self.large(layout),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(pointer) else { return };
        let mut parts = self.parts.lock();
        // SAFETY: the caller returns memory that `alloc` returned for this layout, so it belongs to
        // the part that serves the layout; what the parts release is used by nobody.
        unsafe {
            match kind(layout) {
                Kind::Block(class) => {
                    if let Some(page) = parts.slabs.put(block, class) {
                        parts.frames -= 1;
                        drop(parts);
                        self.release_page(page);
                    }
                }
                Kind::Page => {
                    (parts.frames, parts.pages) = (parts.frames - 1, parts.pages - 1);
                    drop(parts);
                    self.release_page(block);
                }
                Kind::Span => {
                    if let Some(span) = parts.spans.put(block, layout) {
                        drop(parts);
                        self.unmap_run(span, span::PAGES);
                    }
                }
                Kind::Run => {
                    let pages = run_pages(layout);
                    parts.run_bytes -= pages * PAGE_BYTES;
                    drop(parts);
                    self.unmap_run(block, pages);
                }
            }
        }
    }
}

/// Registers the shrinker.
pub(super) fn init() {
    shrinker::register(Stage::Heap, || HEAP.shrink());
}

/// Makes `frames` frames available to a claim, if clean pages suffice for that.
#[inline]
fn available(frames: usize, claim: Claim) -> Result<(), OutOfMemory> {
    let wanted = frame::reserve_below(claim).saturating_add(frames);
    if frame::stats().free >= wanted { Ok(()) } else { make_available(wanted) }
}

#[cold]
fn make_available(wanted: usize) -> Result<(), OutOfMemory> {
    while frame::stats().free < wanted {
        if shrinker::run() == 0 {
            return Err(OutOfMemory);
        }
    }
    Ok(())
}

/// Makes sure that the small allocations of a system call or a fault will succeed, which then may
/// use the kernel's reserve. May be called with any lock held.
#[inline]
pub fn headroom(claim: Claim) -> Result<(), OutOfMemory> {
    prepay(0, claim)
}

/// Makes sure that small objects of `bytes` in all can be allocated at once, and [`headroom`]
/// remains. Holds until the caller waits or takes frames otherwise.
#[inline]
#[cfg(target_os = "none")]
pub fn prepay(bytes: usize, claim: Claim) -> Result<(), OutOfMemory> {
    if failure::is_due() {
        return Err(OutOfMemory);
    }
    // Objects of more than a third of a page may fill half a page only.
    available(bytes / (PAGE_BYTES / 2) + HEADROOM_FRAMES, claim)
}

/// On the host, the objects are in the host's heap.
#[cfg(not(target_os = "none"))]
pub fn prepay(_: usize, _: Claim) -> Result<(), OutOfMemory> {
    if failure::is_due() { Err(OutOfMemory) } else { Ok(()) }
}

/// Bytes that a small object of `bytes` takes.
pub(super) fn block_bytes(bytes: usize) -> usize {
    Layout::from_size_align(bytes, 1).map_or(bytes, slab::block_bytes)
}

/// Bytes of the heap that are in use.
pub fn used_bytes() -> usize {
    HEAP.used_bytes()
}

/// Frames of the heap in the direct map. (Those of runs are in the kernel's area.)
pub(super) fn frames() -> usize {
    HEAP.parts.lock().frames
}
