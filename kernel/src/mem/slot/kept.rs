//! Frames of slots whose write failed: a table of fixed size, so that a failure needs no memory.
#![forbid(unsafe_code)]

use super::{WRITE_PAGES, WRITES};
use crate::mem::{Frame, OutOfMemory, fallible};
use alloc::vec::Vec;

/// Frames in the table, at most: those of all writes that can be under way when the first one
/// fails, and of one more.
const MAX_KEPT: usize = (WRITES + 1) * WRITE_PAGES;

/// Frames by the numbers of their slots, sorted.
pub(super) struct Kept(Vec<(u32, Frame)>);

impl Kept {
    pub fn new() -> Result<Self, OutOfMemory> {
        Ok(Self(fallible::with_capacity(MAX_KEPT)?))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many more frames it takes.
    pub fn spare(&self) -> usize {
        MAX_KEPT - self.0.len()
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(number, _)| *number)
    }

    pub fn get(&self, number: u32) -> Option<&Frame> {
        self.find(number).ok().and_then(|at| self.0.get(at)).map(|(_, frame)| frame)
    }

    /// Adds a frame for which there is space.
    pub fn insert(&mut self, number: u32, frame: Frame) {
        debug_assert!(self.0.len() < self.0.capacity(), "this must not allocate");
        if let Err(at) = self.find(number) {
            self.0.insert(at, (number, frame));
        }
    }

    pub fn remove(&mut self, number: u32) -> Option<Frame> {
        self.find(number).ok().map(|at| self.0.remove(at).1)
    }

    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.0.iter().map(|(_, frame)| frame)
    }

    /// Takes all frames out, with the numbers of their slots.
    pub fn take(&mut self) -> impl Iterator<Item = (u32, Frame)> {
        self.0.drain(..)
    }
}
