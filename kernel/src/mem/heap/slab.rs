//! Pages of equal blocks.
//!
//! A page begins with a [`Header`]; its blocks fill it from the end downwards, so a block is
//! aligned as its size is. A page is in the list of its class while it has a free block. Its owner
//! is found by rounding a block's address down.

use crate::mem::PAGE_BYTES;
use core::{alloc::Layout, mem::offset_of, ptr::NonNull};

/// Sizes of blocks in bytes. The upper ones divide what a page has besides the header.
const SIZES: [usize; 14] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 672, 1008, 1344, 2032];
/// All sizes are multiples of this.
const GRAIN: usize = 16;
const LARGEST: usize = SIZES[SIZES.len() - 1];

/// The class of a size in grains, rounded up.
const CLASS_OF: [u8; LARGEST / GRAIN + 1] = {
    let mut classes = [0; LARGEST / GRAIN + 1];
    let (mut class, mut grains) = (0, 0);
    while grains < classes.len() {
        if grains * GRAIN > SIZES[class] {
            class += 1;
        }
        classes[grains] = class as u8;
        grains += 1;
    }
    classes
};

/// Blocks of a page, for each class.
const CAPACITY: [u16; SIZES.len()] = {
    let mut capacity = [0; SIZES.len()];
    let mut class = 0;
    while class < SIZES.len() {
        capacity[class] = ((PAGE_BYTES - size_of::<Header>()) / SIZES[class]) as u16;
        class += 1;
    }
    capacity
};

struct Block {
    next: Option<NonNull<Block>>,
}

type Link = Option<NonNull<Header>>;

/// What a page of blocks begins with.
struct Header {
    /// Neighbours in the list of the class.
    next: Link,
    previous: Link,
    /// Blocks that were used before.
    free: Option<NonNull<Block>>,
    /// Blocks in use.
    used: u16,
    /// Offset of the last block that was made. Those below it were never used.
    made: u16,
}

const _: () = assert!(size_of::<Header>() <= 32 && offset_of!(Block, next) == 0);

/// The class of a layout; `None` for one that needs a page or more.
#[inline]
pub(super) fn class(layout: Layout) -> Option<usize> {
    // No layout is so large that this overflows.
    let class = *CLASS_OF.get((layout.size() + GRAIN - 1) >> GRAIN.ilog2())? as usize;
    if layout.align() <= GRAIN { Some(class) } else { aligned_class(class, layout) }
}

/// Bytes that a layout takes.
pub(super) fn block_bytes(layout: Layout) -> usize {
    class(layout).map_or(layout.size(), |class| SIZES[class])
}

/// The first class from `class` on whose blocks are aligned as the layout asks.
#[cold]
fn aligned_class(class: usize, layout: Layout) -> Option<usize> {
    (class..SIZES.len()).find(|&class| SIZES[class].is_multiple_of(layout.align()))
}

/// The pages that have a free block, by class.
pub(super) struct Slabs {
    partial: [Link; SIZES.len()],
    /// All pages of each class.
    pages: [usize; SIZES.len()],
}

// SAFETY: the pages are the heap's own memory, reached only through this value.
unsafe impl Send for Slabs {}

impl Slabs {
    pub const fn new() -> Self {
        Self { partial: [None; SIZES.len()], pages: [0; SIZES.len()] }
    }

    /// A block that nobody uses, if there is a page with one.
    #[inline]
    pub fn take(&mut self, class: usize) -> Option<NonNull<u8>> {
        let mut page = self.partial[class]?;
        // SAFETY: a page in the list begins with its header, and its free blocks are ours. A page
        // that has no free block that was used before has one that was never made.
        unsafe {
            let header = page.as_mut();
            let block = match header.free {
                Some(block) => {
                    header.free = block.as_ref().next;
                    block.cast()
                }
                None => {
                    header.made -= SIZES[class] as u16;
                    page.cast::<u8>().add(header.made as usize)
                }
            };
            header.used += 1;
            if header.used == CAPACITY[class] {
                self.partial[class] = header.next;
                if let Some(mut next) = header.next {
                    next.as_mut().previous = None;
                }
            }
            Some(block)
        }
    }

