//! First-fit heaps of 64 KiB, for requests of a few pages: rounding those up to pages, and mapping
//! them one by one, would cost more.
//!
//! A span is a run that is aligned to its size, so that it is found by rounding an address down.
//! One that was returned to last is searched first.

use super::PAGE_BYTES;
use core::{alloc::Layout, ptr::NonNull};
use linked_list_allocator::Heap;

/// Pages of a span.
pub(super) const PAGES: usize = 16;
const BYTES: usize = PAGES * PAGE_BYTES;
/// Maximum of a request: an empty span has space for it, wherever it is aligned.
const LARGEST: usize = 4 * PAGE_BYTES;
/// How many spans are searched before another one is made.
const SEARCHED: usize = 4;

/// Whether a span can serve a layout.
#[inline]
pub(super) fn fits(layout: Layout) -> bool {
    layout.size() <= LARGEST && layout.align() <= PAGE_BYTES
}

type Link = Option<NonNull<Span>>;

/// What a span begins with.
struct Span {
    heap: Heap,
    next: Link,
    previous: Link,
}

/// The list of spans, the one that was returned to last in front.
pub(super) struct Spans {
    first: Link,
}

// SAFETY: the spans are the heap's own memory, reached only through this value.
unsafe impl Send for Spans {}

impl Spans {
    pub const fn new() -> Self {
        Self { first: None }
    }

    fn iter(&self) -> impl Iterator<Item = NonNull<Span>> {
        // SAFETY: a span in the list begins with its header.
        core::iter::successors(self.first, |span| unsafe { span.as_ref() }.next)
    }

    /// Memory for a layout, if one of the first spans has it.
    pub fn take(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        self.iter().take(SEARCHED).find_map(|mut span| {
            // SAFETY: a span in the list begins with its header, and only this value refers to it.
            unsafe { span.as_mut() }.heap.allocate_first_fit(layout).ok()
        })
    }

    /// Takes memory back. Returns its span, which left the list, if it is empty and not the only
    /// one.
    ///
    /// # Safety
    /// The memory came from [`take`](Self::take) for this layout, and nobody uses it any more.
    pub unsafe fn put(&mut self, start: NonNull<u8>, layout: Layout) -> Option<NonNull<u8>> {
        let offset = start.as_ptr() as usize % BYTES;
        // SAFETY: a span begins where its address is a multiple of its size, with its header; the
        // memory is of this span.
        unsafe {
            let mut span = start.sub(offset).cast::<Span>();
            span.as_mut().heap.deallocate(start, layout);
            self.unlink(span);
            if span.as_ref().heap.used() == 0 && self.first.is_some() {
                return Some(span.cast());
            }
            self.push(span);
        }
        None
    }

    /// Adds an empty span.
    ///
    /// # Safety
    /// The memory is a run of [`PAGES`] pages of the heap, aligned to its size, that nobody uses.
    pub unsafe fn add(&mut self, start: NonNull<u8>) {
        let header = size_of::<Span>().next_multiple_of(align_of::<u128>());
        let span = start.cast::<Span>();
        // SAFETY: the caller gives us the memory; the heap gets what is behind the header.
        unsafe {
            let heap = Heap::new(start.add(header).as_ptr(), BYTES - header);
            span.write(Span { heap, next: None, previous: None });
            self.push(span);
        }
    }

    /// An empty span, which left the list.
    pub fn remove_empty(&mut self) -> Option<NonNull<u8>> {
        // An empty span is the only one: it serves every request, and `put` releases it otherwise.
        let span = self.first?;
        // SAFETY: a span in the list begins with its header.
        unsafe {
            if span.as_ref().heap.used() > 0 {
                return None;
            }
            self.unlink(span);
        }
        Some(span.cast())
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        // SAFETY: a span in the list begins with its header.
        self.iter().map(|span| unsafe { span.as_ref() }.heap.used()).sum()
    }

    /// # Safety
    /// The span has a header, and is in no list.
    unsafe fn push(&mut self, mut span: NonNull<Span>) {
        // SAFETY: the caller's span, and a span in the list, begin with a header.
        unsafe {
            let header = span.as_mut();
            (header.next, header.previous) = (self.first, None);
            if let Some(mut next) = header.next {
                next.as_mut().previous = Some(span);
            }
        }
        self.first = Some(span);
    }

    /// # Safety
    /// The span is in the list.
    unsafe fn unlink(&mut self, span: NonNull<Span>) {
        // SAFETY: the span and its neighbours are in the list.
        unsafe {
            let &Span { next, previous, .. } = span.as_ref();
            match previous {
                Some(mut previous) => previous.as_mut().next = next,
                None => self.first = next,
            }
            if let Some(mut next) = next {
                next.as_mut().previous = previous;
            }
        }
    }
}
