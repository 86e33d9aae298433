//! Memory: frames, address spaces, snapshots and page faults.
//!
//! Knows no file and no server: a snapshot gets its pages through the trait [`Pager`]. State is
//! flat: a [`Region`] says what backs a range, the page-table entry says what a page is now, and a
//! snapshot never changes, so that nothing ever asks a parent.
//!
//! The same code runs on the host, in a pool of pages that stands for physical memory; see [`phys`]
//! and [`mmu`].

mod addr;
pub mod audit;
pub mod cache;
pub mod frame;
pub mod heap;
#[cfg(not(target_os = "none"))]
pub mod host;
pub mod kernel;
pub mod mmu;
mod page_of;
pub mod page_table;
pub mod phys;
mod reclaim;
mod region;
mod shared;
mod snapshot;
mod space;
pub mod swap;
#[cfg(test)]
mod tests;
mod user;

pub use addr::{
    PAGE_BYTES, PAGE_SHIFT, Page, PageRange, PhysAddr, USER_END, USER_START, UserAddr, VirtAddr,
};
pub use frame::{Claim, Frame, OutOfMemory};
pub use page_of::page_of;
pub use reclaim::make_room;
pub use region::{Backing, Prot, Region, RegionMap};
pub use shared::SharedMemory;
pub use snapshot::{Fetch, Pager, Snapshot, Source};
pub use space::{
    Access, FaultError, Gathered, Move, Placement, Policy, RegionInfo, Run, Space, SpaceStats,
};
pub use user::UserSlice;

/// Takes over the machine's memory: `usable` byte ranges of physical memory that nobody uses;
/// frames up to `reserved_end` (the end of the ramdisk, say) can be adopted later. `direct_map` is
/// where physical address 0 is seen, `root` the page tables in use.
///
/// # Safety
/// All of that is true, and the upper half of `root` is the kernel's for ever.
pub unsafe fn init(
    direct_map: u64,
    usable: &[core::ops::Range<u64>],
    reserved_end: u64,
    root: PhysAddr,
) {
    phys::set_offset(direct_map);
    // SAFETY: the caller's promises.
    unsafe {
        frame::init(usable, reserved_end);
        kernel::init(root);
    }
    cache::init();
}
