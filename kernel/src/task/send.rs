//! Sending signals: who has what pending, and who is woken.
//!
//! A signal that ends the process without being caught takes effect here, immediately and for all
//! threads. So a wait that only a killing signal may end (F7) checks one flag only.
#![forbid(unsafe_code)]

use super::WaitStatus;
use super::family::Relations;
use super::process::{Life, News};
use super::signal::{
    Disposition, SIGCHLD, SIGCONT, SIGHUP, SIGKILL, SIGSTOP, Signal, SignalInfo, SignalSet,
};
use super::{Process, Thread, family, find_process, scheduler, sent};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::fmt;

/// The target of a signal.
enum Target<'a> {
    Process,
    Thread(&'a Arc<Thread>),
}

/// Sends a signal to a process.
pub fn to_process(process: &Arc<Process>, info: SignalInfo) {
    send(process, &Target::Process, info);
}

/// Sends a signal to one thread.
pub fn to_thread(thread: &Arc<Thread>, info: SignalInfo) {
    send(&thread.process, &Target::Thread(thread), info);
}

/// Sends a signal to a process, if it still exists.
pub fn to_pid(pid: u32, info: SignalInfo) {
    if let Some(process) = find_process(pid) {
        to_process(&process, info);
    }
}

/// Sends a signal to all members of a process group. Returns false if there are none.
pub fn to_group(group: u32, info: SignalInfo) -> bool {
    let mut has_members = false;
    for process in family::group(group) {
        to_process(&process, info);
        has_members = true;
    }
    has_members
}

/// Sends a signal for an exception of the running thread. It cannot be blocked or ignored, because
/// the exception would repeat forever. Returns whether it ends the process.
pub fn force(thread: &Arc<Thread>, info: SignalInfo) -> bool {
    let blocked = thread.signals.lock().blocked.contains(info.signal);
    let disposition = thread.process.with_actions(|actions| actions.disposition(info.signal));
    let caught = matches!(disposition, Disposition::Catch(_));
    if blocked || !caught {
        begin_end(&thread.process, WaitStatus::killed(info.signal));
        return true;
    }
    to_thread(thread, info);
    false
}

fn send(process: &Arc<Process>, to: &Target<'_>, info: SignalInfo) {
    if process.is_ending() {
        return;
    }
    match info.signal {
        SIGCONT => resume(process),
        signal if SignalSet::STOPPING.contains(signal) => {
            discard_pending(process, SignalSet::of(SIGCONT))
        }
        _ => {}
    }
    let blocks = |thread: &Arc<Thread>| thread.signals.lock().blocked.contains(info.signal);
    let target = match to {
        Target::Thread(thread) => Some((*thread).clone()).filter(|thread| !blocks(thread)),
        Target::Process => process.threads().find(|thread| !blocks(thread)),
    };
    let awaits = |thread: &Arc<Thread>| thread.signals.lock().awaited.contains(info.signal);
    let waiter = match to {
        Target::Thread(thread) => Some((*thread).clone()).filter(awaits),
        Target::Process => process.threads().find(awaits),
    };
    if let Some(thread) = waiter {
        add(process, to, info);
        scheduler::wake(&thread);
        return;
    }
    let disposition = process.disposition(info.signal);
    if disposition == Disposition::Ignore && target.is_some() {
        return;
    }
    if info.signal == SIGKILL || (disposition == Disposition::Terminate && target.is_some()) {
        if SignalSet::FAILURES.contains(info.signal) {
            log_end(process, info.signal, format_args!("sent by process {}", info.pid));
        }
        begin_end(process, WaitStatus::killed(info.signal));
        return;
    }
    add(process, to, info);
    if let Some(thread) = target {
        thread.notice();
        scheduler::wake(&thread);
    }
}

fn add(process: &Process, to: &Target<'_>, info: SignalInfo) {
    match to {
        Target::Thread(thread) => thread.signals.lock().pending.add(info, &process.account),
        Target::Process => process.pending.lock().add(info, &process.account),
    }
    sent::sent();
}

/// Logs that a signal ends a process, and why.
pub fn log_end(process: &Process, signal: Signal, why: fmt::Arguments<'_>) {
    let name = process.identity.lock().name.clone();
    let signal = signal.name().unwrap_or("a signal");
    log::info!("{} ({}) is ended by {signal}: {why}", name.escape_ascii(), process.pid);
}

