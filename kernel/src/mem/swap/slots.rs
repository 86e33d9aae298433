//! Which slots of the swap file are in use, and by how many. Pure data.
//!
//! Slots are handed out in rows, one after the other through the file (next fit), so that what was
//! neighbouring memory is neighbouring in the file. They are given back to the server by the chunk:
//! when no slot of a chunk is in use any more, its bytes become a hole.
//!
//! Invariants: `free` is the number of counts that are 0; a chunk's `used` is the number of its
//! counts that are not. A chunk whose hole is being punched gives no slot: a write could overtake
//! the punch.

use crate::mem::OutOfMemory;
use alloc::vec::Vec;
use core::ops::Range;

/// Slots that become a hole together: 2 MiB of the file.
pub const CHUNK: usize = 512;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chunk {
    used: u16,
    /// Something was written since it last was a hole.
    written: bool,
    /// It is being made a hole.
    punching: bool,
}

/// The table.
#[derive(Debug)]
pub struct Slots {
    counts: Vec<u32>,
    chunks: Vec<Chunk>,
    free: usize,
    /// Where the search goes on.
    next: usize,
}

impl Slots {
    /// So many slots, none in use.
    pub fn new(count: u32) -> Result<Self, OutOfMemory> {
        let count = count as usize;
        let (mut counts, mut chunks) = (Vec::new(), Vec::new());
        let room = counts.try_reserve_exact(count).is_ok()
            && chunks.try_reserve_exact(count.div_ceil(CHUNK)).is_ok();
        if !room {
            return Err(OutOfMemory);
        }
        counts.resize(count, 0);
        chunks.resize(count.div_ceil(CHUNK), Chunk::default());
        Ok(Self { counts, chunks, free: count, next: 0 })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// How many are not in use.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Up to `max` free slots in a row, each with one reference from now on.
    pub fn take(&mut self, max: usize) -> Option<Range<u32>> {
        let found = self
            .search(self.next..self.counts.len(), max)
            .or_else(|| self.search(0..self.next, max))?;
        self.next = found.end;
        self.free -= found.len();
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

    /// One more reference.
    pub fn retain(&mut self, slot: u32) {
        if let Some(count) = self.counts.get_mut(slot as usize) {
            *count += 1;
        }
    }

    /// One reference less; says whether that was the last one.
    pub fn release(&mut self, slot: u32) -> bool {
        let Some(count) = self.counts.get_mut(slot as usize).filter(|count| **count > 0) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.free += 1;
        if let Some(chunk) = self.chunks.get_mut(slot as usize / CHUNK) {
            chunk.used -= 1;
        }
        true
    }

    /// A chunk that can be made a hole, and its slots; it gives none until
    /// [`punched`](Self::punched).
    pub fn next_to_punch(&mut self) -> Option<(usize, Range<usize>)> {
        let number = self
            .chunks
            .iter()
            .position(|chunk| chunk.used == 0 && chunk.written && !chunk.punching)?;
        let chunk = self.chunks.get_mut(number)?;
        (chunk.written, chunk.punching) = (false, true);
        Some((number, number * CHUNK..((number + 1) * CHUNK).min(self.counts.len())))
    }

    /// A chunk is a hole.
    pub fn punched(&mut self, number: usize) {
        if let Some(chunk) = self.chunks.get_mut(number) {
            chunk.punching = false;
        }
    }

    /// Chunks that are being made holes.
    pub fn punching(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.punching).count()
    }

    /// Whether a slot's release left a chunk to be punched.
    pub fn left_idle(&self, slot: u32) -> bool {
        self.chunks.get(slot as usize / CHUNK).is_some_and(|chunk| chunk.used == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q3_slots_come_in_rows_and_go_around() {
        let mut slots = Slots::new(1000).unwrap();
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
        let mut slots = Slots::new(10).unwrap();
        slots.take(1);
        slots.retain(0);
        assert!(!slots.release(0));
        assert_eq!((slots.count(0), slots.free()), (1, 9));
        assert!(slots.release(0));
        assert!(!slots.release(0), "there is none left to let go of");
        assert_eq!(slots.free(), 10);
    }

    #[test]
    fn q3_idle_chunks_become_holes_and_give_nothing_meanwhile() {
        let mut slots = Slots::new(2 * CHUNK as u32).unwrap();
        assert_eq!(slots.next_to_punch(), None, "nothing was written");
        slots.take(2);
        slots.release(0);
        assert!(!slots.left_idle(0));
        assert_eq!(slots.next_to_punch(), None);
        slots.release(1);
        assert!(slots.left_idle(1));
        assert_eq!(slots.next_to_punch(), Some((0, 0..CHUNK)));
        assert_eq!(slots.next_to_punch(), None);
        assert_eq!(slots.take(2 * CHUNK), Some(CHUNK as u32..2 * CHUNK as u32));
        assert_eq!(slots.take(1), None);
        slots.punched(0);
        assert_eq!(slots.take(1), Some(0..1));
    }
}
