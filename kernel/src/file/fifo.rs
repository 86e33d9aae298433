//! Named pipes. The server keeps the name; the kernel keeps the pipe, which all openers share,
//! while it is open.
//!
//! Locks: `PIPES`, then `Shared::counts`, then the pipe's.

use super::buffers::store;
use super::pipe::FIONREAD;
use super::ring::Ring;
use super::{
    FileObject, Identity, Io, IoCaller, Notifier, Ready, SetAttr, Stat, Status, UserBuffers,
    WriteOutcome, WritePosition,
};
use crate::sync::{Mutex, rank};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

static PIPES: Mutex<BTreeMap<Identity, Arc<Shared>>, rank::Fifos> = Mutex::new(BTreeMap::new());

/// An open pipe.
struct Shared {
    ring: Arc<Ring>,
    counts: Mutex<Counts, rank::FifoCounts>,
    /// Notified when an end is opened.
    opened: Notifier,
}

/// How often a pipe is and was opened.
#[derive(Clone, Copy, Default)]
struct Counts {
    readers: usize,
    writers: usize,
    /// All opens so far, by which a waiter notices a side that was opened and closed again.
    reader_opens: u64,
    writer_opens: u64,
}

impl Shared {
    /// Changes the counts, and with them the open sides of the pipe.
    fn change(&self, change: impl FnOnce(&mut Counts)) -> Counts {
        let mut counts = self.counts.lock();
        change(&mut counts);
        let now = *counts;
        self.ring.set_sides(now.readers > 0, now.writers > 0);
        now
    }
}

/// A named pipe that was found but not opened: it has attributes only.
pub struct Node {
    file: Arc<dyn FileObject>,
    key: Identity,
}

impl Node {
    /// The pipe of a server's file.
    pub fn new(file: Arc<dyn FileObject>, key: Identity) -> Arc<Self> {
        Arc::new(Self { file, key })
    }

    /// The server's file.
    pub fn file(&self) -> &Arc<dyn FileObject> {
        &self.file
    }

    /// Opens the pipe. Waits for the other side, unless the pipe is opened for both. With
    /// `NONBLOCKING`, a reader does not wait, and a writer without a reader gets ENXIO.
    pub fn open(&self, status: Status) -> Result<Arc<dyn FileObject>, Errno> {
        let (reads, writes) = (status.contains(Status::READ), status.contains(Status::WRITE));
        let nonblocking = status.contains(Status::NONBLOCKING);
        let end = {
            let mut pipes = PIPES.lock();
            let is_alone =
                pipes.get(&self.key).is_none_or(|shared| shared.counts.lock().readers == 0);
            if writes && !reads && nonblocking && is_alone {
                return Err(Errno::ENXIO);
            }
            let new = || {
                Arc::new(Shared {
                    ring: Ring::new(),
                    counts: Mutex::default(),
                    opened: Notifier::new(),
                })
            };
            let shared = pipes.entry(self.key).or_insert_with(new).clone();
            let counts = shared.change(|counts| {
                counts.readers += usize::from(reads);
                counts.writers += usize::from(writes);
                counts.reader_opens += u64::from(reads);
                counts.writer_opens += u64::from(writes);
            });
            End { file: self.file.clone(), key: self.key, shared, reads, writes, at_open: counts }
        };
        end.shared.opened.notify();
        if reads != writes && !nonblocking {
            end.wait_for_other_side()?;
        }
        Ok(Arc::new(end))
    }
}

impl FileObject for Node {
    fn stat(&self) -> Result<Stat, Errno> {
        self.file.stat()
    }
    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        self.file.set_attr(change)
    }
}

/// An open end, or both ends.
struct End {
    file: Arc<dyn FileObject>,
    key: Identity,
    shared: Arc<Shared>,
    reads: bool,
    writes: bool,
    /// The counts when it was opened.
    at_open: Counts,
}

impl End {
    fn wait_for_other_side(&self) -> Result<(), Errno> {
        let before = self.at_open;
        let look = || {
            let now = *self.shared.counts.lock();
            let is_there = match self.reads {
                true => now.writers > 0 || now.writer_opens != before.writer_opens,
                false => now.readers > 0 || now.reader_opens != before.reader_opens,
            };
            is_there.then_some(())
        };
        Ok(self.shared.opened.wait(look)?)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut pipes = PIPES.lock();
        let left = self.shared.change(|counts| {
            counts.readers -= usize::from(self.reads);
            counts.writers -= usize::from(self.writes);
        });
        let gone = if left.readers + left.writers == 0 { pipes.remove(&self.key) } else { None };
        if pipes.is_empty() {
            *pipes = BTreeMap::new();
        }
        drop(pipes);
        drop(gone);
    }
}

impl FileObject for End {
    fn stat(&self) -> Result<Stat, Errno> {
        self.file.stat()
    }
    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        self.file.set_attr(change)
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        self.shared.ring.read(io, to)
    }
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        Ok(WriteOutcome::without_position(self.shared.ring.write(io, from)?))
    }
    fn pipe_capacity(&self) -> Result<usize, Errno> {
        Ok(self.shared.ring.capacity())
    }
    fn set_pipe_capacity(&self, bytes: usize) -> Result<usize, Errno> {
        self.shared.ring.set_capacity(bytes)
    }
    fn poll(&self) -> Ready {
        let mut ready = Ready::empty();
        if self.reads {
            ready |= self.shared.ring.poll_reader();
            // No hang-up before there was a writer.
            if self.shared.counts.lock().writer_opens == self.at_open.writer_opens
                && self.at_open.writers == 0
            {
                ready -= Ready::HANG_UP;
            }
        }
        if self.writes {
            ready |= self.shared.ring.poll_writer();
        }
        ready
    }
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        let mut concerns = Ready::UNASKED;
        concerns.set(Ready::INPUT, self.reads);
        concerns.set(Ready::WRITE, self.writes);
        visit(&self.shared.ring.changed, concerns | Ready::UNASKED);
    }
    fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        match request {
            FIONREAD => {
                store(caller.space(), argument, &(self.shared.ring.len() as u32).to_le_bytes())
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}
