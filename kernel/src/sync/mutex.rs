//! Spin locks with a rank.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::check::{self, Nested, SpinToken};
use super::rank::{Kind, Rank};

/// A spin lock. `R` is its place in the lock order; it takes no space.
pub struct Mutex<T: ?Sized, R: Rank> {
    rank: PhantomData<fn() -> R>,
    inner: spin::Mutex<T>,
}

/// Access to what a [`Mutex`] protects.
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped before the token: what is recorded is held.
    guard: spin::MutexGuard<'a, T>,
    _token: SpinToken,
}

impl<T, R: Rank> Mutex<T, R> {
    /// An unlocked lock.
    pub const fn new(value: T) -> Self {
        const { assert!(matches!(R::KIND, Kind::Spin | Kind::SpinNested), "a rank of SleepLock") };
        Self { rank: PhantomData, inner: spin::Mutex::new(value) }
    }

    /// What it protects; nobody else uses the lock any more.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized, R: Rank> Mutex<T, R> {
    /// Acquires the lock.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        check::assert_order::<R>(Nested::No);
        self.guard(self.inner.lock())
    }

    /// Acquires the lock while another one of its rank may be held. The rank must allow that; the
    /// caller must know that no other thread acquires the two the other way round.
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self) -> MutexGuard<'_, T> {
        const { assert!(matches!(R::KIND, Kind::SpinNested), "the rank allows only one lock") };
        check::assert_order::<R>(Nested::Yes);
        self.guard(self.inner.lock())
    }

    /// Acquires the lock if it is free, whatever else is held.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(self.guard(self.inner.try_lock()?))
    }

    #[inline]
    fn guard<'a>(&'a self, guard: spin::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let address = (&raw const self.inner).cast::<()>() as usize;
        MutexGuard { guard, _token: SpinToken::new::<R>(address) }
    }
}

impl<T: Default, R: Rank> Default for Mutex<T, R> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug, R: Rank> fmt::Debug for Mutex<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
