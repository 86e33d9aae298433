//! Locks and wait queues.
//!
//! Lock order, outermost first: position lock of an open file (sleeps) → file tables → address
//! space → frame cache → mount's request table → sockets and pipes → wait queues → scheduler → heap
//! and frames. No spin lock is held while a thread waits.
//!
//! Waiting needs a scheduler, which lives above: it registers itself here once. On the host, tests
//! and the simulation register their own, or none, and then a wait that cannot end at once is a
//! deadlock and panics.

use alloc::collections::VecDeque;
use foundation::Errno;
pub use spin::{Mutex, MutexGuard, Once};

/// A thread, as the scheduler numbers them. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u64);

/// What may end a wait before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Only a signal that kills (F7): for files and page-ins.
    Killable,
    /// Any signal: for terminals, pipes, sleeps and waiting for children.
    Signal,
}

/// What this module needs of a scheduler.
pub trait Scheduler: Sync {
    /// The running thread.
    fn current(&self) -> ThreadId;
    /// Lets others run until somebody wakes the running thread. A wake that came before is not
    /// lost.
    fn block(&self);
    /// Lets interrupts in and others have their turn; the running thread stays runnable.
    fn give_way(&self) {}
    /// Makes a thread runnable.
    fn wake(&self, thread: ThreadId);
    /// Whether the running thread has a signal pending that ends such a wait.
    fn interrupted(&self, by: Interrupt) -> bool;
}

static SCHEDULER: Once<&'static dyn Scheduler> = Once::new();

/// Registers the scheduler; the first one stays.
pub fn register(scheduler: &'static dyn Scheduler) {
    SCHEDULER.call_once(|| scheduler);
}

/// The wait was ended by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl From<Interrupted> for Errno {
    fn from(_: Interrupted) -> Self {
        Self::EINTR
    }
}

/// Threads that wait for something to become true.
#[derive(Debug, Default)]
pub struct WaitQueue {
    waiting: Mutex<VecDeque<ThreadId>>,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { waiting: Mutex::new(VecDeque::new()) }
    }

    /// Waits until `ready` gives a value. `ready` runs with no lock of this queue held, and again
    /// after each wake-up.
    ///
    /// Whoever makes it true changes the state first and then calls [`wake_all`](Self::wake_all):
    /// the thread is enqueued before it looks, so no wake is lost.
    pub fn wait<T>(
        &self,
        by: Interrupt,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, Interrupted> {
        if let Some(value) = ready() {
            return Ok(value);
        }
        let Some(scheduler) = SCHEDULER.get() else {
            panic!("a wait that cannot end: nothing else runs here")
        };
        let me = scheduler.current();
        loop {
            self.waiting.lock().push_back(me);
            let value = ready();
            if value.is_some() || scheduler.interrupted(by) {
                self.waiting.lock().retain(|&thread| thread != me);
                return value.ok_or(Interrupted);
            }
            scheduler.block();
            // Whoever woke this thread has taken it out; a signal has not.
            self.waiting.lock().retain(|&thread| thread != me);
            if let Some(value) = ready() {
                return Ok(value);
            }
        }
    }

    /// Wakes all that wait.
    pub fn wake_all(&self) {
        let mut waiting = self.waiting.lock();
        // Drained, not taken: the queue keeps its room, and no wait allocates but the first.
        for thread in waiting.drain(..) {
            if let Some(scheduler) = SCHEDULER.get() {
                scheduler.wake(thread);
            }
        }
    }
}

/// Lets other threads run in the middle of a long piece of work, and says whether a signal has come
/// that is to end it.
pub fn relax(by: Interrupt) -> Result<(), Interrupted> {
    let Some(scheduler) = SCHEDULER.get() else { return Ok(()) };
    scheduler.give_way();
    if scheduler.interrupted(by) { Err(Interrupted) } else { Ok(()) }
}

/// A lock whose holder may wait for a server: others sleep, and can be killed out of it.
#[derive(Debug, Default)]
pub struct SleepLock<T> {
    value: Mutex<T>,
    queue: WaitQueue,
}

/// Access to what a [`SleepLock`] protects.
pub struct SleepGuard<'a, T> {
    guard: Option<MutexGuard<'a, T>>,
    queue: &'a WaitQueue,
}

impl<T> SleepLock<T> {
    /// An unlocked lock.
    pub const fn new(value: T) -> Self {
        Self { value: Mutex::new(value), queue: WaitQueue::new() }
    }

    /// Takes the lock, sleeping while another thread has it.
    pub fn lock(&self) -> Result<SleepGuard<'_, T>, Interrupted> {
        let guard = self.queue.wait(Interrupt::Killable, || self.value.try_lock())?;
        Ok(SleepGuard { guard: Some(guard), queue: &self.queue })
    }
}

impl<T> Drop for SleepGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        self.queue.wake_all();
    }
}

impl<T> core::ops::Deref for SleepGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.guard.as_ref().expect("held until dropped")
    }
}

impl<T> core::ops::DerefMut for SleepGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("held until dropped")
    }
}
