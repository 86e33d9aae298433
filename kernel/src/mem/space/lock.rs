//! Locked memory: mlock(2) and mlockall(2).
//!
//! A region records whether its pages are locked; reclaim then leaves those that are resident where
//! they are. All pages of a locked region are charged, as Linux counts them: what is locked cannot
//! be reclaimed, and never takes the memory that servers need. A child inherits no locks, and a new
//! program has none.
#![forbid(unsafe_code)]

use super::steps::EVERYTHING;
use super::{Access, FaultError, Space, SpaceState, limits::STACK};
use crate::mem::account::Kind;
use crate::mem::region::Lock;
use crate::mem::{Charge, OutOfMemory, PageRange, Prot, Region, UserSlice, reclaim};
use crate::sync::{Interrupt, relax};
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno, PageCount};

/// Pages that are populated before others may run, or a kill is noticed.
const STEP_PAGES: PageCount = PageCount(512);

impl Space {
    /// Locks or unlocks the pages of a range. ENOMEM where part of it is not mapped, and where so
    /// much cannot be locked. May wait; called with no lock held.
    pub fn lock(&self, range: UserSlice, lock: Lock) -> Result<(), Errno> {
        let range = range.touched_pages();
        reclaim::ready::<Errno>(self.policy.claim())?;
        self.require_mapped(range)?;
        self.lock_mapped(range, lock, lock)
    }

