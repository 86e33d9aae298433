//! Pipes: a bounded queue of bytes with a reading and a writing side. A stream socket is two of
//! them.
//!
//! Writes of at most [`PIPE_BUF`] bytes are atomic. Bytes leave the queue only after they were
//! copied to the reader's memory (F4): the destination is faulted in first, then bytes are copied
//! under the lock with faults disabled, and only those that were copied are removed.
//!
//! Memory: the queue grows with its contents, up to its capacity. Whoever makes it grow pays for
//! all of it. All capacities together are limited ([`MAX_ALL`]); new pipes beyond that are small.
//!
//! Lock: `Ring::state`, never held while faulting, waiting or waking.

use super::{
    FileObject, FileType, Io, Notifier, Ready, Stat, UserBuffers, WriteOutcome, WritePosition,
    mutants,
};
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::fallible;
use crate::sync::{Mutex, rank};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::Time;

/// Initial capacity in bytes, as on Linux.
pub const CAPACITY: usize = 64 * 1024;
/// Maximum of a pipe's capacity: `pipe-max-size` of Linux.
pub const MAX_CAPACITY: usize = 1024 * 1024;
/// Bytes of all capacities beyond which pipes are small: `pipe-user-pages-soft` of Linux. There is
/// one user.
const MAX_ALL: usize = 64 * 1024 * 1024;
/// Writes of up to this many bytes are atomic.
pub const PIPE_BUF: usize = 4096;
/// Writes of up to this many bytes are buffered on the stack.
const SMALL: usize = 256;
/// Writes of up to this many bytes, such as those that only wake somebody, need less of it cleared.
const TINY: usize = 32;
/// The `st_dev` of objects that are in no file system.
pub const NAMELESS_DEVICE: u64 = 0xd;

/// Bytes of the capacities of all pipes.
static ALL: AtomicUsize = AtomicUsize::new(0);

static NEXT_INODE: AtomicU64 = AtomicU64::new(1);

/// A new inode number for an object that is in no file system.
pub(super) fn next_inode() -> u64 {
    NEXT_INODE.fetch_add(1, Ordering::Relaxed)
}

pub(super) struct State {
    pub(super) bytes: VecDeque<u8>,
    /// For the memory of `bytes`, once there is some.
    charge: Option<Charge>,
    /// Maximum of bytes in the queue.
    capacity: usize,
    reader_gone: bool,
    writer_gone: bool,
}

impl State {
    fn space(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// Releases the bytes and their memory.
    fn clear(&mut self) {
        self.bytes = VecDeque::new();
        self.charge = None;
    }

    /// Makes memory for `more` bytes, which fit.
    fn grow(&mut self, account: &Arc<Account>, more: usize) -> Result<(), Errno> {
        let needed = self.bytes.len() + more;
        if needed <= self.bytes.capacity() {
            return Ok(());
        }
        let wanted = needed.next_power_of_two().max(SMALL);
        match &mut self.charge {
            Some(charge) => charge.transfer(account, wanted)?,
            None => self.charge = Some(Charge::take(account, Kind::Pipes, wanted)?),
        }
        let more = wanted - self.bytes.len();
        Ok(fallible::reserve_exact(&mut self.bytes, more)?)
    }
}

/// The queue between two ends.
pub(super) struct Ring {
    pub(super) state: Mutex<State, rank::Pipe>,
    pub(super) changed: Notifier,
}

impl Ring {
    pub(super) fn new() -> Arc<Self> {
        let is_crowded = ALL.load(Ordering::Relaxed) + CAPACITY > MAX_ALL;
        let capacity = if is_crowded { PIPE_BUF } else { CAPACITY };
        ALL.fetch_add(capacity, Ordering::Relaxed);
        let bytes = VecDeque::new();
        let state = State { bytes, charge: None, capacity, reader_gone: false, writer_gone: false };
        Arc::new(Self { state: Mutex::new(state), changed: Notifier::new() })
    }

