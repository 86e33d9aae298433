//! pidfd: a process as a file, which is readable once the process has ended.
//!
//! The file does not keep the process, so its number can be used again after it was reaped. The
//! file never refers to the new process.
#![forbid(unsafe_code)]

use super::process::Life;
use super::{Current, Process};
use crate::file::{
    Caller, Descriptor, Fd, FileObject, FileType, IoCaller, Notifier, OnExec, OpenFile, Ready,
    Stat, Status, nameless_stat,
};
use crate::mem::UserAddr;
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::limits::Resource;
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

/// Opens a process as a file that exec closes, and writes the descriptor to the caller's memory.
/// Nothing stays open after an error.
pub(super) fn install(
    current: &Current,
    process: &Arc<Process>,
    place: UserAddr,
) -> Result<Fd, Errno> {
    let object = PidFile::new(process, current.account())?;
    let status = Status::READ | Status::WRITE;
    let file = OpenFile::nameless(object, status, current.account())?;
    let limit = current.account().limits.get(Resource::Files) as usize;
    // On failure the file is dropped after the lock is released.
    let spare = file.clone();
    let descriptor = Descriptor { file, on_exec: OnExec::Close };
    let fd = current.files().lock().insert(descriptor, 0..limit);
    drop(spare);
    let fd = fd?;
    if let Err(error) = current.write(place, &fd.0.to_le_bytes()) {
        let removed = current.files().lock().remove(fd);
        drop(removed);
        return Err(error);
    }
    Ok(fd)
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
