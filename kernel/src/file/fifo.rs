//! Named pipes: the server keeps a name, the kernel the pipe that all share who open it, for as
//! long as somebody has it open.
//!
//! Locks: `PIPES` → `Shared::counts` → the ring's.

use super::buffers::store;
use super::pipe::{FIONREAD, Ring};
use super::{
    FileObject, Identity, Io, IoCaller, Notifier, Ready, SetAttr, Stat, Status, UserBuffers,
    WriteOutcome, WritePosition,
};
use crate::sync::{Mutex, rank};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

static PIPES: Mutex<BTreeMap<Identity, Arc<Shared>>, rank::Fifos> = Mutex::new(BTreeMap::new());

/// A pipe that somebody has open.
struct Shared {
    ring: Arc<Ring>,
    counts: Mutex<Counts, rank::FifoCounts>,
    /// An end was opened.
    came: Notifier,
}

/// Who has it open.
#[derive(Clone, Copy, Default)]
struct Counts {
    readers: usize,
    writers: usize,
    /// How often it was opened for reading, and for writing: who comes and goes was there.
    reader_opens: u64,
    writer_opens: u64,
}

impl Shared {
    /// Changes the counts, and with them what the ring's sides see.
    fn change(&self, change: impl FnOnce(&mut Counts)) -> Counts {
        let mut counts = self.counts.lock();
        change(&mut counts);
        let now = *counts;
        self.ring.set_sides(now.readers > 0, now.writers > 0);
        now
    }
}

/// A named pipe that was looked up; it serves attributes and names.
pub struct Node {
    file: Arc<dyn FileObject>,
    key: Identity,
}

impl Node {
    /// `file` is the server's, and `key` says which.
    pub fn new(file: Arc<dyn FileObject>, key: Identity) -> Arc<Self> {
        Arc::new(Self { file, key })
    }

    /// The server's file.
    pub fn file(&self) -> &Arc<dyn FileObject> {
        &self.file
    }

    /// Opens the pipe: waits for the other side unless both are meant. Without waiting, a reader is
    /// content alone, and a writer gets ENXIO.
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
                    came: Notifier::new(),
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
        end.shared.came.notify();
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

/// An open end, or both.
struct End {
    file: Arc<dyn FileObject>,
    key: Identity,
    shared: Arc<Shared>,
    reads: bool,
    writes: bool,
    /// What the counts were when it was opened.
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
        Ok(self.shared.came.wait(look)?)
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
    fn poll(&self) -> Ready {
        let mut ready = Ready::empty();
        if self.reads {
            ready |= self.shared.ring.poll_reader();
            // Nobody has left whom nobody saw come.
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
    fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        match request {
            FIONREAD => {
                store(caller.space(), argument, &(self.shared.ring.len() as u32).to_le_bytes())
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}
