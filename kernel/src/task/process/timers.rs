//! The timers of a process (timer_create(2)): when each is due, and what happens then.
//!
//! Plain state: [`crate::task::posix_timer`] keeps it in step with the clock, and sends.
//! A timer's signal is queued once at most. What expires meanwhile is counted as its overrun.

use super::cpu_time::CpuTime;
use crate::arch::NEVER;
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::limits::Resource;
use crate::sync::{Mutex, rank};
use crate::task::signal::Signal;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Bound;
use core::sync::atomic::{AtomicBool, Ordering};
use foundation::Errno;

/// Upper bound for the timers of a process, besides its limit of signals (`RLIMIT_SIGPENDING`).
const MAX_TIMERS: usize = 1024;
/// Bytes that a timer takes: itself, its entries in tables, its signal.
const BYTES: usize = 512;
/// Set in the numbers of timers that the program did not make.
const HIDDEN: u32 = 1 << 31;
/// The largest overrun that is reported (`DELAYTIMER_MAX`).
const MAX_OVERRUN: u64 = i32::MAX as u64;

/// What a timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerClock {
    /// Time since boot.
    Time,
    /// The same, where calls give the time since 1970.
    Real,
    /// CPU time of the process.
    Process,
    /// CPU time of the thread with this number.
    Thread(u32),
}

impl TimerClock {
    /// Whether it is not CPU time.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Time | Self::Real)
    }
}

/// What happens when a timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// The timer is only read.
    None,
    /// The process gets a signal with a value.
    Process(Signal, u64),
    /// The thread with this number gets a signal with a value.
    Thread(u32, Signal, u64),
    /// The thread with this number is woken.
    Wake(u32),
}

/// When a timer is due, on its clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// [`NEVER`] if it is not set.
    pub deadline_ns: u64,
    /// 0: it is due once.
    pub period_ns: u64,
}

impl Setting {
    /// Of a timer that is not set.
    pub const UNSET: Self = Self { deadline_ns: NEVER, period_ns: 0 };

    /// The time left at `now_ns`, and the period; zeros for a timer that is not set, or that was
    /// due once.
    fn left(self, now_ns: u64, is_silent: bool) -> (u64, u64) {
        if self.deadline_ns == NEVER {
            return (0, 0);
        }
        let next = self.after(now_ns);
        match next.deadline_ns {
            NEVER if is_silent => (0, 0),
            // It is due, but its signal was not sent yet.
            NEVER => (1, 0),
            deadline_ns => (deadline_ns - now_ns, self.period_ns),
        }
    }

    /// The setting once all that is due at `now_ns` has happened.
    fn after(self, now_ns: u64) -> Self {
        let Some(late_ns) = now_ns.checked_sub(self.deadline_ns) else { return self };
        match late_ns.checked_div(self.period_ns) {
            Some(missed) => {
                let later = (missed + 1).saturating_mul(self.period_ns);
                Self { deadline_ns: self.deadline_ns.saturating_add(later), ..self }
            }
            None => Self { deadline_ns: NEVER, ..self },
        }
    }

    /// How often it is due until `now_ns`.
    fn count(self, now_ns: u64) -> u64 {
        match now_ns.checked_sub(self.deadline_ns) {
            Some(late_ns) => late_ns.checked_div(self.period_ns).unwrap_or(0) + 1,
            None => 0,
        }
    }
}

/// The key of an entry among all that is due at a time: nanoseconds since boot, made unique by a
/// number.
pub type Key = (u64, u64);

struct Timer {
    clock: TimerClock,
    notification: Notification,
    setting: Setting,
    /// Its entry, while it is set and counts time.
    key: Option<Key>,
    /// How often it was due since its signal was queued.
    overrun: u64,
    /// The overrun of the signal that was delivered last.
    delivered: u64,
    _charge: Charge,
}

#[derive(Default)]
struct Table {
    timers: BTreeMap<u32, Timer>,
    next: u32,
}

/// The timers of a process.
#[derive(Default)]
pub struct Timers {
    table: Mutex<Table, rank::ProcessTimers>,
    /// Whether one that counts CPU time may be set. For the switch of threads.
    counts_cpu_time: AtomicBool,
}

/// CPU times at which timers are looked at.
#[derive(Clone, Copy)]
pub struct CpuTimes<'a> {
    /// The CPU time of all its threads.
    pub process: &'a CpuTime,
    /// The running thread's number, and its CPU time.
    pub thread: (u32, &'a CpuTime),
}

impl CpuTimes<'_> {
    /// The time of a clock; `None` where it does not pass at the moment.
    fn now_ns(&self, clock: TimerClock) -> Option<u64> {
        match clock {
            TimerClock::Time | TimerClock::Real => None,
            TimerClock::Process => Some(self.process.get().total_ns()),
            TimerClock::Thread(tid) => {
                (tid == self.thread.0).then(|| self.thread.1.get().total_ns())
            }
        }
    }
}

