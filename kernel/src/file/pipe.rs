//! Pipes: the two ends of a [`Ring`].

use super::ring::Ring;
use super::{
    FileObject, FileType, Io, Notifier, Ready, Stat, UserBuffers, WriteOutcome, WritePosition,
};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::Time;

/// The `st_dev` of objects that are in no file system.
pub const NAMELESS_DEVICE: u64 = 0xd;

static NEXT_INODE: AtomicU64 = AtomicU64::new(1);

/// A new inode number for an object that is in no file system.
pub fn next_inode() -> u64 {
    NEXT_INODE.fetch_add(1, Ordering::Relaxed)
}

/// The attributes of an object that is in no file system.
pub fn nameless_stat(file_type: FileType, inode: u64) -> Stat {
    let now = Time(0);
    Stat {
        device: NAMELESS_DEVICE,
        inode,
        file_type,
        mode: 0o600,
        links: 1,
        atime: now,
        mtime: now,
        ctime: now,
        ..Stat::default()
    }
}

/// The reading end.
pub struct ReadEnd {
    ring: Arc<Ring>,
    inode: u64,
}

/// The writing end.
pub struct WriteEnd {
    ring: Arc<Ring>,
    inode: u64,
}

/// A new pipe.
pub fn pipe() -> (Arc<ReadEnd>, Arc<WriteEnd>) {
    let (ring, inode) = (Ring::new(), next_inode());
    (Arc::new(ReadEnd { ring: ring.clone(), inode }), Arc::new(WriteEnd { ring, inode }))
}

/// The ioctl that returns the number of bytes that can be read now.
pub(super) const FIONREAD: u32 = 0x541b;

/// The only ioctl of pipes: `FIONREAD`, the number of bytes that can be read, at either end.
fn report_length(
    ring: &Ring,
    caller: &dyn super::IoCaller,
    request: u32,
    argument: u64,
) -> Result<u64, Errno> {
    match request {
        FIONREAD => {
            super::buffers::store(caller.space(), argument, &(ring.len() as u32).to_le_bytes())
        }
        _ => Err(Errno::ENOTTY),
    }
}

impl FileObject for ReadEnd {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Pipe, self.inode))
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        self.ring.read(io, to)
    }
    fn poll(&self) -> Ready {
        self.ring.poll_reader()
    }
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.ring.changed, Ready::INPUT);
    }
    fn pipe_capacity(&self) -> Result<usize, Errno> {
        Ok(self.ring.capacity())
    }
    fn set_pipe_capacity(&self, bytes: usize) -> Result<usize, Errno> {
        self.ring.set_capacity(bytes)
    }
    fn ioctl(
        &self,
        caller: &dyn super::IoCaller,
        request: u32,
        argument: u64,
    ) -> Result<u64, Errno> {
        report_length(&self.ring, caller, request, argument)
    }
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        self.ring.close_reader();
    }
}

impl FileObject for WriteEnd {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Pipe, self.inode))
    }
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        Ok(WriteOutcome::without_position(self.ring.write(io, from)?))
    }
    fn poll(&self) -> Ready {
        self.ring.poll_writer()
    }
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.ring.changed, Ready::OUTPUT);
    }
    fn pipe_capacity(&self) -> Result<usize, Errno> {
        Ok(self.ring.capacity())
    }
    fn ioctl(
        &self,
        caller: &dyn super::IoCaller,
        request: u32,
        argument: u64,
    ) -> Result<u64, Errno> {
        report_length(&self.ring, caller, request, argument)
    }
    fn set_pipe_capacity(&self, bytes: usize) -> Result<usize, Errno> {
        self.ring.set_capacity(bytes)
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        self.ring.close_writer();
    }
}
