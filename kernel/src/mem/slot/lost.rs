//! References to slots of devices that were lost.
//!
//! The bytes of such a slot are lost too, unless its frame is still in memory because it could not
//! be written. The number of a lost slot is not given to another slot while anybody refers to one,
//! so nobody can take the bytes of another page for those of a lost one.
#![forbid(unsafe_code)]

use super::Slots;
use crate::mem::{Frame, fallible};
use alloc::vec::Vec;
use foundation::Errno;

/// A slot whose frame is in memory.
struct Kept {
    number: u32,
    references: u32,
    frame: Frame,
}

/// What is known of the slots of all lost devices.
pub(super) struct Lost {
    /// References to slots whose bytes are lost.
    references: u64,
    /// Sorted by number.
    kept: Vec<Kept>,
    /// The end of the numbers of lost slots.
    end: u32,
}

impl Lost {
    pub const NONE: Self = Self { references: 0, kept: Vec::new(), end: 0 };

    /// Whether nobody refers to a lost slot.
    pub fn is_empty(&self) -> bool {
        self.references == 0 && self.kept.is_empty()
    }

    /// The first number that no lost slot has.
    pub fn end(&self) -> u32 {
        if self.is_empty() { 0 } else { self.end }
    }

    /// Takes over the references to the slots of a lost device, and its frames.
    pub fn absorb(&mut self, slots: &mut Slots) -> Result<(), Errno> {
        fallible::reserve(&mut self.kept, slots.kept.len())?;
        debug_assert!(self.kept.last().is_none_or(|last| last.number < slots.first));
        self.references += slots.table.references();
        let (first, end) = (slots.first, slots.end());
        for (number, frame) in slots.kept.take() {
            let references = slots.table.count(number - first);
            self.references -= u64::from(references);
            self.kept.push(Kept { number, references, frame });
        }
        self.end = end;
        Ok(())
    }

    fn find(&self, number: u32) -> Option<usize> {
        self.kept.binary_search_by_key(&number, |kept| kept.number).ok()
    }

    /// Adds a reference.
    pub fn retain(&mut self, number: u32) {
        match self.find(number).and_then(|at| self.kept.get_mut(at)) {
            Some(kept) => kept.references += 1,
            None => self.references += 1,
        }
    }

    /// Drops a reference. Returns the frame of a slot that nobody refers to any more.
    pub fn release(&mut self, number: u32) -> Option<Frame> {
        let Some(at) = self.find(number) else {
            debug_assert!(self.references > 0, "a lost slot is released too often");
            self.references = self.references.saturating_sub(1);
            return None;
        };
        let kept = self.kept.get_mut(at)?;
        kept.references = kept.references.saturating_sub(1);
        (kept.references == 0).then(|| self.kept.remove(at).frame)
    }

    /// The frame of a slot.
    pub fn frame(&self, number: u32) -> Option<Frame> {
        self.find(number).and_then(|at| self.kept.get(at)).map(|kept| kept.frame.clone())
    }

    /// The frames of all slots.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.kept.iter().map(|kept| &kept.frame)
    }
}
