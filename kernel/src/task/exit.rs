//! The end of threads and processes, and wait4.
#![forbid(unsafe_code)]

use super::WaitStatus;
use super::family::Relations;
use super::process::{Life, News};
use super::signal::{Action, ActionFlags, SIGCHLD, Signal, SignalInfo};
use super::{
    Current, Process, Thread, family, find_process,
    futex::{self, Futex},
    init, mutants, oom, posix_timer, robust, scheduler, send, timer,
};
use crate::file::{self, FdTable};
use crate::mem::{UserAddr, UserSlice};
use crate::sync::Interrupt;
use crate::trace;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno};

/// exit_group(2): ends all threads of the process; this one before it returns to user mode.
pub fn exit_group(current: &Current, code: u64) {
    release_words(&current.thread);
    send::begin_end(&current.thread.process, WaitStatus::exited(code));
    current.thread.notice();
}

/// exit(2): ends the running thread before it returns to user mode.
pub fn exit_thread(current: &Current, code: u64) {
    release_words(&current.thread);
    current.thread.set_ending(WaitStatus::exited(code));
}

/// Releases what others may wait for in the memory of the running thread, once. A thread that ends
/// by itself does so while it can still wait for its pages; one that is killed does what it can.
fn release_words(thread: &Thread) {
    robust::release(thread);
    thread.robust_list.store(0, Ordering::Relaxed);
    clear_child_tid(thread);
}

/// Ends the running thread.
pub(super) fn end_thread(thread: Arc<Thread>) -> ! {
    release_words(&thread);
    let process = thread.process.clone();
    let space = thread.replace_space(None);
    process.finish_vfork();
    // Descriptors and memory are released before the end is announced: whoever waits for it finds
    // them released.
    drop(mutants::leak_space(space));
    let last = process.remove_thread(thread.tid);
    let registered = family::remove_thread(thread.tid);
    drop(registered);
    // Whoever began to wait for its locks meanwhile.
    futex::lock::owner_ended(thread.tid);
    scheduler::release_reserve();
    if last {
        end_process(&process, thread.own_status());
    } else {
        process.queue.wake_all();
    }
    drop(process);
    scheduler::finish(thread)
}

/// `CLONE_CHILD_CLEARTID`: wakes threads that join this one.
fn clear_child_tid(thread: &Thread) {
    let address = thread.clear_child_tid.swap(0, Ordering::Relaxed);
    let Some(space) = thread.space().filter(|_| address != 0) else { return };
    if let Ok(slice) = UserSlice::new(UserAddr(address), ByteCount(4))
        && oom::insist(|| Ok(space.copy_out_all(slice, &[0; 4])?)).is_ok()
    {
        let _ = futex::wake(Futex::shared(&space, UserAddr(address)), u32::MAX, u32::MAX);
    }
}

/// Ends a process after its last thread.
fn end_process(process: &Arc<Process>, own_status: WaitStatus) {
    process.note_end();
    trace::ended(process.pid);
    process.replace_files(None).into_iter().for_each(FdTable::release);
    file::lock::process_ended(process.pid);
    file::tty::session_ended(process.pid);
    timer::set_alarm(process.pid, 0, 0);
    posix_timer::delete_all(process);
    let status = {
        let mut state = process.state.lock();
        let status = if let Life::Ending(status) = state.life { status } else { own_status };
        *state = super::process::State { life: Life::Zombie(status), stopped: false, news: None };
        status
    };
    notify_end(process);
    oom::note_end();
    family::note_news(process.pid);
    process.queue.wake_all();
    if process.pid == super::INIT_PID {
        init::ended(status);
    }
    let own = family::relations(process.pid);
    let orphans = family::reparent_children(process.pid);
    if let Some(own) = own {
        send::continue_orphaned_groups(own, &orphans);
    }
    let processes = || orphans.iter().filter_map(|&orphan| find_process(orphan));
    processes().for_each(|orphan| note_parent_death(&orphan, process.pid));
    for orphan in processes() {
        let life = orphan.state.lock().life;
        if let Life::Zombie(status) = life {
            notify_parent(&orphan, status);
        }
    }
    notify_parent(process, status);
}

/// Sends the signal that an orphan wants at its parent's end, if any.
fn note_parent_death(orphan: &Arc<Process>, parent: u32) {
    let signal = Signal(orphan.choices.parent_death.load(Ordering::Relaxed));
    if signal != Signal::NONE {
        let (code, pid) = (SignalInfo::USER, parent);
        send::to_process(orphan, SignalInfo { signal, code, pid, ..SignalInfo::default() });
    }
}

/// Notifies those who have a process open as a file.
fn notify_end(process: &Process) {
    if let Some(ended) = process.ended.get() {
        ended.notify();
    }
}

fn parent_of(process: &Process) -> Option<Arc<Process>> {
    family::relations(process.pid).and_then(|relations| find_process(relations.parent))
}

