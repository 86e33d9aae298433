//! The timer tick, and what it triggers: ends of waits, and alarms. The resolution is one tick, 10
//! ms.
#![forbid(unsafe_code)]

use super::signal::{SIGALRM, SIGKILL, SIGXCPU, Signal, SignalInfo};
use super::{current_thread, find_thread, scheduler, send};
use crate::arch;
use crate::mem::limits::{INFINITE, Limit, Limits};
use crate::sync::{Interrupt, Interrupted, Mutex, WaitQueue, rank};
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as linux;

/// An action at a time.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// Wakes a thread, which then checks the clock.
    Wake(u32),
    /// Sends SIGALRM to a process.
    Alarm(u32),
}

/// Keys are times in nanoseconds since boot, made unique by a number.
type Key = (u64, u64);

struct Timers {
    due: BTreeMap<Key, Due>,
    /// By process: the key of its alarm, and the period in nanoseconds, 0 for none.
    alarms: BTreeMap<u32, (Key, u64)>,
}

static TIMERS: Mutex<Timers, rank::Timers> =
    Mutex::new(Timers { due: BTreeMap::new(), alarms: BTreeMap::new() });
static NEXT: AtomicU64 = AtomicU64::new(0);

fn new_key(deadline_ns: u64) -> Key {
    (deadline_ns, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Wakes the running thread at a time, so that it checks its condition again. Dropping it cancels
/// the wake-up.
#[derive(Debug)]
pub struct Timeout {
    key: Key,
}

impl Timeout {
    /// A wake-up at `deadline_ns` since boot or at most one tick later.
    pub fn at(deadline_ns: u64) -> Self {
        let key = new_key(deadline_ns);
        TIMERS.lock().due.insert(key, Due::Wake(current_thread().tid));
        Self { key }
    }

    /// Whether the deadline has passed.
    pub fn is_over(&self) -> bool {
        arch::clock::now_ns() >= self.key.0
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        TIMERS.lock().due.remove(&self.key);
    }
}

/// Waits until `deadline_ns` since boot; EINTR for a signal.
pub fn sleep_until(deadline_ns: u64) -> Result<(), Interrupted> {
    let timeout = Timeout::at(deadline_ns);
    WaitQueue::new().wait(Interrupt::Signal, || timeout.is_over().then_some(()))
}

/// Sets a process's alarm to `deadline_ns` since boot (0: none), repeated every `period_ns` (0:
/// never). Returns the time left and the period of the previous alarm.
pub fn set_alarm(pid: u32, deadline_ns: u64, period_ns: u64) -> (u64, u64) {
    let mut timers = TIMERS.lock();
    let old = timers.alarms.remove(&pid);
    if let Some((key, _)) = old {
        timers.due.remove(&key);
    }
    if deadline_ns != 0 {
        let key = new_key(deadline_ns);
        timers.due.insert(key, Due::Alarm(pid));
        timers.alarms.insert(pid, (key, period_ns));
    }
    left(old)
}

/// The time left until a process's alarm, and its period, in nanoseconds; zeros without an alarm.
pub fn alarm(pid: u32) -> (u64, u64) {
    left(TIMERS.lock().alarms.get(&pid).copied())
}

fn left(alarm: Option<(Key, u64)>) -> (u64, u64) {
    // An alarm that is due but not yet delivered has 1 ns left, because 0 means none.
    alarm.map_or((0, 0), |((deadline_ns, _), period_ns)| {
        (deadline_ns.saturating_sub(arch::clock::now_ns()).max(1), period_ns)
    })
}

/// The handler of the timer interrupt, in user mode or while the CPU is idle. No lock is held then.
fn tick() {
    let now = arch::clock::now_ns();
    while let Some(due) = next_due(now) {
        match due {
            Due::Wake(tid) => {
                if let Some(thread) = find_thread(tid) {
                    scheduler::wake(&thread);
                }
            }
            Due::Alarm(pid) => send::to_pid(pid, SignalInfo::kernel(SIGALRM)),
        }
    }
    scheduler::end_slice();
}

/// Counts a tick that interrupted the running thread in user mode, against its limit of time.
pub fn count_tick() {
    let Some(ticks) = scheduler::count_tick() else { return };
    let process = &current_thread().process;
    if let Some(signal) = over_time(&process.account.limits, ticks) {
        send::to_process(process, SignalInfo::kernel(signal));
    }
}

/// The signal for a process that has run for so many ticks: SIGXCPU each second beyond the soft
/// limit (`RLIMIT_CPU`), SIGKILL at the hard one.
fn over_time(limits: &Limits, ticks: u64) -> Option<Signal> {
    const TICKS_PER_SECOND: u64 = 100;
    let Limit { soft, hard } = limits.load(linux::RLIMIT_CPU).ok()?;
    let seconds = ticks / TICKS_PER_SECOND;
    if soft == INFINITE || !ticks.is_multiple_of(TICKS_PER_SECOND) || seconds < soft {
        return None;
    }
    Some(if seconds >= hard { SIGKILL } else { SIGXCPU })
}

/// Removes an action that is due, and sets a periodic alarm again.
fn next_due(now: u64) -> Option<Due> {
    let mut timers = TIMERS.lock();
    let (&key, &due) = timers.due.first_key_value()?;
    if key.0 > now {
        return None;
    }
    timers.due.remove(&key);
    if let Due::Alarm(pid) = due
        && let Some((_, period_ns)) = timers.alarms.remove(&pid)
        && period_ns > 0
    {
        // After a delay, missed periods are skipped.
        let missed = (now - key.0) / period_ns;
        let key = new_key(key.0.saturating_add((missed + 1).saturating_mul(period_ns)));
        timers.due.insert(key, due);
        timers.alarms.insert(pid, (key, period_ns));
    }
    Some(due)
}

/// Registers the tick.
pub(super) fn start() {
    const TIMER_LINE: u8 = 0;
    arch::irq::register(TIMER_LINE, tick);
}
