//! Address spaces.
//!
//! A [`Space`] is shared by the threads of a process. Its [`SpaceState`] is under one spin lock,
//! which is never held across a wait. What a change releases (snapshots, whose last reference sends
//! a message) is dropped after the lock.
//!
//! | module | operations |
//! |---|---|
//! | `layout`, `remap`, `limits` | map, unmap, protect; change size and address |
//! | `steps` | long changes, in steps between which others run |
//! | `fault`, `look`, `look_file`, `backed`, `swapped`, `private` | one page becomes usable |
//! | `file_pages` | what changes of a mapped file's pages mean for the entries |
//! | `associate` | the lazy read |
//! | `pieces`, `clean` | before and after a write |
//! | `copy`, `lend` | system calls access a program's memory |
//! | `evict`, `load`, `lock` | pages are evicted, loaded for good, or kept |
//!
//! User memory is never accessed through user mappings: the kernel walks the page tables by
//! software and copies through the direct map.

mod access;
mod associate;
mod backed;
mod clean;
mod compose;
mod copy;
mod evict;
mod fault;
mod file_pages;
mod fork_advice;
mod grow_down;
mod layout;
mod lend;
mod limits;
mod load;
mod lock;
mod look;
mod look_file;
mod mutants;
mod pieces;
mod place;
mod policy;
mod private;
mod remap;
mod resolution;
mod short_reads;
mod steps;
mod swapped;

pub use access::{Access, FaultError};
pub use clean::SentPages;
pub use layout::Placement;
pub use lend::LentPages;
pub use pieces::WritePiece;
pub use policy::{Policy, ReadMode};
pub use remap::Move;
pub use steps::Occupant;

use super::account::Kind;
use super::{
    Account, Backing, Charge, Lock, Page, PageRange, PhysAddr, Prot, Region, RegionMap, UserAddr,
    fallible,
    file_pages::{MappedFiles, Mapper},
    frame::OutOfMemory,
    heap, kernel,
    page_table::{Flush, ForkSharing, PageTable},
    reclaim, swap,
};
use crate::sync::{Interrupt, Mutex, MutexGuard, WaitQueue, rank, relax};
use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::sync::atomic::{AtomicBool, AtomicUsize};
use foundation::counter::Counters;
use foundation::{Errno, PageCount};
use short_reads::ShortReads;
use steps::EVERYTHING;

/// Frames that a fork reclaims where there were too few, doubled with each try, up to what the
/// tables of 64 GiB take.
const FORK_FRAMES: usize = 64;
const FORK_FRAMES_MAX: usize = 1 << 15;

/// An address space, shared by the threads of a process.
pub struct Space {
    inner: Mutex<SpaceState, rank::Space>,
    /// Threads that wait until a long change has ended.
    settled: WaitQueue,
    /// The number of [`Occupant`]s.
    occupants: AtomicUsize,
    /// Whether pages were ever locked, or will be.
    has_locks: AtomicBool,
    /// Laziness, and the mark of a file server.
    pub policy: Policy,
    /// Who pays for its tables and regions.
    pub account: Arc<Account>,
    /// Counters of the process.
    pub counters: Arc<Counters>,
    root: PhysAddr,
    /// On the clock of reclaim.
    place: reclaim::Place,
    me: Weak<Self>,
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
    /// For locked pages, once there were any.
    locked: Option<Charge>,
    /// Whether there was ever a region of which a child does not get all.
    has_fork_advice: bool,
    /// How regions are locked that are made from now on.
    future: Lock,
    /// The page that the clock of reclaim visits next.
    hand: Page,
    /// A long change is between two of its steps.
    is_changing: bool,
    /// What became of short lazy reads.
    short_reads: ShortReads,
    /// The files that are mapped shared.
    files: MappedFiles,
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

impl RegionInfo {
    fn of((range, region): (PageRange, &super::Region)) -> Self {
        Self {
            range,
            prot: region.prot,
            shared: region.backing.is_shared(),
            lazy: region.associated,
            label: region.label,
        }
    }
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
        let mut inner = SpaceState {
            table,
            regions: RegionMap::default(),
            charge: Charge::take(&account, Kind::Regions, 0)?,
            flush: Flush::NOTHING,
            garbage: Vec::new(),
            heap: (UserAddr::NULL, UserAddr::NULL),
            locked: None,
            has_fork_advice: false,
            future: Lock::Unlocked,
            hand: Page(0),
            is_changing: false,
            short_reads: ShortReads::default(),
            files: MappedFiles::none(Weak::<Self>::new() as Weak<dyn Mapper>),
        };
        let place = reclaim::Place::default();
        let (settled, occupants, has_locks, counters) = Default::default();
        let space = Arc::new_cyclic(|me: &Weak<Self>| {
            let me = me.clone();
            inner.files = MappedFiles::none(me.clone() as Weak<dyn Mapper>);
            Self {
                inner: Mutex::new(inner),
                settled,
                occupants,
                has_locks,
                policy,
                account,
                counters,
                root,
                place,
                me,
            }
        });
        reclaim::register(&space.place, space.me.clone() as Weak<dyn reclaim::Reclaimable>);
        Ok(space)
    }

