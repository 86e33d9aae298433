//! One page becomes usable: for the trap handler, and for system calls that copy.
//!
//! The one shape: look under the lock; what can be done at once is done; what must come from a
//! server is returned as a [`Fetch`], the lock is let go of, the answer awaited, and everything is
//! looked at again from the region on. What a fetch brought went into the frame cache under a name
//! that says which bytes they are, so whatever the region has become meanwhile, no wrong bytes can
//! be mapped (F3).
//!
//! | page-table entry | anonymous | snapshot | shared |
//! |---|---|---|---|
//! | none, load | zero page | zero page for a hole, else cache or fetch; neighbours too | its frame |
//! | none, store | zeroed frame, private | the same, copied: private, the association of the page ends (F2) | its frame |
//! | swapped | comes back, with neighbours (`swapped`) | the same | - |
//! | private, store, sole owner | made writable | the same | - |
//! | private or clean, store, shared | copied: private | copied: private, the association ends | - |

pub use super::access::{Access, FaultError};
use super::{AddressSpace, Space, swapped::SwappedPage};
use crate::{
    mem::{
        Backing, Claim, Frame, Page, PageRange, Prot, Snapshot, USER_END, UserAddr,
        cache::{self, Lookup},
        heap,
        page_table::{Entry, EntryFlags, Filler, Flush},
        reclaim,
        snapshot::Fetch,
        swap::PageIn,
    },
    sync::Interrupted,
};
use alloc::sync::Arc;
use foundation::counter::Counter;
use foundation::{
    Errno, PageCount, SnapshotOffset,
    mutant::{self, Mutant},
};

/// Fetches of one page that may fail before its fault does (F5). A server that says no three times
/// means it.
const MAX_ATTEMPTS: u32 = 3;
/// Frames that one fault can need: a page, and a table for each level below the root. Fewer would
/// be taken and given back for ever.
const FAULT_FRAMES: usize = 4;
/// Rounds of letting go of clean frames and trying again, for one fault. Each must have freed
/// something, so this only ends a race that is always lost.
const MAX_RECLAIMS: u32 = 64;

/// How far one look at a page came.
pub(super) enum Resolution {
    /// The page can be used.
    Done,
    /// It comes with a fetch.
    Wait(Awaited),
    /// It comes from the swap file.
    Swapped(Arc<PageIn>),
}

/// A fetch to wait for.
pub(super) struct Awaited {
    fetch: Arc<Fetch>,
    /// Whether it has to be started; else it is under way.
    fresh: bool,
    /// Byte of the snapshot at the page that is wanted.
    wanted: SnapshotOffset,
}

impl Awaited {
    /// The page that was wanted, if it came.
    fn frame(&self) -> Option<Frame> {
        let index = self.fetch.pages_before(self.wanted).to_usize();
        self.fetch.frames(|frames| frames.get(index).cloned()).flatten()
    }
}

/// How much of the page the caller is going to overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Some: the rest must be right.
    Part,
    /// All, under the same lock: what was there need not be fetched.
    Whole,
}

impl Space {
    /// Makes the page of an address usable. Waits for servers where it must. For the trap handler;
    /// copies go the same way.
    pub fn fault(&self, address: UserAddr, access: Access) -> Result<(), FaultError> {
        if address >= USER_END {
            return Err(FaultError::Segv);
        }
        self.counters.add(Counter::Faults, 1);
        self.resolve(address.page(), access, Extent::Part, |_| ())
    }

