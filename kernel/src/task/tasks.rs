//! The interface to processes that `file` uses, for terminals and `/proc`.
#![forbid(unsafe_code)]

use super::process::Life;
use super::signal::{Signal, SignalInfo};
use super::thread::RunState;
use super::timer::Timeout;
use super::{family, find_process, scheduler, send};
use crate::arch::{self, Spent};
use crate::file::{self, ProcessView, Tasks, Ticks};
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
        let directory = process.context.lock().directory.clone();
        Some(ProcessView {
            pid,
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

    fn is_orphaned(&self, pgid: u32) -> bool {
        send::is_orphaned(pgid)
    }

    fn wake_at(&self, deadline_ns: u64) -> Box<dyn Any> {
        Box::new(Timeout::at(deadline_ns))
    }
}

/// Registers with `file`.
pub(super) fn start() {
    static HOOKS: Hooks = Hooks;
    file::register(&HOOKS);
}
