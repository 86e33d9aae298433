//! Sleeping locks with a rank.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::check::{self, SleepToken};
use super::rank::{Kind, Rank};
use super::{Interrupt, Interrupted, WaitQueue};

/// A lock whose holder may wait. Other threads sleep until it is free; a signal that kills ends
/// their wait. `R` is its place in the lock order; it takes no space.
pub struct SleepLock<T, R: Rank> {
    rank: PhantomData<fn() -> R>,
    // Without a rank: it is only tried, and its holder may wait.
    value: spin::Mutex<T>,
    queue: WaitQueue,
}

/// Access to what a [`SleepLock`] protects.
pub struct SleepGuard<'a, T> {
    guard: Option<spin::MutexGuard<'a, T>>,
    queue: &'a WaitQueue,
    _token: SleepToken,
}

impl<T, R: Rank> SleepLock<T, R> {
    /// An unlocked lock.
    pub const fn new(value: T) -> Self {
        const { assert!(matches!(R::KIND, Kind::Sleep | Kind::SleepAcrossMessages), "spin rank") };
        Self { rank: PhantomData, value: spin::Mutex::new(value), queue: WaitQueue::new() }
    }

    /// Acquires the lock, sleeping while another thread holds it.
    #[track_caller]
    pub fn lock(&self) -> Result<SleepGuard<'_, T>, Interrupted> {
        check::assert_sleep_order::<R>();
        let guard = self.queue.wait(Interrupt::Killable, || self.value.try_lock())?;
        let address = (&raw const self.value).cast::<()>() as usize;
        let token = SleepToken::new::<R>(address);
        Ok(SleepGuard { guard: Some(guard), queue: &self.queue, _token: token })
    }
}

impl<T: Copy, R: Rank> SleepLock<T, R> {
    /// The value, unless a thread holds the lock.
    pub fn peek(&self) -> Option<T> {
        let value = self.value.try_lock().map(|value| *value);
        // Who tried to acquire it meanwhile has not.
        self.queue.wake_all();
        value
    }
}

impl<T: fmt::Debug, R: Rank> fmt::Debug for SleepLock<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Drop for SleepGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        self.queue.wake_all();
    }
}

impl<T> Deref for SleepGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.guard.as_ref().expect("held until dropped")
    }
}

impl<T> DerefMut for SleepGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("held until dropped")
    }
}
