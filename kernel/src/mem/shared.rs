//! Memory that several address spaces see and write: `mmap(MAP_SHARED|MAP_ANONYMOUS)`.

use super::{Claim, Frame, OutOfMemory};
use alloc::{collections::BTreeMap, sync::Arc};
use spin::Mutex;

/// Frames by page number, made when first touched. Freed with the last region that refers to them.
#[derive(Debug, Default)]
pub struct SharedMemory {
    frames: Mutex<BTreeMap<u64, Frame>>,
}

impl SharedMemory {
    /// Memory that is all zeros.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The frame of a page, made now where it is the first touch.
    pub(super) fn frame(&self, page: u64, claim: Claim) -> Result<Frame, OutOfMemory> {
        if let Some(frame) = self.frames.lock().get(&page) {
            return Ok(frame.clone());
        }
        let fresh = Frame::zeroed_for(claim)?;
        Ok(self.frames.lock().entry(page).or_insert(fresh).clone())
    }
}
