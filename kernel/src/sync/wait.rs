//! Wait queues.
//!
//! A queue keeps its first and its last thread; the scheduler links each thread to the next one. So
//! waiting needs no memory, and a queue keeps none. A thread waits in one queue at a time.

use super::check::{assert_may_await_server, assert_may_wait};
use super::{Interrupt, Interrupted, Mutex, SCHEDULER, Scheduler, ThreadId, rank};

/// Whether other threads run while this one does not wait.
const OTHERS_RUN: bool = cfg!(not(target_os = "none"));

/// Threads that wait for a condition.
#[derive(Debug, Default)]
pub struct WaitQueue {
    waiting: Mutex<Waiting, rank::WaitQueue>,
}

#[derive(Debug)]
struct Waiting {
    ends: Option<Ends>,
    /// How often all threads were woken.
    round: u64,
}

/// The first and the last thread of a queue. The link of the last one has no meaning.
#[derive(Clone, Copy, Debug)]
struct Ends {
    first: ThreadId,
    last: ThreadId,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::new()
    }
}

impl Waiting {
    const fn new() -> Self {
        Self { ends: None, round: 0 }
    }

    fn push(&mut self, scheduler: &dyn Scheduler, thread: ThreadId) {
        let first = self.ends.map_or(thread, |ends| {
            scheduler.link(ends.last, thread);
            ends.first
        });
        self.ends = Some(Ends { first, last: thread });
    }

    /// Removes a thread, which is in the queue.
    fn remove(&mut self, scheduler: &dyn Scheduler, thread: ThreadId) {
        let Some(Ends { first, last }) = self.ends else { return };
        if first == last {
            self.ends = None;
            return;
        }
        let behind = scheduler.linked(thread);
        if first == thread {
            self.ends = behind.map(|first| Ends { first, last });
            return;
        }
        let mut previous = first;
        while let Some(next) = scheduler.linked(previous).filter(|_| previous != last) {
            if next == thread {
                if thread == last {
                    self.ends = Some(Ends { first, last: previous });
                } else if let Some(behind) = behind {
                    scheduler.link(previous, behind);
                }
                return;
            }
            previous = next;
        }
    }
}

/// A thread's place in a queue; removed when dropped, unless all were woken.
pub(super) struct Place<'a> {
    queue: &'a WaitQueue,
    scheduler: &'static dyn Scheduler,
    thread: ThreadId,
    round: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.lock();
        if waiting.round == self.round {
            waiting.remove(self.scheduler, self.thread);
        }
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { waiting: Mutex::new(Waiting::new()) }
    }

    /// The first and the last thread.
    #[cfg(test)]
    pub(super) fn ends(&self) -> Option<(ThreadId, ThreadId)> {
        self.waiting.lock().ends.map(|ends| (ends.first, ends.last))
    }

    pub(super) fn enter(&self, scheduler: &'static dyn Scheduler, thread: ThreadId) -> Place<'_> {
        let mut waiting = self.waiting.lock();
        waiting.push(scheduler, thread);
        Place { queue: self, scheduler, thread, round: waiting.round }
    }

    /// Waits until `ready` returns a value. `ready` runs with no lock of this queue held, once now
    /// and once after each wake-up. The caller holds no spin lock, even if nothing is to be waited
    /// for.
    ///
    /// A thread that makes the condition true changes the state first and then calls
    /// [`wake_all`](Self::wake_all). The waiter enqueues itself before it evaluates `ready`, so no
    /// wake-up is lost. On a machine with one CPU, where the kernel is not preempted, nothing can
    /// have changed since the evaluation before, so that one is left out. Once it has returned
    /// nothing, `ready` must not wait itself.
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
        let Some(&scheduler) = SCHEDULER.get() else {
            panic!("a wait that cannot end: no scheduler is registered")
        };
        let me = scheduler.current();
        loop {
            let place = self.enter(scheduler, me);
            let value = if OTHERS_RUN { ready() } else { None };
            if value.is_some() || scheduler.interrupted(by) {
                drop(place);
                return value.ok_or(Interrupted);
            }
            scheduler.block();
            drop(place);
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

    /// Whether a thread waits.
    pub fn is_awaited(&self) -> bool {
        self.waiting.lock().ends.is_some()
    }

    /// Wakes all waiting threads.
    pub fn wake_all(&self) {
        let mut waiting = self.waiting.lock();
        let Some(Ends { first, last }) = waiting.ends.take() else { return };
        waiting.round += 1;
        let Some(&scheduler) = SCHEDULER.get() else { return };
        let mut next = Some(first);
        while let Some(thread) = next {
            next = if thread == last { None } else { scheduler.linked(thread) };
            scheduler.wake(thread);
        }
    }
}
