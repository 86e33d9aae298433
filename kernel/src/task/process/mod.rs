//! A process: what its threads share.
//!
//! Process and thread refer to each other: a thread keeps its process alive, and a process lists its
//! threads to signal and end them. So both are in this folder.

pub mod thread;

pub use thread::Thread;

use crate::arch;
use crate::file::{FdTable, FileContext};
use crate::sync::{Mutex, WaitQueue, rank};
use crate::task::signal::{Actions, Disposition, Pending, SignalSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use foundation::Errno;

/// What ps shows of a program.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// At most 15 bytes.
    pub name: Vec<u8>,
    /// Arguments, each ended by a NUL.
    pub command_line: Vec<u8>,
    /// Canonical path.
    pub program: Vec<u8>,
}

/// Whether a process lives. Statuses are as wait4 gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Alive,
    /// Its threads are told to end.
    Ending(i32),
    /// They have ended; it waits to be reaped.
    Zombie(i32),
}

/// News for the parent's wait4, told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Stopped by this signal.
    Stopped(u8),
    /// Going on again.
    Continued,
}

/// Life and stops.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Whether it lives.
    pub life: Life,
    /// Stopped: its threads wait on their way to user mode.
    pub stopped: bool,
    /// What the parent has not heard yet.
    pub news: Option<News>,
}

/// A process.
pub struct Process {
    /// Its number, unique for ever.
    pub pid: u32,
    /// Its parent's number; 0 for PID 1. A copy of what the family knows, for who asks often.
    pub(in crate::task) parent: AtomicU32,
    /// Start, in nanoseconds since boot.
    pub start_ns: u64,
    /// The signal that its parent gets at its end; 0 for none.
    pub exit_signal: u8,
    /// Working directory and umask.
    pub context: Arc<Mutex<FileContext, rank::FileContext>>,
    /// What it does about signals.
    pub actions: Mutex<Actions, rank::SignalActions>,
    /// Signals sent to it as a whole.
    pub pending: Mutex<Pending, rank::ProcessSignals>,
    /// Life and stops.
    pub state: Mutex<State, rank::ProcessState>,
    /// Name and arguments.
    pub identity: Mutex<Identity, rank::Identity>,
    /// Where it waits for children.
    pub children_queue: WaitQueue,
    /// Where its threads wait while it is stopped, and an exec for the other threads' end.
    pub queue: WaitQueue,
    /// Where its parent waits after vfork.
    pub vfork_queue: WaitQueue,
    /// Ticks in which it was found running.
    pub ticks: AtomicU64,
    /// Those of its reaped children.
    pub child_ticks: AtomicU64,
    files: Mutex<Option<Arc<Mutex<FdTable, rank::Descriptors>>>, rank::ProcessFiles>,
    threads: Mutex<Vec<Arc<Thread>>, rank::Threads>,
    vfork_done: AtomicBool,
    server: AtomicBool,
}

/// What a new process shares with, or has copied from, its parent.
pub struct Inheritance {
    /// Descriptors.
    pub files: Arc<Mutex<FdTable, rank::Descriptors>>,
    /// Working directory and umask.
    pub context: Arc<Mutex<FileContext, rank::FileContext>>,
    /// What it does about signals.
    pub actions: Actions,
    /// Name and arguments.
    pub identity: Identity,
    /// The mark of servers (F8).
    pub server: bool,
    /// See [`Process::exit_signal`].
    pub exit_signal: u8,
}

impl Process {
    /// A process that is not yet in the table and has no thread.
    pub fn new(pid: u32, from: Inheritance) -> Arc<Self> {
        Arc::new(Self {
            pid,
            parent: AtomicU32::new(0),
            start_ns: arch::clock::now_ns(),
            exit_signal: from.exit_signal,
            context: from.context,
            actions: Mutex::new(from.actions),
            pending: Mutex::default(),
            state: Mutex::new(State { life: Life::Alive, stopped: false, news: None }),
            identity: Mutex::new(from.identity),
            children_queue: WaitQueue::new(),
            queue: WaitQueue::new(),
            vfork_queue: WaitQueue::new(),
            ticks: AtomicU64::new(0),
            child_ticks: AtomicU64::new(0),
            files: Mutex::new(Some(from.files)),
            threads: Mutex::default(),
            vfork_done: AtomicBool::new(false),
            server: AtomicBool::new(from.server),
        })
    }

    /// Its parent's number; 0 for PID 1.
    pub fn parent(&self) -> u32 {
        self.parent.load(Ordering::Relaxed)
    }

    /// Its descriptors; none once it has ended.
    pub fn files(&self) -> Option<Arc<Mutex<FdTable, rank::Descriptors>>> {
        self.files.lock().clone()
    }

    /// Gives it other descriptors, or none; the old ones are to be dropped with no lock held.
    pub(in crate::task) fn replace_files(
        &self,
        files: Option<Arc<Mutex<FdTable, rank::Descriptors>>>,
    ) -> Option<Arc<Mutex<FdTable, rank::Descriptors>>> {
        core::mem::replace(&mut *self.files.lock(), files)
    }

    /// Its threads.
    pub fn threads(&self) -> Vec<Arc<Thread>> {
        self.threads.lock().clone()
    }

    /// How many threads it has.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Adds a thread, unless the process is ending.
    pub(in crate::task) fn add_thread(&self, thread: &Arc<Thread>) -> Result<(), Errno> {
        let mut threads = self.threads.lock();
        threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        if self.is_ending() {
            return Err(Errno::EAGAIN);
        }
        threads.push(thread.clone());
        Ok(())
    }

    /// Takes a thread out; true if it was the last.
    pub(in crate::task) fn remove_thread(&self, tid: u32) -> bool {
        let mut threads = self.threads.lock();
        let index = threads.iter().position(|thread| thread.tid == tid);
        let removed = index.map(|index| threads.swap_remove(index));
        let last = threads.is_empty();
        drop(threads);
        drop(removed);
        last
    }

    /// Whether its threads are told to end.
    pub fn is_ending(&self) -> bool {
        self.state.lock().life != Life::Alive
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Whether it is marked as a server (F8).
    pub fn is_server(&self) -> bool {
        self.server.load(Ordering::Relaxed)
    }

    /// Marks it as a server, for good: it and all its children, through exec too.
    pub fn mark_server(&self) {
        self.server.store(true, Ordering::Relaxed);
    }

    /// Whether the parent of a vfork may go on.
    pub(in crate::task) fn is_vfork_done(&self) -> bool {
        self.vfork_done.load(Ordering::Acquire)
    }

    /// Lets the parent of a vfork go on: the memory is its own again.
    pub(in crate::task) fn finish_vfork(&self) {
        self.vfork_done.store(true, Ordering::Release);
        self.vfork_queue.wake_all();
    }

    /// What becomes of a signal: PID 1 is never ended or stopped by one that it does not catch.
    pub fn disposition(&self, signal: u8) -> Disposition {
        let disposition = self.actions.lock().disposition(signal);
        match disposition {
            Disposition::Terminate | Disposition::Stop
                if self.pid == crate::task::init::INIT_PID =>
            {
                Disposition::Ignore
            }
            _ => disposition,
        }
    }

    /// Signals that are ignored now.
    pub fn ignored(&self) -> SignalSet {
        let actions = self.actions.lock();
        let ignored = (1..=crate::task::signal::MAX_SIGNAL)
            .filter(|&signal| actions.disposition(signal) == Disposition::Ignore);
        ignored.fold(SignalSet::EMPTY, SignalSet::with)
    }
}
