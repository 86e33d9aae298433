//! Who wants the next timer interrupt, and when. The device has one timer; this is its policy.

use core::sync::atomic::{AtomicU64, Ordering};

/// A reason for a timer interrupt. Each has one deadline at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The earliest end of a wait, or alarm of a process.
    Timers,
    /// Another thread is ready to run, and the running one has had its slice.
    Slice,
    /// The running process reaches a limit of its CPU time.
    CpuTime,
}

/// The deadline of an alarm that is not set.
pub const NEVER: u64 = u64::MAX;

/// The deadlines of all alarms, and that for which the timer is set, in nanoseconds since boot.
///
/// The timer is set for the earliest or earlier: an alarm that is put off or cancelled leaves it as
/// it is, and an interrupt for which nothing is due sets it again. So a slice that hardly ever ends
/// does not cost a write to the device each time that it begins.
#[derive(Debug)]
pub struct Alarms {
    deadlines: [AtomicU64; 3],
    timer: AtomicU64,
}

impl Alarms {
    /// No alarm is set.
    pub const fn new() -> Self {
        Self { deadlines: [const { AtomicU64::new(NEVER) }; 3], timer: AtomicU64::new(NEVER) }
    }

    /// Whether an alarm is set.
    #[inline]
    pub fn is_set(&self, alarm: Alarm) -> bool {
        self.deadline(alarm) != NEVER
    }

    /// The deadline of an alarm, or [`NEVER`].
    #[inline]
    pub fn deadline(&self, alarm: Alarm) -> u64 {
        self.deadlines[alarm as usize].load(Ordering::Relaxed)
    }

    /// Sets or cancels ([`NEVER`]) an alarm. Returns the time for which the timer is to be set, if
    /// it is not set early enough.
    #[inline]
    #[must_use]
    pub fn set(&self, alarm: Alarm, deadline_ns: u64) -> Option<u64> {
        self.deadlines[alarm as usize].store(deadline_ns, Ordering::Relaxed);
        if deadline_ns >= self.timer.load(Ordering::Relaxed) {
            return None;
        }
        self.timer.store(deadline_ns, Ordering::Relaxed);
        Some(deadline_ns)
    }

    /// The timer has fired and is not set any more.
    pub fn fired(&self) {
        self.timer.store(NEVER, Ordering::Relaxed);
    }

    /// Returns the time for which the timer is to be set so that it fires exactly for the earliest
    /// alarm, perhaps [`NEVER`]; nothing where it is set so.
    #[must_use]
    pub fn exact(&self) -> Option<u64> {
        let all = self.deadlines.iter().map(|deadline| deadline.load(Ordering::Relaxed));
        let earliest = all.min().unwrap_or(NEVER);
        (self.timer.swap(earliest, Ordering::Relaxed) != earliest).then_some(earliest)
    }
}

impl Default for Alarms {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_never_set_too_late_and_seldom_too_early() {
        let alarms = Alarms::new();
        assert_eq!(alarms.exact(), None);
        assert_eq!(alarms.set(Alarm::Slice, 100), Some(100));
        assert_eq!(alarms.set(Alarm::Timers, 200), None, "the timer fires before");
        assert_eq!(alarms.set(Alarm::Timers, 50), Some(50));
        assert_eq!(alarms.set(Alarm::Timers, NEVER), None);
        assert!(!alarms.is_set(Alarm::Timers));
        alarms.fired();
        assert_eq!(alarms.exact(), Some(100));
        assert_eq!(alarms.exact(), None);
        // Before the CPU becomes idle.
        assert_eq!(alarms.set(Alarm::Slice, NEVER), None);
        assert_eq!(alarms.exact(), Some(NEVER));
    }
}
