//! CPU time: how much a thread or process has used, and what is due when a process has used so
//! much of it: SIGXCPU and SIGKILL (`RLIMIT_CPU`), SIGVTALRM and SIGPROF (interval timers).

use crate::arch::{Cycles, NEVER, Spent, usage};
use crate::mem::limits::{INFINITE, Limit};
use crate::sync::{Mutex, rank};
use crate::task::signal::{SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU, Signal};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const NS_PER_S: u64 = 1_000_000_000;

/// A sum of CPU time.
#[derive(Debug, Default)]
pub struct CpuTime {
    total_cycles: AtomicU64,
    system_cycles: AtomicU64,
}

impl CpuTime {
    /// Adds time that was used.
    #[inline]
    pub fn add(&self, cycles: Cycles) {
        self.total_cycles.fetch_add(cycles.total, Ordering::Relaxed);
        self.system_cycles.fetch_add(cycles.system, Ordering::Relaxed);
    }

    /// Adds another sum.
    pub fn add_all(&self, other: &Self) {
        self.add(other.cycles());
    }

    fn cycles(&self) -> Cycles {
        Cycles {
            total: self.total_cycles.load(Ordering::Relaxed),
            system: self.system_cycles.load(Ordering::Relaxed),
        }
    }

    /// The sum so far.
    pub fn get(&self) -> Spent {
        usage::spent(self.cycles())
    }
}

/// A timer that counts CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuTimer {
    /// `ITIMER_VIRTUAL`: time in user mode; SIGVTALRM.
    Virtual,
    /// `ITIMER_PROF`: all time; SIGPROF.
    Prof,
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    /// CPU time at which it is due, or [`NEVER`].
    deadline_ns: u64,
    /// 0: it is due once.
    period_ns: u64,
}

const UNSET: Setting = Setting { deadline_ns: NEVER, period_ns: 0 };

#[derive(Debug)]
struct State {
    timers: [Setting; 2],
    /// The second of CPU time for which SIGXCPU was sent last.
    warned_s: u64,
}

/// What is due at which CPU time of a process.
#[derive(Debug)]
pub struct CpuWatch {
    state: Mutex<State, rank::CpuWatch>,
    /// Whether anything may become due. For the switch of threads, which must not take a lock.
    active: AtomicBool,
}

/// What [`CpuWatch::check`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// The signals that are due.
    pub signals: [Option<Signal>; 3],
    /// CPU time after which something may be due again, or [`NEVER`].
    pub left_ns: u64,
}

impl CpuWatch {
    /// Of a process that inherits this limit (`RLIMIT_CPU`).
    pub fn new(limit: Limit) -> Self {
        Self {
            state: Mutex::new(State { timers: [UNSET; 2], warned_s: 0 }),
            active: AtomicBool::new(limit.soft != INFINITE),
        }
    }

    /// Whether anything may become due.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// The limit was changed.
    pub fn activate(&self) {
        self.active.store(true, Ordering::Relaxed);
    }

    /// Sets a timer that is due after `left_ns` (0: never) and then every `period_ns` (0: once).
    /// Returns what [`Self::timer`] gave before.
    pub fn set_timer(
        &self,
        which: CpuTimer,
        used: Spent,
        left_ns: u64,
        period_ns: u64,
    ) -> (u64, u64) {
        let before = self.timer(which, used);
        let deadline_ns =
            if left_ns == 0 { NEVER } else { which.time(used).saturating_add(left_ns) };
        self.state.lock().timers[which as usize] = Setting { deadline_ns, period_ns };
        self.activate();
        before
    }

    /// The time left until a timer is due (0 if it is not set), and its period.
    pub fn timer(&self, which: CpuTimer, used: Spent) -> (u64, u64) {
        match self.state.lock().timers[which as usize] {
            Setting { deadline_ns: NEVER, .. } => (0, 0),
            Setting { deadline_ns, period_ns } => {
                (deadline_ns.saturating_sub(which.time(used)).max(1), period_ns)
            }
        }
    }

    /// What is due for a process that has used so much time and has this limit.
    pub fn check(&self, used: Spent, limit: Limit) -> Checked {
        let mut state = self.state.lock();
        let signals = [
            state.expire(CpuTimer::Virtual, used).then_some(SIGVTALRM),
            state.expire(CpuTimer::Prof, used).then_some(SIGPROF),
            state.over_limit(used.total_ns(), limit),
        ];
        let left_ns = state.left_ns(used, limit);
        self.active.store(left_ns != NEVER, Ordering::Relaxed);
        Checked { signals, left_ns }
    }

