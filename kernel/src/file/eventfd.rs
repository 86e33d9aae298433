//! eventfd(2): a counter that writes add to, and that a read takes.
//!
//! Lock: `count`, not held while waiting, waking or copying.

use super::pipe::{nameless_stat, next_inode};
use super::{
    FileObject, FileType, Io, Notifier, Ready, Stat, UserBuffers, WriteOutcome, WritePosition,
};
use crate::sync::{Mutex, rank};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

/// Bytes that a read takes and a write passes: a number.
const BYTES: usize = 8;
/// The count never exceeds this number, so that a read can return it and one more is an error.
const MAX: u64 = u64::MAX - 1;

/// What a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// All of the count.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// The count of an open eventfd, and how it is taken.
pub struct EventCounter {
    count: Mutex<u64, rank::EventCount>,
    takes: Takes,
    changed: Notifier,
    inode: u64,
}

impl EventCounter {
    /// A counter that begins with `count`.
    pub fn new(count: u32, takes: Takes) -> Arc<Self> {
        let (count, changed) = (Mutex::new(count.into()), Notifier::new());
        Arc::new(Self { count, takes, changed, inode: next_inode() })
    }

    fn take(&self) -> Option<u64> {
        let mut count = self.count.lock();
        let taken = if self.takes == Takes::One { (*count).min(1) } else { *count };
        *count -= taken;
        (taken > 0).then_some(taken)
    }

    fn add(&self, more: u64) -> Option<()> {
        let mut count = self.count.lock();
        *count = count.checked_add(more).filter(|&sum| sum <= MAX)?;
        Some(())
    }

    /// Waits until `attempt` succeeds; EAGAIN where that would take time and `io` must not wait.
    fn wait<T>(&self, io: &Io<'_>, mut attempt: impl FnMut() -> Option<T>) -> Result<T, Errno> {
        if io.nonblocking {
            return attempt().ok_or(Errno::EAGAIN);
        }
        Ok(self.changed.wait(attempt)?)
    }
}

impl FileObject for EventCounter {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Nameless, self.inode))
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        if to.remaining() < ByteCount::of_len(BYTES) {
            return Err(Errno::EINVAL);
        }
        let taken = self.wait(io, || self.take())?;
        self.changed.notify_of(Ready::WRITE);
        match to.put(io.space, &taken.to_le_bytes())? {
            BYTES => Ok(ByteCount::of_len(BYTES)),
            _ => Err(Errno::EFAULT),
        }
    }

    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let mut bytes = [0; BYTES];
        if from.remaining() != ByteCount::of_len(BYTES) {
            return Err(Errno::EINVAL);
        }
        if from.take(io.space, &mut bytes)? < BYTES {
            return Err(Errno::EFAULT);
        }
        let more = u64::from_le_bytes(bytes);
        if more > MAX {
            return Err(Errno::EINVAL);
        }
        self.wait(io, || self.add(more))?;
        self.changed.notify_of(Ready::READ);
        Ok(WriteOutcome::without_position(ByteCount::of_len(BYTES)))
    }

    fn poll(&self) -> Ready {
        let count = *self.count.lock();
        let mut ready = Ready::empty();
        ready.set(Ready::READ, count > 0);
        ready.set(Ready::WRITE, count < MAX);
        ready
    }

    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.changed, Ready::all());
    }
}
