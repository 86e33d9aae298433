//! Private and shared pages collected for one write to the swap file.

use super::outgoing::{self, PageOut};
use crate::mem::{
    Frame,
    slot::{SlotRow, SwapSlot, WRITE_PAGES},
};
use alloc::vec::Vec;

/// Which private pages may be evicted, by the owners of their frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mem) enum Owners {
    /// Pages whose frame nobody else maps.
    Sole,
    /// All pages. The memory of a shared frame is free only once all owners have evicted it.
    Any,
}

/// Frames that have left their address spaces, and the slots that they will be written to. A batch
/// that has frames must be written.
pub(in crate::mem) struct PageOutBatch {
    /// `None` once it was written.
    row: Option<SlotRow>,
    /// At most as many as there are slots; capacity for all is reserved.
    frames: Vec<Frame>,
    pub owners: Owners,
    /// The number of its buffer.
    buffer: usize,
}

impl PageOutBatch {
    /// A batch of up to `max` pages. `None` where there is no free slot, or no free buffer
    /// ([`await_buffer`](super::await_buffer)).
    pub fn new(owners: Owners, max: usize) -> Option<Self> {
        let (buffer, frames) = outgoing::take_buffer()?;
        let row = SlotRow::take(max.min(WRITE_PAGES));
        let batch = Self { row, frames, owners, buffer };
        batch.row.is_some().then_some(batch)
    }

    /// How many pages it takes in all.
    pub fn max(&self) -> usize {
        self.row.as_ref().map_or(0, SlotRow::len)
    }

    /// How many pages it has.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Adds a frame, if there is a slot left. Returns a reference to the slot, for the page-table
    /// entry.
    pub fn add(&mut self, frame: Frame) -> Option<SwapSlot> {
        let number = self.row.as_ref()?.get(self.frames.len())?;
        debug_assert!(self.frames.len() < self.frames.capacity(), "this must not allocate");
        self.frames.push(frame);
        Some(SwapSlot::share(number))
    }

    /// Begins to write the pages, if there are any.
    pub fn write(mut self) -> Option<PageOut> {
        let mut row = self.row.take().filter(|_| !self.frames.is_empty())?;
        row.truncate(self.frames.len());
        Some(outgoing::write(self.buffer, row, core::mem::take(&mut self.frames)))
    }
}

impl Drop for PageOutBatch {
    fn drop(&mut self) {
        debug_assert!(self.frames.is_empty(), "pages would be lost");
        let frames = core::mem::take(&mut self.frames);
        outgoing::leave_buffer(self.buffer, (frames.capacity() > 0).then_some(frames));
    }
}
