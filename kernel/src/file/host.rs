//! A process for host tests: memory, descriptors and nothing else.

use super::{Caller, FdTable, FileContext, IoCaller};
use crate::mem::{Account, Space};
use crate::sync::{Mutex, rank};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

/// A process of tests and of the simulation. All signals are ignored.
pub struct HostProcess {
    /// Its address space.
    pub space: Arc<Space>,
    /// Its open descriptors; none at first.
    pub files: Mutex<FdTable, rank::Descriptors>,
    /// Its working directory and umask.
    pub context: Mutex<FileContext, rank::FileContext>,
    /// Whether it is marked as a server (F8).
    pub is_server: AtomicBool,
}

impl HostProcess {
    /// Number, process group and session of all these processes.
    const PID: u32 = 10;

    /// A process with this memory, without descriptors, that is no server.
    pub fn new(space: Arc<Space>) -> Self {
        let (files, context) = (Mutex::default(), Mutex::default());
        Self { space, files, context, is_server: AtomicBool::new(false) }
    }
}

impl IoCaller for HostProcess {
    fn space(&self) -> &Arc<Space> {
        &self.space
    }
    fn account(&self) -> &Arc<Account> {
        &self.space.account
    }
    fn pid(&self) -> u32 {
        Self::PID
    }
    fn pgid(&self) -> u32 {
        Self::PID
    }
    fn sid(&self) -> u32 {
        Self::PID
    }
    fn is_server(&self) -> bool {
        self.is_server.load(Ordering::Relaxed)
    }
    fn is_masked(&self, _: u8) -> bool {
        false
    }
    fn raise(&self, _: u8) {}
}

impl Caller for HostProcess {
    fn files(&self) -> &Mutex<FdTable, rank::Descriptors> {
        &self.files
    }
    fn context(&self) -> &Mutex<FileContext, rank::FileContext> {
        &self.context
    }
}