impl Timers {
    /// A timer that is not set. EAGAIN at the limits and without memory.
    pub fn create(
        &self,
        clock: TimerClock,
        notification: Notification,
        account: &Arc<Account>,
    ) -> Result<u32, Errno> {
        let charge = Charge::take(account, Kind::Signals, BYTES).map_err(|_| Errno::EAGAIN)?;
        let most = account.limits.get(Resource::Signals).min(MAX_TIMERS as u64);
        let mut table = self.table.lock();
        let is_hidden = matches!(notification, Notification::Wake(_));
        if table.timers.len() as u64 >= most && !is_hidden {
            return Err(Errno::EAGAIN);
        }
        let id = table.next | if is_hidden { HIDDEN } else { 0 };
        table.next = table.next.wrapping_add(1) & !HIDDEN;
        let setting = Setting::UNSET;
        let (key, overrun, delivered) = (None, 0, 0);
        let timer =
            Timer { clock, notification, setting, key, overrun, delivered, _charge: charge };
        if let Some(old) = table.timers.insert(id, timer) {
            // After 2^31 timers, one that is as old as that.
            table.timers.insert(id, old);
            return Err(Errno::EAGAIN);
        }
        Ok(id)
    }

    /// Sends the number of a timer as its signal's value.
    pub fn set_value(&self, id: u32, value: u64) {
        if let Some(timer) = self.table.lock().timers.get_mut(&id)
            && let Notification::Process(_, old) | Notification::Thread(_, _, old) =
                &mut timer.notification
        {
            *old = value;
        }
    }

    /// Removes a timer, and returns the key of its entry. EINVAL if there is none.
    pub fn delete(&self, id: u32) -> Result<Option<Key>, Errno> {
        let removed = self.table.lock().timers.remove(&id).ok_or(Errno::EINVAL)?;
        Ok(removed.key)
    }

    /// Removes any timer, likewise; `None` if there is none.
    pub fn delete_any(&self) -> Option<Option<Key>> {
        let removed = self.table.lock().timers.pop_first()?.1;
        Some(removed.key)
    }

    /// What a timer counts; EINVAL if there is none.
    pub fn clock(&self, id: u32) -> Result<TimerClock, Errno> {
        self.table.lock().timers.get(&id).map(|timer| timer.clock).ok_or(Errno::EINVAL)
    }

    /// The time left at `now_ns`, and the period.
    pub fn left(&self, id: u32, now_ns: u64) -> Result<(u64, u64), Errno> {
        let table = self.table.lock();
        let timer = table.timers.get(&id).ok_or(Errno::EINVAL)?;
        let is_silent = timer.notification == Notification::None;
        Ok(timer.setting.left(now_ns, is_silent))
    }

    /// Sets a timer. Returns the key of its old entry, which the caller removes; it makes a new one
    /// where that returns true.
    pub fn set(&self, id: u32, setting: Setting) -> Result<(Option<Key>, bool), Errno> {
        let mut table = self.table.lock();
        let timer = table.timers.get_mut(&id).ok_or(Errno::EINVAL)?;
        timer.setting = setting;
        timer.overrun = 0;
        let is_time = timer.clock.is_time();
        if !is_time && setting.deadline_ns != NEVER {
            self.counts_cpu_time.store(true, Ordering::Relaxed);
        }
        let needs_entry =
            is_time && setting.deadline_ns != NEVER && timer.notification != Notification::None;
        Ok((timer.key.take(), needs_entry))
    }

    /// Notes the key of a timer's entry.
    pub fn set_key(&self, id: u32, key: Key) {
        if let Some(timer) = self.table.lock().timers.get_mut(&id) {
            timer.key = Some(key);
        }
    }

    /// A timer is due: sets it again. Returns what is to happen, how often it was due, and when it
    /// is due again ([`NEVER`]: not). `None` if it is not due.
    pub fn expire(&self, id: u32, now_ns: u64) -> Option<(Notification, u64, u64)> {
        let mut table = self.table.lock();
        let timer = table.timers.get_mut(&id)?;
        let count = timer.setting.count(now_ns);
        if count == 0 {
            return None;
        }
        timer.setting = timer.setting.after(now_ns);
        timer.key = None;
        Some((timer.notification, count, timer.setting.deadline_ns))
    }

    /// Counts how often a timer was due. `is_queued`: its signal has waited for delivery already.
    pub fn count_overrun(&self, id: u32, count: u64, is_queued: bool) {
        if let Some(timer) = self.table.lock().timers.get_mut(&id) {
            timer.overrun = if is_queued { timer.overrun.saturating_add(count) } else { count - 1 };
        }
    }

    /// The signal of a timer is delivered at `now_ns`. Returns its overrun.
    pub fn deliver(&self, id: u32, now_ns: u64) -> u32 {
        let mut table = self.table.lock();
        let Some(timer) = table.timers.get_mut(&id) else { return 0 };
        if timer.clock.is_time() && timer.key.is_none() {
            // What expired while there was no entry.
            timer.overrun = timer.overrun.saturating_add(timer.setting.count(now_ns));
            timer.setting = timer.setting.after(now_ns);
        }
        timer.delivered = core::mem::take(&mut timer.overrun);
        timer.delivered.min(MAX_OVERRUN) as u32
    }