fn notify_parent(process: &Arc<Process>, status: WaitStatus) {
    let Some(parent) = parent_of(process) else { return };
    let action = parent.with_actions(|actions| actions.get(SIGCHLD));
    let unwanted =
        action.handler == Action::IGNORE || action.flags().contains(ActionFlags::NO_CHILD_WAIT);
    let exit_signal = process.exit_signal();
    if unwanted && exit_signal == SIGCHLD {
        family::remove_process(process.pid);
        notify_end(process);
    }
    if exit_signal != Signal::NONE {
        send::to_process(&parent, send::child_info(process.pid, exit_signal, status));
    }
    parent.children_queue.wake_all();
}

/// The children that wait4 and waitid are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// All children of the process.
    Any,
    /// The child of this number.
    Pid(u32),
    /// The children in this process group.
    Group(u32),
}

bitflags::bitflags! {
    /// Options of wait4(2) and waitid(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WaitOptions: u32 {
        /// Return immediately if there is no news.
        const NO_HANG = 1;
        /// Report stops of children, too.
        const STOPPED = 2;
        /// Report ends of children. Always set for wait4.
        const ENDED = 4;
        /// Report continuations of children, too.
        const CONTINUED = 8;
        /// Leave the child as it is, to be waited for again.
        const PEEK = 0x100_0000;
        /// Children of all threads. There is no other kind.
        const NO_THREAD = 0x2000_0000;
        /// All kinds of children.
        const ALL = 0x4000_0000;
        /// Only children that do not signal with SIGCHLD, which are not waited for otherwise.
        const CLONE = 0x8000_0000;
        /// Those that wait4 does not accept.
        const OF_WAITID = Self::ENDED.bits() | Self::PEEK.bits();
    }
}

impl WaitOptions {
    /// Whether a child is of the kind that is waited for.
    fn admit(self, child: &Process) -> bool {
        self.contains(Self::ALL) || self.contains(Self::CLONE) != (child.exit_signal() == SIGCHLD)
    }
}

/// A child with news.
pub struct Found {
    /// The child's process.
    pub process: Arc<Process>,
    /// The news about it.
    pub status: WaitStatus,
}

/// wait4(2): a child that ended (and is reaped), stopped or continued; `None` if there is no news
/// and `NO_HANG` is set. ECHILD without a matching child.
pub fn wait(
    parent: &Arc<Process>,
    children: Children,
    options: WaitOptions,
) -> Result<Option<Found>, Errno> {
    parent.children_queue.wait(Interrupt::Signal, || match look(parent, children, options) {
        Ok(None) if !options.contains(WaitOptions::NO_HANG) => None,
        result => Some(result),
    })?
}

fn look(
    parent: &Arc<Process>,
    children: Children,
    options: WaitOptions,
) -> Result<Option<Found>, Errno> {
    let can_have_news = |child: &Process| options.contains(WaitOptions::ENDED) || !is_zombie(child);
    let found =
        |child: Arc<Process>| news(&child, options).map(|status| Found { process: child, status });
    let group = match children {
        Children::Pid(pid) => {
            let child = family::child(parent.pid, pid)
                .filter(|child| options.admit(child) && can_have_news(child));
            let child = child.ok_or(Errno::ECHILD)?;
            return Ok(found(child));
        }
        Children::Group(group) => Some(group),
        Children::Any => None,
    };
    // Only those with news are visited, however many children there are.
    let mut ended = 0;
    for (child, relations) in family::children_with_news(parent.pid) {
        if group.is_some_and(|group| relations.group != group) || !options.admit(&child) {
            continue;
        }
        if !can_have_news(&child) {
            ended += 1;
        } else if let Some(found) = found(child) {
            return Ok(Some(found));
        }
    }
    let wanted = |child: &Process, relations: &Relations| {
        options.admit(child) && group.is_none_or(|group| relations.group == group)
    };
    if family::has_children(parent.pid, ended + 1, wanted) { Ok(None) } else { Err(Errno::ECHILD) }
}

fn is_zombie(process: &Process) -> bool {
    matches!(process.state.lock().life, Life::Zombie(_))
}

/// The news of a child. A zombie is reaped.
fn news(child: &Arc<Process>, options: WaitOptions) -> Option<WaitStatus> {
    let mut state = child.state.lock();
    let status = match (state.life, state.news) {
        (Life::Zombie(status), _) => status,
        (_, Some(News::Stopped(signal))) if options.contains(WaitOptions::STOPPED) => {
            WaitStatus::stopped(signal)
        }
        (_, Some(News::Continued)) if options.contains(WaitOptions::CONTINUED) => {
            WaitStatus::CONTINUED
        }
        _ => return None,
    };
    if options.contains(WaitOptions::PEEK) {
        return Some(status);
    }
    state.news = None;
    let is_zombie = matches!(state.life, Life::Zombie(_));
    drop(state);
    if is_zombie {
        if let Some(parent) = parent_of(child) {
            parent.children_used.add_all(&child.used);
            parent.children_used.add_all(&child.children_used);
        }
        family::remove_process(child.pid);
        notify_end(child);
        return Some(status);
    }
    family::forget_news(child.pid);
    let has_more = {
        let state = child.state.lock();
        state.news.is_some() || matches!(state.life, Life::Zombie(_))
    };
    // It may have got more since its state was looked at; others may wait for that.
    if has_more && let Some(parent) = parent_of(child) {
        family::note_news(child.pid);
        parent.children_queue.wake_all();
    }
    Some(status)
}
