//! What is due at which time: a table, and the timer that interrupts for its first entry.
#![forbid(unsafe_code)]

use super::process::timers::Key;
use crate::arch::{Alarm, clock};
use crate::sync::{Mutex, rank};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};

/// An action at a time.
#[derive(Clone)]
pub(super) enum Due {
    /// Wakes a thread, which then checks the clock.
    Wake(u32),
    /// Sends SIGALRM to a process.
    Alarm(u32),
    /// The timer of a process, by their numbers.
    Timer(u32, u32),
    /// Calls an object, if it still exists.
    Call(Weak<dyn Timed>),
}

/// What is called at a time.
pub trait Timed: Send + Sync {
    /// The time has come. Called in the timer interrupt, with no lock held.
    fn expired(self: Arc<Self>);
}

/// Timeouts, alarms and timers.
pub(super) struct Timers {
    /// What is due, in the order of time.
    pub due: BTreeMap<Key, Due>,
    /// By process: the key of its alarm, and the period in nanoseconds, 0 for none.
    pub alarms: BTreeMap<u32, (Key, u64)>,
}

/// All that is due in this machine.
pub(super) static TIMERS: Mutex<Timers, rank::Timers> =
    Mutex::new(Timers { due: BTreeMap::new(), alarms: BTreeMap::new() });

impl Timers {
    /// Adds an action, and has the timer interrupt for it.
    pub fn insert(&mut self, key: Key, due: Due) {
        self.due.insert(key, due);
        if key.0 < clock::deadline(Alarm::Timers) {
            clock::set_alarm(Alarm::Timers, key.0);
        }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A key for `deadline_ns` that no entry has.
pub(super) fn new_key(deadline_ns: u64) -> Key {
    (deadline_ns, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a timer of a process due at `deadline_ns` since boot. Returns the key of its entry.
pub(super) fn schedule_timer(deadline_ns: u64, pid: u32, id: u32) -> Key {
    let key = new_key(deadline_ns);
    TIMERS.lock().insert(key, Due::Timer(pid, id));
    key
}

/// Removes an entry.
pub(super) fn cancel(key: Key) {
    TIMERS.lock().due.remove(&key);
}
