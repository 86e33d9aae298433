//! Address spaces.
//!
//! A [`Space`] is shared by the threads of a process. Its [`SpaceState`] is under one spin lock,
//! which is never held across a wait. What a change releases (snapshots, whose last reference sends
//! a message) is dropped after the lock.
//!
//! | module | operations |
//! |---|---|
//! | `layout`, `remap`, `limits` | map, unmap, protect; change size and address |
//! | `fault`, `look`, `backed`, `swapped`, `private` | one page becomes usable |
//! | `associate` | the lazy read |
//! | `pieces`, `clean` | before and after a write |
//! | `copy`, `lend` | system calls access a program's memory |
//! | `evict`, `load` | pages are evicted, or loaded for good |
//!
//! User memory is never accessed through user mappings: the kernel walks the page tables by
//! software and copies through the direct map.

mod access;
mod associate;
mod backed;
mod clean;
mod copy;
mod evict;
mod fault;
mod layout;
mod lend;
mod limits;
mod load;
mod look;
mod mutants;
mod pieces;
mod policy;
mod private;
mod remap;
mod resolution;
mod swapped;

pub use access::{Access, FaultError};
pub use clean::SentPages;
pub use layout::Placement;
pub use pieces::WritePiece;
pub use policy::{Policy, ReadMode};
pub use remap::Move;

use super::account::Kind;
use super::{
    Account, Backing, Charge, Page, PageRange, PhysAddr, Prot, RegionMap, UserAddr, fallible,
    frame::OutOfMemory,
    heap, kernel,
    page_table::{Flush, ForkSharing, PageTable},
    reclaim, swap,
};
use crate::sync::{Mutex, MutexGuard, rank};
use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use foundation::counter::Counters;
use foundation::{Errno, PageCount};

/// Frames that a fork reclaims where there were too few, doubled with each try, up to what the
/// tables of 64 GiB take.
const FORK_FRAMES: usize = 64;
const FORK_FRAMES_MAX: usize = 1 << 15;

/// An address space, shared by the threads of a process.
pub struct Space {
    inner: Mutex<SpaceState, rank::Space>,
    /// Laziness, and the mark of a file server.
    pub policy: Policy,
    /// Who pays for its tables and regions.
    pub account: Arc<Account>,
    /// Counters of the process.
    pub counters: Arc<Counters>,
    root: PhysAddr,
    /// On the clock of reclaim.
    place: reclaim::Place,
}

/// The state of an address space, under its lock.
pub(in crate::mem) struct SpaceState {
    pub(in crate::mem) table: PageTable,
    pub(in crate::mem) regions: RegionMap,
    /// For the regions.
    charge: Charge,
    pub(in crate::mem) flush: Flush,
    /// Backings that were released: dropped after the lock.
    garbage: Vec<Backing>,
    /// The heap's first address, and its end.
    heap: (UserAddr, UserAddr),
    /// The page that the clock of reclaim visits next.
    hand: Page,
}

/// Sizes for /proc, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceStats {
    /// Pages in regions.
    pub size: PageCount,
    /// Pages that have a frame, other than the zero page.
    pub resident: PageCount,
    /// Pages backed by snapshots.
    pub lazy: PageCount,
    /// Private pages that are swapped out.
    pub swapped: PageCount,
    /// Pages of shared memory in regions that anybody accessed: in memory or swapped out.
    pub shared: PageCount,
    /// Those of them that are among the resident pages.
    pub shared_resident: PageCount,
}

/// A region, for /proc/PID/maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// The region's pages.
    pub range: PageRange,
    /// Its permissions.
    pub prot: Prot,
    /// Whether it is shared memory.
    pub shared: bool,
    /// Number of pages that are backed by a snapshot.
    pub lazy: PageCount,
    /// `[heap]`, `[stack]`, or empty.
    pub label: &'static str,
}

