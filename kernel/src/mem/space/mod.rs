//! Address spaces.
//!
//! A [`Space`] is shared by the threads of a process. Its state is under one spin lock, which is
//! never held across a wait; what a change lets go of (snapshots, whose last reference sends a
//! message) is dropped after the lock. The state is changed by the sibling modules: `layout` (map,
//! unmap, protect, move), `fault` (one page becomes usable), `associate` (the lazy read), `clean`
//! (after a write), `copy` (system calls reach a program's memory), `sweep` (pages go when memory
//! runs out), `swapped` (those in the swap file come back).
//!
//! User memory is never touched through user mappings: the kernel walks the page tables by software
//! and copies through the direct map.

mod access;
mod associate;
mod clean;
mod copy;
mod fault;
mod layout;
mod pin;
mod runs;
mod swapped;
mod sweep;

pub use clean::Gathered;
pub use fault::{Access, FaultError};
pub use layout::{Move, Placement};
pub use runs::Run;

use super::{
    Backing, Claim, Page, PageRange, PhysAddr, Prot, RegionMap, USER_END, UserAddr,
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
use core::sync::atomic::{AtomicBool, Ordering};
use foundation::counter::Counters;
use foundation::knob;
use foundation::{
    Errno, PageCount,
    mutant::{self, Mutant},
};

/// Frames that a fork asks for where there were too few; twice as many each time, up to what the
/// tables of 64 GiB take.
const FORK_FRAMES: usize = 64;
const FORK_FRAMES_MOST: usize = 1 << 15;

/// How the kernel deals with a process's memory.
#[derive(Debug, Default)]
pub struct Policy {
    server: AtomicBool,
    eager: AtomicBool,
}

impl Policy {
    /// Whether reads of this process are lazy now.
    pub fn lazy(&self) -> bool {
        let server = self.is_server() && !mutant::active(Mutant::LazyServer);
        let knob = knob::LAZY.get() == 1 || mutant::active(Mutant::IgnoreKnob);
        !server && !self.eager.load(Ordering::Relaxed) && knob
    }

    /// Turns laziness off or on for this process alone.
    pub fn set_eager(&self, eager: bool) {
        self.eager.store(eager, Ordering::Relaxed);
    }

    /// Whether the process serves files (F8).
    pub fn is_server(&self) -> bool {
        self.server.load(Ordering::Relaxed)
    }

    /// The process serves files from now on, and so will its children. Cannot be taken back.
    pub fn mark_server(&self) {
        self.server.store(true, Ordering::Relaxed);
    }

    /// On whose behalf frames are taken.
    pub fn claim(&self) -> Claim {
        if self.is_server() { Claim::Server } else { Claim::Program }
    }

    fn inherit(&self) -> Self {
        Self {
            server: AtomicBool::new(self.is_server()),
            eager: AtomicBool::new(self.eager.load(Ordering::Relaxed)),
        }
    }
}

/// An address space, as the threads of a process share it.
pub struct Space {
    inner: Mutex<AddressSpace, rank::Space>,
    /// Laziness and the servers' mark.
    pub policy: Policy,
    /// What was counted for this process.
    pub counters: Arc<Counters>,
    root: PhysAddr,
}

/// The state under the lock.
pub(in crate::mem) struct AddressSpace {
    pub(in crate::mem) table: PageTable,
    pub(in crate::mem) regions: RegionMap,
    pub(in crate::mem) flush: Flush,
    /// Backings that were let go of: dropped when the lock is not held any more.
    garbage: Vec<Backing>,
    /// The heap's first address and its end, in bytes.
    heap: (UserAddr, UserAddr),
    /// Where the reclaiming clock goes on.
    hand: Page,
}

impl Drop for Space {
    fn drop(&mut self) {
        reclaim::unregister();
    }
}

/// Sizes for /proc, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceStats {
    /// Mapped by regions.
    pub size: PageCount,
    /// Backed by a frame now, the zero page not counted.
    pub resident: PageCount,
    /// Standing for bytes of snapshots.
    pub lazy: PageCount,
    /// In the swap file.
    pub swapped: PageCount,
}