    /// Makes a page usable and runs `then` under the same lock.
    pub(super) fn resolve<T>(
        &self,
        page: Page,
        access: Access,
        extent: Extent,
        then: impl FnOnce(&mut AddressSpace) -> T,
    ) -> Result<T, FaultError> {
        heap::headroom(self.policy.claim())?;
        reclaim::keep_margin(self.policy.claim())?;
        let mut then = Some(then);
        let (mut attempts, mut reclaims) = (0, 0);
        // What was fetched stays referred to, and thus cached, until it was looked at again.
        let mut held: Option<Awaited> = None;
        let mut coming: Option<Arc<PageIn>> = None;
        loop {
            let looked =
                self.with(|space| match space.look(page, access, extent, self, held.as_ref())? {
                    Resolution::Done => Ok(Ok(then.take().map(|then| then(space)))),
                    pending => Ok(Err(pending)),
                });
            let pending = match looked {
                // `then` was there: it is taken only here.
                Ok(Ok(value)) => return value.ok_or(FaultError::Segv),
                Ok(Err(pending)) => pending,
                Err(FaultError::OutOfMemory)
                    if reclaims < MAX_RECLAIMS
                        && reclaim::make_room(FAULT_FRAMES, self.policy.claim())? =>
                {
                    reclaims += 1;
                    continue;
                }
                Err(FaultError::OutOfMemory) if mutant::active(Mutant::ZeroOnShortage) => {
                    return self.pretend_zeros(page, access, &mut then);
                }
                Err(error) => return Err(error),
            };
            let awaited = match pending {
                Resolution::Wait(awaited) => awaited,
                Resolution::Swapped(page_in) => {
                    attempts += u32::from(!self.await_page_in(&page_in)?);
                    if attempts == MAX_ATTEMPTS {
                        if mutant::active(Mutant::ZeroOnSwapError) {
                            return self.pretend_zeros(page, access, &mut then);
                        }
                        return Err(FaultError::Bus);
                    }
                    drop(coming.replace(page_in));
                    continue;
                }
                Resolution::Done => continue,
            };
            let answer = self.await_fetch(&awaited)?;
            if answer.is_err() {
                attempts += 1;
                if attempts == MAX_ATTEMPTS {
                    if mutant::active(Mutant::ZeroOnError) {
                        return self.pretend_zeros(page, access, &mut then);
                    }
                    return Err(FaultError::Bus);
                }
            } else if mutant::active(Mutant::NoGeneration) {
                self.map_blindly(page, &awaited)?;
            }
            drop(held.replace(awaited));
        }
    }

    /// Says whether the pages came.
    fn await_page_in(&self, page_in: &Arc<PageIn>) -> Result<bool, FaultError> {
        self.counters.add(Counter::FaultsMajor, 1);
        page_in.start();
        Ok(page_in.wait()?)
    }

    fn await_fetch(&self, awaited: &Awaited) -> Result<Result<(), Errno>, FaultError> {
        self.counters.add(Counter::FaultsMajor, 1);
        if awaited.fresh {
            awaited.fetch.start();
        }
        loop {
            match awaited.fetch.wait() {
                Err(Interrupted) if mutant::active(Mutant::NotKillable) => {}
                result => return Ok(result?),
            }
        }
    }

    /// The mutants that give zeros for what cannot be had.
    fn pretend_zeros<T>(
        &self,
        page: Page,
        access: Access,
        then: &mut Option<impl FnOnce(&mut AddressSpace) -> T>,
    ) -> Result<T, FaultError> {
        let map = |space: &mut AddressSpace| {
            let (frame, flags) = match access {
                // From the reserve: what is to be broken is not the shortage.
                Access::Write => (Frame::zeroed_for(Claim::Server)?, OWN_WRITABLE),
                Access::Read | Access::Execute => (Frame::zero_page(), EntryFlags::empty()),
            };
            drop(space.table.map(page, frame, space.flags_at(page) | flags)?);
            Ok::<_, FaultError>(then.take().map(|then| then(space)))
        };
        self.with(map)?.ok_or(FaultError::Bus)
    }

    /// The mutant that maps what came without looking again.
    fn map_blindly(&self, page: Page, awaited: &Awaited) -> Result<(), FaultError> {
        self.with(|space| {
            awaited.frame().map_or(Ok(()), |frame| space.install(page, frame, EntryFlags::empty()))
        })
    }
}

/// Whether rights allow an access. As on x86: what can be stored to or executed can be loaded.
pub(super) fn permits(prot: Prot, access: Access) -> bool {
    match access {
        Access::Read => !prot.is_empty(),
        Access::Write => prot.contains(Prot::WRITE),
        Access::Execute => prot.contains(Prot::EXECUTE),
    }
}

/// Whether an entry lets a program do this now.
pub(super) fn allows(flags: EntryFlags, access: Access) -> bool {
    let granted = match access {
        Access::Read => true,
        Access::Write => flags.contains(EntryFlags::WRITE),
        Access::Execute => !flags.contains(EntryFlags::NO_EXECUTE),
    };
    granted && flags.contains(EntryFlags::PRESENT)
}

/// The flags of an entry in a region with these rights, before [`EntryFlags::WRITE`] and
/// [`EntryFlags::PRIVATE`].
pub(super) fn base_flags(prot: Prot) -> EntryFlags {
    let mut flags = EntryFlags::USER;
    flags.set(EntryFlags::PRESENT, !prot.is_empty());
    flags.set(EntryFlags::NO_EXECUTE, !prot.contains(Prot::EXECUTE));
    flags
}

