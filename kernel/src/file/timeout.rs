//! Waiting with a time limit (`SO_RCVTIMEO`, `SO_SNDTIMEO`).

use super::{Notifier, tasks};
use alloc::boxed::Box;
use core::any::Any;
use foundation::Errno;

/// A point in time up to which a thread waits.
pub struct Deadline {
    at_ns: u64,
    /// Wakes the thread at that time, unless dropped before.
    _wake: Option<Box<dyn Any>>,
}

impl Deadline {
    /// So many nanoseconds from now; `None` for 0, which is no limit.
    pub fn after(limit_ns: u64) -> Option<Self> {
        if limit_ns == 0 {
            return None;
        }
        let tasks = tasks();
        let at_ns = tasks.map_or(0, |tasks| tasks.uptime_ns()).saturating_add(limit_ns);
        Some(Self { at_ns, _wake: tasks.map(|tasks| tasks.wake_at(at_ns)) })
    }

    /// Whether it has come.
    pub fn is_over(&self) -> bool {
        tasks().is_none_or(|tasks| tasks.uptime_ns() >= self.at_ns)
    }
}

/// Waits until `ready` returns a value. `None` where it does not in time, which is at once with
/// `nonblocking`.
pub(super) fn wait<T>(
    changed: &Notifier,
    nonblocking: bool,
    deadline: Option<&Deadline>,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<Option<T>, Errno> {
    if nonblocking {
        return Ok(ready());
    }
    let found = changed.wait(|| match ready() {
        Some(value) => Some(Some(value)),
        None if deadline.is_some_and(Deadline::is_over) => Some(None),
        None => None,
    });
    Ok(found?)
}
