//! The input of a terminal that can be read: bytes, and where lines end.
//!
//! Each byte takes a slot, and so does an end of file that was typed (^D): both are input, and
//! count for the limit of a terminal. The memory is allocated with the terminal, because input
//! arrives in interrupts.

use super::discipline::MAX_INPUT;
use crate::mem::OutOfMemory;
use crate::mem::fallible;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A slot: a byte, and these flags.
type Slot = u16;
/// A line ends with this slot.
const END: Slot = 0x100;
/// The slot has no byte: an end of file was typed.
const NO_BYTE: Slot = 0x200;

/// Bytes that wait for a reader.
#[derive(Debug, Default)]
pub struct Queue {
    slots: VecDeque<Slot>,
    /// Number of slots that end a line.
    lines: usize,
    /// Whether a line was taken last whose rest is still here.
    is_split: bool,
}

impl Queue {
    /// Allocates the memory for all input that a terminal accepts.
    pub fn reserve(&mut self) -> Result<(), OutOfMemory> {
        fallible::reserve_exact(&mut self.slots, MAX_INPUT)
    }

    /// Number of slots that are taken.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Number of complete lines.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Bytes of the first line; 0 where none is complete.
    pub fn line_bytes(&self) -> usize {
        if self.lines == 0 {
            return 0;
        }
        let before = self.slots.iter().take_while(|&&slot| slot & END == 0).count();
        before + self.slots.get(before).map_or(0, |slot| usize::from(slot & NO_BYTE == 0))
    }

    /// Appends a byte. The caller has checked that there is space.
    pub fn push(&mut self, byte: u8) {
        if fallible::reserve(&mut self.slots, 1).is_ok() {
            self.slots.push_back(byte.into());
        }
    }

    /// Ends a line with the last byte.
    pub fn end_line(&mut self) {
        if let Some(last) = self.slots.back_mut().filter(|last| **last & END == 0) {
            *last |= END;
            self.lines += 1;
        }
    }

    /// Ends a line without a byte of its own. The caller has checked that there is space.
    pub fn end_file(&mut self) {
        if fallible::reserve(&mut self.slots, 1).is_ok() {
            self.slots.push_back(END | NO_BYTE);
            self.lines += 1;
        }
    }

    /// Takes at most `max` bytes of the first line; `None` where none is complete.
    pub fn take_line(&mut self, max: usize) -> Option<Vec<u8>> {
        if self.lines == 0 {
            return None;
        }
        let lines = self.lines;
        let bytes = self.take(self.line_bytes().min(max));
        // An end of file behind the last byte belongs to the line, unless the byte ended it.
        if self.lines == lines && self.slots.front().is_some_and(|slot| slot & NO_BYTE != 0) {
            self.slots.pop_front();
            self.lines -= 1;
        }
        self.is_split = self.lines == lines;
        Some(bytes)
    }

    /// Takes at most `max` bytes. They are of one line, or there are no lines.
    pub fn take(&mut self, max: usize) -> Vec<u8> {
        let taken = self.slots.drain(..max.min(self.slots.len()));
        let lines = &mut self.lines;
        taken
            .inspect(|slot| *lines -= usize::from(slot & END != 0))
            .map(|slot| slot as u8)
            .collect()
    }

    /// Puts back bytes that were taken. Their places were kept.
    pub fn put_back(&mut self, bytes: &[u8]) {
        bytes.iter().rev().for_each(|&byte| self.put_first(byte.into()));
    }

    fn put_first(&mut self, slot: Slot) {
        debug_assert!(self.slots.len() < self.slots.capacity(), "a place was kept");
        self.slots.push_front(slot);
    }

    /// Puts back the bytes of a line that were taken: before its rest, or as a line of their own.
    pub fn put_back_line(&mut self, bytes: &[u8]) {
        if self.is_split {
            return self.put_back(bytes);
        }
        let Some((&last, before)) = bytes.split_last() else { return };
        self.put_first(Slot::from(last) | END);
        self.lines += 1;
        self.put_back(before);
    }

    /// Forgets where lines end.
    pub fn join_lines(&mut self) {
        self.slots.retain_mut(|slot| {
            let is_byte = *slot & NO_BYTE == 0;
            *slot &= !END;
            is_byte
        });
        self.lines = 0;
        self.is_split = false;
    }

    /// Discards everything.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.lines = 0;
        self.is_split = false;
    }
}