/// Makes all threads of a process end, with a status. A status that is already set stays.
pub fn begin_end(process: &Arc<Process>, status: WaitStatus) {
    {
        let mut state = process.state.lock();
        if state.life != Life::Alive {
            return;
        }
        process.note_end();
        state.life = Life::Ending(status);
        state.stopped = false;
    }
    for thread in process.threads() {
        thread.notice();
        scheduler::wake(&thread);
    }
    process.queue.wake_all();
}

/// Stops a process: its threads wait in [`super::deliver`].
pub(super) fn stop(process: &Arc<Process>, signal: Signal) {
    {
        let mut state = process.state.lock();
        if state.life != Life::Alive || state.stopped {
            return;
        }
        state.stopped = true;
        state.news = Some(News::Stopped(signal));
    }
    for thread in process.threads() {
        thread.notice();
    }
    notify_parent(process, WaitStatus::stopped(signal));
}

/// Continues a stopped process, and discards pending stop signals.
fn resume(process: &Arc<Process>) {
    discard_pending(process, SignalSet::STOPPING);
    {
        let mut state = process.state.lock();
        if !state.stopped {
            return;
        }
        state.stopped = false;
        state.news = Some(News::Continued);
    }
    process.queue.wake_all();
    notify_parent(process, WaitStatus::CONTINUED);
}

fn discard_pending(process: &Arc<Process>, signals: SignalSet) {
    process.pending.lock().remove(signals);
    for thread in process.threads() {
        thread.signals.lock().pending.remove(signals);
    }
}

/// Notifies the parent of a stop, a continuation or the end of a process.
fn notify_parent(process: &Arc<Process>, status: WaitStatus) {
    family::note_news(process.pid);
    let Some(parent) =
        family::relations(process.pid).and_then(|relations| find_process(relations.parent))
    else {
        return;
    };
    let action = parent.with_actions(|actions| actions.get(SIGCHLD));
    let wanted = !action.flags().contains(super::signal::ActionFlags::NO_CHILD_STOP);
    if wanted {
        to_process(&parent, child_info(process.pid, SIGCHLD, status));
    }
    parent.children_queue.wake_all();
}

/// The signal information for the parent of a child in this status.
pub fn child_info(pid: u32, signal: Signal, status: WaitStatus) -> SignalInfo {
    const EXITED: i32 = 1;
    const KILLED: i32 = 2;
    const STOPPED: i32 = 5;
    const CONTINUED: i32 = 6;
    let (code, value) = match status {
        WaitStatus::CONTINUED => (CONTINUED, i32::from(SIGCONT.0)),
        WaitStatus(stopped) if stopped & 0xff == 0x7f => (STOPPED, stopped >> 8),
        WaitStatus(exited) if exited & 0x7f == 0 => (EXITED, exited >> 8),
        WaitStatus(killed) => (KILLED, killed & 0x7f),
    };
    SignalInfo { signal, code, pid, value: value as u64, ..SignalInfo::default() }
}

/// Makes the running thread check its signals before it returns to user mode, after a change of its
/// mask.
pub fn recheck(thread: &Thread) {
    if thread.has_unblocked_signal() {
        thread.notice();
    }
}

/// Whether a default stop must be ignored, because the group is orphaned: no process could continue
/// it.
pub(super) fn is_orphaned_stop(process: &Process, signal: Signal) -> bool {
    signal != SIGSTOP && family::relations(process.pid).is_none_or(|own| is_orphaned(own.group))
}

/// Whether a process group is orphaned (POSIX): no member has a parent in another group of the same
/// session. Processes that have ended do not count.
pub(super) fn is_orphaned(group: u32) -> bool {
    let has_guardian = |member: &Arc<Process>| {
        let Some(own) = family::relations(member.pid)
            .filter(|_| !matches!(member.state.lock().life, Life::Zombie(_)))
        else {
            return false;
        };
        family::relations(own.parent)
            .is_some_and(|parent| parent.session == own.session && parent.group != own.group)
    };
    !family::group(group).any(|member| has_guardian(&member))
}

/// After the end of a process: groups that became orphaned by it and have a stopped member get
/// SIGHUP and SIGCONT.
pub(super) fn continue_orphaned_groups(own: Relations, children: &BTreeSet<u32>) {
    let next = |last| family::next_group_orphaned(own, children, last);
    for group in core::iter::successors(next(0), |&last| next(last)) {
        if family::group(group).any(|member| member.is_stopped()) && is_orphaned(group) {
            to_group(group, SignalInfo::kernel(SIGHUP));
            to_group(group, SignalInfo::kernel(SIGCONT));
        }
    }
}
