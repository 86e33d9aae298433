//! The timers of processes (timer_create(2)) in step with the clocks: entries among what is due at
//! a time, looks at CPU time, and signals.
#![forbid(unsafe_code)]

use super::process::timers::{Notification, Setting, TimerClock};
use super::signal::{Signal, SignalInfo};
use super::{Process, Thread, current_thread, due, find_process, find_thread, scheduler, send};
use crate::arch::{NEVER, clock};
use crate::sync::{Interrupt, WaitQueue};
use alloc::sync::Arc;
use foundation::Errno;

/// The time of a clock of a process; 0 for a thread that has ended.
fn now_ns(process: &Process, clock: TimerClock) -> u64 {
    if !clock.is_time() {
        scheduler::account();
    }
    match clock {
        TimerClock::Time | TimerClock::Real => clock::now_ns(),
        TimerClock::Process => process.used.get().total_ns(),
        TimerClock::Thread(tid) => {
            find_thread(tid).map_or(0, |thread| thread.used.get().total_ns())
        }
    }
}

/// When a timer is due, as a call says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The timer is disarmed.
    Never,
    /// After so many nanoseconds.
    After(u64),
    /// At a time of its clock, in nanoseconds.
    At(u64),
}

/// Sets a timer of the running process. Returns the time that was left, and the old period. EINVAL
/// if there is none.
pub fn set(process: &Process, id: u32, when: When, period_ns: u64) -> Result<(u64, u64), Errno> {
    let before = left(process, id)?;
    let deadline_ns = match when {
        When::Never => NEVER,
        When::After(ns) => {
            now_ns(process, process.timers.clock(id)?).saturating_add(ns).min(NEVER - 1)
        }
        When::At(ns) => ns.min(NEVER - 1),
    };
    let (old, needs_entry) = process.timers.set(id, Setting { deadline_ns, period_ns })?;
    old.into_iter().for_each(due::cancel);
    if needs_entry {
        process.timers.set_key(id, due::schedule_timer(deadline_ns, process.pid, id));
    }
    if process.timers.counts_cpu_time() {
        scheduler::account();
        scheduler::watch_cpu_time(process);
        // One that is due already is found on the way out.
        current_thread().remind();
    }
    Ok(before)
}

/// The time left until a timer of the running process is due, and its period; EINVAL if there is
/// none.
pub fn left(process: &Process, id: u32) -> Result<(u64, u64), Errno> {
    process.timers.left(id, now_ns(process, process.timers.clock(id)?))
}

/// Removes a timer, and the signal that it has sent. EINVAL if there is none.
pub fn delete(process: &Process, id: u32) -> Result<(), Errno> {
    process.timers.delete(id)?.into_iter().for_each(due::cancel);
    forget_signals(process, Some(id));
    Ok(())
}

/// Removes all timers: at the end of a process, and at exec.
pub(super) fn delete_all(process: &Process) {
    while let Some(key) = process.timers.delete_any() {
        key.into_iter().for_each(due::cancel);
    }
    forget_signals(process, None);
}

/// Discards the pending signals of a timer, or of all.
fn forget_signals(process: &Process, id: Option<u32>) {
    process.pending.lock().remove_of_timers(id);
    for thread in process.threads() {
        thread.signals.lock().pending.remove_of_timers(id);
    }
}

/// A timer that counts time is due. Called by the handler of the timer interrupt.
pub(super) fn expired(pid: u32, id: u32) {
    let Some(process) = find_process(pid) else { return };
    if expire(&process, id, clock::now_ns()).is_some() {
        schedule_again(&process);
    }
}

/// The least time between two entries of a timer, however short its period is.
const LEAST_NS: u64 = 20_000;

/// Makes entries for the timers that are set and have none. One whose signal is queued gets its
/// entry when that is delivered: what expires meanwhile is counted then.
pub fn schedule_again(process: &Process) {
    let mut last = None;
    while let Some((id, deadline_ns, notification)) = process.timers.next_without_entry(last) {
        last = Some(id);
        if !is_queued(process, id, notification) {
            let at = deadline_ns.max(clock::now_ns().saturating_add(LEAST_NS));
            process.timers.set_key(id, due::schedule_timer(at, process.pid, id));
        }
    }
}

