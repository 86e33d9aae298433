//! Memory that several address spaces see and write: `mmap(MAP_SHARED)`, anonymous or of a file
//! (`file::mapped` keeps it and the file alike).

use super::{Claim, Frame, OutOfMemory, PAGE_BYTES, phys::phys_to_virt};
use crate::sync::{Mutex, rank};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

/// Frames by page number, made when first touched. Freed with the last region that refers to them.
#[derive(Debug, Default)]
pub struct SharedMemory {
    frames: Mutex<BTreeMap<u64, Frame>, rank::SharedMemory>,
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

    /// The pages that were touched, ascending.
    pub fn pages(&self) -> Vec<u64> {
        self.frames.lock().keys().copied().collect()
    }

    /// Copies a page's bytes as they are now; false for one that was never touched, which is all
    /// zeros.
    pub fn read(&self, page: u64, into: &mut [u8; PAGE_BYTES]) -> bool {
        let frame = self.frames.lock().get(&page).cloned();
        if let Some(frame) = &frame {
            // SAFETY: the frame is held, and a frame of shared memory is only ever read and written
            // through raw pointers. Programs may store to it meanwhile; bytes may then be of before
            // or after, as with any two processors.
            unsafe {
                phys_to_virt(frame.addr()).copy_to_nonoverlapping(into.as_mut_ptr(), PAGE_BYTES)
            };
        }
        frame.is_some()
    }

    /// Puts bytes into a page from `offset` on; what does not fit is left out.
    pub fn write(&self, page: u64, offset: usize, bytes: &[u8]) -> Result<(), OutOfMemory> {
        let frame = self.frame(page, Claim::Program)?;
        let offset = offset.min(PAGE_BYTES);
        let length = bytes.len().min(PAGE_BYTES - offset);
        // SAFETY: as above; both ends lie within what they belong to.
        unsafe {
            phys_to_virt(frame.addr()).add(offset).copy_from_nonoverlapping(bytes.as_ptr(), length)
        };
        Ok(())
    }
}
