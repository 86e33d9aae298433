//! Private pages collected for one write to the swap file.

use crate::mem::{
    Frame,
    slot::{SlotRow, SwapSlot},
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

/// Frames that have left their address spaces, and the slots that they will be written to.
pub(in crate::mem) struct PageOutBatch {
    pub row: SlotRow,
    /// At most as many as there are slots; capacity for all is reserved.
    pub frames: Vec<Frame>,
    pub owners: Owners,
}

impl PageOutBatch {
    /// A batch of up to `max` pages. `None` where there is no free slot, or memory is short.
    pub fn new(owners: Owners, max: usize) -> Option<Self> {
        let row = SlotRow::take(max)?;
        let mut frames = Vec::new();
        frames.try_reserve_exact(row.len()).ok()?;
        Some(Self { row, frames, owners })
    }

    /// Adds a frame, if there is a slot left. Returns a reference to the slot, for the page-table
    /// entry.
    pub fn add(&mut self, frame: Frame) -> Option<SwapSlot> {
        let number = self.row.get(self.frames.len())?;
        debug_assert!(self.frames.len() < self.frames.capacity(), "this must not allocate");
        self.frames.push(frame);
        Some(SwapSlot::share(number))
    }
}