    /// CPU time after which something may be due, or [`NEVER`].
    pub fn left_ns(&self, used: Spent, limit: Limit) -> u64 {
        self.state.lock().left_ns(used, limit)
    }
}

impl CpuTimer {
    fn time(self, used: Spent) -> u64 {
        match self {
            Self::Virtual => used.user_ns,
            Self::Prof => used.total_ns(),
        }
    }
}

impl State {
    /// Whether a timer is due. Then it is set again or never.
    fn expire(&mut self, which: CpuTimer, used: Spent) -> bool {
        let timer = &mut self.timers[which as usize];
        let Some(late_ns) = which.time(used).checked_sub(timer.deadline_ns) else { return false };
        timer.deadline_ns = match late_ns.checked_div(timer.period_ns) {
            // After a delay, missed periods are skipped.
            Some(missed) => {
                timer.deadline_ns.saturating_add((missed + 1).saturating_mul(timer.period_ns))
            }
            None => NEVER,
        };
        true
    }

    /// SIGXCPU each second from the soft limit on, SIGKILL at the hard one.
    fn over_limit(&mut self, used_ns: u64, limit: Limit) -> Option<Signal> {
        let seconds = used_ns / NS_PER_S;
        if seconds < limit.soft || limit.soft == INFINITE {
            return None;
        }
        if seconds >= limit.hard {
            return Some(SIGKILL);
        }
        // The limit of 0 is that of 1 second, as on Linux.
        (seconds > core::mem::replace(&mut self.warned_s, seconds)).then_some(SIGXCPU)
    }

    fn left_ns(&self, used: Spent, limit: Limit) -> u64 {
        let next_s = limit.soft.max(self.warned_s + 1).min(limit.hard);
        let limit_ns = if limit.soft == INFINITE { NEVER } else { next_s.saturating_mul(NS_PER_S) };
        let [virtual_ns, prof_ns] = self.timers.map(|timer| timer.deadline_ns);
        let left = |deadline_ns: u64, time_ns: u64| {
            if deadline_ns == NEVER { NEVER } else { deadline_ns.saturating_sub(time_ns) }
        };
        left(virtual_ns, used.user_ns)
            .min(left(prof_ns, used.total_ns()))
            .min(left(limit_ns, used.total_ns()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = NS_PER_S;
    const NO_LIMIT: Limit = Limit { soft: INFINITE, hard: INFINITE };

    fn used(user_ns: u64, system_ns: u64) -> Spent {
        Spent { user_ns, system_ns }
    }

    #[test]
    fn the_virtual_timer_counts_user_time_and_the_other_one_all() {
        let watch = CpuWatch::new(NO_LIMIT);
        assert!(!watch.is_active());
        assert_eq!(watch.set_timer(CpuTimer::Virtual, used(5, 5), 10, 0), (0, 0));
        assert_eq!(watch.set_timer(CpuTimer::Prof, used(5, 5), 10, 7), (0, 0));
        assert!(watch.is_active());
        assert_eq!(watch.left_ns(used(6, 8), NO_LIMIT), 6);
        let found = watch.check(used(6, 15), NO_LIMIT);
        assert_eq!(found, Checked { signals: [None, Some(SIGPROF), None], left_ns: 6 });
        assert_eq!(watch.timer(CpuTimer::Prof, used(6, 15)), (6, 7));
        let found = watch.check(used(15, 15), NO_LIMIT);
        assert_eq!(found, Checked { signals: [Some(SIGVTALRM), Some(SIGPROF), None], left_ns: 4 });
        assert_eq!(watch.set_timer(CpuTimer::Prof, used(16, 15), 0, 0), (3, 7));
        assert_eq!(watch.check(used(99, 99), NO_LIMIT).left_ns, NEVER);
        assert!(!watch.is_active());
    }

    #[test]
    fn the_limit_warns_each_second_and_then_kills() {
        let limit = Limit { soft: 2, hard: 4 };
        let watch = CpuWatch::new(limit);
        assert!(watch.is_active());
        let mut signals = |ns| watch.check(used(ns, 0), limit).signals[2];
        let expected = [None, Some(SIGXCPU), None, Some(SIGXCPU), None, Some(SIGKILL)];
        let times = [2 * S - 1, 2 * S, 2 * S + 1, 3 * S, 4 * S - 1, 4 * S];
        assert_eq!(times.map(&mut signals), expected);
        assert_eq!(watch.left_ns(used(S, 0), Limit { soft: 0, hard: 9 }), 3 * S);
    }
}
