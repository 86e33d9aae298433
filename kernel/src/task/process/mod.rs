//! A process: the state that its threads share.
//!
//! Process and thread refer to each other: a thread keeps its process alive, and a process lists
//! its threads to signal and end them. Therefore both are in this folder.

pub mod choices;
pub mod cpu_time;
pub mod thread;
pub mod timers;

use choices::Choices;
use cpu_time::{CpuTime, CpuWatch};
pub use thread::Thread;
use timers::Timers;

use crate::arch;
use crate::file::{Fd, FdTable, FileContext, Notifier, OpenFile};
use crate::mem::account::{Charge, Kind};
use crate::mem::limits::{INFINITE, Limit};
use crate::mem::{Account, Space, fallible};
use crate::sync::{Mutex, WaitQueue, rank};
use crate::task::WaitStatus;
use crate::task::signal::{Actions, Disposition, MAX_SIGNAL, Pending, Signal, SignalSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use foundation::Errno;
use linux_raw_sys::general as linux;
use spin::Once;

/// The number of the first process: the first one that is assigned.
pub const INIT_PID: u32 = 1;

/// The names of a program, as /proc shows them.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The program's name, at most 15 bytes.
    pub name: Vec<u8>,
    /// The arguments, each followed by a NUL.
    pub command_line: Arc<Vec<u8>>,
    /// The program's canonical path.
    pub program: Vec<u8>,
}

/// Whether a process is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It has threads, and is not about to end.
    Alive,
    /// Its threads are about to end.
    Ending(WaitStatus),
    /// Its threads have ended; the parent has not reaped it.
    Zombie(WaitStatus),
}

/// News for the parent's wait4, reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The process was stopped by this signal.
    Stopped(Signal),
    /// The process was continued.
    Continued,
}

/// Life, stops and news, which change together.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Whether the process is alive.
    pub life: Life,
    /// Whether it is stopped: its threads wait before they return to user mode.
    pub stopped: bool,
    /// News that wait4 has not yet reported.
    pub news: Option<News>,
}

/// A process, alive or a zombie.
pub struct Process {
    /// Its number; never reused.
    pub pid: u32,
    /// Its parent's number; 0 for PID 1. A copy of the one in `family`, for reading without a lock.
    pub(in crate::task) parent: AtomicU32,
    /// Time of creation, in nanoseconds since boot.
    pub start_ns: u64,
    /// Who pays for what the kernel keeps on its behalf.
    pub account: Arc<Account>,
    /// Working directory and umask.
    pub context: Arc<Mutex<FileContext, rank::FileContext>>,
    /// Pending signals of the process as a whole.
    pub pending: Mutex<Pending, rank::ProcessSignals>,
    /// Life, stops and news.
    pub state: Mutex<State, rank::ProcessState>,
    /// Names of its program.
    pub identity: Mutex<Identity, rank::Identity>,
    /// Where its threads wait for news of children.
    pub children_queue: WaitQueue,
    /// Where its threads wait while it is stopped, and where exec waits for the end of the other
    /// threads.
    pub queue: WaitQueue,
    /// Where its parent waits after vfork.
    pub vfork_queue: WaitQueue,
    /// Notified when it has ended, and when it was reaped, for those who have it open as a file.
    pub ended: Once<Arc<Notifier>>,
    /// CPU time of its threads, until each last left the CPU.
    pub used: CpuTime,
    /// The same, of its reaped children.
    pub children_used: CpuTime,
    /// What is due at which CPU time.
    pub cpu_watch: CpuWatch,
    /// The POSIX timers that it made.
    pub timers: Timers,
    /// What it has chosen about itself.
    pub choices: Choices,
    /// The number of the signal for the parent at its end; 0 for none.
    exit_signal: AtomicU8,
    actions: Mutex<SharedActions, rank::ProcessActions>,
    files: Mutex<Option<Arc<Mutex<FdTable, rank::Descriptors>>>, rank::ProcessFiles>,
    /// Ascending by number.
    threads: Mutex<Vec<Arc<Thread>>, rank::Threads>,
    vfork_done: AtomicBool,
    /// Whether its end has begun. A copy of what `state` says, for reading without a lock.
    has_begun_to_end: AtomicBool,
    server: AtomicBool,
    _charge: Charge,
}

