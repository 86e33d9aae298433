//! Runs of mapped pages in the kernel's area.
//!
//! The address of a run is aligned to the next power of two of its length, its *order*. Addresses
//! are never merged: those of an order are used again for the same order. The area is so large that
//! each order could have all memory.

use crate::mem::{
    Claim, OutOfMemory, Page, VirtAddr,
    kernel::{self, HEAP_PAGES},
};
use core::{alloc::Layout, ptr::NonNull};
use foundation::PageCount;

/// The largest run has 2^14 pages (64 MiB).
const ORDERS: usize = 15;

/// The order of a run; `None` for one that is too long.
pub(super) fn order(pages: usize) -> Option<usize> {
    let order = pages.checked_next_power_of_two()?.trailing_zeros() as usize;
    (order < ORDERS).then_some(order)
}

type Link = Option<NonNull<Place>>;

/// A note of a free place. There are as many notes as places were ever used, so that freeing a
/// place needs no memory.
pub(super) struct Place {
    start: Page,
    next: Link,
}

impl Place {
    pub const LAYOUT: Layout = Layout::new::<Self>();
}

/// The free places.
pub(super) struct Runs {
    free: [Link; ORDERS],
    /// Notes of places that are in use.
    blank: Link,
    notes: usize,
    /// Pages of the area that were never used begin here.
    end: PageCount,
}

// SAFETY: the notes are the heap's own memory, reached only through this value.
unsafe impl Send for Runs {}

impl Runs {
    pub const fn new() -> Self {
        Self { free: [None; ORDERS], blank: None, notes: 0, end: PageCount::ZERO }
    }

    /// A place of the right order that was used before.
    pub fn reuse(&mut self, pages: usize) -> Option<Page> {
        let order = order(pages)?;
        let mut note = self.free[order]?;
        // SAFETY: a note in a list is one.
        let place = unsafe { note.as_mut() };
        self.free[order] = place.next;
        place.next = self.blank;
        self.blank = Some(note);
        Some(place.start)
    }

    /// A place that was never used. `None` where the area is full, or the run too long.
    pub fn fresh(&mut self, pages: usize) -> Option<Page> {
        let length = 1 << order(pages)?;
        let start = PageCount(self.end.0.next_multiple_of(length));
        if start.0 + length > HEAP_PAGES.0 {
            return None;
        }
        self.end = start + PageCount(length);
        Some(kernel::area() + start)
    }

    /// Adds a note, before [`fresh`](Self::fresh).
    ///
    /// # Safety
    /// The memory is as large as a note, aligned, and nobody else uses it.
    pub unsafe fn add_note(&mut self, note: NonNull<Place>) {
        // SAFETY: the caller gives us the memory.
        unsafe { note.write(Place { start: Page(0), next: self.blank }) };
        self.blank = Some(note);
        self.notes += 1;
    }

    /// Frees a place.
    pub fn put_back(&mut self, start: Page, pages: usize) {
        let (Some(order), Some(mut note)) = (order(pages), self.blank) else { return };
        // SAFETY: a note in a list is one.
        let place = unsafe { note.as_mut() };
        self.blank = place.next;
        (place.start, place.next) = (start, self.free[order]);
        self.free[order] = Some(note);
    }

    /// Bytes that notes take in the heap itself, which are not in use by anybody else.
    pub fn note_bytes(&self) -> usize {
        self.notes * size_of::<Place>()
    }
}

/// The first page of a run.
pub(super) fn place_of(start: NonNull<u8>) -> Page {
    VirtAddr(start.as_ptr() as u64).page()
}

/// Maps the pages of a run; all or none.
pub(super) fn map(start: Page, pages: usize, claim: Claim) -> Result<(), OutOfMemory> {
    for page in 0..pages {
        if let Err(error) = kernel::map(start + PageCount::of_len(page), claim) {
            unmap(start, page);
            return Err(error);
        }
    }
    Ok(())
}

/// Unmaps the pages of a run.
pub(super) fn unmap(start: Page, pages: usize) {
    for page in 0..pages {
        kernel::unmap(start + PageCount::of_len(page));
    }
}
