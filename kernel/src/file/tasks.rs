//! What this layer needs of processes. `task` registers an implementation of [`Tasks`].

use super::{Fd, FdTable, IoCaller, OpenFile};
use crate::mem::account::{Charge, Kind};
use crate::mem::{Account, OutOfMemory, Space, fallible};
use crate::sync::{Mutex, rank};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use foundation::Errno;
use fsproto::Time;
use spin::Once;

/// Working directory and umask; threads and processes share them with `CLONE_FS`.
pub struct FileContext {
    /// The working directory: a canonical path.
    pub directory: Vec<u8>,
    /// Permission bits that new files do not get.
    pub umask: u16,
    /// For the path; `None` as long as that is the root.
    charge: Option<Charge>,
}

impl FileContext {
    /// A copy, for a child, whose `account` pays.
    pub fn try_clone(&self, account: &Arc<Account>) -> Result<Self, OutOfMemory> {
        let charge = Charge::take(account, Kind::Files, self.directory.len())?;
        let directory = fallible::to_vec(&self.directory)?;
        Ok(Self { directory, umask: self.umask, charge: Some(charge) })
    }

    /// Changes the working directory, for which `account` pays.
    pub fn set_directory(
        &mut self,
        directory: Vec<u8>,
        account: &Arc<Account>,
    ) -> Result<(), OutOfMemory> {
        self.charge = Some(Charge::take(account, Kind::Files, directory.capacity())?);
        self.directory = directory;
        Ok(())
    }
}

impl Default for FileContext {
    fn default() -> Self {
        Self { directory: b"/".to_vec(), umask: 0o022, charge: None }
    }
}

/// The calling process with its descriptors, as system calls need it.
pub trait Caller: IoCaller {
    /// Its descriptor table, locked for each lookup.
    fn files(&self) -> &Mutex<FdTable, rank::Descriptors>;
    /// The open file of a descriptor, or EBADF.
    fn open_file(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        self.files().lock().get(fd).cloned()
    }
    /// Its working directory and umask.
    fn context(&self) -> &Mutex<FileContext, rank::FileContext>;
}

/// What `/proc/PID` shows of a process.
#[derive(Clone, Default)]
pub struct ProcessView {
    /// Process number.
    pub pid: u32,
    /// The number of the thread that is shown; the process's for its first one.
    pub tid: u32,
    /// The parent's process number.
    pub ppid: u32,
    /// Process group.
    pub pgid: u32,
    /// Number of the session.
    pub sid: u32,
    /// `R`, `S`, `D`, `T` or `Z`.
    pub state: u8,
    /// Name, at most 15 bytes.
    pub name: Vec<u8>,
    /// Arguments, each ended by a NUL.
    pub command_line: Arc<Vec<u8>>,
    /// Canonical path of the program.
    pub program: Vec<u8>,
    /// Working directory.
    pub directory: Vec<u8>,
    /// Permission bits that new files do not get.
    pub umask: u16,
    /// Signals of the thread and of the process.
    pub signals: SignalSets,
    /// Number of threads.
    pub threads: u32,
    /// Niceness of its first thread.
    pub niceness: i32,
    /// CPU time.
    pub used: Ticks,
    /// CPU time of its reaped children.
    pub children_used: Ticks,
    /// Start, in ticks of 1/100 s since boot.
    pub start_ticks: u64,
    /// Whether it is marked as a server (F8).
    pub is_server: bool,
    /// What it makes the kernel keep, and its limits.
    pub account: Arc<Account>,
    /// Its address space; none for a zombie.
    pub space: Option<Arc<Space>>,
    /// Its descriptors; none for a zombie.
    pub files: Option<Arc<Mutex<FdTable, rank::Descriptors>>>,
}

/// Sets of signals: bit n-1 is signal n.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalSets {
    /// Pending for the thread.
    pub pending: u64,
    /// Pending for the process.
    pub shared: u64,
    /// Blocked by the thread.
    pub blocked: u64,
    /// Ignored by the process's own choice.
    pub ignored: u64,
    /// Caught by a handler.
    pub caught: u64,
}

/// CPU time, in ticks of 1/100 s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

/// Who gets the signals of an open file (`F_SETOWN`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoOwner {
    /// The thread of this number.
    Thread(u32),
    /// The process of this number.
    Process(u32),
    /// All members of this process group.
    Group(u32),
}

/// The signal of an open file that became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoSignal {
    /// The signal, from 1 to 64.
    pub number: u8,
    /// What became possible (`POLL_IN` and others); `None` for a signal without information.
    pub code: Option<i32>,
    /// The same as events of poll(2).
    pub band: u32,
    /// The descriptor.
    pub fd: Fd,
}

/// All processes, and the clock.
pub trait Tasks: Sync {
    /// Real time.
    fn now(&self) -> Time;
    /// Nanoseconds since boot.
    fn uptime_ns(&self) -> u64;
    /// Nanoseconds for which the CPU has waited.
    fn idle_ns(&self) -> u64;
    /// The process whose system call is running.
    fn current_pid(&self) -> Option<u32>;
    /// The account of the process whose system call is running.
    fn account(&self) -> Option<Arc<Account>>;
    /// The number of the first process above `last`.
    fn next_pid(&self, last: u32) -> Option<u32>;
    /// The process of a number.
    fn process(&self, pid: u32) -> Option<ProcessView>;
    /// The number of the thread whose system call is running.
    fn current_tid(&self) -> Option<u32>;
    /// The number of a process's first thread above `last`.
    fn next_tid(&self, pid: u32, last: u32) -> Option<u32>;
    /// A thread of a process, with the figures of its own that it has.
    fn thread(&self, pid: u32, tid: u32) -> Option<ProcessView>;
    /// The session of a process group, if it has a member.
    fn session_of_group(&self, pgid: u32) -> Option<u32>;
    /// Sends a signal to every member of a process group.
    fn signal_group(&self, pgid: u32, signal: u8);
    /// Sends a signal to a process.
    fn signal_process(&self, pid: u32, signal: u8);
    /// Whether there is such a thread, process or group.
    fn is_owner(&self, owner: IoOwner) -> bool;
    /// Sends the signal of an open file.
    fn signal_io(&self, owner: IoOwner, signal: IoSignal);
    /// Whether a process group is orphaned, so that no shell could continue it once it is stopped:
    /// no member's parent is in another group of the same session.
    fn is_orphaned(&self, pgid: u32) -> bool;
    /// Wakes the running thread at `deadline_ns` after boot, so that it evaluates its wait
    /// condition again. Cancelled when the result is dropped.
    fn wake_at(&self, deadline_ns: u64) -> Box<dyn Any>;
}

static TASKS: Once<&'static dyn Tasks> = Once::new();

/// Registers the implementation; the first registration stays.
pub fn register(tasks: &'static dyn Tasks) {
    TASKS.call_once(|| tasks);
}

/// The registered implementation; none before processes exist, and in most host tests.
pub fn tasks() -> Option<&'static dyn Tasks> {
    TASKS.get().copied()
}

/// Real time; the Unix epoch before there is a clock.
pub(crate) fn now() -> Time {
    tasks().map_or(Time(0), Tasks::now)
}
