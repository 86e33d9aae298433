//! Pages on a block device: those for which there is no room in memory. Each lies in a *slot*, a
//! block of the device; whoever put it there remembers which.
//!
//! What is on the device means nothing to the next server: files end with this one.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use foundation::mutant::{Mutant, active};
use foundation::{Errno, PAGE_BYTES};

use super::slab::SLAB_PAGES;
use crate::blocks::{BlockDevice, Blocks};
use crate::buffer::AlignedBuffer;

/// Pages that go to the device or come from it at once.
pub(super) const RUN_PAGES: usize = SLAB_PAGES;

/// A device with pages on it.
pub(super) struct Spill {
    device: Box<dyn BlockDevice>,
    slots: Blocks,
    /// A run of pages on its way.
    buffer: AlignedBuffer,
}

impl Spill {
    /// An empty one.
    pub fn new(device: Box<dyn BlockDevice>) -> Result<Self, Errno> {
        let slots = Blocks::new(device.blocks().min(u32::MAX.into()))?;
        Ok(Self { device, slots, buffer: AlignedBuffer::new(RUN_PAGES * PAGE_BYTES)? })
    }

    /// Pages that it can hold.
    pub fn capacity(&self) -> u64 {
        self.slots.count()
    }

    /// Whether there is nothing on it.
    pub fn is_empty(&self) -> bool {
        self.slots.free() == self.slots.count()
    }

    /// Slots in a row, as many as there are together and `most` at most. ENOSPC where there is
    /// none.
    fn take_row(&mut self, most: usize) -> Result<Range<u64>, Errno> {
        let first = self.slots.take(None)?;
        let mut row = first..first + 1;
        while row.end - row.start < most as u64 {
            match self.slots.take(Some(row.end)) {
                Ok(slot) if slot == row.end => row.end += 1,
                Ok(elsewhere) => {
                    self.slots.give(elsewhere, 1);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(row)
    }

    /// Writes pages to slots in a row, as many of them as it finds together; nothing has changed
    /// where that fails.
    pub fn write_out(&mut self, pages: &[&[u8; PAGE_BYTES]]) -> Result<Range<u64>, Errno> {
        let row = self.take_row(pages.len().min(RUN_PAGES))?;
        let length = (row.end - row.start) as usize * PAGE_BYTES;
        let bytes = self.buffer.bytes_mut().get_mut(..length).ok_or(Errno::EIO)?;
        for (to, from) in bytes.chunks_exact_mut(PAGE_BYTES).zip(pages) {
            to.copy_from_slice(*from);
        }
        match self.device.write(row.start, bytes) {
            Err(_) if !active(Mutant::SpillIgnoresErrors) => {
                self.slots.give(row.start, row.end - row.start);
                Err(Errno::EIO)
            }
            _ => Ok(row),
        }
    }

    /// The pages in slots in a row, [`RUN_PAGES`] at most.
    pub fn read_in(&mut self, slots: Range<u64>) -> Result<&[u8], Errno> {
        let first = if active(Mutant::SpillWrongSlot) {
            slots.start.saturating_sub(1)
        } else {
            slots.start
        };
        let bytes = self
            .buffer
            .bytes_mut()
            .get_mut(..(slots.end - slots.start) as usize * PAGE_BYTES)
            .ok_or(Errno::EIO)?;
        match self.device.read(first, bytes) {
            Err(_) if active(Mutant::SpillZeroOnError) => bytes.fill(0),
            outcome => outcome.map_err(|_| Errno::EIO)?,
        }
        Ok(bytes)
    }

    /// A slot is free again.
    pub fn give(&mut self, slot: u64) {
        if !active(Mutant::LeakSpillSlot) {
            self.slots.give(slot, 1);
        }
    }
}

/// Slots, each with what lies in it, in rows that can come from the device at once.
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
    fn rows_are_slots_that_follow_each_other() {
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