/// Whether the signal of a timer waits for delivery.
fn is_queued(process: &Process, id: u32, notification: Notification) -> bool {
    match notification {
        Notification::None | Notification::Wake(_) => false,
        Notification::Process(signal, _) => process.pending.lock().has_of_timer(signal, id),
        Notification::Thread(tid, signal, _) => find_thread(tid)
            .is_some_and(|thread| thread.signals.lock().pending.has_of_timer(signal, id)),
    }
}

/// Does what is due by the CPU time of the running thread. Returns the CPU time after which
/// something may be due, or [`NEVER`].
pub(super) fn check_cpu_time(thread: &Thread) -> u64 {
    let (process, times) = (&thread.process, thread.cpu_times());
    while let Some((id, now_ns)) = process.timers.next_due(times) {
        if expire(process, id, now_ns).is_none() {
            break;
        }
    }
    process.timers.left_cpu_ns(times)
}

/// Does what a timer is for, if it is due. Returns when it is due again.
fn expire(process: &Arc<Process>, id: u32, now_ns: u64) -> Option<u64> {
    let (notification, count, next_ns) = process.timers.expire(id, now_ns)?;
    let info = |signal, value| SignalInfo::timer(signal, id, value);
    match notification {
        Notification::None => {}
        Notification::Process(signal, value) => {
            let is_queued = process.pending.lock().has_of_timer(signal, id);
            process.timers.count_overrun(id, count, is_queued);
            if !is_queued {
                send::to_process(process, info(signal, value));
            }
        }
        Notification::Thread(tid, signal, value) => {
            let owner = find_thread(tid).filter(|thread| thread.process.pid == process.pid);
            if let Some(thread) = owner {
                let is_queued = thread.signals.lock().pending.has_of_timer(signal, id);
                process.timers.count_overrun(id, count, is_queued);
                if !is_queued {
                    send::to_thread(&thread, info(signal, value));
                }
            }
        }
        Notification::Wake(tid) => {
            if let Some(thread) = find_thread(tid) {
                scheduler::wake(&thread);
            }
        }
    }
    Some(next_ns)
}

/// The information of a signal that is delivered: with its overrun, if a timer has sent it.
pub fn delivered(process: &Process, info: SignalInfo) -> SignalInfo {
    if !info.is_of_timer {
        return info;
    }
    let extra = process.timers.deliver(info.pid, clock::now_ns());
    schedule_again(process);
    SignalInfo { extra, ..info }
}

/// Waits until a clock of CPU time of the running process has advanced so far. EINTR for a signal,
/// with the time that was left.
pub fn sleep(clock: TimerClock, when: When) -> Result<(), (Errno, u64)> {
    let thread = current_thread();
    let process = &thread.process;
    let wake = Notification::Wake(thread.tid);
    let fails = |error| (error, 0);
    let id = process.timers.create(clock, wake, &process.account).map_err(fails)?;
    let is_set = set(process, id, when, 0);
    let is_over = || (left(process, id).unwrap_or_default() <= (1, 0)).then_some(());
    let result = WaitQueue::new().wait(Interrupt::Signal, is_over);
    let left_ns = left(process, id).unwrap_or_default().0;
    delete(process, id).and(is_set).map_err(fails)?;
    result.map_err(|interrupted| (interrupted.into(), left_ns))
}

/// The number of a signal that a timer may send; EINVAL for another one.
pub fn signal(number: i32) -> Result<Signal, Errno> {
    let signal = u8::try_from(number).map(Signal).map_err(|_| Errno::EINVAL)?;
    let is_valid = signal != Signal::NONE && signal <= super::signal::MAX_SIGNAL;
    if is_valid { Ok(signal) } else { Err(Errno::EINVAL) }
}
