//! pidfd: a process as a file, which is readable once the process has ended.
//!
//! The file does not keep the process, so its number can be used again after it was reaped. The
//! file never refers to the new process.
#![forbid(unsafe_code)]

use super::Process;
use super::process::Life;
use crate::file::{FileObject, FileType, Notifier, Ready, Stat, nameless_stat};
use crate::mem::account::{Account, Charge, Kind};
use alloc::sync::{Arc, Weak};
use foundation::Errno;

/// A process as a file.
pub struct PidFile {
    process: Weak<Process>,
    /// Notified when the process has ended, and when it was reaped.
    ended: Arc<Notifier>,
    inode: u64,
    _charge: Charge,
}

impl PidFile {
    /// The file of a process, for whose memory `account` pays from now on.
    pub fn new(process: &Arc<Process>, account: &Arc<Account>) -> Result<Arc<Self>, Errno> {
        let charge = Charge::take(account, Kind::Files, size_of::<Process>())?;
        let ended = process.ended.call_once(Arc::default).clone();
        let (process, inode) = (Arc::downgrade(process), crate::file::next_inode());
        Ok(Arc::new(Self { process, ended, inode, _charge: charge }))
    }

    /// The process, until it is reaped. ESRCH after that.
    pub fn process(&self) -> Result<Arc<Process>, Errno> {
        let process = self.process.upgrade().ok_or(Errno::ESRCH)?;
        let current = super::find_process(process.pid);
        current.filter(|current| Arc::ptr_eq(current, &process)).ok_or(Errno::ESRCH)
    }
}

impl FileObject for PidFile {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Nameless, self.inode))
    }

    fn poll(&self) -> Ready {
        match self.process() {
            Err(_) => Ready::READ | Ready::HANG_UP,
            Ok(process) if matches!(process.state.lock().life, Life::Zombie(_)) => Ready::READ,
            Ok(_) => Ready::empty(),
        }
    }

    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.ended, Ready::all());
    }
}
