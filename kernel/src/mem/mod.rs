//! Memory: frames, address spaces, snapshots and page faults.
//!
//! Knows no file and no server: a snapshot gets its pages through the trait [`Pager`]. There are no
//! shadow objects: a [`Region`] records what backs a range, the page-table entry what a page is
//! now, and a snapshot never changes, so no lookup ever asks a parent.
//!
//! The same code runs on the host, where a pool of pages serves as physical memory; see [`phys`]
//! and [`mmu`].
//!
//! Modules from low to high; each imports only lower ones (and what shares its folder):
//! `addr`, `phys`, `user`, `claim`, `shrinker`, [`failure`],
//! [`frame`], [`fallible`], [`limits`], [`account`],
//! [`kept_file`], [`slot`], [`page_table`], [`kernel`], [`heap`], `window`, `snapshot` with the
//! frame cache, [`swap`], `reclaim`, `shared`, `region`, `space`, `audit`.

pub mod account;
mod addr;
pub mod audit;
mod claim;
mod copies;
pub mod failure;
pub mod fallible;
pub mod file_pages;
pub mod frame;
mod front_map;
pub mod heap;
#[cfg(not(target_os = "none"))]
pub mod host;
pub mod kept_file;
pub mod kernel;
pub mod limits;
pub mod mmu;
mod mutants;
mod page_of;
pub mod page_table;
pub mod phys;
mod reclaim;
mod region;
mod shared;
mod shrinker;
pub mod slot;
mod snapshot;
mod space;
pub mod stores;
pub mod swap;
#[cfg(test)]
mod tests;
mod user;
pub mod wanted;
mod window;

pub use account::{Account, Charge};
pub use addr::{
    PAGE_BYTES, PAGE_SHIFT, Page, PageRange, PhysAddr, USER_END, USER_START, UserAddr, VirtAddr,
};
pub use claim::{Claim, floors};
pub use copies::Copies;
pub use file_pages::{FileMapping, FilePages};
pub use frame::{Frame, OutOfMemory};
pub use kept_file::KeptFile;
pub use page_of::page_of;
pub use reclaim::{
    is_frame_left, keep_margin, make_room, make_room_beside, ready, reclaim_ahead,
    register_last_resort,
};
pub use region::{Backing, ForkAdvice, Lock, Prot, Region, RegionMap};
pub use shared::SharedMemory;
pub use snapshot::{Fetch, Frames, LiveFile, Pager, Snapshot, SnapshotSource, Source, cache};
pub use space::{
    Access, FaultError, LentPages, Move, Occupant, Placement, Policy, ReadMode, RegionInfo,
    SentPages, Space, SpaceStats, WritePiece,
};
pub use user::UserSlice;

/// Takes over the machine's memory. `usable` are byte ranges of physical memory that nobody uses;
/// frames up to `reserved_end` (such as those of the ramdisk) can be adopted later. `direct_map` is
/// the virtual address of physical address 0, `root` the root page table in use.
///
/// # Safety
/// All arguments are as described, and the upper half of `root` stays the kernel's.
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
    register_shrinkers();
}

/// What machine and host have in common at start: the shrinkers, and the action of `drop_caches`.
fn register_shrinkers() {
    kept_file::init();
    heap::init();
    cache::init();
    reclaim::init();
}
