//! Scheduling policies of threads (sched(7)), as programs set and read them.
//!
//! They are recorded and inherited. All threads are scheduled alike, by their niceness: a thread
//! with a real-time policy does not run before others.
#![forbid(unsafe_code)]

use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU32, Ordering};
use foundation::Errno;

/// A policy, with Linux's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// `SCHED_OTHER`.
    #[default]
    Other = 0,
    /// `SCHED_FIFO`.
    Fifo = 1,
    /// `SCHED_RR`.
    RoundRobin = 2,
    /// `SCHED_BATCH`.
    Batch = 3,
    /// `SCHED_IDLE`.
    Idle = 5,
    /// `SCHED_DEADLINE`; no thread has it.
    Deadline = 6,
}

impl Policy {
    /// The policy of a number; EINVAL if there is none.
    pub fn of(number: u32) -> Result<Self, Errno> {
        Ok(match number {
            0 => Self::Other,
            1 => Self::Fifo,
            2 => Self::RoundRobin,
            3 => Self::Batch,
            5 => Self::Idle,
            6 => Self::Deadline,
            _ => return Err(Errno::EINVAL),
        })
    }

    /// The priorities that a thread with this policy may have.
    pub fn priorities(self) -> RangeInclusive<u32> {
        match self {
            Self::Fifo | Self::RoundRobin => 1..=99,
            _ => 0..=0,
        }
    }
}

/// A thread's policy and priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// How the thread is chosen to run.
    pub policy: Policy,
    /// One of the policy's priorities.
    pub priority: u32,
    /// Whether children begin with the default (`SCHED_RESET_ON_FORK`).
    pub resets_on_fork: bool,
}

/// `SCHED_RESET_ON_FORK`, in the number of a policy.
pub const RESET_ON_FORK: u32 = 0x4000_0000;

impl Scheduling {
    /// Decodes the number of a policy with its flag, and a priority. EINVAL for those that there
    /// are not, EBUSY for `SCHED_DEADLINE`: no CPU time can be reserved.
    pub fn decode(number: u32, priority: u32) -> Result<Self, Errno> {
        let policy = Policy::of(number & !RESET_ON_FORK)?;
        if !policy.priorities().contains(&priority) {
            return Err(Errno::EINVAL);
        }
        if policy == Policy::Deadline {
            return Err(Errno::EBUSY);
        }
        Ok(Self { policy, priority, resets_on_fork: number & RESET_ON_FORK != 0 })
    }

    /// The number of the policy with its flag.
    pub fn number(self) -> u32 {
        self.policy as u32 | if self.resets_on_fork { RESET_ON_FORK } else { 0 }
    }

    /// That of a child.
    pub fn inherited(self) -> Self {
        if self.resets_on_fork { Self::default() } else { self }
    }
}

/// A [`Scheduling`] that others read while it changes.
#[derive(Debug, Default)]
pub struct SharedScheduling(AtomicU32);

/// Where the priority begins.
const PRIORITY_SHIFT: u32 = 8;

impl SharedScheduling {
    /// One with this value.
    pub fn new(value: Scheduling) -> Self {
        let shared = Self::default();
        shared.set(value);
        shared
    }

    /// The value.
    pub fn get(&self) -> Scheduling {
        let bits = self.0.load(Ordering::Relaxed);
        Scheduling {
            policy: Policy::of(bits & 0xff).unwrap_or_default(),
            priority: bits >> PRIORITY_SHIFT & 0xff,
            resets_on_fork: bits & RESET_ON_FORK != 0,
        }
    }

    /// Changes the value.
    pub fn set(&self, value: Scheduling) {
        self.0.store(value.number() | value.priority << PRIORITY_SHIFT, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_their_priorities() {
        for (number, priority) in [(0, 1), (1, 0), (1, 100), (2, 0), (3, 1), (4, 0), (7, 0)] {
            assert_eq!(Scheduling::decode(number, priority), Err(Errno::EINVAL));
        }
        assert_eq!(Scheduling::decode(6, 0), Err(Errno::EBUSY));
        for (number, priority) in [(0, 0), (1, 99), (2, 1), (3, 0), (5 | RESET_ON_FORK, 0)] {
            let value = Scheduling::decode(number, priority).expect("valid");
            let shared = SharedScheduling::new(value);
            assert_eq!((shared.get(), value.number()), (value, number));
        }
        let fifo = Scheduling::decode(1 | RESET_ON_FORK, 5).expect("valid");
        assert_eq!(fifo.inherited(), Scheduling::default());
    }
}
