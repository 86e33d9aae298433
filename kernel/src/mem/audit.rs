//! Accounts for each frame in use by its holder.
//!
//! Known holders are the heap, the kernel's area (runs of the heap, stacks, their tables), the
//! address spaces of living processes (mapped pages and tables), the frame cache, what is kept of
//! programs' files, and swap (writes under way or failed, which can stay while a process sleeps).
//! The other frames in use belong to the machine from the start, to shared memory that nobody maps,
//! to messages in transit, or are leaked. Once the system is idle their number is constant: the
//! tests' leak check compares it before and after.
//!
//! Locks: those of the spaces, of the cache and of swap, one at a time.
#![forbid(unsafe_code)]

use super::{
    Frame, OutOfMemory, PhysAddr, Space, cache, fallible, frame, heap, kept_file, kernel,
    page_table, swap,
};
use alloc::{sync::Arc, vec::Vec};

/// The set of frames with a known holder: one bit for each frame of the machine.
struct Marks {
    words: Vec<u64>,
    marked: usize,
}

impl Marks {
    fn new() -> Result<Self, OutOfMemory> {
        Ok(Self { words: fallible::filled(0, frame::highest().div_ceil(64))?, marked: 0 })
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

/// Bytes of the kernel's heap in use, without the frame cache's, which vary with the pages that
/// programs map.
pub fn heap_bytes() -> usize {
    heap::used_bytes().saturating_sub(cache::heap_bytes())
}

/// Number of frames in use that are held by none of: the kernel's area, `spaces`, the frame cache,
/// swap. Fails where memory is short.
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
    kept_file::for_each_frame(&mut |frame| marks.mark(frame.addr()));
    swap::for_each_frame(&mut |frame| marks.mark(frame.addr()));
    let frame::Stats { total, free } = frame::stats();
    Ok((total - free).saturating_sub(marks.marked + heap::frames()))
}