/// A page that stands for bytes of a snapshot.
pub(super) struct LazyPage {
    page: Page,
    /// Its region.
    range: PageRange,
    pub snapshot: Arc<Snapshot>,
    /// Byte of the snapshot at the region's start.
    first: SnapshotOffset,
    /// Of an entry that is neither private nor writable.
    flags: EntryFlags,
    /// How many pages shall come.
    window: PageCount,
}

impl LazyPage {
    /// Byte of the snapshot at the page itself.
    pub fn wanted(&self) -> SnapshotOffset {
        self.byte_of(self.page)
    }

    fn byte_of(&self, page: Page) -> SnapshotOffset {
        self.first + (page - self.range.start).bytes()
    }

    /// Whether what was waited for is this very page of this very snapshot.
    fn is_of(&self, held: &Awaited) -> bool {
        held.fetch.snapshot.id == self.snapshot.id && held.wanted == self.byte_of(self.page)
    }

    /// The pages that a fault brings along: an aligned window, cut at the region's ends.
    fn around(&self) -> PageRange {
        let start = Page(self.page.0 - self.page.0 % self.window.0);
        PageRange::new(start, self.window).intersect(self.range)
    }
}

const OWN_WRITABLE: EntryFlags = EntryFlags::PRIVATE.union(EntryFlags::WRITE);

impl AddressSpace {
    /// Looks at a page once: does what can be done without waiting. `held` is what was waited for
    /// last.
    pub(super) fn look(
        &mut self,
        page: Page,
        access: Access,
        extent: Extent,
        space: &Space,
        held: Option<&Awaited>,
    ) -> Result<Resolution, FaultError> {
        // What an entry allows, its region allows: where a page is mapped already, no region is
        // looked for.
        let entry = self.table.get(page);
        if entry.is_some_and(|entry| allows(entry.flags(), access)) {
            return Ok(Resolution::Done);
        }
        let (range, region) = self.regions.find_mut(page).ok_or(FaultError::Segv)?;
        if !permits(region.prot, access) {
            return Err(FaultError::Segv);
        }
        let write = access == Access::Write;
        let (flags, claim) = (base_flags(region.prot), self.table.claim);
        if let Some(entry) = entry {
            if let Some(slot) = entry.slot() {
                let prot = region.prot;
                return self.look_swapped(&SwappedPage { page, range, prot, slot }, write, extent);
            }
            if write && !entry.has(EntryFlags::WRITE) {
                self.make_own(page, entry, flags, extent, space)?;
            }
            return Ok(Resolution::Done);
        }
        region.touched = true;
        // What is overwritten as a whole, under this very lock, need not be zeroed.
        let fresh = || {
            if extent == Extent::Whole { Frame::recycled(claim) } else { Frame::zeroed_for(claim) }
        };
        match &region.backing {
            Backing::Anonymous if write => {
                drop(self.table.map(page, fresh()?, flags | OWN_WRITABLE)?)
            }
            Backing::Anonymous => drop(self.table.map(page, Frame::zero_page(), flags)?),
            Backing::Shared { memory, first } => {
                let frame = memory.frame(first + (page - range.start).0, claim)?;
                let writable = if region.prot.contains(Prot::WRITE) {
                    EntryFlags::WRITE
                } else {
                    EntryFlags::empty()
                };
                drop(self.table.map(page, frame, flags | writable)?);
            }
            Backing::Snapshot { .. } if write && extent == Extent::Whole => {
                self.map_own(page, fresh()?, flags)?
            }
            Backing::Snapshot { snapshot, offset } => {
                // Where a fetch of several pages failed, the fault's own page may still be had
                // (F5).
                let failed = held.is_some_and(|held| held.fetch.frames(|_| ()).is_none());
                let window = match access {
                    _ if failed => PageCount(1),
                    Access::Write => region.habit.window_for_store(page, range),
                    Access::Read | Access::Execute => region.habit.window(page, range),
                };
                let lazy = LazyPage {
                    page,
                    range,
                    snapshot: snapshot.clone(),
                    first: *offset,
                    flags,
                    window,
                };
                return self.look_lazy(&lazy, write, space, held);
            }
        }
        Ok(Resolution::Done)
    }

