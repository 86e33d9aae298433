//! Memory shared by several address spaces: `mmap(MAP_SHARED)`, anonymous or of a file (which
//! `file::mapped` keeps coherent).

use super::{Claim, Frame, OutOfMemory, PAGE_BYTES, phys::phys_to_virt};
use crate::sync::{Mutex, rank};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

/// Frames by page number, allocated at the first access. Freed with the last region that refers to
/// the memory.
#[derive(Debug, Default)]
pub struct SharedMemory {
    frames: Mutex<BTreeMap<u64, Frame>, rank::SharedMemory>,
}

impl SharedMemory {
    /// Memory of zeros.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The frame of a page, allocated now at the first access.
    pub(super) fn frame(&self, page: u64, claim: Claim) -> Result<Frame, OutOfMemory> {
        if let Some(frame) = self.frames.lock().get(&page) {
            return Ok(frame.clone());
        }
        let fresh = Frame::zeroed_for(claim)?;
        Ok(self.frames.lock().entry(page).or_insert(fresh).clone())
    }

    /// Numbers of the pages that were accessed, ascending.
    pub fn pages(&self) -> Vec<u64> {
        self.frames.lock().keys().copied().collect()
    }

    /// Copies a page's bytes. Returns false for a page that was never accessed, which is all zeros;
    /// `into` is unchanged then.
    pub fn read(&self, page: u64, into: &mut [u8; PAGE_BYTES]) -> bool {
        let frame = self.frames.lock().get(&page).cloned();
        if let Some(frame) = &frame {
            // SAFETY: the frame is held, and a frame of shared memory is read and written only
            // through raw pointers. Programs may store to it at the same time; each byte is then
            // the old or the new one.
            unsafe {
                phys_to_virt(frame.addr()).copy_to_nonoverlapping(into.as_mut_ptr(), PAGE_BYTES)
            };
        }
        frame.is_some()
    }

    /// Writes bytes to a page from `offset` on, cut at the page's end.
    pub fn write(&self, page: u64, offset: usize, bytes: &[u8]) -> Result<(), OutOfMemory> {
        let frame = self.frame(page, Claim::Program)?;
        let offset = offset.min(PAGE_BYTES);
        let length = bytes.len().min(PAGE_BYTES - offset);
        // SAFETY: as above; offset and length lie within the frame and `bytes`.
        unsafe {
            phys_to_virt(frame.addr()).add(offset).copy_from_nonoverlapping(bytes.as_ptr(), length)
        };
        Ok(())
    }
}
