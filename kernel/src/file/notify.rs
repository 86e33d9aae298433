//! Readiness: waiting for an object to become readable or writable, and watching many objects.
//!
//! A thread waits in the queue of one [`Notifier`], or for a change of any object
//! ([`wait_for_any`]). A [`Watcher`] is registered with the notifiers of an object and called for
//! each change, so what waits for many objects looks only at those that have changed.
//!
//! Lock: the list of a notifier's watchers. None is held while a watcher is called. Registering and
//! calling are not concurrent: the kernel is not preempted. A test on the host that does both at
//! once may miss a watcher.

use crate::mem::{OutOfMemory, fallible};
use crate::sync::{Interrupt, Interrupted, Mutex, WaitQueue, rank};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use foundation::Errno;
use linux_raw_sys::general as linux;

bitflags::bitflags! {
    /// What an object can do without waiting, with the bits of poll(2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Ready: u16 {
        /// A read returns at once.
        const READ = 0x001;
        /// A write accepts at least one byte at once.
        const WRITE = 0x004;
        /// The object is broken: a pipe with no reader.
        const ERROR = 0x008;
        /// The other side is closed.
        const HANG_UP = 0x010;
        /// The other side sends nothing more (`POLLRDHUP`).
        const READ_END = 0x2000;
    }
}

impl Ready {
    /// What is reported although nobody asked for it.
    pub const UNASKED: Self = Self::ERROR.union(Self::HANG_UP);
    /// What a change of the reading side may concern.
    pub const INPUT: Self = Self::READ.union(Self::READ_END).union(Self::UNASKED);
    /// What a change of the writing side may concern.
    pub const OUTPUT: Self = Self::WRITE.union(Self::UNASKED);

    /// The events of poll(2), with the synonyms of `POLLIN` and `POLLOUT`.
    pub fn events(self) -> u32 {
        let mut events = u32::from(self.bits());
        if self.contains(Self::READ) {
            events |= linux::POLLRDNORM;
        }
        if self.contains(Self::WRITE) {
            events |= linux::POLLWRNORM;
        }
        events
    }
}

/// The threads in poll(2) and select(2). Every change of any object wakes all of them.
static ANY: WaitQueue = WaitQueue::new();
/// Watchers of objects that do not say which notifiers are theirs: called for every change.
static EVERY_CHANGE: Notifier = Notifier::new();
/// The number of both: mostly 0, and then a change costs nothing more.
static POLLERS: AtomicUsize = AtomicUsize::new(0);
/// Changes that watchers were called for.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// The number of a change. Watchers that are reached by several ways pass it on once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change(pub u64);

/// Whether a watcher wakes those that wait for it, or only records the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// They are woken.
    Yes,
    /// A watcher before it has woken a thread that is enough.
    No,
}

/// What is called for each change of an object.
pub trait Watcher: Send + Sync {
    /// Some of `ready` may have changed. Called with no lock held that looking at the object takes;
    /// does not wait. Returns whether no other exclusive watcher needs to be woken.
    fn changed(self: Arc<Self>, ready: Ready, wake: Wake, change: Change) -> bool;
    /// Whether one woken watcher of several is enough.
    fn is_exclusive(&self) -> bool;
    /// The open file is being dropped.
    fn closed(self: Arc<Self>, file: &dyn Watched);
}

/// What can be watched: an open file.
pub trait Watched {
    /// Passes the notifiers that report changes, each with what its changes can concern. None where
    /// it is always ready.
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready));
}

/// A watcher, and what concerns it.
struct Registered {
    watcher: Arc<dyn Watcher>,
    concerns: Ready,
}

/// The wait queue of one object.
#[derive(Default)]
pub struct Notifier {
    queue: WaitQueue,
    /// Whether there are watchers, which is looked at without the lock.
    is_watched: AtomicBool,
    watchers: Mutex<Vec<Registered>, rank::Watchers>,
}

impl Notifier {
    /// A queue without waiting threads.
    pub const fn new() -> Self {
        let watchers = Mutex::new(Vec::new());
        Self { queue: WaitQueue::new(), is_watched: AtomicBool::new(false), watchers }
    }