    /// A copy of this space. Private pages are copied on the next store of either side (A8),
    /// associations are shared (A1). May wait for pages to be swapped out, where too few frames are
    /// free for the child's tables.
    pub fn fork(&self) -> Result<Occupant, Errno> {
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

    fn try_fork(&self) -> Result<Occupant, Errno> {
        let child = Self::with_policy(self.policy.fork(), self.account.child())?;
        let child = Occupant::new(&child);
        self.in_parts(EVERYTHING, |parent, part| {
            Ok(parent.fork_into(&mut child.inner.lock_nested(), part)?)
        })?;
        Ok(child)
    }

    /// Address of the root page table, for CR3.
    pub fn cr3(&self) -> PhysAddr {
        self.root
    }

    /// Sizes of a range. Costs time for each resident page: others run in between, and what they
    /// change may count or not. Called with no lock held.
    pub fn stats_in(&self, mut rest: PageRange) -> SpaceStats {
        let mut stats = SpaceStats::default();
        loop {
            self.with(|state| {
                let part = state.take_part(&mut rest);
                state.add_stats(part, &mut stats);
            });
            // The figures of a killed process's memory are of no interest to it.
            if rest.is_empty() || relax(Interrupt::Killable).is_err() {
                return stats;
            }
        }
    }

    /// Calls `look` for each frame of the space, for some more than once: page tables, what they
    /// map, and what the shared memory of its regions has. Others run in between.
    pub(in crate::mem) fn for_each_frame(&self, look: &mut impl FnMut(PhysAddr)) {
        let mut rest = EVERYTHING;
        while !rest.is_empty() {
            self.with(|state| {
                let part = state.take_part(&mut rest);
                state.table.for_each_frame(part, look);
                let regions = state.regions.overlapping(part);
                for (_, region) in regions.filter(|(own, _)| part.contains(own.start)) {
                    match &region.backing {
                        Backing::Shared { memory, .. } => memory.for_each_frame(look),
                        Backing::File { mapping, .. } => mapping.for_each_frame(look),
                        _ => {}
                    }
                }
            });
            // The figures are read by whoever looks for leaks, who is not killed.
            let _ = relax(Interrupt::Killable);
        }
    }

    /// All regions, in ascending order. Others may change some that were not looked at yet.
    pub fn regions(&self) -> Result<Vec<RegionInfo>, OutOfMemory> {
        let (mut infos, mut rest) = (Vec::new(), EVERYTHING);
        loop {
            self.with(|state| {
                let part = state.take_regions(&mut rest);
                fallible::reserve(&mut infos, state.regions.overlapping(part).count())?;
                infos.extend(state.regions.overlapping(part).map(RegionInfo::of));
                Ok::<_, OutOfMemory>(())
            })?;
            // A killed process needs no list.
            if rest.is_empty() || relax(Interrupt::Killable).is_err() {
                return Ok(infos);
            }
        }
    }

    /// Calls `show` for each region. The space is locked meanwhile.
    pub fn each_region(&self, show: &mut dyn FnMut(PageRange, &super::Region)) {
        self.with(|state| state.regions.iter().for_each(|(range, region)| show(range, region)));
    }

    /// Runs `change` under the lock, flushes stale translations, and drops what was released after
    /// the lock.
    pub(in crate::mem) fn with<T>(&self, change: impl FnOnce(&mut SpaceState) -> T) -> T {
        self.with_locked(self.inner.lock(), change)
    }

    fn with_locked<T>(
        &self,
        inner: MutexGuard<'_, SpaceState>,
        change: impl FnOnce(&mut SpaceState) -> T,
    ) -> T {
        let result = self.change(inner, change);
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
        if !garbage.is_empty() {
            garbage.into_iter().for_each(Backing::release);
        }
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
    /// Adds the sizes of a part.
    fn add_stats(&self, part: PageRange, stats: &mut SpaceStats) {
        for (own, region) in self.regions.overlapping(part) {
            let range = own.intersect(part);
            stats.size += range.pages();
            // Counted once, with the region's first page.
            if own.start == range.start {
                stats.lazy += region.associated;
            }
            let before = stats.resident;
            if region.touched {
                self.table.for_each(range, |_, entry| {
                    stats.swapped += PageCount(u64::from(entry.is_swapped()));
                    let resident = !entry.is_swapped() && !entry.is_zero_page();
                    stats.resident += PageCount(u64::from(resident));
                });
            }
            let (first, behind) = match &region.backing {
                Backing::Shared { first, .. } | Backing::File { first, .. } => {
                    (Page(*first), range.start - own.start)
                }
                _ => continue,
            };
            let pages = PageRange::new(first + behind, range.pages());
            stats.shared += match &region.backing {
                Backing::Shared { memory, .. } => memory.count(pages),
                Backing::File { mapping, .. } => mapping.count(pages),
                _ => PageCount::ZERO,
            };
            stats.shared_resident += stats.resident - before;
        }
    }

    /// Shares a part with a space that has nothing there. After a failure the caller drops the
    /// child, whose tables free what they hold. The parent is unchanged then, except that some of
    /// its pages are write-protected: the next store makes them writable again.
    fn fork_into(&mut self, child: &mut Self, part: PageRange) -> Result<(), OutOfMemory> {
        let is_everything = part == EVERYTHING;
        let count =
            if is_everything { self.regions.len() } else { self.regions.overlapping(part).count() };
        child.require_regions(child.regions.len() + count).map_err(|_| OutOfMemory)?;
        heap::prepay(RegionMap::bytes(count), self.table.claim)?;
        child.files.add_all(&self.files)?;
        if is_everything {
            child.regions = self.regions.clone();
        } else {
            for (own, region) in self.regions.overlapping(part) {
                let copy = region.part(own, part, |range| self.table.count_private(range));
                child.regions.insert(own.start.max(part.start), copy);
            }
        }
        child.heap = self.heap;
        if self.locked.is_some() {
            child.forget_locks(part);
        }
        if self.has_fork_advice {
            child.has_fork_advice = true;
            fork_advice::follow(&mut child.regions, part);
        }
        self.share_pages(child, part)?;
        if !is_everything {
            child.regions.merge(part);
        }
        mutants::drop_associations(child);
        Ok(())
    }

    /// Shares the pages of a part: by their tables where both spaces will have all of a table's
    /// pages copy-on-write, else one by one.
    fn share_pages(&mut self, child: &mut Self, part: PageRange) -> Result<(), OutOfMemory> {
        let (regions, flush) = (&self.regions, &mut self.flush);
        let is_in_place =
            |region: &Region| region.backing.is_shared() || mutants::fork_leaves_writable();
        let may_share = |pages: PageRange| {
            regions.overlapping(pages).all(|(_, region)| {
                !region.touched || region.on_fork.is_empty() && !is_in_place(region)
            })
        };
        let mut next = part.start;
        for (own, region) in regions.overlapping(part) {
            if !region.touched || !region.on_fork.is_empty() {
                continue;
            }
            let (range, theirs) = (own.intersect(part), &mut child.table);
            let rest = PageRange { start: range.start.max(next), end: range.end };
            if !rest.is_empty() {
                next = self.table.share_tables(rest, part, theirs, may_share, flush)?;
            }
            let in_place = is_in_place(region);
            let sharing = if in_place { ForkSharing::InPlace } else { ForkSharing::CopyOnWrite };
            self.table.share(range, theirs, sharing, flush)?;
        }
        Ok(())
    }
}

impl Drop for SpaceState {
    fn drop(&mut self) {
        let touched = || self.regions.iter().filter(|(_, region)| region.touched);
        self.table.dismantle(|| touched().map(|(range, _)| range));
    }
}
