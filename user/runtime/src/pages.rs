//! Page-aligned memory straight from the kernel: what a large read should go into.
//!
//! The kernel makes only whole pages of a buffer lazy, and shares frames only where the file offset
//! and the address agree modulo the page size. A buffer from here, filled from the start of a file,
//! gives it both.

use crate::prelude::*;
use core::ops::{Deref, DerefMut};

/// The size of a page.
pub const PAGE_BYTES: usize = 4096;

/// What copying programs read at a time: enough that one system call more or less does not matter.
pub const COPY_BYTES: usize = 1 << 20;

/// An anonymous private mapping, unmapped when dropped. Zero until something else is put there.
pub struct Pages {
    start: *mut u8,
    len_bytes: usize,
}

impl Pages {
    /// Maps `len_bytes` (at least one) of zeros. Nothing is reserved: pages come as they are
    /// touched.
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
        // SAFETY: nobody can hold a reference into the mapping any more.
        let _ = unsafe { sys::unmap(self.start, self.len_bytes) };
    }
}
