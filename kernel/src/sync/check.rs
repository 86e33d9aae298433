//! Checks of the lock order, of waits and of messages.
//!
//! Compiled in with debug assertions (host tests, simulation) and, for the bare-metal kernel, with
//! the feature `lock-checks`; otherwise every function here is empty.
//!
//! Spin locks are recorded per CPU: on the host per OS thread, on the machine in one list, because
//! it has one CPU and enters the kernel with interrupts off. No thread is switched while it holds
//! one, so the list needs no thread. Sleeping locks are recorded per kernel thread, as the
//! registered scheduler numbers them. All sleeping ranks are outside of all spin ranks, so that
//! acquiring a spin lock needs no look at the sleeping ones.

use super::ThreadId;
use super::rank::Rank;

#[cfg(any(debug_assertions, feature = "lock-checks"))]
use on as imp;
#[cfg(any(debug_assertions, feature = "lock-checks"))]
pub(super) use on::{SleepToken, SpinToken};

#[cfg(not(any(debug_assertions, feature = "lock-checks")))]
use off as imp;
#[cfg(not(any(debug_assertions, feature = "lock-checks")))]
pub(super) use off::{SleepToken, SpinToken};

/// Asserts that the caller may wait: it holds no spin lock.
#[inline]
#[track_caller]
pub fn assert_may_wait() {
    imp::assert_may_wait();
}

/// Asserts that the caller may wait for the reply of a file server: it holds no spin lock, and only
/// those sleeping locks that are declared as `SleepAcrossMessages`.
#[inline]
#[track_caller]
pub fn assert_may_await_server() {
    imp::assert_may_await_server();
}

/// The innermost spin lock that is held; none where locks are not checked.
pub fn spin_lock_held() -> Option<&'static str> {
    imp::spin_lock_held()
}

/// Calls `show` with the rank, the address and the thread of each lock that is held. A spin lock
/// has no thread. None where locks are not checked.
pub fn each_held(show: &mut dyn FnMut(&'static str, usize, Option<ThreadId>)) {
    imp::each_held(show);
}

/// Asserts that the running thread holds no lock of any kind.
#[inline]
#[track_caller]
pub fn assert_holds_nothing() {
    imp::assert_holds_nothing();
}

/// Asserts that a spin lock of rank `R` may be acquired now.
#[inline]
#[track_caller]
pub(super) fn assert_order<R: Rank>(nested: Nested) {
    imp::assert_order::<R>(nested);
}

/// Asserts that a sleeping lock of rank `R` may be acquired now.
#[inline]
#[track_caller]
pub(super) fn assert_sleep_order<R: Rank>() {
    imp::assert_sleep_order::<R>();
}

/// Whether a lock is the second of its rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nested {
    Yes,
    No,
}

#[cfg(any(debug_assertions, feature = "lock-checks"))]
mod on {
    use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::Nested;
    use crate::sync::rank::{Kind, Rank, Row, TABLE};
    use crate::sync::{SCHEDULER, ThreadId};

    /// Spin locks that one CPU holds at once, at most.
    const MAX_SPIN: usize = 32;
    /// Sleeping locks that all threads hold at once, at most.
    const MAX_SLEEPING: usize = 1024;

    const LEVEL_SHIFT: u32 = 56;

    /// The spin locks held on one CPU: level in the upper 8 bits, address below.
    struct Held {
        locks: [AtomicU64; MAX_SPIN],
        count: AtomicUsize,
    }

    impl Held {
        const fn new() -> Self {
            Self { locks: [const { AtomicU64::new(0) }; MAX_SPIN], count: AtomicUsize::new(0) }
        }

        fn levels(&self) -> impl Iterator<Item = u8> {
            let count = self.count.load(Ordering::Relaxed);
            self.locks.iter().take(count).map(|lock| level_of(lock.load(Ordering::Relaxed)))
        }

        fn push(&self, lock: u64) {
            let count = self.count.load(Ordering::Relaxed);
            let Some(free) = self.locks.get(count) else { panic!("too many spin locks are held") };
            free.store(lock, Ordering::Relaxed);
            self.count.store(count + 1, Ordering::Relaxed);
        }

