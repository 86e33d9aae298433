//! Numbers in memory that processes share.

use crate::os;
use core::sync::atomic::{AtomicU64, Ordering};
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::abi;

/// Numbers that a process and its children share, initially 0.
pub struct SharedWords(usize);

impl SharedWords {
    /// Numbers that fit into a page.
    pub const COUNT: usize = PAGE_BYTES / 8;

    /// Maps a page of them.
    pub fn new() -> Result<Self> {
        os::mmap(0, PAGE_BYTES, os::READ_WRITE, abi::MAP_SHARED).map(Self)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < Self::COUNT);
        // SAFETY: an aligned word of a mapping that lives as long as `self`.
        unsafe { AtomicU64::from_ptr((self.0 as *mut u64).add(index)) }
    }

    /// The number at `index`.
    pub fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    /// Adds to the number at `index`.
    pub fn add(&self, index: usize, by: u64) {
        self.word(index).fetch_add(by, Ordering::Relaxed);
    }

    /// The sum of all numbers.
    pub fn sum(&self) -> u64 {
        (0..Self::COUNT).map(|index| self.get(index)).sum()
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        let _ = os::munmap(self.0, PAGE_BYTES);
    }
}
