//! Open terminals. The master of a pty is notified when the last of them is closed.

use super::{Permissions, Tty};
use crate::file::{
    FileObject, FileType, Io, IoCaller, Notifier, Ready, SetAttr, Stat, UserBuffers, WriteOutcome,
    WritePosition,
};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{AttrMask, OpenFlags};

/// An open terminal.
pub struct Terminal {
    tty: Arc<Tty>,
    /// Whether it was opened to be read or written, not for its attributes only.
    is_in_use: bool,
}

impl Terminal {
    /// Opens a terminal. EIO where the master of a pty is closed, or keeps it locked.
    pub(in crate::file) fn open(tty: Arc<Tty>, flags: OpenFlags) -> Result<Arc<Self>, Errno> {
        let is_in_use = flags.intersects(OpenFlags::READ | OpenFlags::WRITE);
        if is_in_use {
            tty.state.lock().ends.open()?;
        }
        Ok(Arc::new(Self { tty, is_in_use }))
    }

    /// Opened by a session leader: becomes the session's controlling terminal, if the session has
    /// none and the terminal has no session.
    pub fn opened(&self, caller: &dyn IoCaller) {
        self.tty.opened(caller);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.is_in_use {
            self.tty.state.lock().ends.close();
            self.tty.changed.notify();
        }
    }
}

impl Tty {
    /// The attributes of every open file of it.
    pub(in crate::file) fn stat(&self) -> Stat {
        let Permissions { mode, uid, gid } = self.state.lock().permissions;
        let number = self.number;
        Stat {
            file_type: FileType::CharacterDevice,
            mode,
            uid,
            gid,
            links: 1,
            inode: number,
            device_number: number,
            ..Stat::of_device()
        }
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        if change.mask.contains(AttrMask::SIZE) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        let now = &mut state.permissions;
        if change.mask.contains(AttrMask::MODE) {
            now.mode = change.mode;
        }
        if change.mask.contains(AttrMask::UID) {
            now.uid = change.uid;
        }
        if change.mask.contains(AttrMask::GID) {
            now.gid = change.gid;
        }
        Ok(())
    }
}

impl FileObject for Terminal {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.tty.stat())
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        self.tty.read(io, to)
    }
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        Ok(WriteOutcome::without_position(self.tty.write(io, from)?))
    }
    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        self.tty.set_attr(change)
    }
    fn poll(&self) -> Ready {
        self.tty.poll()
    }
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.tty.changed, Ready::all());
    }
    fn ioctl(&self, caller: &dyn IoCaller, number: u32, argument: u64) -> Result<u64, Errno> {
        self.tty.ioctl(caller, number, argument)
    }
}
