//! The interface to processes that `file` uses, for terminals and `/proc`.
#![forbid(unsafe_code)]

use super::process::{Life, Process};
use super::signal::{Action, MAX_SIGNAL, Signal, SignalInfo, SignalSet};
use super::thread::{RunState, Thread};
use super::timer::Timeout;
use super::{family, find_process, find_thread, scheduler, send};
use crate::arch::{self, Spent};
use crate::file::{self, IoOwner, IoSignal, ProcessView, SignalSets, Tasks, Ticks};
use crate::mem::Account;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use fsproto::Time;

struct Hooks;

/// Nanoseconds in a tick of `/proc`'s times.
const TICK_NS: u64 = 10_000_000;

fn ticks(spent: Spent) -> Ticks {
    Ticks { user: spent.user_ns / TICK_NS, system: spent.system_ns / TICK_NS }
}

impl Tasks for Hooks {
    fn now(&self) -> Time {
        Time(arch::clock::wall_ns())
    }

    fn uptime_ns(&self) -> u64 {
        arch::clock::now_ns()
    }

    fn idle_ns(&self) -> u64 {
        scheduler::idle_ns()
    }

    fn current_pid(&self) -> Option<u32> {
        scheduler::try_current_thread().map(|thread| thread.process.pid)
    }

    fn account(&self) -> Option<Arc<Account>> {
        scheduler::try_current_thread().map(|thread| thread.process.account.clone())
    }

    fn next_pid(&self, last: u32) -> Option<u32> {
        family::next_pid(last)
    }

    fn current_tid(&self) -> Option<u32> {
        scheduler::try_current_thread().map(|thread| thread.tid)
    }

    fn next_tid(&self, pid: u32, last: u32) -> Option<u32> {
        find_process(pid)?.threads().map(|thread| thread.tid).find(|&tid| tid > last)
    }

    fn thread(&self, pid: u32, tid: u32) -> Option<ProcessView> {
        let thread = find_process(pid)?.threads().find(|thread| thread.tid == tid)?;
        let view = self.process(pid)?;
        let is_waiting = view.state == b'R' && thread.run_state() != RunState::Ready;
        Some(ProcessView {
            tid,
            state: if is_waiting { b'S' } else { view.state },
            niceness: thread.share.niceness(),
            used: ticks(thread.used.get()),
            signals: signals(&thread.process, Some(&thread)),
            ..view
        })
    }

    fn process(&self, pid: u32) -> Option<ProcessView> {
        scheduler::account();
        let process = find_process(pid)?;
        let relations = family::relations(pid)?;
        let identity = process.identity.lock().clone();
        let state = *process.state.lock();
        let is_ready = process.threads().any(|thread| thread.run_state() == RunState::Ready);
        let letter = match state.life {
            Life::Zombie(_) => b'Z',
            _ if state.stopped => b'T',
            _ if is_ready => b'R',
            _ => b'S',
        };
        let context = process.context.lock();
        let (directory, umask) = (context.directory.clone(), context.umask);
        drop(context);
        Some(ProcessView {
            pid,
            tid: pid,
            umask,
            signals: signals(&process, process.threads().next().as_deref()),
            ppid: relations.parent,
            pgid: relations.group,
            sid: relations.session,
            state: letter,
            name: identity.name,
            command_line: identity.command_line,
            program: identity.program,
            directory,
            threads: process.thread_count() as u32,
            niceness: process.threads().next().map_or(0, |thread| thread.share.niceness()),
            used: ticks(process.used.get()),
            children_used: ticks(process.children_used.get()),
            start_ticks: process.start_ns / TICK_NS,
            is_server: process.is_server(),
            account: process.account.clone(),
            space: process.threads().next().and_then(|thread| thread.space()),
            files: process.files(),
        })
    }

    fn session_of_group(&self, pgid: u32) -> Option<u32> {
        family::session_of_group(pgid)
    }

    fn signal_group(&self, pgid: u32, signal: u8) {
        send::to_group(pgid, SignalInfo::kernel(Signal(signal)));
    }

    fn signal_process(&self, pid: u32, signal: u8) {
        send::to_pid(pid, SignalInfo::kernel(Signal(signal)));
    }

    fn is_owner(&self, owner: IoOwner) -> bool {
        match owner {
            IoOwner::Thread(tid) => find_thread(tid).is_some(),
            IoOwner::Process(pid) => find_process(pid).is_some(),
            IoOwner::Group(group) => family::session_of_group(group).is_some(),
        }
    }

    fn signal_io(&self, owner: IoOwner, IoSignal { number, code, band, fd }: IoSignal) {
        let kernels = SignalInfo::kernel(Signal(number));
        // `si_band` and `si_fd` are where other signals have the sender and the value.
        let value = u64::from(fd.0.cast_unsigned());
        let info = code.map_or(kernels, |code| SignalInfo { code, pid: band, value, ..kernels });
        match owner {
            IoOwner::Thread(tid) => {
                find_thread(tid).iter().for_each(|thread| send::to_thread(thread, info));
            }
            IoOwner::Process(pid) => send::to_pid(pid, info),
            IoOwner::Group(group) => {
                send::to_group(group, info);
            }
        }
    }

    fn is_orphaned(&self, pgid: u32) -> bool {
        send::is_orphaned(pgid)
    }

    fn wake_at(&self, deadline_ns: u64) -> Box<dyn Any> {
        Box::new(Timeout::at(deadline_ns))
    }
}

/// The signals of a process and of one of its threads.
fn signals(process: &Process, thread: Option<&Thread>) -> SignalSets {
    let mut sets = SignalSets { shared: process.pending.lock().set().0, ..SignalSets::default() };
    if let Some(thread) = thread {
        let own = thread.signals.lock();
        (sets.pending, sets.blocked) = (own.pending.set().0, own.blocked.0);
    }
    process.with_actions(|actions| {
        for signal in (1..=MAX_SIGNAL.0).map(Signal) {
            let set = SignalSet::of(signal).0;
            match actions.get(signal).handler {
                Action::DEFAULT => {}
                Action::IGNORE => sets.ignored |= set,
                _ => sets.caught |= set,
            }
        }
    });
    sets
}

/// Registers with `file`.
pub(super) fn start() {
    static HOOKS: Hooks = Hooks;
    file::register(&HOOKS);
}