/// Bytes that a process takes besides its threads: itself, its entries in tables, its names, an
/// address space without regions.
const BYTES: usize = 16 * 1024;

/// The action for each signal, which processes may share (`CLONE_SIGHAND`).
pub type SharedActions = Arc<Mutex<Actions, rank::SignalActions>>;

/// The state that a new process shares with its parent or gets as a copy.
pub struct Inheritance {
    /// See [`Process::account`].
    pub account: Arc<Account>,
    /// The descriptor table.
    pub files: Arc<Mutex<FdTable, rank::Descriptors>>,
    /// Working directory and umask.
    pub context: Arc<Mutex<FileContext, rank::FileContext>>,
    /// The action for each signal.
    pub actions: SharedActions,
    /// Names of its program.
    pub identity: Identity,
    /// See [`Process::choices`].
    pub choices: Choices,
    /// Whether it is marked as a server (F8).
    pub server: bool,
    /// See [`Process::exit_signal`].
    pub exit_signal: Signal,
}

impl Process {
    /// A process that is not yet in the table and has no threads.
    pub fn new(pid: u32, from: Inheritance) -> Result<Arc<Self>, Errno> {
        let charge = Charge::take(&from.account, Kind::Threads, BYTES)?;
        let cpu_watch = CpuWatch::new(from.account.limits.load(linux::RLIMIT_CPU)?);
        Ok(Arc::new(Self {
            pid,
            parent: AtomicU32::new(0),
            start_ns: arch::clock::now_ns(),
            account: from.account,
            context: from.context,
            pending: Mutex::default(),
            state: Mutex::new(State { life: Life::Alive, stopped: false, news: None }),
            identity: Mutex::new(from.identity),
            children_queue: WaitQueue::new(),
            queue: WaitQueue::new(),
            vfork_queue: WaitQueue::new(),
            ended: Once::new(),
            used: CpuTime::default(),
            children_used: CpuTime::default(),
            cpu_watch,
            timers: Timers::default(),
            choices: from.choices,
            exit_signal: AtomicU8::new(from.exit_signal.0),
            actions: Mutex::new(from.actions),
            files: Mutex::new(Some(from.files)),
            threads: Mutex::default(),
            vfork_done: AtomicBool::new(false),
            has_begun_to_end: AtomicBool::new(false),
            server: AtomicBool::new(from.server),
            _charge: charge,
        }))
    }

    /// Whether anything may become due by CPU time.
    #[inline]
    pub fn watches_cpu_time(&self) -> bool {
        self.cpu_watch.is_active() | self.timers.counts_cpu_time()
    }

    /// Its limit of CPU time, in seconds (`RLIMIT_CPU`).
    pub fn cpu_limit(&self) -> Limit {
        let none = Limit { soft: INFINITE, hard: INFINITE };
        self.account.limits.load(linux::RLIMIT_CPU).unwrap_or(none)
    }

    /// Its parent's number; 0 for PID 1.
    pub fn parent(&self) -> u32 {
        self.parent.load(Ordering::Relaxed)
    }

    /// Reads or changes the action for each signal. No other lock is acquired in `call`.
    pub fn with_actions<T>(&self, call: impl FnOnce(&mut Actions) -> T) -> T {
        let actions = self.actions();
        let mut actions = actions.lock();
        call(&mut actions)
    }

    /// The action for each signal, for a child that shares it.
    pub(in crate::task) fn actions(&self) -> SharedActions {
        self.actions.lock().clone()
    }

    /// The process shares its actions with no other one, and has no handlers: after exec.
    pub(in crate::task) fn replace_actions(&self, mut actions: Actions) {
        actions.reset_handlers();
        let actions = Arc::new(Mutex::new(actions));
        let old = core::mem::replace(&mut *self.actions.lock(), actions);
        drop(old);
    }

    /// The signal for the parent at its end, or [`Signal::NONE`].
    pub fn exit_signal(&self) -> Signal {
        Signal(self.exit_signal.load(Ordering::Relaxed))
    }

    /// Changes the signal for the parent.
    pub(in crate::task) fn set_exit_signal(&self, signal: Signal) {
        self.exit_signal.store(signal.0, Ordering::Relaxed);
    }

    /// Its descriptor table; `None` once it has ended.
    pub fn files(&self) -> Option<Arc<Mutex<FdTable, rank::Descriptors>>> {
        self.files.lock().clone()
    }

