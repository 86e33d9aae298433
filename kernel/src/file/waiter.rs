//! A thread that waits for bytes or for a message, and says where in its memory it wants them.
//!
//! The next writer copies a few there and wakes the thread: they are in no queue, and nobody
//! allocates for them. Nothing is handed over once a signal was sent to any thread: if that has
//! ended this wait, it would be lost.
//!
//! Lock: that of the queue to which the place belongs.

use super::mutants;
use crate::mem::{Space, UserSlice};
use crate::sync;
use alloc::sync::Arc;

/// Where a thread wants what it waits for.
pub(in crate::file) type Place<'a> = (&'a Arc<Space>, UserSlice);

/// A thread that waits, and what was handed to it.
struct Waiter<T> {
    /// [`sync::interruptions`] when it began.
    since: u64,
    space: Arc<Space>,
    to: UserSlice,
    handed: Option<T>,
}

/// The place of one thread that waits at a queue.
pub(in crate::file) struct Waiting<T>(Option<Waiter<T>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Waiting<T> {
    /// The running thread begins to wait. False where another one waits here.
    #[inline]
    pub fn begin(&mut self, (space, to): Place<'_>) -> bool {
        let is_free = self.0.is_none();
        if is_free {
            let since = sync::interruptions();
            self.0 = Some(Waiter { since, space: space.clone(), to, handed: None });
        }
        is_free
    }

    /// Hands over what `copy` copies. False where no thread waits that is sure to look for it, or
    /// `copy` returns `None`.
    #[inline]
    pub fn hand(&mut self, copy: impl FnOnce(&Space, UserSlice) -> Option<T>) -> bool {
        let Some(waiter) = &mut self.0 else { return false };
        let is_sure = waiter.since == sync::interruptions() || mutants::hand_to_killed();
        if waiter.handed.is_some() || !is_sure {
            return false;
        }
        let Some(handed) = copy(&waiter.space, waiter.to) else { return false };
        waiter.handed = Some(handed);
        true
    }

    /// Whether something was handed to the thread that waits here.
    #[inline]
    pub fn has_got(&self) -> bool {
        self.0.as_ref().is_some_and(|waiter| waiter.handed.is_some())
    }

    /// The thread waits no longer. Returns what was handed to it.
    #[inline]
    pub fn leave(&mut self) -> Option<T> {
        self.0.take()?.handed
    }

    /// Whether a thread waits here.
    #[cfg(test)]
    pub fn is_taken(&self) -> bool {
        self.0.is_some()
    }
}
