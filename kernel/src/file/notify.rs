//! Readiness: who waits for an object to become readable or writable.

use crate::sync::{Interrupt, Interrupted, WaitQueue};

bitflags::bitflags! {
    /// What an object can do without waiting; the bits are those of poll(2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Ready: u16 {
        /// A read returns at once.
        const READ = 0x001;
        /// A write takes at least one byte at once.
        const WRITE = 0x004;
        /// The object is broken: a pipe with no reader.
        const ERROR = 0x008;
        /// The other side is gone.
        const HANG_UP = 0x010;
    }
}

/// Those in poll(2) and select(2): they wait for many objects, so every change of any of them wakes
/// them to look again.
static ANY: WaitQueue = WaitQueue::new();

/// The wait queue of one object.
#[derive(Debug, Default)]
pub struct Notifier {
    queue: WaitQueue,
}

impl Notifier {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self { queue: WaitQueue::new() }
    }

    /// Tells that something may have become ready. Called after the change, with no lock of the
    /// object held that `ready` of a waiter takes.
    pub fn notify(&self) {
        self.queue.wake_all();
        ANY.wake_all();
    }

    /// Waits until `ready` gives a value or a signal comes.
    pub fn wait<T>(&self, ready: impl FnMut() -> Option<T>) -> Result<T, Interrupted> {
        self.queue.wait(Interrupt::Signal, ready)
    }
}

/// Waits until `ready` gives a value; it is asked again whenever any object's readiness changed.
pub fn wait_for_any<T>(ready: impl FnMut() -> Option<T>) -> Result<T, Interrupted> {
    ANY.wait(Interrupt::Signal, ready)
}
