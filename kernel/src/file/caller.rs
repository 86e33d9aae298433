//! What this module needs of processes. `task` implements it; tests have their own.

use super::FdTable;
use crate::mem::Space;
use crate::sync::{Mutex, rank};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use fsproto::Time;
use spin::Once;

/// Where a process stands in the tree of names, and what its new files may be. Shared by
/// `CLONE_FS`.
#[derive(Clone, Debug)]
pub struct FileContext {
    /// The working directory: a canonical path.
    pub directory: Vec<u8>,
    /// Permission bits that new files do not get.
    pub umask: u16,
}

impl Default for FileContext {
    fn default() -> Self {
        Self { directory: b"/".to_vec(), umask: 0o022 }
    }
}

/// The process that makes a system call.
pub trait Caller {
    /// Its memory.
    fn space(&self) -> &Arc<Space>;
    /// Its descriptors.
    fn files(&self) -> &Mutex<FdTable, rank::Descriptors>;
    /// Its working directory and umask.
    fn context(&self) -> &Mutex<FileContext, rank::FileContext>;
    /// Process number.
    fn pid(&self) -> u32;
    /// Process group.
    fn pgid(&self) -> u32;
    /// Session.
    fn sid(&self) -> u32;
    /// Whether it is marked as a server (F8).
    fn is_server(&self) -> bool;
    /// Whether this signal is blocked or ignored (terminals ask before they stop a background job).
    fn is_masked(&self, signal: u8) -> bool;
    /// Sends a signal to the calling thread (SIGPIPE).
    fn raise(&self, signal: u8);
}

/// What `/proc/PID` shows of a process.
#[derive(Clone, Default)]
pub struct ProcessView {
    /// Process number.
    pub pid: u32,
    /// Parent.
    pub ppid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// `R`, `S`, `D`, `T` or `Z`.
    pub state: u8,
    /// Name, at most 15 bytes.
    pub name: Vec<u8>,
    /// Arguments, each ended by a NUL.
    pub command_line: Vec<u8>,
    /// Canonical path of the program.
    pub program: Vec<u8>,
    /// Working directory.
    pub directory: Vec<u8>,
    /// Threads.
    pub threads: u32,
    /// Time in user mode, in ticks of 1/100 second.
    pub user_ticks: u64,
    /// Time in the kernel, likewise.
    pub system_ticks: u64,
    /// Start, in ticks since boot.
    pub start_ticks: u64,
    /// Whether it is marked as a server (F8).
    pub is_server: bool,
    /// Its memory; none for a zombie.
    pub space: Option<Arc<Space>>,
    /// Its descriptors; none for a zombie.
    pub files: Option<Arc<Mutex<FdTable, rank::Descriptors>>>,
}

/// All processes and the clock.
pub trait Tasks: Sync {
    /// Real time.
    fn now(&self) -> Time;
    /// Nanoseconds since boot.
    fn uptime_ns(&self) -> u64;
    /// The process whose system call is running.
    fn current_pid(&self) -> Option<u32>;
    /// All processes' numbers, ascending.
    fn pids(&self) -> Vec<u32>;
    /// A process.
    fn process(&self, pid: u32) -> Option<ProcessView>;
    /// The session of a process group, if it has a member.
    fn session_of_group(&self, pgid: u32) -> Option<u32>;
    /// Sends a signal to every member of a process group.
    fn signal_group(&self, pgid: u32, signal: u8);
    /// Sends a signal to a process.
    fn signal_process(&self, pid: u32, signal: u8);
    /// Whether a process group has nobody who could let it go on once it is stopped: no member's
    /// parent is in another group of the same session.
    fn is_orphaned(&self, pgid: u32) -> bool;
    /// Wakes the running thread at a time since boot, so that it looks again at what it waits for,
    /// until what this returns is dropped.
    fn wake_at(&self, deadline_ns: u64) -> Box<dyn Any>;
}

static TASKS: Once<&'static dyn Tasks> = Once::new();

/// Registers them; the first registration stays.
pub fn register(tasks: &'static dyn Tasks) {
    TASKS.call_once(|| tasks);
}

/// The processes, once there are any.
pub fn tasks() -> Option<&'static dyn Tasks> {
    TASKS.get().copied()
}

/// Real time; the epoch before there is a clock.
pub(crate) fn now() -> Time {
    tasks().map_or(Time(0), Tasks::now)
}