    /// The open file of a descriptor, or EBADF: without a reference to the table.
    pub fn open_file(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        let files = self.files.lock();
        let table = files.as_ref().ok_or(Errno::EBADF)?.lock();
        table.get(fd).cloned()
    }

    /// Replaces its descriptor table. The caller drops the old one without holding a lock.
    pub(in crate::task) fn replace_files(
        &self,
        files: Option<Arc<Mutex<FdTable, rank::Descriptors>>>,
    ) -> Option<Arc<Mutex<FdTable, rank::Descriptors>>> {
        core::mem::replace(&mut *self.files.lock(), files)
    }

    /// Its threads, ascending by number. Each is looked for when the one before has been used, so
    /// nothing is allocated; there may be fewer at any moment.
    pub fn threads(&self) -> impl Iterator<Item = Arc<Thread>> {
        let mut last = 0;
        core::iter::from_fn(move || {
            let threads = self.threads.lock();
            let next = threads.partition_point(|thread| thread.tid <= last);
            let thread = threads.get(next)?.clone();
            last = thread.tid;
            Some(thread)
        })
    }

    /// Its memory; `None` once it has ended.
    pub fn space(&self) -> Option<Arc<Space>> {
        self.threads.lock().iter().find_map(|thread| thread.space())
    }

    /// The number of its threads.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Adds a thread, unless the process is ending.
    pub(in crate::task) fn add_thread(&self, thread: &Arc<Thread>) -> Result<(), Errno> {
        let mut threads = self.threads.lock();
        fallible::reserve(&mut *threads, 1)?;
        if self.is_ending() {
            return Err(Errno::EAGAIN);
        }
        let place = threads.partition_point(|other| other.tid < thread.tid);
        threads.insert(place, thread.clone());
        Ok(())
    }

    /// Removes a thread. Returns true if it was the last one.
    pub(in crate::task) fn remove_thread(&self, tid: u32) -> bool {
        let mut threads = self.threads.lock();
        let index = threads.iter().position(|thread| thread.tid == tid);
        let removed = index.map(|index| threads.remove(index));
        let last = threads.is_empty();
        drop(threads);
        drop(removed);
        last
    }

    /// Whether its threads are about to end, or have ended.
    pub fn is_ending(&self) -> bool {
        self.state.lock().life != Life::Alive
    }

    /// The same, without a lock: it may be late.
    pub(in crate::task) fn has_begun_to_end(&self) -> bool {
        self.has_begun_to_end.load(Ordering::Relaxed)
    }

    /// Its end has begun.
    pub(in crate::task) fn note_end(&self) {
        self.has_begun_to_end.store(true, Ordering::Relaxed);
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Whether it is marked as a server (F8).
    pub fn is_server(&self) -> bool {
        self.server.load(Ordering::Relaxed)
    }

    /// Marks it as a server (F8), permanently. Children inherit the mark, and exec keeps it.
    pub fn mark_server(&self) {
        self.server.store(true, Ordering::Relaxed);
    }

    /// Whether the parent of a vfork may continue.
    pub(in crate::task) fn is_vfork_done(&self) -> bool {
        self.vfork_done.load(Ordering::Acquire)
    }

    /// Lets the parent of a vfork continue: the child no longer uses its memory.
    pub(in crate::task) fn finish_vfork(&self) {
        self.vfork_done.store(true, Ordering::Release);
        self.vfork_queue.wake_all();
    }

    /// The disposition of a signal. PID 1 is not ended or stopped by a signal that it does not
    /// catch.
    pub fn disposition(&self, signal: Signal) -> Disposition {
        let disposition = self.with_actions(|actions| actions.disposition(signal));
        match disposition {
            Disposition::Terminate | Disposition::Stop if self.pid == INIT_PID => {
                Disposition::Ignore
            }
            _ => disposition,
        }
    }

    /// The signals that are ignored at the moment.
    pub fn ignored(&self) -> SignalSet {
        self.with_actions(|actions| {
            let ignored = (1..=MAX_SIGNAL.0)
                .map(Signal)
                .filter(|&signal| actions.disposition(signal) == Disposition::Ignore);
            ignored.fold(SignalSet::EMPTY, SignalSet::with)
        })
    }
}
