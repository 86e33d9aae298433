//! The direct map: all physical memory, seen through one window of virtual addresses.
//!
//! On the host the window is a leaked pool of pages, and "physical" address 0 is its first byte; everything above this file is the same code.

use super::PhysAddr;
use core::sync::atomic::{AtomicU64, Ordering};

static OFFSET: AtomicU64 = AtomicU64::new(0);

/// Says where physical address 0 is seen.
pub(super) fn set_offset(offset: u64) {
    OFFSET.store(offset, Ordering::Relaxed);
}

/// Where a physical address is seen.
pub fn phys_to_virt(address: PhysAddr) -> *mut u8 {
    (OFFSET.load(Ordering::Relaxed) + address.0) as *mut u8
}