    pub(super) fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// Changes the capacity to `bytes`, rounded up to a power of two of pages. EPERM beyond a
    /// pipe's maximum and that of all pipes, EBUSY where more is in the queue.
    pub(super) fn set_capacity(&self, bytes: usize) -> Result<usize, Errno> {
        if bytes > MAX_CAPACITY {
            return Err(Errno::EPERM);
        }
        let wanted = bytes.max(PIPE_BUF).next_power_of_two();
        let mut state = self.state.lock();
        if state.bytes.len() > wanted {
            return Err(Errno::EBUSY);
        }
        let others = ALL.load(Ordering::Relaxed) - state.capacity;
        if wanted > state.capacity && others + wanted > MAX_ALL {
            return Err(Errno::EPERM);
        }
        ALL.store(others + wanted, Ordering::Relaxed);
        state.capacity = wanted;
        drop(state);
        self.changed.notify();
        Ok(wanted)
    }

    pub(super) fn close_reader(&self) {
        let mut state = self.state.lock();
        state.reader_gone = true;
        state.clear();
        drop(state);
        self.changed.notify();
    }

    pub(super) fn close_writer(&self) {
        self.state.lock().writer_gone = true;
        self.changed.notify();
    }

    /// Sets which sides are open, for named pipes. Bytes stay for a later reader as long as there
    /// is a writer.
    pub(super) fn set_sides(&self, reader: bool, writer: bool) {
        let mut state = self.state.lock();
        (state.reader_gone, state.writer_gone) = (!reader, !writer);
        if !reader && !writer {
            state.clear();
        }
        drop(state);
        self.changed.notify();
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().bytes.len()
    }

    /// Readiness of the reading side.
    pub(super) fn poll_reader(&self) -> Ready {
        let state = self.state.lock();
        let mut ready = Ready::empty();
        ready.set(Ready::READ, !state.bytes.is_empty());
        ready.set(Ready::HANG_UP, state.writer_gone);
        ready
    }

    /// Readiness of the writing side.
    pub(super) fn poll_writer(&self) -> Ready {
        let state = self.state.lock();
        let mut ready = Ready::empty();
        ready.set(Ready::WRITE, state.reader_gone || state.space() >= PIPE_BUF);
        ready.set(Ready::ERROR, state.reader_gone);
        ready
    }

    /// Moves bytes to a reader. Returns at least 1, or 0 at the end of the stream.
    pub(super) fn read(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
        let mut done = ByteCount::ZERO;
        while !to.remaining().is_zero() {
            let (available, copied) = if done.is_zero() && !io.nonblocking {
                self.changed.wait(|| self.try_move_out(io, to))?
            } else {
                match self.try_move_out(io, to) {
                    Some(moved) => moved,
                    None if done.is_zero() => return Err(Errno::EAGAIN),
                    None => break,
                }
            };
            match copied {
                _ if mutants::consume_early() && available > 0 => {
                    return mutants::read_pipe_early(self, io, to, available);
                }
                0 if available == 0 => break,
                0 => match to.prepare_write(io.space, available) {
                    Err(error) if done.is_zero() => return Err(error),
                    Err(_) => break,
                    Ok(()) => {}
                },
                copied => done += ByteCount::of_len(copied),
            }
        }
        if !done.is_zero() {
            self.changed.notify();
        }
        Ok(done)
    }

    /// Copies bytes to a reader; they stay in the queue. Returns at least 1, or 0 at the end.
    pub(super) fn peek(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
        while !to.remaining().is_zero() {
            let Some(available) = self.wait_readable(io)? else { break };
            to.prepare_write(io.space, available)?;
            let state = self.state.lock();
            let (front, back) = state.bytes.as_slices();
            let mut copied = to.try_put(io.space, front);
            if copied == front.len() {
                copied += to.try_put(io.space, back);
            }
            if copied > 0 {
                return Ok(ByteCount::of_len(copied));
            }
        }
        Ok(ByteCount::ZERO)
    }

