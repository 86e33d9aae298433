//! Locks and wait queues.
//!
//! The lock order is declared in [`rank`] and verified by [`check`]. No thread waits while it holds
//! a spin lock, and none waits for a file server while it holds a sleeping lock that is not
//! declared for that.
//!
//! Waiting needs a scheduler, which lives above and registers itself here once. On the host, tests
//! and the simulation register their own, or none; then a wait that cannot end at once panics.

#![forbid(unsafe_code)]

mod check;
mod mutants;
mod mutex;
pub mod rank;
mod share;
mod sleep;
#[cfg(test)]
mod tests;
mod wait;

pub use check::{
    assert_holds_nothing, assert_may_await_server, assert_may_wait, each_held, spin_lock_held,
};
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::Errno;
pub use mutex::{Mutex, MutexGuard};
pub use share::{LEVELLED, NICENESS, Share, Turn};
pub use sleep::{SleepGuard, SleepLock};
pub use spin::Once;
pub use wait::WaitQueue;

/// A thread's number in the scheduler. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u64);

/// Which signals end a wait early.
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
    /// The running thread; `None` before the first one runs.
    fn try_current(&self) -> Option<ThreadId> {
        Some(self.current())
    }
    /// Runs other threads until the running one is woken. A wake-up that came before is not lost.
    fn block(&self);
    /// Admits interrupts, and lets other threads run if it is their turn; the running thread stays
    /// runnable.
    fn give_way(&self) {}
    /// Makes a thread runnable.
    fn wake(&self, thread: ThreadId);
    /// Notes which thread waits behind this one in its queue.
    fn link(&self, thread: ThreadId, behind: ThreadId);
    /// What was noted last for this thread.
    fn linked(&self, thread: ThreadId) -> Option<ThreadId>;
    /// Whether the running thread has a signal pending that ends such a wait.
    fn interrupted(&self, by: Interrupt) -> bool;
    /// The share that pays with the running thread's own for its work. From now on that one pays
    /// alone.
    fn pass_turn(&self) -> Option<Turn> {
        None
    }
    /// The running thread's own share pays alone again.
    fn return_turn(&self) {}
    /// Makes this share pay with the running thread's own.
    fn take_turn(&self, _turn: Turn) {}
}

static SCHEDULER: Once<&'static dyn Scheduler> = Once::new();

/// Registers the scheduler; the first one stays.
pub fn register(scheduler: &'static dyn Scheduler) {
    SCHEDULER.call_once(|| scheduler);
}

/// The running thread; `None` before the first one runs.
pub fn try_current() -> Option<ThreadId> {
    SCHEDULER.get()?.try_current()
}

/// How often some thread was noticed: it was killed, or sent a signal, and its wait may end.
static INTERRUPTIONS: AtomicU64 = AtomicU64::new(0);

/// As long as this number stays the same, no signal has ended a wait. Whoever does something for a
/// thread that waits, which would be lost if that thread did not look for it, compares.
#[inline]
pub fn interruptions() -> u64 {
    INTERRUPTIONS.load(Ordering::Acquire)
}

/// To be called before a thread is killed or is sent a signal.
#[inline]
pub fn note_interruption() {
    INTERRUPTIONS.fetch_add(1, Ordering::AcqRel);
}

/// Whether the running thread was killed: what it took now would be lost.
pub fn is_killed() -> bool {
    SCHEDULER.get().is_some_and(|scheduler| scheduler.interrupted(Interrupt::Killable))
}

/// The wait was ended by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl From<Interrupted> for Errno {
    fn from(_: Interrupted) -> Self {
        Self::EINTR
    }
}

/// The turn of the running thread, to be sent along with a message. A server that works for a
/// client thereby returns what it got with the request.
#[inline]
pub fn pass_turn() -> Option<Turn> {
    SCHEDULER.get()?.pass_turn()
}

/// A server has replied to the kernel, whose client goes on at its own expense.
#[inline]
pub fn return_turn() {
    if let Some(scheduler) = SCHEDULER.get() {
        scheduler.return_turn();
    }
}

/// A server has received a message: its work is for whoever sent it.
#[inline]
pub fn take_turn(turn: Turn) {
    if let Some(scheduler) = SCHEDULER.get() {
        scheduler.take_turn(turn);
    }
}

/// Lets other threads run in the middle of a long operation, if it is their turn. Fails if a signal
/// arrived that ends it. The caller holds no spin lock.
#[track_caller]
pub fn relax(by: Interrupt) -> Result<(), Interrupted> {
    assert_may_wait();
    let Some(scheduler) = SCHEDULER.get() else { return Ok(()) };
    scheduler.give_way();
    if scheduler.interrupted(by) { Err(Interrupted) } else { Ok(()) }
}
