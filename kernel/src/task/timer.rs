//! What happens at a time: ends of waits, and alarms of processes.
//!
//! The timer interrupts when the first of them is due, and not without a reason. It is exact to
//! what the handler takes.
#![forbid(unsafe_code)]

pub use super::due::Timed;
use super::due::{Due, TIMERS, new_key};
use super::process::cpu_time::CpuTimer;
use super::process::timers::Key;
use super::signal::{SIGALRM, SignalInfo};
use super::{Process, current_thread, find_thread, posix_timer, scheduler, send};
use crate::arch::{self, Alarm, NEVER, clock};
use crate::sync::{Interrupt, Interrupted, WaitQueue};
use alloc::sync::Weak;
use core::sync::atomic::Ordering;

/// Wakes the running thread at a time, so that it checks its condition again. Dropping it cancels
/// the wake-up.
#[derive(Debug)]
pub struct Timeout {
    key: Key,
}

impl Timeout {
    /// A wake-up at `deadline_ns` since boot.
    pub fn at(deadline_ns: u64) -> Self {
        let key = new_key(deadline_ns);
        TIMERS.lock().insert(key, Due::Wake(current_thread().tid));
        Self { key }
    }

    /// Calls an object at `deadline_ns` since boot.
    pub fn calling(deadline_ns: u64, timed: Weak<dyn Timed>) -> Self {
        let key = new_key(deadline_ns);
        TIMERS.lock().insert(key, Due::Call(timed));
        Self { key }
    }

    /// Whether the deadline has passed.
    pub fn is_over(&self) -> bool {
        clock::now_ns() >= self.key.0
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        let removed = TIMERS.lock().due.remove(&self.key);
        drop(removed);
    }
}

/// The end of a wait that is to last so long: that of the wait before, if a call is restarted after
/// a stop or an ignored signal.
pub fn deadline_after(ns: u64) -> u64 {
    match current_thread().restart_until.swap(0, Ordering::Relaxed) {
        0 => clock::now_ns().saturating_add(ns),
        deadline_ns => deadline_ns,
    }
}

/// A wait until `deadline_ns` was interrupted. If its call is restarted, it ends then.
pub fn keep_deadline(deadline_ns: u64) {
    current_thread().restart_until.store(deadline_ns, Ordering::Relaxed);
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
        timers.insert(key, Due::Alarm(pid));
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
        (deadline_ns.saturating_sub(clock::now_ns()).max(1), period_ns)
    })
}

/// The handler of the timer interrupt, in user mode, while the CPU is idle, or where a long
/// operation admits it. No lock is held then.
fn interrupt() {
    clock::fired();
    scheduler::before_wakeups();
    let now = clock::now_ns();
    while let Some(due) = next_due(now) {
        match due {
            Due::Wake(tid) => {
                if let Some(thread) = find_thread(tid) {
                    scheduler::wake(&thread);
                }
            }
            Due::Alarm(pid) => send::to_pid(pid, SignalInfo::kernel(SIGALRM)),
            Due::Timer(pid, id) => posix_timer::expired(pid, id),
            Due::Call(timed) => timed.upgrade().into_iter().for_each(Timed::expired),
        }
    }
    let next = TIMERS.lock().due.first_key_value().map_or(NEVER, |(key, _)| key.0);
    clock::set_alarm(Alarm::Timers, next);
    scheduler::interrupt(now);
    clock::set_exactly();
}

/// Sends the signals for which the running process has used enough CPU time.
pub fn check_cpu_time() {
    let thread = current_thread();
    let process = &thread.process;
    if !process.watches_cpu_time() {
        return;
    }
    scheduler::account();
    let found = process.cpu_watch.check(process.used.get(), process.cpu_limit());
    let left_ns = posix_timer::check_cpu_time(&thread);
    scheduler::watch_after(found.left_ns.min(left_ns));
    for signal in found.signals.into_iter().flatten() {
        send::to_process(process, SignalInfo::kernel(signal));
    }
}

/// Sets a timer of a process that counts CPU time; see [`CpuWatch::set_timer`]. The running thread
/// is one of its threads.
///
/// [`CpuWatch::set_timer`]: super::process::cpu_time::CpuWatch::set_timer
pub fn set_cpu_timer(
    process: &Process,
    which: CpuTimer,
    left_ns: u64,
    period_ns: u64,
) -> (u64, u64) {
    scheduler::account();
    let before = process.cpu_watch.set_timer(which, process.used.get(), left_ns, period_ns);
    scheduler::watch_cpu_time(process);
    before
}

/// A timer of a process that counts CPU time; see [`CpuWatch::timer`].
///
/// [`CpuWatch::timer`]: super::process::cpu_time::CpuWatch::timer
pub fn cpu_timer(process: &Process, which: CpuTimer) -> (u64, u64) {
    scheduler::account();
    process.cpu_watch.timer(which, process.used.get())
}

/// The least time between two alarms of a process, however short their period is.
const LEAST_NS: u64 = 20_000;

/// Removes an action that is due, and sets a periodic alarm again.
fn next_due(now: u64) -> Option<Due> {
    let mut timers = TIMERS.lock();
    let (&key, _) = timers.due.first_key_value().filter(|(key, _)| key.0 <= now)?;
    let due = timers.due.remove(&key)?;
    if let Due::Alarm(pid) = due
        && let Some((_, period_ns)) = timers.alarms.remove(&pid)
        && period_ns > 0
    {
        // After a delay, missed periods are skipped.
        let missed = (now - key.0) / period_ns;
        let next_ns = key.0.saturating_add((missed + 1).saturating_mul(period_ns));
        let key = new_key(next_ns.max(now + LEAST_NS));
        timers.insert(key, Due::Alarm(pid));
        timers.alarms.insert(pid, (key, period_ns));
    }
    Some(due)
}

/// Registers the handler of the timer interrupt.
pub(super) fn start() {
    arch::irq::register(clock::TIMER_LINE, interrupt);
}