        /// Guards may be dropped in any order.
        fn remove(&self, lock: u64) {
            let count = self.count.load(Ordering::Relaxed);
            let held = self.locks.get(..count).unwrap_or_default();
            let Some(at) = held.iter().rposition(|held| held.load(Ordering::Relaxed) == lock)
            else {
                return;
            };
            for (to, from) in held.iter().skip(at).zip(held.iter().skip(at + 1)) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            self.count.store(count - 1, Ordering::Relaxed);
        }
    }

    #[cfg(target_os = "none")]
    static HELD: Held = Held::new();

    #[cfg(not(target_os = "none"))]
    std::thread_local! {
        static HELD: Held = const { Held::new() };
    }

    #[cfg(target_os = "none")]
    fn with_held<T>(act: impl FnOnce(&Held) -> T) -> T {
        act(&HELD)
    }

    #[cfg(not(target_os = "none"))]
    fn with_held<T>(act: impl FnOnce(&Held) -> T) -> T {
        HELD.with(act)
    }

    /// Nothing is checked while a panic unwinds: the first report counts.
    fn is_off() -> bool {
        #[cfg(target_os = "none")]
        return false;
        #[cfg(not(target_os = "none"))]
        std::thread::panicking()
    }

    fn pack(level: u8, address: usize) -> u64 {
        u64::from(level) << LEVEL_SHIFT | (address as u64 & ((1 << LEVEL_SHIFT) - 1))
    }

    /// The address, whose upper bits are copies of the highest that was kept.
    fn unpack_address(lock: u64) -> usize {
        const UNUSED: u32 = u64::BITS - LEVEL_SHIFT;
        (((lock << UNUSED) as i64) >> UNUSED) as usize
    }

    fn level_of(lock: u64) -> u8 {
        (lock >> LEVEL_SHIFT) as u8
    }

