//! The direct map: all physical memory, seen through one window of virtual addresses.
//!
//! On the host the window is a leaked pool of pages, and "physical" address 0 is its first byte;
//! everything above this file is the same code.

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

/// The physical address that is seen at an address of the direct map, of which at least `end` bytes
/// are there.
#[cfg(target_os = "none")]
pub fn virt_to_phys(address: u64, end: u64) -> Option<PhysAddr> {
    address
        .checked_sub(OFFSET.load(Ordering::Relaxed))
        .filter(|&address| address < end)
        .map(PhysAddr)
}
