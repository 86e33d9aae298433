//! The table of slots and their reference counts. Pure data.
//!
//! Slots are handed out in rows through the file (next fit), so that adjacent pages of memory are
//! adjacent in the file. Disk space is released by the chunk: when no slot of a chunk is in use,
//! the chunk becomes a hole of the file.
//!
//! Invariants: `free` is the number of counts that are 0; a chunk's `used` is the number of its
//! counts that are not 0. A chunk that is being punched hands out no slot, because a write could
//! overtake the punch.
#![forbid(unsafe_code)]

use crate::mem::{OutOfMemory, fallible};
use alloc::vec::Vec;
use core::ops::Range;

/// Slots that become a hole together: 2 MiB of the file.
pub const CHUNK: usize = 512;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chunk {
    used: u16,
    /// A slot was handed out since the chunk last was a hole.
    written: bool,
    /// The request to make it a hole is under way.
    punching: bool,
}

/// Reference counts of all slots, by number.
#[derive(Debug)]
pub struct SlotTable {
    counts: Vec<u32>,
    chunks: Vec<Chunk>,
    free: usize,
    /// The sum of all counts.
    references: u64,
    /// Where the next search begins.
    next: usize,
}

impl SlotTable {
    /// `count` slots, none in use.
    pub fn new(count: u32) -> Result<Self, OutOfMemory> {
        let count = count as usize;
        let counts = fallible::filled(0, count)?;
        let chunks = fallible::filled(Chunk::default(), count.div_ceil(CHUNK))?;
        Ok(Self { counts, chunks, free: count, references: 0, next: 0 })
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Number of slots that are not in use.
    pub fn free(&self) -> usize {
        self.free
    }

    /// References to all slots.
    pub fn references(&self) -> u64 {
        self.references
    }

    /// Takes up to `max` consecutive free slots; each has one reference from now on.
    pub fn take(&mut self, max: usize) -> Option<Range<u32>> {
        let found = self
            .search(self.next..self.counts.len(), max)
            .or_else(|| self.search(0..self.next, max))?;
        debug_assert!(found.clone().all(|index| self.counts.get(index) == Some(&0)));
        self.next = found.end;
        self.free -= found.len();
        self.references += found.len() as u64;
        for index in found.clone() {
            if let (Some(count), Some(chunk)) =
                (self.counts.get_mut(index), self.chunks.get_mut(index / CHUNK))
            {
                *count = 1;
                chunk.used += 1;
                chunk.written = true;
            }
        }
        Some(found.start as u32..found.end as u32)
    }

    fn search(&self, within: Range<usize>, max: usize) -> Option<Range<usize>> {
        let is_free = |index: usize| {
            let punching = self.chunks.get(index / CHUNK).is_none_or(|chunk| chunk.punching);
            !punching && self.counts.get(index) == Some(&0)
        };
        let mut at = within.start;
        while at < within.end {
            let full = self
                .chunks
                .get(at / CHUNK)
                .is_none_or(|chunk| chunk.punching || usize::from(chunk.used) == CHUNK);
            if full {
                at = (at / CHUNK + 1) * CHUNK;
            } else if is_free(at) {
                let end = (at..within.end)
                    .take(max)
                    .find(|&index| !is_free(index))
                    .unwrap_or((at + max).min(within.end));
                return Some(at..end);
            } else {
                at += 1;
            }
        }
        None
    }

    /// References to a slot.
    pub fn count(&self, slot: u32) -> u32 {
        self.counts.get(slot as usize).copied().unwrap_or(0)
    }

    /// Adds a reference.
    pub fn retain(&mut self, slot: u32) {
        if let Some(count) = self.counts.get_mut(slot as usize) {
            *count += 1;
            self.references += 1;
        }
    }

    /// Drops a reference. Returns whether it was the last one.
    pub fn release(&mut self, slot: u32) -> bool {
        let Some(count) = self.counts.get_mut(slot as usize).filter(|count| **count > 0) else {
            return false;
        };
        *count -= 1;
        self.references -= 1;
        if *count > 0 {
            return false;
        }
        self.free += 1;
        debug_assert!(self.free <= self.counts.len());
        if let Some(chunk) = self.chunks.get_mut(slot as usize / CHUNK) {
            chunk.used -= 1;
        }
        true
    }

    /// The slots of a chunk that can become a hole. It hands out none until
    /// [`punched`](Self::punched).
    pub fn next_to_punch(&mut self) -> Option<Range<usize>> {
        let number = self
            .chunks
            .iter()
            .position(|chunk| chunk.used == 0 && chunk.written && !chunk.punching)?;
        let chunk = self.chunks.get_mut(number)?;
        (chunk.written, chunk.punching) = (false, true);
        Some(number * CHUNK..((number + 1) * CHUNK).min(self.counts.len()))
    }

    /// The request to punch the chunk of a slot was answered.
    pub fn punched(&mut self, slot: u32) {
        if let Some(chunk) = self.chunks.get_mut(slot as usize / CHUNK) {
            chunk.punching = false;
        }
    }

    /// Number of chunks that are being punched.
    pub fn punching(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.punching).count()
    }

    /// Whether the chunk of a slot that was released has no slot in use.
    pub fn left_idle(&self, slot: u32) -> bool {
        self.chunks.get(slot as usize / CHUNK).is_some_and(|chunk| chunk.used == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q3_slots_come_in_rows_and_wrap_around() {
        let mut slots = SlotTable::new(1000).unwrap();
        assert_eq!(slots.take(64), Some(0..64));
        assert_eq!(slots.take(1000), Some(64..1000));
        assert_eq!((slots.take(1), slots.free()), (None, 0));
        assert!([5, 6, 8].into_iter().all(|slot| slots.release(slot)));
        assert_eq!(slots.take(64), Some(5..7));
        assert_eq!(slots.take(64), Some(8..9));
        assert_eq!(slots.take(64), None);
    }

    #[test]
    fn q3_a_slot_is_free_with_its_last_reference() {
        let mut slots = SlotTable::new(10).unwrap();
        slots.take(1);
        slots.retain(0);
        assert!(!slots.release(0));
        assert_eq!((slots.count(0), slots.free()), (1, 9));
        assert!(slots.release(0));
        assert!(!slots.release(0), "there is no reference left");
        assert_eq!(slots.free(), 10);
    }

    #[test]
    fn q3_idle_chunks_become_holes_and_hand_out_nothing_meanwhile() {
        let mut slots = SlotTable::new(2 * CHUNK as u32).unwrap();
        assert_eq!(slots.next_to_punch(), None, "nothing was handed out");
        slots.take(2);
        slots.release(0);
        assert!(!slots.left_idle(0));
        assert_eq!(slots.next_to_punch(), None);
        slots.release(1);
        assert!(slots.left_idle(1));
        assert_eq!(slots.next_to_punch(), Some(0..CHUNK));
        assert_eq!(slots.next_to_punch(), None);
        assert_eq!(slots.take(2 * CHUNK), Some(CHUNK as u32..2 * CHUNK as u32));
        assert_eq!(slots.take(1), None);
        slots.punched(0);
        assert_eq!(slots.take(1), Some(0..1));
    }
}