    fn row(level: u8) -> &'static Row {
        &TABLE[usize::from(level)]
    }

    /// A spin lock that is held.
    #[derive(Debug)]
    pub(in crate::sync) struct SpinToken(u64);

    impl SpinToken {
        pub(in crate::sync) fn new<R: Rank>(address: usize) -> Self {
            let lock = pack(R::LEVEL, address);
            with_held(|held| held.push(lock));
            Self(lock)
        }
    }

    impl Drop for SpinToken {
        fn drop(&mut self) {
            with_held(|held| held.remove(self.0));
        }
    }

    pub(super) fn spin_lock_held() -> Option<&'static str> {
        with_held(|held| held.levels().max()).map(|level| row(level).name)
    }

    pub(super) fn each_held(show: &mut dyn FnMut(&'static str, usize, Option<ThreadId>)) {
        with_held(|held| {
            for lock in held.locks.iter().take(held.count.load(Ordering::Relaxed)) {
                let lock = lock.load(Ordering::Relaxed);
                show(row(level_of(lock)).name, unpack_address(lock), None);
            }
        });
        // A debugger may have interrupted the code that holds it.
        if let Some(all) = SLEEPING.try_lock() {
            for held in all.iter().flatten() {
                show(row(held.level).name, held.address, Some(held.thread));
            }
        }
    }

    #[track_caller]
    pub(super) fn assert_order<R: Rank>(nested: Nested) {
        if is_off() {
            return;
        }
        let innermost = with_held(|held| held.levels().max());
        let Some(innermost) = innermost else { return };
        let fits = innermost < R::LEVEL || nested == Nested::Yes && innermost == R::LEVEL;
        assert!(
            fits,
            "lock order: {} is acquired while {} is held",
            row(R::LEVEL).name,
            row(innermost).name
        );
    }

    #[track_caller]
    pub(super) fn assert_may_wait() {
        let innermost = with_held(|held| held.levels().max());
        if let Some(innermost) = innermost.filter(|_| !is_off()) {
            panic!("a thread waits while it holds the spin lock {}", row(innermost).name);
        }
    }

    /// The running thread. Before the first one: one on the machine, the OS thread on the host.
    fn current_thread_id() -> ThreadId {
        match SCHEDULER.get().and_then(|scheduler| scheduler.try_current()) {
            Some(thread) => thread,
            None => with_held(|held| ThreadId(core::ptr::from_ref(held) as u64)),
        }
    }

    /// A sleeping lock that is held.
    #[derive(Clone, Copy)]
    struct Sleeping {
        thread: ThreadId,
        level: u8,
        address: usize,
    }

    static SLEEPING: spin::Mutex<[Option<Sleeping>; MAX_SLEEPING]> =
        spin::Mutex::new([None; MAX_SLEEPING]);

    /// A sleeping lock that is held.
    #[derive(Debug)]
    pub(in crate::sync) struct SleepToken(usize);

    impl SleepToken {
        pub(in crate::sync) fn new<R: Rank>(address: usize) -> Self {
            let mine = Sleeping { thread: current_thread_id(), level: R::LEVEL, address };
            let mut all = SLEEPING.lock();
            let Some(free) = all.iter_mut().find(|held| held.is_none()) else {
                panic!("too many sleeping locks are held")
            };
            *free = Some(mine);
            Self(address)
        }
    }

    impl Drop for SleepToken {
        fn drop(&mut self) {
            let mut all = SLEEPING.lock();
            all.iter_mut()
                .filter(|held| held.is_some_and(|held| held.address == self.0))
                .for_each(|held| *held = None);
        }
    }

    /// The innermost level for which `counts` holds among the sleeping locks of this thread.
    fn innermost_sleeping(counts: impl Fn(&Row) -> bool) -> Option<u8> {
        let me = current_thread_id();
        let all = SLEEPING.lock();
        let mine = all.iter().flatten().filter(|held| held.thread == me);
        mine.map(|held| held.level).filter(|&level| counts(row(level))).max()
    }

    #[track_caller]
    pub(super) fn assert_sleep_order<R: Rank>() {
        assert_may_wait();
        if is_off() {
            return;
        }
        if let Some(innermost) = innermost_sleeping(|_| true).filter(|&held| held >= R::LEVEL) {
            panic!(
                "lock order: {} is acquired while {} is held",
                row(R::LEVEL).name,
                row(innermost).name
            );
        }
    }

    #[track_caller]
    pub(super) fn assert_holds_nothing() {
        assert_may_wait();
        if let Some(held) = innermost_sleeping(|_| true).filter(|_| !is_off()) {
            panic!("a system call ends while {} is held", row(held).name);
        }
    }

    #[track_caller]
    pub(super) fn assert_may_await_server() {
        assert_may_wait();
        if is_off() {
            return;
        }
        if let Some(held) = innermost_sleeping(|row| row.kind != Kind::SleepAcrossMessages) {
            panic!("a file server is waited for while {} is held", row(held).name);
        }
    }
}

/// The same interface without any check, which compiles to nothing.
#[cfg(not(any(debug_assertions, feature = "lock-checks")))]
#[allow(clippy::extra_unused_type_parameters)]
mod off {
    use super::{Nested, Rank, ThreadId};

    pub(in crate::sync) struct SpinToken;

    impl SpinToken {
        #[inline(always)]
        pub(in crate::sync) fn new<R: Rank>(_address: usize) -> Self {
            Self
        }
    }

    pub(in crate::sync) struct SleepToken;

    impl SleepToken {
        #[inline(always)]
        pub(in crate::sync) fn new<R: Rank>(_address: usize) -> Self {
            Self
        }
    }

    pub(super) fn spin_lock_held() -> Option<&'static str> {
        None
    }

    pub(super) fn each_held(_show: &mut dyn FnMut(&'static str, usize, Option<ThreadId>)) {}

    #[inline(always)]
    pub(super) fn assert_order<R: Rank>(_nested: Nested) {}

    #[inline(always)]
    pub(super) fn assert_may_wait() {}

    #[inline(always)]
    pub(super) fn assert_sleep_order<R: Rank>() {}

    #[inline(always)]
    pub(super) fn assert_holds_nothing() {}

    #[inline(always)]
    pub(super) fn assert_may_await_server() {}
}