    /// The notifier of objects that do not know their own: every change of any object.
    pub fn of_every_change() -> &'static Self {
        &EVERY_CHANGE
    }

    /// Wakes the waiting threads after a change. The caller holds no lock that the condition of a
    /// waiter takes.
    pub fn notify(&self) {
        self.notify_of(Ready::all());
    }

    /// The same for a change that can concern only some readiness.
    #[inline]
    pub fn notify_of(&self, ready: Ready) {
        self.queue.wake_all();
        if self.is_watched.load(Ordering::Relaxed) {
            self.call_watchers(ready, new_change());
        }
        if POLLERS.load(Ordering::SeqCst) > 0 {
            wake_pollers();
        }
    }

    /// The same as part of another change, for those that wait for an object by another object.
    pub(super) fn pass_on(&self, change: Change) {
        self.queue.wake_all();
        if self.is_watched.load(Ordering::Relaxed) {
            self.call_watchers(Ready::all(), change);
        }
    }

    /// Waits until `ready` returns a value or a signal arrives.
    pub fn wait<T>(&self, ready: impl FnMut() -> Option<T>) -> Result<T, Interrupted> {
        self.queue.wait(Interrupt::Signal, ready)
    }

    /// Whether a thread waits.
    pub fn is_awaited(&self) -> bool {
        self.queue.is_awaited()
    }

    /// Has a watcher called for changes that concern some of `concerns`.
    pub fn watch(
        &self,
        watcher: &Arc<impl Watcher + 'static>,
        concerns: Ready,
    ) -> Result<(), OutOfMemory> {
        let watcher = watcher.clone();
        fallible::push(&mut self.watchers.lock(), Registered { watcher, concerns })?;
        self.is_watched.store(true, Ordering::Relaxed);
        if core::ptr::eq(self, &raw const EVERY_CHANGE) {
            POLLERS.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Forgets a watcher, if it is registered.
    pub fn unwatch(&self, watcher: &Arc<impl Watcher + 'static>) {
        let mut watchers = self.watchers.lock();
        let is_it = |one: &Registered| is_same(&one.watcher, watcher);
        let Some(at) = watchers.iter().position(is_it) else { return };
        let removed = watchers.remove(at);
        let needed = watchers.len();
        fallible::shrink(&mut watchers, needed);
        self.is_watched.store(needed > 0, Ordering::Relaxed);
        drop(watchers);
        drop(removed);
        if core::ptr::eq(self, &raw const EVERY_CHANGE) {
            POLLERS.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Calls the watchers that a change concerns. Of the exclusive ones it has one woken.
    #[cold]
    fn call_watchers(&self, ready: Ready, change: Change) {
        let (mut at, mut wake) = (0, Wake::Yes);
        loop {
            let found = self.watchers.lock().get(at).map(|one| (one.watcher.clone(), one.concerns));
            let Some((watcher, concerns)) = found else { break };
            at += 1;
            let ready = ready & concerns;
            if ready.is_empty() {
                continue;
            }
            if !watcher.is_exclusive() {
                watcher.changed(ready, Wake::Yes, change);
            } else if watcher.changed(ready, wake, change) {
                wake = Wake::No;
            }
        }
    }
}

/// Whether both are one watcher.
pub(super) fn is_same(one: &Arc<dyn Watcher>, other: &Arc<impl Watcher>) -> bool {
    core::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

fn new_change() -> Change {
    Change(CHANGES.fetch_add(1, Ordering::Relaxed) + 1)
}

/// Wakes the threads that wait for any object.
#[cold]
fn wake_pollers() {
    ANY.wake_all();
    EVERY_CHANGE.call_watchers(Ready::all(), new_change());
}

/// Waits until `ready` returns a value; evaluates it after every change of any object.
pub fn wait_for_any<T>(ready: impl FnMut() -> Option<T>) -> Result<T, Interrupted> {
    // Before `ready` is evaluated, so that no change after that is missed.
    POLLERS.fetch_add(1, Ordering::SeqCst);
    let result = ANY.wait(Interrupt::Signal, ready);
    POLLERS.fetch_sub(1, Ordering::SeqCst);
    result
}

/// Registers a watcher with all notifiers of a file. EPERM where it has none, because it is
/// always ready.
pub(super) fn watch(
    file: &dyn Watched,
    watcher: &Arc<impl Watcher + 'static>,
) -> Result<(), Errno> {
    let mut result = Err(Errno::EPERM);
    file.notifiers(&mut |notifier, concerns| {
        if result != Err(Errno::ENOMEM) {
            result = notifier.watch(watcher, concerns).map_err(Into::into);
        }
    });
    if result.is_err() {
        unwatch(file, watcher);
    }
    result
}

/// Undoes [`watch`].
pub(super) fn unwatch(file: &dyn Watched, watcher: &Arc<impl Watcher + 'static>) {
    file.notifiers(&mut |notifier, _| notifier.unwatch(watcher));
}