    /// A page that stands for bytes of a snapshot, and is not mapped.
    pub(super) fn look_lazy(
        &mut self,
        lazy: &LazyPage,
        write: bool,
        space: &Space,
        held: Option<&Awaited>,
    ) -> Result<Resolution, FaultError> {
        let &LazyPage { page, flags, .. } = lazy;
        let claim = self.table.claim;
        let wanted = lazy.byte_of(page);
        if lazy.snapshot.is_hole(wanted) {
            space.counters.add(Counter::PagesHole, 1);
            if write {
                self.map_own(page, Frame::zeroed_for(claim)?, flags)?;
            } else {
                drop(self.table.map(page, Frame::zero_page(), flags)?);
            }
            return Ok(Resolution::Done);
        }
        let window = lazy.around();
        if write && !mutant::active(Mutant::StoreShared) {
            let mut original = None;
            match cache::lookup(&lazy.snapshot, wanted, PageCount(1), 0, |_, frame| {
                original = Some(frame.clone())
            }) {
                Lookup::Pending(fetch) if !mutant::active(Mutant::FetchTwice) => {
                    return Ok(Resolution::Wait(Awaited { fetch, fresh: false, wanted }));
                }
                Lookup::Swapped(slot) => return self.look_away(lazy, slot, write, space, held),
                _ => {}
            }
            // What came may have found no place in the cache.
            let original =
                original.or_else(|| held.filter(|held| lazy.is_of(held)).and_then(Awaited::frame));
            let Some(original) = original else { return Ok(self.begin_fetch(lazy, window, space)) };
            space.counters.add(Counter::PagesCow, 1);
            self.map_own(page, original.duplicate(claim)?, flags)?;
            if let Some(held) = held.filter(|held| lazy.is_of(held)) {
                self.note_fetch(lazy, held);
            }
            return Ok(Resolution::Done);
        }
        let flags = if write { flags | EntryFlags::WRITE } else { flags };
        // The wait is over and the page stands for the same bytes as before: what came is mapped
        // without a search.
        if let Some(mapped) = held.and_then(|held| self.map_fetched(lazy, flags, held)) {
            space.counters.add(Counter::PagesMapped, mapped?);
            return Ok(Resolution::Done);
        }
        let mut filler = Filler::new(&mut self.table, flags);
        let mut mapped = Ok(0);
        let take = |index: usize, frame: &Frame| {
            // Not having a frame for a table is an error only for the page that is wanted, which
            // comes first.
            match filler.put(window.start + PageCount::of_len(index), frame) {
                Ok(new) => mapped = mapped.map(|mapped| mapped + u64::from(new)),
                Err(error) if mapped == Ok(0) => mapped = Err(error),
                Err(_) => {}
            }
        };
        match cache::lookup(
            &lazy.snapshot,
            lazy.byte_of(window.start),
            window.pages(),
            (page - window.start).to_usize(),
            take,
        ) {
            Lookup::Ready => {
                let mapped = mapped?;
                space.counters.add(Counter::PagesMapped, mapped);
                self.note(lazy, window.end, PageCount(mapped));
                Ok(Resolution::Done)
            }
            Lookup::Pending(fetch) if !mutant::active(Mutant::FetchTwice) => {
                Ok(Resolution::Wait(Awaited { fetch, fresh: false, wanted }))
            }
            Lookup::Swapped(slot) => self.look_away(lazy, slot, write, space, held),
            Lookup::Pending(_) | Lookup::Absent => Ok(self.begin_fetch(lazy, window, space)),
        }
    }

    /// Maps what a fetch brought, if it was for this very page of this very snapshot (F3); says how
    /// many pages.
    fn map_fetched(
        &mut self,
        lazy: &LazyPage,
        flags: EntryFlags,
        held: &Awaited,
    ) -> Option<Result<u64, FaultError>> {
        let Awaited { fetch, wanted, .. } = held;
        if !lazy.is_of(held) {
            return None;
        }
        let before = fetch.pages_before(*wanted);
        let mapped = fetch.frames(|frames| {
            let mut filler = Filler::new(&mut self.table, flags);
            let mut mapped = u64::from(
                filler.put(lazy.page, frames.get(before.to_usize()).ok_or(FaultError::Bus)?)?,
            );
            for (index, frame) in frames.iter().enumerate() {
                let other = (lazy.page.0 + index as u64).checked_sub(before.0).map(Page);
                if let Some(other) = other.filter(|&other| lazy.range.contains(other)) {
                    mapped += u64::from(filler.put(other, frame).unwrap_or(false));
                }
            }
            Ok(mapped)
        });
        if matches!(mapped, Some(Ok(_))) {
            self.note_fetch(lazy, held);
        }
        mapped
    }

