//! Placed pages: those of files that were on a device before the server started, because they do
//! not fit into memory. They are read in place and never written there: a change makes a page of
//! its own, as it does of a page of the archive. So a placed page has no entry and no owner, and
//! its block is never used for another.

use alloc::boxed::Box;
use alloc::vec::Vec;

use foundation::{Errno, PAGE_BYTES};

use super::mutants;
use super::spill::{RUN_PAGES, rows};
use crate::blocks::BlockDevice;
use crate::buffer::AlignedBuffer;

/// Maximum number of placed pages that a request needs at once: those of a message with parts of
/// pages at both ends, and the two that a copy changes partly.
const WINDOW_PAGES: usize = RUN_PAGES + 4;

/// Bytes of memory for those.
pub(super) const WINDOW_BYTES: u64 = (WINDOW_PAGES * (PAGE_BYTES + 8)) as u64;

/// The device with the placed pages.
pub(super) struct Placed {
    device: Box<dyn BlockDevice>,
    /// The blocks that were loaded last, in ascending order, and their bytes in the same order.
    blocks: Vec<u64>,
    window: AlignedBuffer,
}

impl Placed {
    /// Takes a device into use. ENOMEM without memory for the pages of a request.
    pub fn new(device: Box<dyn BlockDevice>) -> Result<Self, Errno> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(WINDOW_PAGES).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { device, blocks, window: AlignedBuffer::new(WINDOW_PAGES * PAGE_BYTES)? })
    }

    /// Number of blocks of the device.
    pub fn blocks(&self) -> u64 {
        self.device.blocks()
    }

    /// Loads pages, in place of those that were loaded before. EIO if the device fails.
    pub fn load(&mut self, mut wanted: Vec<(u64, ())>) -> Result<(), Errno> {
        self.blocks.clear();
        for (row, _) in rows(&mut wanted) {
            let from = self.blocks.len() * PAGE_BYTES;
            let bytes = from..from + (row.end - row.start) as usize * PAGE_BYTES;
            let space = self.window.bytes_mut().get_mut(bytes).ok_or(Errno::EIO)?;
            let outcome = self.device.read(mutants::first_slot(row.start), space);
            mutants::read(outcome, space).map_err(|_| Errno::EIO)?;
            self.blocks.extend(row);
        }
        Ok(())
    }

    /// The bytes of a page, if it was loaded.
    pub fn bytes(&self, block: u64) -> Option<&[u8; PAGE_BYTES]> {
        self.window.page(self.blocks.binary_search(&block).ok()?)
    }
}
