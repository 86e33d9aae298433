//! Wait queues.

use alloc::collections::VecDeque;

use super::check::{assert_may_await_server, assert_may_wait};
use super::{Interrupt, Interrupted, Mutex, SCHEDULER, ThreadId, rank};

/// Threads that wait for a condition.
#[derive(Debug, Default)]
pub struct WaitQueue {
    waiting: Mutex<VecDeque<ThreadId>, rank::WaitQueue>,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { waiting: Mutex::new(VecDeque::new()) }
    }

    /// Waits until `ready` returns a value. `ready` runs with no lock of this queue held, once now
    /// and once after each wake-up. The caller holds no spin lock, even if nothing is to be waited
    /// for.
    ///
    /// A thread that makes the condition true changes the state first and then calls
    /// [`wake_all`](Self::wake_all). The waiter enqueues itself before it evaluates `ready`, so no
    /// wake-up is lost.
    #[track_caller]
    pub fn wait<T>(
        &self,
        by: Interrupt,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, Interrupted> {
        assert_may_wait();
        if let Some(value) = ready() {
            return Ok(value);
        }
        let Some(scheduler) = SCHEDULER.get() else {
            panic!("a wait that cannot end: no scheduler is registered")
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
            // `wake_all` has removed this thread; a signal has not.
            self.waiting.lock().retain(|&thread| thread != me);
            if let Some(value) = ready() {
                return Ok(value);
            }
        }
    }

    /// Waits as [`wait`](Self::wait) does, for a file server: no sleeping lock is held but those
    /// that are declared for that.
    #[track_caller]
    pub fn wait_for_server<T>(
        &self,
        by: Interrupt,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<T, Interrupted> {
        assert_may_await_server();
        self.wait(by, ready)
    }

    /// Wakes all waiting threads.
    pub fn wake_all(&self) {
        let mut waiting = self.waiting.lock();
        // Drained, not taken: the queue keeps its capacity, so only the first wait allocates.
        for thread in waiting.drain(..) {
            if let Some(scheduler) = SCHEDULER.get() {
                scheduler.wake(thread);
            }
        }
    }
}
