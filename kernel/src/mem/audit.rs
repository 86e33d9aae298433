//! Where the frames are: which of those in use are held by something that is known to hold frames.
//!
//! Known are the kernel's own area (heap, stacks, their tables), the address spaces of living
//! processes (what they map, and their tables), the frame cache, and what the swap file did not
//! take (yet): a page of whoever waits, and goes on waiting, can be among it. What is left is what
//! the machine had from the start, shared memory that nobody maps, messages on their way, and
//! whatever was lost: once all is quiet, a number that no program can change. The tests' leak check
//! compares it before and after.
//!
//! Locks: those of the spaces, of the cache and of the swap area, one at a time.

use super::{Frame, OutOfMemory, PhysAddr, Space, cache, frame, heap, kernel, page_table, swap};
use alloc::{sync::Arc, vec::Vec};

/// One bit for each frame of the machine.
struct Marks {
    words: Vec<u64>,
    marked: usize,
}

impl Marks {
    fn new() -> Result<Self, OutOfMemory> {
        let mut words = Vec::new();
        let length = frame::highest().div_ceil(64);
        words.try_reserve_exact(length).map_err(|_| OutOfMemory)?;
        words.resize(length, 0);
        Ok(Self { words, marked: 0 })
    }

    fn mark(&mut self, address: PhysAddr) {
        let number = frame::number(address);
        if let Some(word) = self.words.get_mut(number / 64) {
            let bit = 1 << (number % 64);
            self.marked += usize::from(*word & bit == 0);
            *word |= bit;
        }
    }
}

/// Bytes of the kernel's heap that are in use, those of the cache apart: they come and go with the
/// pages that programs happen to map.
pub fn heap_bytes() -> usize {
    heap::used_bytes().saturating_sub(cache::heap_bytes())
}

/// How many frames in use are held by none of: the kernel's area, these spaces, the cache, the swap
/// area.
pub fn unknown_frames(spaces: impl Iterator<Item = Arc<Space>>) -> Result<usize, OutOfMemory> {
    let mut marks = Marks::new()?;
    marks.mark(Frame::zero_page().addr());
    if let Some(root) = kernel::root() {
        page_table::for_each_frame(root, kernel::area(), &mut |address| marks.mark(address));
    }
    for space in spaces {
        space.for_each_frame(&mut |address| marks.mark(address));
    }
    cache::for_each_frame(&mut |frame| marks.mark(frame.addr()));
    swap::for_each_frame(&mut |frame| marks.mark(frame.addr()));
    let frame::Stats { total, free } = frame::stats();
    Ok((total - free).saturating_sub(marks.marked))
}