impl core::fmt::Debug for Space {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Space")
            .field("root", &self.root)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Space {
    /// An empty space.
    pub fn new() -> Result<Arc<Self>, Errno> {
        Self::with_policy(Policy::default(), Account::new())
    }

    /// An empty space for a program that replaces this one (exec) and pays with `account`. The
    /// policy is inherited, contents and counters are not.
    pub fn successor(&self, account: Arc<Account>) -> Result<Arc<Self>, Errno> {
        Self::with_policy(self.policy.inherit(), account)
    }

    fn with_policy(policy: Policy, account: Arc<Account>) -> Result<Arc<Self>, Errno> {
        reclaim::ready::<Errno>(policy.claim())?;
        let table = PageTable::new(kernel::root(), policy.claim(), account.clone())?;
        let root = table.root();
        let inner = SpaceState {
            table,
            regions: RegionMap::default(),
            charge: Charge::take(&account, Kind::Regions, 0)?,
            flush: Flush::NOTHING,
            garbage: Vec::new(),
            heap: (UserAddr::NULL, UserAddr::NULL),
            hand: Page(0),
        };
        let counters = Arc::default();
        let (inner, place) = (Mutex::new(inner), reclaim::Place::default());
        let space = Arc::new(Self { inner, policy, account, counters, root, place });
        reclaim::register(&space.place, Arc::downgrade(&space) as Weak<dyn reclaim::Reclaimable>);
        Ok(space)
    }

    /// A copy of this space. Private pages are copied on the next store of either side (A8),
    /// associations are shared (A1). May wait for pages to be swapped out, where too few frames are
    /// free for the child's tables.
    pub fn fork(&self) -> Result<Arc<Self>, Errno> {
        let claim = self.policy.claim();
        let mut wanted = FORK_FRAMES;
        loop {
            match self.try_fork() {
                Err(Errno::ENOMEM)
                    if wanted <= FORK_FRAMES_MAX && reclaim::make_room(wanted, claim)? =>
                {
                    wanted *= 2
                }
                result => return result,
            }
        }
    }

    fn try_fork(&self) -> Result<Arc<Self>, Errno> {
        let child = self.successor(self.account.child())?;
        self.policy.trust(&child.policy);
        self.with(|parent| {
            let mut copy = child.inner.lock_nested();
            parent.fork_into(&mut copy)
        })?;
        Ok(child)
    }

    /// Address of the root page table, for CR3.
    pub fn cr3(&self) -> PhysAddr {
        self.root
    }

    /// Sizes for /proc. Costs time for each resident page.
    pub fn stats(&self) -> SpaceStats {
        self.with(|state| {
            let mut stats = SpaceStats::default();
            for (range, region) in state.regions.iter() {
                stats.size += range.pages();
                stats.lazy += region.associated;
                let before = stats.resident;
                if region.touched {
                    state.table.for_each(range, |_, entry| {
                        stats.swapped += PageCount(u64::from(entry.is_swapped()));
                        let resident = !entry.is_swapped() && !entry.is_zero_page();
                        stats.resident += PageCount(u64::from(resident));
                    });
                }
                if let Backing::Shared { memory, first } = &region.backing {
                    stats.shared += memory.count(PageRange::new(Page(*first), range.pages()));
                    stats.shared_resident += stats.resident - before;
                }
            }
            stats
        })
    }

    /// Calls `look` for each frame of the space: page tables, what they map, and what the shared
    /// memory of its regions has.
    pub(in crate::mem) fn for_each_frame(&self, look: &mut impl FnMut(PhysAddr)) {
        self.with(|state| {
            state.table.for_each_frame(look);
            for (_, region) in state.regions.iter() {
                if let Backing::Shared { memory, .. } = &region.backing {
                    memory.for_each_frame(look);
                }
            }
        });
    }

    /// All regions, in ascending order.
    pub fn regions(&self) -> Result<Vec<RegionInfo>, OutOfMemory> {
        self.with(|state| {
            let info = |(range, region): (PageRange, &super::Region)| RegionInfo {
                range,
                prot: region.prot,
                shared: matches!(region.backing, Backing::Shared { .. }),
                lazy: region.associated,
                label: region.label,
            };
            let mut infos = fallible::with_capacity(state.regions.len())?;
            infos.extend(state.regions.iter().map(info));
            Ok(infos)
        })
    }

    /// The location of an address in shared memory: an id of the memory, and the byte within it.
    /// `None` for private memory.
    pub fn shared_place(&self, address: UserAddr) -> Option<(usize, u64)> {
        self.with(|state| {
            let (range, region) = state.regions.find(address.page())?;
            let Backing::Shared { memory, first } = &region.backing else { return None };
            let page = first + (address.page() - range.start).0;
            Some((
                Arc::as_ptr(memory) as usize,
                Page(page).start().0 + address.offset_in_page() as u64,
            ))
        })
    }

    /// Runs `change` under the lock, flushes stale translations, and drops what was released after
    /// the lock.
    pub(in crate::mem) fn with<T>(&self, change: impl FnOnce(&mut SpaceState) -> T) -> T {
        let result = self.change(self.inner.lock(), change);
        swap::punch_idle_chunks();
        result
    }

    /// Runs `look` under the lock.
    fn peek<T>(&self, look: impl FnOnce(&SpaceState) -> T) -> T {
        look(&self.inner.lock())
    }

    fn change<T>(
        &self,
        mut inner: MutexGuard<'_, SpaceState>,
        change: impl FnOnce(&mut SpaceState) -> T,
    ) -> T {
        inner.table.claim = self.policy.claim();
        let result = change(&mut inner);
        let flush = core::mem::replace(&mut inner.flush, Flush::NOTHING);
        flush.flush(&inner.table);
        let garbage = core::mem::take(&mut inner.garbage);
        drop(inner);
        drop(garbage);
        result
    }

    /// What the fake MMU finds for a page: the frame's address and the flags of its entry, if
    /// `allows` accepts those. Marks the entry as used.
    #[cfg(not(target_os = "none"))]
    pub(in crate::mem) fn walk(
        &self,
        page: Page,
        used: super::page_table::EntryFlags,
        allows: impl FnOnce(super::page_table::EntryFlags) -> bool,
    ) -> Option<(PhysAddr, super::page_table::EntryFlags)> {
        let inner = self.inner.lock();
        let entry = inner.table.get(page).filter(|entry| allows(entry.flags()))?;
        inner.table.mark_used(page, used);
        Some((entry.address(), entry.flags()))
    }
}

impl SpaceState {
    /// Shares everything with an empty space. After a failure the caller drops the child, whose
    /// tables free what they hold. The parent is unchanged then, except that some of its pages are
    /// write-protected: the next store makes them writable again.
    fn fork_into(&mut self, child: &mut Self) -> Result<(), OutOfMemory> {
        child.require_regions(self.regions.len()).map_err(|_| OutOfMemory)?;
        heap::prepay(RegionMap::bytes(self.regions.len()), self.table.claim)?;
        child.regions = self.regions.clone();
        child.heap = self.heap;
        for (range, region) in self.regions.iter().filter(|(_, region)| region.touched) {
            let in_place =
                matches!(region.backing, Backing::Shared { .. }) || mutants::fork_leaves_writable();
            let sharing = if in_place { ForkSharing::InPlace } else { ForkSharing::CopyOnWrite };
            self.table.share(range, &mut child.table, sharing, &mut self.flush)?;
        }
        mutants::drop_associations(child);
        Ok(())
    }
}
