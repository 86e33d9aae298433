//! Long changes of a space's regions, and their steps.
//!
//! A step changes a part of bounded work under the space's lock. Between two steps the lock is
//! free, other threads run, and a kill ends the change. No other thread changes regions until a
//! long change has ended: it waits, and so does a fault that finds no region. So a mapping that
//! replaces another one, and a fork, are one change for the program, as on Linux.
#![forbid(unsafe_code)]

use super::{Space, SpaceState};
use crate::mem::{Page, PageRange, USER_END};
use crate::sync::{Interrupt, Interrupted, MutexGuard, relax};
use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::Ordering;
use foundation::Errno;

/// Regions of one part. Each of them may be merged, at some 1,500 instructions.
const REGIONS_IN_PART: usize = 48;

/// All pages of a program's half.
pub(super) const EVERYTHING: PageRange = PageRange { start: Page(0), end: USER_END.page() };

/// Whether a long change goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Parts of the change remain.
    More,
    /// The change is complete.
    Last,
}

/// A long change. Others can change regions again when this is dropped.
struct Turn<'a>(&'a Space);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().is_changing = false;
        self.0.settled.wake_all();
    }
}

impl Space {
    /// The state, once no long change is under way. May wait; called with no lock held.
    #[inline]
    fn lock_settled(&self) -> Result<MutexGuard<'_, SpaceState>, Interrupted> {
        let state = self.inner.lock();
        if state.is_changing {
            drop(state);
            return self.await_settled();
        }
        Ok(state)
    }

    #[cold]
    fn await_settled(&self) -> Result<MutexGuard<'_, SpaceState>, Interrupted> {
        self.settled.wait(Interrupt::Killable, || {
            let state = self.inner.lock();
            (!state.is_changing).then_some(state)
        })
    }

    /// Waits for the end of a long change. Returns whether there was one.
    pub(super) fn settle(&self) -> Result<bool, Interrupted> {
        let is_changing = self.inner.lock().is_changing;
        if is_changing {
            drop(self.await_settled()?);
        }
        Ok(is_changing)
    }

    /// Changes regions in one step. May wait; called with no lock held.
    pub(super) fn change_regions<T>(
        &self,
        change: impl FnOnce(&mut SpaceState) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let state = self.lock_settled()?;
        self.with_locked(state, change)
    }

    /// Changes regions in steps. Fails where a step fails, and for a kill; the steps before are not
    /// undone. May wait; called with no lock held.
    pub(super) fn in_steps(
        &self,
        mut step: impl FnMut(&mut SpaceState) -> Result<Step, Errno>,
    ) -> Result<(), Errno> {
        let mut turn = None;
        loop {
            let state = if turn.is_some() { self.inner.lock() } else { self.lock_settled()? };
            let done = self.with_locked(state, |state| {
                let done = step(state)?;
                state.is_changing = done == Step::More;
                Ok::<_, Errno>(done)
            });
            match done? {
                Step::Last => return Ok(()),
                Step::More => _ = turn.get_or_insert(Turn(self)),
            }
            relax(Interrupt::Killable)?;
        }
    }

    /// Changes a range part by part.
    pub(super) fn in_parts(
        &self,
        range: PageRange,
        mut change: impl FnMut(&mut SpaceState, PageRange) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut rest = range;
        self.in_steps(|state| {
            let part = state.take_part(&mut rest);
            change(state, part)?;
            Ok(if rest.is_empty() { Step::Last } else { Step::More })
        })
    }

    /// Unmaps everything, for a space that no thread uses any more. Others may still look at it.
    fn dismantle(&self) {
        let mut rest = EVERYTHING;
        loop {
            let is_last = self.with(|state| {
                let part = state.take_part(&mut rest);
                // A small space goes as a whole with its last reference.
                if part != EVERYTHING {
                    state.abandon(part);
                }
                rest.is_empty()
            });
            if is_last {
                return;
            }
            // A thread that ends goes on although it is killed.
            let _ = relax(Interrupt::Killable);
        }
    }
}

impl SpaceState {
    /// Unmaps a part of a space that no thread uses any more: no translation of it is used, either.
    fn abandon(&mut self, part: PageRange) {
        // Where the list of what is released cannot grow, the regions go later.
        let _ = self.remove_regions(part);
        self.table.abandon(part);
    }

    /// Removes the first part from a range, and returns it: what one step may change.
    pub(super) fn take_part(&self, rest: &mut PageRange) -> PageRange {
        let all = *rest;
        let regions = self.take_regions(rest);
        rest.start = self.table.part_end(regions);
        PageRange { end: rest.start, ..all }
    }

    /// The same for what depends on the number of regions only.
    pub(super) fn take_regions(&self, rest: &mut PageRange) -> PageRange {
        // Few programs have more regions than that at all.
        let next = if self.regions.len() > REGIONS_IN_PART {
            self.regions.overlapping(*rest).nth(REGIONS_IN_PART)
        } else {
            None
        };
        let end = next.map_or(rest.end, |(next, _)| next.start);
        PageRange { start: core::mem::replace(&mut rest.start, end), end }
    }
}

/// The use of a space by a thread, or by somebody who prepares it for one. The last one empties the
/// space when it is dropped, in steps: drop it with no lock held.
pub struct Occupant(Arc<Space>);

impl Occupant {
    /// One more use of a space.
    pub fn new(space: &Arc<Space>) -> Self {
        space.occupants.fetch_add(1, Ordering::Relaxed);
        Self(space.clone())
    }

    /// The space as it is, used by nobody.
    #[cfg(not(target_os = "none"))]
    pub fn into_space(self) -> Arc<Space> {
        let space = self.0.clone();
        space.occupants.fetch_add(1, Ordering::Relaxed);
        drop(self);
        space.occupants.fetch_sub(1, Ordering::Relaxed);
        space
    }
}

impl Deref for Occupant {
    type Target = Arc<Space>;

    fn deref(&self) -> &Arc<Space> {
        &self.0
    }
}

impl Drop for Occupant {
    fn drop(&mut self) {
        if self.0.occupants.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.dismantle();
        }
    }
}