    /// The next timer behind `last` that counts time, is set and has no entry: its number, when it
    /// is due, and what it is for.
    pub fn next_without_entry(&self, last: Option<u32>) -> Option<(u32, u64, Notification)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let table = self.table.lock();
        let mut later = table.timers.range((from, Bound::Unbounded));
        later.find_map(|(&id, timer)| {
            let is_set = timer.clock.is_time() && timer.setting.deadline_ns != NEVER;
            let is_wanted =
                is_set && timer.key.is_none() && timer.notification != Notification::None;
            is_wanted.then_some((id, timer.setting.deadline_ns, timer.notification))
        })
    }

    /// The overrun of the last signal of a timer.
    pub fn overrun(&self, id: u32) -> Result<u64, Errno> {
        let table = self.table.lock();
        let timer = table.timers.get(&id).ok_or(Errno::EINVAL)?;
        Ok(timer.delivered.min(MAX_OVERRUN))
    }

    /// Whether a timer that counts CPU time may be set.
    #[inline]
    pub fn counts_cpu_time(&self) -> bool {
        self.counts_cpu_time.load(Ordering::Relaxed)
    }

    /// A timer that counts CPU time and is due.
    pub fn next_due(&self, times: CpuTimes<'_>) -> Option<(u32, u64)> {
        let table = self.table.lock();
        table.timers.iter().find_map(|(&id, timer)| {
            let now_ns = times.now_ns(timer.clock)?;
            (timer.setting.deadline_ns <= now_ns).then_some((id, now_ns))
        })
    }

    /// CPU time of the running thread after which a timer may be due, or [`NEVER`].
    pub fn left_cpu_ns(&self, times: CpuTimes<'_>) -> u64 {
        let table = self.table.lock();
        let set = table.timers.values().filter(|timer| timer.setting.deadline_ns != NEVER);
        let mut counts = false;
        let left = set.filter(|timer| !timer.clock.is_time()).filter_map(|timer| {
            counts = true;
            Some(timer.setting.deadline_ns.saturating_sub(times.now_ns(timer.clock)?))
        });
        let least = left.min().unwrap_or(NEVER);
        self.counts_cpu_time.store(counts, Ordering::Relaxed);
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_goes_on_and_counts_what_it_missed() {
        let setting = Setting { deadline_ns: 100, period_ns: 30 };
        assert_eq!((setting.count(99), setting.count(100), setting.count(160)), (0, 1, 3));
        assert_eq!(setting.after(160).deadline_ns, 190);
        assert_eq!((setting.left(40, false), setting.left(165, false)), ((60, 30), (25, 30)));
        let once = Setting { deadline_ns: 100, period_ns: 0 };
        assert_eq!((once.count(500), once.after(500)), (1, Setting::UNSET));
        assert_eq!((once.left(500, false), once.left(500, true)), ((1, 0), (0, 0)));
        assert_eq!(Setting::UNSET.left(500, false), (0, 0));
    }

    #[test]
    fn overruns_are_of_the_delivered_signal() {
        crate::mem::host::init();
        let (timers, account) = (Timers::default(), Account::new());
        let note = Notification::Process(Signal(10), 7);
        let id = timers.create(TimerClock::Time, note, &account).expect("memory");
        assert_eq!(timers.set(id, Setting { deadline_ns: 10, period_ns: 10 }), Ok((None, true)));
        assert_eq!(timers.expire(id, 5), None);
        assert_eq!(timers.expire(id, 35), Some((note, 3, 40)));
        timers.count_overrun(id, 3, false);
        assert_eq!(timers.expire(id, 40), Some((note, 1, 50)));
        timers.count_overrun(id, 1, true);
        assert_eq!(timers.overrun(id), Ok(0));
        assert_eq!((timers.deliver(id, 45), timers.overrun(id)), (3, Ok(3)));
        assert_eq!(timers.delete(id), Ok(None));
        assert_eq!(timers.delete(id), Err(Errno::EINVAL));
        assert_eq!(account.total_bytes(), 0);
    }

    #[test]
    fn cpu_time_of_another_thread_does_not_pass() {
        crate::mem::host::init();
        let (timers, account) = (Timers::default(), Account::new());
        let none = CpuTime::default();
        let times = CpuTimes { process: &none, thread: (5, &none) };
        for clock in [TimerClock::Thread(6), TimerClock::Process] {
            let id = timers.create(clock, Notification::None, &account).expect("memory");
            timers.set(id, Setting { deadline_ns: 10, period_ns: 0 }).expect("it exists");
        }
        assert!(timers.counts_cpu_time());
        assert_eq!((timers.left_cpu_ns(times), timers.next_due(times)), (10, None));
        while timers.delete_any().is_some() {}
        assert_eq!(timers.left_cpu_ns(times), NEVER);
        assert!(!timers.counts_cpu_time());
    }
}