    /// Locks or unlocks all that is mapped, unless `current` is `None`, and sets what is done with
    /// what is mapped in the future.
    pub fn lock_all(&self, current: Option<Lock>, future: Lock) -> Result<(), Errno> {
        reclaim::ready::<Errno>(self.policy.claim())?;
        if let Some(lock) = current {
            // A stack grows into its region.
            self.lock_mapped(EVERYTHING, lock, lock.min(Lock::OnFault))?;
        }
        self.change_regions(|state| {
            state.future = future;
            Ok(())
        })?;
        if future != Lock::Unlocked {
            self.has_locks.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// `stack` is for the first stack.
    fn lock_mapped(&self, range: PageRange, lock: Lock, stack: Lock) -> Result<(), Errno> {
        if lock != Lock::Unlocked {
            // Nothing is locked where not all can be.
            drop(Charge::take(&self.account, Kind::Locked, self.bytes_to_lock(range)?)?);
            self.has_locks.store(true, Ordering::Relaxed);
        }
        self.in_parts(range, |state, part| state.lock(part, lock, stack))
    }

    /// Bytes of a range that are mapped and not locked.
    fn bytes_to_lock(&self, range: PageRange) -> Result<usize, Errno> {
        let (mut pages, mut rest) = (PageCount::ZERO, range);
        while !rest.is_empty() {
            pages += self.peek(|state| {
                let part = state.take_regions(&mut rest);
                state.count_with(part, |region| !region.is_locked())
            });
            relax(Interrupt::Killable)?;
        }
        Ok(pages.bytes().to_usize())
    }

    /// Makes the pages of a range resident that are locked, but for those that are locked when they
    /// are touched. Writable private pages get their own frames. `Segv` where some cannot be
    /// accessed at all, once all others are resident. May wait; called with no lock held.
    pub fn populate_locked(&self, range: UserSlice) -> Result<(), FaultError> {
        self.populate(range.touched_pages())
    }

    /// The same for everything.
    pub fn populate_all_locked(&self) -> Result<(), FaultError> {
        self.populate(EVERYTHING)
    }

    fn populate(&self, range: PageRange) -> Result<(), FaultError> {
        if !self.has_locks.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (mut rest, mut result) = (range, Ok(()));
        while let Some((part, access)) = self.peek(|state| state.next_to_populate(rest)) {
            rest.start = part.end;
            match access {
                None => result = Err(FaultError::Segv),
                Some(access) => {
                    let bytes = part.pages().bytes();
                    let slice = UserSlice::new(part.start.user_start(), bytes)
                        .map_err(|_| FaultError::Segv)?;
                    let done = self.prepare(slice, access)?;
                    // Where not all is usable, the next attempt begins with the error.
                    rest.start = part.start + slice.take(done).bytes().whole_pages();
                }
            }
            relax(Interrupt::Killable)?;
        }
        result
    }

    /// Pages that are locked.
    pub fn locked(&self) -> PageCount {
        self.peek(|state| state.locked_pages())
    }

    /// EINVAL where pages of a range are locked.
    pub fn check_unlocked(&self, range: UserSlice) -> Result<(), Errno> {
        let pages = range.touched_pages();
        let is_locked = self.has_locks.load(Ordering::Relaxed)
            && self.peek(|state| !state.count_with(pages, Region::is_locked).is_zero());
        if is_locked { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

impl SpaceState {
    fn lock(&mut self, range: PageRange, lock: Lock, stack: Lock) -> Result<(), Errno> {
        self.split_ends(range)?;
        if lock == Lock::Unlocked {
            self.uncount_locked(self.count_with(range, Region::is_locked));
        } else {
            self.count_locked(self.count_with(range, |region| !region.is_locked()))?;
        }
        self.regions.change(range, |_, region| {
            region.lock = if region.label == STACK { stack } else { lock };
        });
        self.regions.merge(range);
        Ok(())
    }

    /// Pages of the regions of a range that `is_one` accepts.
    fn count_with(&self, range: PageRange, is_one: impl Fn(&Region) -> bool) -> PageCount {
        let all = self.regions.overlapping(range).filter(|(_, region)| is_one(region));
        all.fold(PageCount::ZERO, |sum, (own, _)| sum + own.intersect(range).pages())
    }

    fn locked_pages(&self) -> PageCount {
        self.locked
            .as_ref()
            .map_or(PageCount::ZERO, |charge| ByteCount::of_len(charge.bytes()).whole_pages())
    }

    /// Counts pages that become locked.
    pub(super) fn count_locked(&mut self, pages: PageCount) -> Result<(), OutOfMemory> {
        let bytes = pages.bytes().to_usize();
        match &mut self.locked {
            Some(charge) => charge.resize(charge.bytes() + bytes),
            None => {
                let charge = Charge::take(self.charge.account(), Kind::Locked, bytes)?;
                self.locked = Some(charge);
                Ok(())
            }
        }
    }

    /// Counts pages that are not locked any more.
    pub(super) fn uncount_locked(&mut self, pages: PageCount) {
        if let Some(charge) = &mut self.locked {
            // A charge that shrinks does not fail.
            let _ = charge.resize(charge.bytes() - pages.bytes().to_usize());
        }
    }

    /// Whether so many more pages could be locked; EAGAIN if not.
    pub(super) fn check_lock(&self, lock: Lock, pages: PageCount) -> Result<(), Errno> {
        if lock != Lock::Unlocked {
            let bytes = pages.bytes().to_usize();
            let charge = Charge::take(self.charge.account(), Kind::Locked, bytes);
            drop(charge.map_err(|_| Errno::EAGAIN)?);
        }
        Ok(())
    }

    /// The first pages of a range that have to be populated, and how; `None` for the access where
    /// none is allowed.
    fn next_to_populate(&self, range: PageRange) -> Option<(PageRange, Option<Access>)> {
        let mut regions = self.regions.overlapping(range);
        let (own, region) = regions.find(|(_, region)| region.lock == Lock::Locked)?;
        let part = own.intersect(range);
        if region.prot.is_empty() {
            return Some((part, None));
        }
        let is_own = region.prot.contains(Prot::WRITE) && !region.backing.is_shared();
        let access = if is_own { Access::Write } else { Access::Read };
        let pages = part.pages().min(STEP_PAGES);
        Some((PageRange::new(part.start, pages), Some(access)))
    }

    /// Removes the locks of regions that were copied from another space.
    pub(super) fn forget_locks(&mut self, range: PageRange) {
        self.regions.change(range, |_, region| region.lock = Lock::Unlocked);
    }
}