    /// Begins to fetch a page, and with it those around it that are neither mapped nor holes.
    fn begin_fetch(&mut self, lazy: &LazyPage, window: PageRange, space: &Space) -> Resolution {
        let wanted = |other: Page| {
            self.table.get(other).is_none() && !lazy.snapshot.is_hole(lazy.byte_of(other))
        };
        let (mut start, mut end) = (lazy.page, lazy.page.next());
        while start > window.start && wanted(start.previous()) {
            start.0 -= 1;
        }
        while end < window.end && wanted(end) {
            end.0 += 1;
        }
        let wanted = lazy.byte_of(lazy.page);
        let fetch =
            cache::begin(&lazy.snapshot, lazy.byte_of(start), end - start, wanted, &space.counters);
        Resolution::Wait(Awaited { fetch, fresh: true, wanted })
    }

    fn note_fetch(&mut self, lazy: &LazyPage, held: &Awaited) {
        let behind = held.fetch.pages_before(held.wanted);
        let pages = held.fetch.pages;
        self.note(lazy, lazy.page + (pages - behind), pages);
    }

    /// Remembers how the region's pages are touched.
    fn note(&mut self, lazy: &LazyPage, end: Page, brought: PageCount) {
        if let Some((_, region)) = self.regions.find_mut(lazy.page) {
            region.habit.note(end, lazy.window, brought);
        }
    }

    /// A store met an entry that is not writable, in a region that is. `flags` are the region's.
    fn make_own(
        &mut self,
        page: Page,
        entry: Entry,
        flags: EntryFlags,
        extent: Extent,
        space: &Space,
    ) -> Result<(), FaultError> {
        if !entry.is_shared() || mutant::active(Mutant::StoreShared) && !entry.is_zero_page() {
            // Nobody else sees this frame, so it need not be copied. Access grew: the CPU looks
            // again by itself.
            self.table.set_flags(page, flags | OWN_WRITABLE);
        } else {
            let claim = self.table.claim;
            let copy = if extent == Extent::Whole {
                Frame::recycled(claim)?
            } else {
                entry.frame().duplicate(claim)?
            };
            space.counters.add(Counter::PagesCow, 1);
            // The old frame stays alive as long as others hold it; nobody runs on the stale
            // translation before the flush at the end of the lock.
            drop(self.table.map(page, copy, flags | OWN_WRITABLE)?);
            self.flush.merge(Flush::page(page));
        }
        if !entry.has(EntryFlags::PRIVATE) {
            self.end_association(page);
        }
        Ok(())
    }

    /// Maps a frame of the space's own, for a store, where nothing was: the page stands for bytes
    /// of a snapshot no longer.
    fn map_own(&mut self, page: Page, frame: Frame, flags: EntryFlags) -> Result<(), FaultError> {
        drop(self.table.map(page, frame, flags | OWN_WRITABLE)?);
        self.end_association(page);
        Ok(())
    }

    fn flags_at(&self, page: Page) -> EntryFlags {
        base_flags(self.regions.find(page).map_or(Prot::empty(), |(_, region)| region.prot))
    }

    /// Maps a frame where nothing was.
    fn install(&mut self, page: Page, frame: Frame, flags: EntryFlags) -> Result<(), FaultError> {
        let flags = self.flags_at(page) | flags;
        let old = self.table.map(page, frame, flags)?;
        debug_assert!(old.is_none() || mutant::active(Mutant::NoGeneration));
        if let Some((_, region)) = self.regions.find_mut(page) {
            region.touched = true;
        }
        Ok(())
    }

    /// Maps a frame of the space's own where nothing was; if the page stood for bytes of a
    /// snapshot, it does no longer.
    pub(super) fn install_private(&mut self, page: Page, frame: Frame) -> Result<(), FaultError> {
        let writable =
            self.regions.find(page).is_some_and(|(_, region)| region.prot.contains(Prot::WRITE))
                && !frame.is_shared();
        self.install(page, frame, if writable { OWN_WRITABLE } else { EntryFlags::PRIVATE })?;
        self.end_association(page);
        Ok(())
    }

    /// A page has become private. The last one of a region lets go of the snapshot (C10), and the
    /// region may join its neighbours.
    pub(super) fn end_association(&mut self, page: Page) {
        let Some((range, region)) = self.regions.find_mut(page) else { return };
        if region.associated.is_zero() {
            return;
        }
        region.associated -= PageCount(1);
        if region.associated.is_zero() {
            self.garbage.push(core::mem::replace(&mut region.backing, Backing::Anonymous));
            self.regions.merge(range);
        }
    }
}
