//! The caller of a system call, as its handler sees it.
#![forbid(unsafe_code)]

use super::scheduler::borrow_current;
use super::signal::{Disposition, Signal, SignalInfo};
use super::{Process, Thread, family, send};
use crate::file::{Caller, Fd, FdTable, FileContext, IoCaller, OpenFile};
use crate::mem::{Account, Space, UserAddr, UserSlice};
use crate::sync::{Mutex, rank};
use alloc::sync::Arc;
use core::cell::OnceCell;
use core::mem::ManuallyDrop;
use foundation::{ByteCount, Errno};

/// The caller of a system call. Its address space and descriptor table are looked up at the first
/// use.
pub struct Current {
    /// The calling thread.
    pub thread: ManuallyDrop<Arc<Thread>>,
    space: OnceCell<Arc<Space>>,
    files: OnceCell<Arc<Mutex<FdTable, rank::Descriptors>>>,
}

impl Current {
    /// Runs a system call's handler for the running thread.
    ///
    /// The thread is borrowed, not counted: it ends on its way to user mode, after `handler`.
    #[inline]
    pub fn with<T>(handler: impl FnOnce(&Self) -> T) -> T {
        let current =
            Self { thread: borrow_current(), space: OnceCell::new(), files: OnceCell::new() };
        let result = handler(&current);
        if current.space.get().is_none() & current.files.get().is_none() {
            // One test instead of two, for the cheapest calls.
            core::mem::forget(current);
        }
        result
    }

    /// The calling process.
    pub fn process(&self) -> &Arc<Process> {
        &self.thread.process
    }

    /// Copies `N` bytes from the caller's memory: all or EFAULT.
    pub fn read<const N: usize>(&self, address: UserAddr) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.read_into(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from the caller's memory: all or EFAULT.
    pub fn read_into(&self, address: UserAddr, bytes: &mut [u8]) -> Result<(), Errno> {
        Ok(self.space().copy_in(UserSlice::new(address, ByteCount::of_len(bytes.len()))?, bytes)?)
    }

    /// Copies `bytes` to the caller's memory: all or EFAULT.
    pub fn write(&self, address: UserAddr, bytes: &[u8]) -> Result<(), Errno> {
        Ok(self
            .space()
            .copy_out_all(UserSlice::new(address, ByteCount::of_len(bytes.len()))?, bytes)?)
    }
}

impl IoCaller for Current {
    fn space(&self) -> &Arc<Space> {
        // A thread in a system call has not ended.
        self.space.get_or_init(|| self.thread.space().expect("a running thread has memory"))
    }

    fn account(&self) -> &Arc<Account> {
        &self.process().account
    }

    fn pid(&self) -> u32 {
        self.process().pid
    }

    fn pgid(&self) -> u32 {
        family::relations(self.pid()).map_or(0, |relations| relations.group)
    }

    fn sid(&self) -> u32 {
        family::relations(self.pid()).map_or(0, |relations| relations.session)
    }

    fn is_server(&self) -> bool {
        self.process().is_server()
    }

    fn is_masked(&self, signal: u8) -> bool {
        let signal = Signal(signal);
        self.thread.signals.lock().blocked.contains(signal)
            || self.process().disposition(signal) == Disposition::Ignore
    }

    fn raise(&self, signal: u8) {
        send::to_thread(&self.thread, SignalInfo::kernel(Signal(signal)));
    }
}

impl Caller for Current {
    fn files(&self) -> &Mutex<FdTable, rank::Descriptors> {
        self.files
            .get_or_init(|| self.process().files().expect("a running process has descriptors"))
    }

    fn open_file(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        self.process().open_file(fd)
    }

    fn context(&self) -> &Mutex<FileContext, rank::FileContext> {
        &self.process().context
    }
}