/// A region, for /proc/PID/maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// Where.
    pub range: PageRange,
    /// Rights.
    pub prot: Prot,
    /// Whether others see its stores.
    pub shared: bool,
    /// Pages that stand for bytes of a snapshot.
    pub lazy: PageCount,
    /// `[heap]`, `[stack]`, or nothing.
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
        Self::with_policy(Policy::default())
    }

    /// An empty space for a program that replaces this one (exec): laziness and mark are inherited,
    /// contents and counters are not.
    pub fn successor(&self) -> Result<Arc<Self>, Errno> {
        Self::with_policy(self.policy.inherit())
    }

    fn with_policy(policy: Policy) -> Result<Arc<Self>, Errno> {
        heap::headroom(policy.claim())?;
        let table = PageTable::new(kernel::root(), policy.claim())?;
        let root = table.root();
        let inner = AddressSpace {
            table,
            regions: RegionMap::default(),
            flush: Flush::NOTHING,
            garbage: Vec::new(),
            heap: (UserAddr::NULL, UserAddr::NULL),
            hand: Page(0),
        };
        let space =
            Arc::new(Self { inner: Mutex::new(inner), policy, counters: Arc::default(), root });
        reclaim::register(Arc::downgrade(&space) as Weak<dyn reclaim::Reclaimable>);
        Ok(space)
    }

    /// A copy of this space: private pages are shared until one side stores into them (A8),
    /// associations are shared (A1). May wait for pages to be swapped out, where there is not room
    /// enough for the child's tables.
    pub fn fork(&self) -> Result<Arc<Self>, Errno> {
        let claim = self.policy.claim();
        let mut wanted = FORK_FRAMES;
        loop {
            match self.try_fork() {
                Err(Errno::ENOMEM)
                    if wanted <= FORK_FRAMES_MOST && reclaim::make_room(wanted, claim)? =>
                {
                    wanted *= 2
                }
                result => return result,
            }
        }
    }

    fn try_fork(&self) -> Result<Arc<Self>, Errno> {
        let child = self.successor()?;
        self.with(|parent| {
            let mut copy = child.inner.lock_nested();
            parent.fork_into(&mut copy)
        })?;
        Ok(child)
    }

    /// The page tables, for CR3.
    pub fn cr3(&self) -> PhysAddr {
        self.root
    }

    /// Sizes for /proc. Costs time for every resident page.
    pub fn stats(&self) -> SpaceStats {
        self.with(|space| {
            let mut stats = SpaceStats::default();
            for (range, region) in space.regions.iter() {
                stats.size += range.pages();
                stats.lazy += region.associated;
                if region.touched {
                    space.table.for_each(range, |_, entry| {
                        stats.swapped += PageCount(u64::from(entry.is_swapped()));
                        let resident = !entry.is_swapped() && !entry.is_zero_page();
                        stats.resident += PageCount(u64::from(resident));
                    });
                }
            }
            stats
        })
    }

    /// Calls `look` for each frame that it holds: page tables, and what they map.
    pub(in crate::mem) fn for_each_frame(&self, look: &mut impl FnMut(PhysAddr)) {
        self.with(|space| space.table.for_each_frame(look));
    }

    /// The regions in order.
    pub fn regions(&self) -> Vec<RegionInfo> {
        self.with(|space| {
            let info = |(range, region): (PageRange, &super::Region)| RegionInfo {
                range,
                prot: region.prot,
                shared: matches!(region.backing, Backing::Shared { .. }),
                lazy: region.associated,
                label: region.label,
            };
            space.regions.iter().map(info).collect()
        })
    }

    /// Where an address lies in memory that several spaces share: which memory, and the byte within
    /// it. None for private memory.
    pub fn shared_place(&self, address: UserAddr) -> Option<(usize, u64)> {
        self.with(|space| {
            let (range, region) = space.regions.find(address.page())?;
            let Backing::Shared { memory, first } = &region.backing else { return None };
            let page = first + (address.page() - range.start).0;
            Some((
                Arc::as_ptr(memory) as usize,
                Page(page).start().0 + address.offset_in_page() as u64,
            ))
        })
    }

    /// Runs `change` under the lock, flushes what it made stale, and drops what it let go of after
    /// the lock.
    pub(in crate::mem) fn with<T>(&self, change: impl FnOnce(&mut AddressSpace) -> T) -> T {
        let result = self.change(self.inner.lock(), change);
        swap::punch_idle_chunks();
        result
    }

    /// Looks at the space under its lock, changing nothing.
    fn peek<T>(&self, look: impl FnOnce(&AddressSpace) -> T) -> T {
        look(&self.inner.lock())
    }

    fn change<T>(
        &self,
        mut inner: MutexGuard<'_, AddressSpace>,
        change: impl FnOnce(&mut AddressSpace) -> T,
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

    /// What the fake MMU finds for a page: the frame's address and the flags of an entry that
    /// `allows` it, marked as used.
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

impl AddressSpace {
    /// Shares everything with an empty space. A child that failed goes with its caller, and its
    /// tables free what they hold; the parent is as it was, but for pages that the next store will
    /// find to be its own.
    fn fork_into(&mut self, child: &mut Self) -> Result<(), OutOfMemory> {
        child.regions = self.regions.clone();
        child.heap = self.heap;
        for (range, region) in self.regions.iter().filter(|(_, region)| region.touched) {
            let in_place = matches!(region.backing, Backing::Shared { .. })
                || mutant::active(Mutant::ForkLeavesWritable);
            let sharing = if in_place { ForkSharing::InPlace } else { ForkSharing::CopyOnWrite };
            self.table.share(range, &mut child.table, sharing, &mut self.flush)?;
        }
        if mutant::active(Mutant::ForkDropsAssociation) {
            let all = PageRange { start: Page(0), end: USER_END.page() };
            child.regions.change(all, |_, region| {
                region.associated = PageCount::ZERO;
                region.settle();
            });
        }
        Ok(())
    }
}
