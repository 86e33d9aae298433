//! Page-aligned anonymous memory: the right buffer for large reads.
//!
//! The kernel makes only whole pages of a buffer lazy, and shares frames only if file offset and
//! address agree modulo the page size. A buffer from here, filled from the start of a file, meets
//! both conditions.

use crate::prelude::*;
use core::ops::{Deref, DerefMut};

/// The size of a page.
pub const PAGE_BYTES: usize = 4096;

/// Bytes per read of copying programs: so many that the cost of the system call does not matter.
pub const COPY_BYTES: usize = 1 << 20;

/// A private anonymous mapping, initially zero. Unmapped when dropped.
pub struct Pages {
    start: *mut u8,
    len_bytes: usize,
}

impl Pages {
    /// Maps `len_bytes` zero bytes, at least one. Frames are allocated on first touch.
    pub fn new(len_bytes: usize) -> Result<Pages> {
        Ok(Pages { start: sys::map_anonymous(len_bytes)?, len_bytes })
    }
}

impl Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is this value's alone, readable, and initialised by the kernel.
        unsafe { core::slice::from_raw_parts(self.start, self.len_bytes) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.len_bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: no reference into the mapping exists any more.
        let _ = unsafe { sys::unmap(self.start, self.len_bytes) };
    }
}
