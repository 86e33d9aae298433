//! The direct map: one range of virtual addresses that maps all physical memory.
//!
//! On the host the range is a leaked pool of pages, and physical address 0 is its first byte. All
//! code above this file is the same on both.
#![forbid(unsafe_code)]

use super::PhysAddr;
use core::sync::atomic::{AtomicU64, Ordering};

static OFFSET: AtomicU64 = AtomicU64::new(0);

/// Sets the virtual address of physical address 0.
pub(super) fn set_offset(offset: u64) {
    OFFSET.store(offset, Ordering::Relaxed);
}

/// The virtual address of a physical address.
pub fn phys_to_virt(address: PhysAddr) -> *mut u8 {
    (OFFSET.load(Ordering::Relaxed) + address.0) as *mut u8
}

/// The physical address of an address in the direct map; `None` outside its first `end` bytes.
pub fn virt_to_phys(address: u64, end: u64) -> Option<PhysAddr> {
    address
        .checked_sub(OFFSET.load(Ordering::Relaxed))
        .filter(|&address| address < end)
        .map(PhysAddr)
}
