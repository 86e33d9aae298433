//! Readiness: waiting for an object to become readable or writable.

use crate::sync::{Interrupt, Interrupted, WaitQueue};
use core::sync::atomic::{AtomicUsize, Ordering};

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
    }
}

/// The threads in poll(2) and select(2). Every change of any object wakes all of them.
static ANY: WaitQueue = WaitQueue::new();
/// Their number: mostly 0, and then a change costs nothing more.
static POLLERS: AtomicUsize = AtomicUsize::new(0);

/// The wait queue of one object.
#[derive(Debug, Default)]
pub struct Notifier {
    queue: WaitQueue,
}

impl Notifier {
    /// A queue without waiting threads.
    pub const fn new() -> Self {
        Self { queue: WaitQueue::new() }
    }

    /// Wakes the waiting threads after a change. The caller holds no lock that the condition of a
    /// waiter takes.
    pub fn notify(&self) {
        self.queue.wake_all();
        if POLLERS.load(Ordering::SeqCst) > 0 {
            ANY.wake_all();
        }
    }

    /// Waits until `ready` returns a value or a signal arrives.
    pub fn wait<T>(&self, ready: impl FnMut() -> Option<T>) -> Result<T, Interrupted> {
        self.queue.wait(Interrupt::Signal, ready)
    }
}

/// Waits until `ready` returns a value; evaluates it after every change of any object.
pub fn wait_for_any<T>(ready: impl FnMut() -> Option<T>) -> Result<T, Interrupted> {
    // Before `ready` is evaluated, so that no change after that is missed.
    POLLERS.fetch_add(1, Ordering::SeqCst);
    let result = ANY.wait(Interrupt::Signal, ready);
    POLLERS.fetch_sub(1, Ordering::SeqCst);
    result
}