    /// Takes a block back. Returns an empty page, which left the list, if another page of the class
    /// has a free block. So an empty page is alone in its list.
    ///
    /// # Safety
    /// The block came from [`take`](Self::take) for this class, and nobody uses it any more.
    #[inline]
    pub unsafe fn put(&mut self, block: NonNull<u8>, class: usize) -> Option<NonNull<u8>> {
        let mut page = page_of(block);
        // SAFETY: the block is in a page of this class, whose header is at its start; the block is
        // ours again, and is large enough for a link.
        unsafe {
            let header = page.as_mut();
            let mut spare = None;
            if header.used == CAPACITY[class] {
                self.push(page, class);
                spare = header.next.filter(|next| next.as_ref().used == 0);
            }
            let block = block.cast::<Block>();
            block.write(Block { next: header.free });
            header.free = Some(block);
            header.used -= 1;
            let is_alone = header.next.is_none() && header.previous.is_none();
            if header.used == 0 && !is_alone {
                spare = Some(page);
            }
            let spare = spare?;
            self.unlink(spare, class);
            Some(spare.cast())
        }
    }

    /// Adds an empty page to a class.
    ///
    /// # Safety
    /// The page is memory of the heap that nobody uses.
    pub unsafe fn add(&mut self, page: NonNull<u8>, class: usize) {
        let page = page.cast::<Header>();
        self.pages[class] += 1;
        let made = PAGE_BYTES as u16;
        // SAFETY: the caller gives us the page, which is aligned.
        unsafe {
            page.write(Header { next: None, previous: None, free: None, used: 0, made });
            self.push(page, class);
        }
    }

    /// An empty page, which left its list.
    pub fn remove_empty(&mut self) -> Option<NonNull<u8>> {
        // SAFETY: a page in the list begins with its header.
        let is_empty = |page: &Link| page.is_some_and(|page| unsafe { page.as_ref() }.used == 0);
        let class = self.partial.iter().position(is_empty)?;
        let page = self.partial[class]?;
        // SAFETY: the page is in the list of this class.
        unsafe { self.unlink(page, class) };
        Some(page.cast())
    }

    /// Bytes of the blocks in use.
    pub fn used_bytes(&self) -> usize {
        let used = |class: usize| {
            let capacity = CAPACITY[class] as usize;
            // SAFETY: a page in the list begins with its header.
            let chain =
                core::iter::successors(self.partial[class], |page| unsafe { page.as_ref().next });
            // SAFETY: as above.
            let free = chain.map(|page| capacity - unsafe { page.as_ref() }.used as usize);
            (self.pages[class] * capacity - free.sum::<usize>()) * SIZES[class]
        };
        (0..SIZES.len()).map(used).sum()
    }

    /// # Safety
    /// The page has a header, and is in no list.
    unsafe fn push(&mut self, mut page: NonNull<Header>, class: usize) {
        // SAFETY: the caller's page, and a page in the list, begin with a header.
        unsafe {
            let header = page.as_mut();
            (header.next, header.previous) = (self.partial[class], None);
            if let Some(mut next) = header.next {
                next.as_mut().previous = Some(page);
            }
        }
        self.partial[class] = Some(page);
    }

    /// # Safety
    /// The page is in the list of this class, and leaves the heap.
    unsafe fn unlink(&mut self, page: NonNull<Header>, class: usize) {
        self.pages[class] -= 1;
        // SAFETY: the page and its neighbours are in the list.
        unsafe {
            let &Header { next, previous, .. } = page.as_ref();
            match previous {
                Some(mut previous) => previous.as_mut().next = next,
                None => self.partial[class] = next,
            }
            if let Some(mut next) = next {
                next.as_mut().previous = previous;
            }
        }
    }
}

/// The page that a block is in.
#[inline]
fn page_of(block: NonNull<u8>) -> NonNull<Header> {
    let offset = block.as_ptr() as usize % PAGE_BYTES;
    // SAFETY: a block lies behind the start of its page.
    unsafe { block.sub(offset) }.cast()
}
