//! Pages on a block device: those for which there is no space in memory. Each lies in a *slot*, a
//! block of the device; the page's entry records which.
//!
//! The device's contents do not outlive the server: the next one starts with an empty device.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use foundation::{Errno, PAGE_BYTES};

use super::mutants;
use super::slab::SLAB_PAGES;
use crate::blocks::{BlockDevice, Blocks};
use crate::buffer::AlignedBuffer;

/// Maximum number of pages in one transfer to or from the device.
pub(super) const RUN_PAGES: usize = SLAB_PAGES;

/// A device with pages on it.
pub(super) struct Spill {
    device: Box<dyn BlockDevice>,
    slots: Blocks,
    /// The pages of one transfer.
    buffer: AlignedBuffer,
}

impl Spill {
    /// Takes an empty device into use. ENOMEM without memory for its bit map.
    pub fn new(device: Box<dyn BlockDevice>) -> Result<Self, Errno> {
        let slots = Blocks::new(device.blocks().min(u32::MAX.into()))?;
        Ok(Self { device, slots, buffer: AlignedBuffer::new(RUN_PAGES * PAGE_BYTES)? })
    }

    /// Number of pages that the device can hold.
    pub fn capacity(&self) -> u64 {
        self.slots.count()
    }

    /// Whether the device holds no page.
    pub fn is_empty(&self) -> bool {
        self.slots.free() == self.slots.count()
    }

    /// Allocates adjacent slots: as many as are free together, at most `most`. ENOSPC without a
    /// free slot.
    fn take_row(&mut self, most: usize) -> Result<Range<u64>, Errno> {
        let first = self.slots.take(None)?;
        let mut row = first..first + 1;
        while row.end - row.start < most as u64 {
            match self.slots.take(Some(row.end)) {
                Ok(slot) if slot == row.end => row.end += 1,
                Ok(elsewhere) => {
                    self.slots.release(elsewhere, 1);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(row)
    }

    /// Writes pages to adjacent slots, as many as are free together, and returns the slots. On an
    /// error (ENOSPC, EIO) nothing has changed.
    pub fn write_out(&mut self, pages: &[&[u8; PAGE_BYTES]]) -> Result<Range<u64>, Errno> {
        let row = self.take_row(pages.len().min(RUN_PAGES))?;
        let length = (row.end - row.start) as usize * PAGE_BYTES;
        let bytes = self.buffer.bytes_mut().get_mut(..length).ok_or(Errno::EIO)?;
        for (to, from) in bytes.chunks_exact_mut(PAGE_BYTES).zip(pages) {
            to.copy_from_slice(*from);
        }
        if mutants::written(self.device.write(row.start, bytes)).is_err() {
            self.slots.release(row.start, row.end - row.start);
            return Err(Errno::EIO);
        }
        Ok(row)
    }

    /// Reads the pages of adjacent slots, at most [`RUN_PAGES`].
    pub fn read_in(&mut self, slots: Range<u64>) -> Result<&[u8], Errno> {
        let first = mutants::first_slot(slots.start);
        let length = (slots.end - slots.start) as usize * PAGE_BYTES;
        let bytes = self.buffer.bytes_mut().get_mut(..length).ok_or(Errno::EIO)?;
        let outcome = self.device.read(first, bytes);
        mutants::read(outcome, bytes).map_err(|_| Errno::EIO)?;
        Ok(bytes)
    }

    /// Frees a slot.
    pub fn release(&mut self, slot: u64) {
        if !mutants::leak_slot() {
            self.slots.release(slot, 1);
        }
    }
}

/// Groups slots, each with its content, into runs that one transfer can read.
pub(super) fn rows<T>(
    slots: &mut Vec<(u64, T)>,
) -> impl Iterator<Item = (Range<u64>, &[(u64, T)])> {
    slots.sort_unstable_by_key(|(slot, _)| *slot);
    slots.dedup_by_key(|(slot, _)| *slot);
    let together = slots.chunk_by(|(one, _), (next, _)| one + 1 == *next);
    together
        .flat_map(|row| row.chunks(RUN_PAGES))
        .filter_map(|row| Some((row.first()?.0..row.last()?.0 + 1, row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_runs_of_adjacent_slots() {
        let mut slots = [7, 3, 4, 9, 3, 8].map(|slot| (slot, slot * 10)).to_vec();
        let rows: Vec<_> = rows(&mut slots).map(|(row, _)| row).collect();
        assert_eq!(rows, [3..5, 7..10]);
        let mut long: Vec<(u64, ())> = (0..100).map(|slot| (slot, ())).collect();
        assert_eq!(
            super::rows(&mut long).map(|(row, _)| row).collect::<Vec<_>>(),
            [0..64, 64..100]
        );
    }
}