    /// Moves the bytes that can be copied without a fault. Returns how many there were and how many
    /// were moved: (0, 0) at the end of the stream, `None` where bytes may come.
    fn try_move_out(&self, io: &Io<'_>, to: &mut UserBuffers) -> Option<(usize, usize)> {
        let mut state = self.state.lock();
        let available = state.bytes.len();
        if available == 0 {
            return (state.writer_gone || state.reader_gone).then_some((0, 0));
        }
        if mutants::consume_early() {
            return Some((available, 0));
        }
        let (front, back) = state.bytes.as_slices();
        let mut copied = to.try_put(io.space, front);
        if copied == front.len() && !back.is_empty() {
            copied += to.try_put(io.space, back);
        }
        if copied == available {
            state.bytes.clear();
        } else {
            state.bytes.drain(..copied);
        }
        Some((available, copied))
    }

    fn wait_readable(&self, io: &Io<'_>) -> Result<Option<usize>, Errno> {
        let look = || {
            let state = self.state.lock();
            match state.bytes.len() {
                0 => (state.writer_gone || state.reader_gone).then_some(None),
                available => Some(Some(available)),
            }
        };
        if io.nonblocking {
            return look().ok_or(Errno::EAGAIN);
        }
        Ok(self.changed.wait(look)?)
    }

    /// Moves bytes from a writer. EPIPE without a reader.
    pub(super) fn write(&self, io: &Io<'_>, from: &mut UserBuffers) -> Result<ByteCount, Errno> {
        if from.remaining() <= ByteCount::of_len(TINY) {
            return self.write_by(io, from, &mut [0; TINY]);
        }
        if from.remaining() <= ByteCount::of_len(SMALL) {
            return self.write_by(io, from, &mut [0; SMALL]);
        }
        let mut chunk = fallible::filled(0, PIPE_BUF)?;
        self.write_by(io, from, &mut chunk)
    }

    /// Moves bytes from a writer by way of `chunk`.
    fn write_by(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        chunk: &mut [u8],
    ) -> Result<ByteCount, Errno> {
        let mut written = ByteCount::ZERO;
        while !from.remaining().is_zero() {
            let length = from.remaining().to_usize().min(chunk.len());
            let chunk = chunk.get_mut(..length).unwrap_or_default();
            let step = from
                .take(io.space, chunk)
                .and_then(|taken| self.push(io, chunk.get(..taken).unwrap_or_default()));
            match step {
                Ok(count) => written += ByteCount::of_len(count),
                Err(error) => return if !written.is_zero() { Ok(written) } else { Err(error) },
            }
            if step != Ok(length) {
                break;
            }
        }
        Ok(written)
    }

    /// Appends all of `chunk` at once; waits for space.
    fn push(&self, io: &Io<'_>, chunk: &[u8]) -> Result<usize, Errno> {
        let attempt = || {
            let mut state = self.state.lock();
            if state.reader_gone || state.writer_gone {
                return Some(Err(Errno::EPIPE));
            }
            if state.space() < chunk.len() {
                return None;
            }
            if let Err(error) = state.grow(io.account(), chunk.len()) {
                return Some(Err(error));
            }
            state.bytes.extend(chunk);
            Some(Ok(chunk.len()))
        };
        let pushed = if io.nonblocking {
            attempt().unwrap_or(Err(Errno::EAGAIN))
        } else {
            self.changed.wait(attempt)?
        };
        if pushed.is_ok() {
            self.changed.notify();
        }
        pushed
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        ALL.fetch_sub(self.state.lock().capacity, Ordering::Relaxed);
    }
}

/// The attributes of an object that is in no file system.
pub(super) fn nameless_stat(file_type: FileType, inode: u64) -> Stat {
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
        match request {
            FIONREAD => super::buffers::store(
                caller.space(),
                argument,
                &(self.ring.len() as u32).to_le_bytes(),
            ),
            _ => Err(Errno::ENOTTY),
        }
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
    fn pipe_capacity(&self) -> Result<usize, Errno> {
        Ok(self.ring.capacity())
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
