//! A bounded queue of bytes with a reading and a writing side. A pipe is one, a stream socket two.
//!
//! Writes of at most [`PIPE_BUF`] bytes are atomic. Bytes leave the queue only after they were
//! copied to the reader's memory (F4): the destination is faulted in first, then bytes are copied
//! under the lock with faults disabled, and only those that were copied are removed. A few bytes
//! are handed to a thread that [waits](super::waiter). A thread that was killed takes none.
//!
//! Memory: the queue grows with its contents, up to its capacity. Whoever makes it grow pays for
//! all of it. All capacities together are limited ([`MAX_ALL`]); new pipes beyond that are small.
//!
//! Lock: `Ring::state`, never held while faulting, waiting or waking.

mod marks;
mod state;

use super::control::Control;
use super::{Io, Notifier, Ready, UserBuffers, mutants, timeout};
use crate::mem::fallible;
use crate::sync::{self, Mutex, rank};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use foundation::{ByteCount, Errno};

pub(super) use marks::{Attach, Taken, Writing};
pub(super) use state::Moved;
use state::{State, put_front};

/// Initial capacity in bytes, as on Linux.
pub const CAPACITY: usize = 64 * 1024;
/// Maximum of a pipe's capacity: `pipe-max-size` of Linux.
pub const MAX_CAPACITY: usize = 1024 * 1024;
/// What Linux rounds up to a power of two of 32 bits; larger numbers are no size.
const LAST_SIZE: usize = 1 << 31;
/// Bytes of all capacities beyond which pipes are small: `pipe-user-pages-soft` of Linux. There is
/// one user.
const MAX_ALL: usize = 64 * 1024 * 1024;
/// Writes of up to this many bytes are atomic.
pub const PIPE_BUF: usize = 4096;
/// Writes of up to this many bytes are buffered on the stack.
const SMALL: usize = 256;
/// Writes of up to this many bytes, such as those that only wake somebody, need less of it cleared.
const TINY: usize = 32;
/// Bytes of the capacities of all pipes.
static ALL: AtomicUsize = AtomicUsize::new(0);

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
        let state = State::new(capacity);
        Arc::new(Self { state: Mutex::new(state), changed: Notifier::new() })
    }

    pub(super) fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// Changes the capacity to `bytes`, rounded up to a power of two of pages. EPERM beyond a
    /// pipe's maximum and that of all pipes, EBUSY where more is in the queue, EINVAL where that is
    /// no size.
    pub(super) fn set_capacity(&self, bytes: usize) -> Result<usize, Errno> {
        if bytes > LAST_SIZE {
            return Err(Errno::EINVAL);
        }
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
        let marks = state.clear();
        drop(state);
        drop(marks);
        self.changed.notify();
    }

    /// As [`close_writer`](Self::close_writer), by an end that has not read all.
    pub(super) fn reset(&self) {
        self.state.lock().was_reset = true;
        self.close_writer();
    }

    /// Whether the other end was reset, and whether that is to be reported still.
    pub(super) fn was_reset(&self) -> bool {
        self.state.lock().was_reset
    }

    /// Takes the report of a reset.
    pub(super) fn take_reset(&self) -> bool {
        core::mem::take(&mut self.state.lock().was_reset)
    }

    /// Whether the reading side, and whether the writing side is closed.
    pub(super) fn closed(&self) -> (bool, bool) {
        let state = self.state.lock();
        (state.reader_gone, state.writer_gone)
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
        let marks = if !reader && !writer { state.clear() } else { None };
        drop(state);
        drop(marks);
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
        self.receive(io, to, &mut Taken::default())
    }

    /// The same with the control data of the bytes.
    #[inline]
    pub(super) fn receive(
        &self,
        io: &Io<'_>,
        to: &mut UserBuffers,
        taken: &mut Taken,
    ) -> Result<ByteCount, Errno> {
        let (mut done, mut from_queue) = (ByteCount::ZERO, false);
        while !to.remaining().is_zero() {
            let moved = if done.is_zero() && !io.nonblocking {
                self.wait_to_move(io, to, taken)?
            } else {
                taken.has_bytes = !done.is_zero();
                match self.state.lock().move_out(io, to, taken) {
                    Some(moved) => moved,
                    None if done.is_zero() => return Err(Errno::EAGAIN),
                    None => break,
                }
            };
            match moved {
                Moved::Handed(count) => done += ByteCount::of_len(count),
                Moved::FromQueue { available, .. } if mutants::consume_early() && available > 0 => {
                    return mutants::read_pipe_early(self, io, to, available);
                }
                Moved::FromQueue { available: 0, .. } => break,
                Moved::FromQueue { available, copied: 0 } => {
                    match to.prepare_write(io.space, available) {
                        Err(error) if done.is_zero() => return Err(error),
                        Err(_) => break,
                        Ok(()) => {}
                    }
                }
                Moved::FromQueue { copied, .. } => {
                    done += ByteCount::of_len(copied);
                    from_queue = true;
                }
            }
        }
        if from_queue {
            self.changed.notify_of(Ready::WRITE);
        }
        Ok(done)
    }

    /// Waits until there are bytes, and moves them.
    fn wait_to_move(
        &self,
        io: &Io<'_>,
        to: &mut UserBuffers,
        taken: &mut Taken,
    ) -> Result<Moved, Errno> {
        let (mut waits, mut looked) = (false, false);
        let mut look = || {
            let mut state = self.state.lock();
            if waits && state.waiting.has_got() {
                let count = state.waiting.leave()?;
                drop(state);
                to.skip(ByteCount::of_len(count));
                return Some(Moved::Handed(count));
            }
            if looked && sync::is_killed() {
                return None;
            }
            looked = true;
            let moved = state.move_out(io, to, taken);
            if moved.is_some() {
                if waits {
                    state.waiting.leave();
                }
            } else if !waits && let Some(place) = to.front() {
                waits = state.waiting.begin((io.space, place));
            }
            moved
        };
        match self.changed.wait(&mut look) {
            Err(_) if waits => self.end_wait(to),
            moved => Ok(moved?),
        }
    }

    /// As [`read`](Self::read) begins to wait.
    #[cfg(test)]
    pub(super) fn begin_wait(&self, place: crate::file::waiter::Place<'_>) {
        let mut state = self.state.lock();
        state.waiting = crate::file::waiter::Waiting::default();
        state.waiting.begin(place);
    }

    /// Whether a thread waits that said where it wants the bytes.
    #[cfg(test)]
    pub(super) fn is_awaited(&self) -> bool {
        self.state.lock().waiting.is_taken()
    }

    /// A signal has ended the wait: what was handed over before it came is read.
    pub(super) fn end_wait(&self, to: &mut UserBuffers) -> Result<Moved, Errno> {
        let handed = self.state.lock().waiting.leave();
        let count = handed.filter(|_| !mutants::drop_handed()).ok_or(Errno::EINTR)?;
        to.skip(ByteCount::of_len(count));
        Ok(Moved::Handed(count))
    }

    /// Copies bytes to a reader; they stay in the queue. Returns at least 1, or 0 at the end.
    pub(super) fn peek(
        &self,
        io: &Io<'_>,
        to: &mut UserBuffers,
        taken: &mut Taken,
    ) -> Result<ByteCount, Errno> {
        while !to.remaining().is_zero() {
            let Some(available) = self.wait_readable(io)? else { break };
            to.prepare_write(io.space, available)?;
            let state = self.state.lock();
            let marks = state.marks.as_ref().map(|marks| marks.limit(taken));
            let (limit, control) = marks.unwrap_or((usize::MAX, None));
            let copied = put_front(&state.bytes, state.bytes.len().min(limit), io, to);
            if copied > 0 {
                taken.control = control.map(Control::try_clone).transpose()?.map(Box::new);
                return Ok(ByteCount::of_len(copied));
            }
        }
        Ok(ByteCount::ZERO)
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
        self.transmit(io, from, &mut Writing::plain())
    }

    /// The same with control data.
    #[inline]
    pub(super) fn transmit(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        writing: &mut Writing,
    ) -> Result<ByteCount, Errno> {
        if from.remaining().is_zero() {
            return Ok(ByteCount::ZERO);
        }
        if from.remaining() <= ByteCount::of_len(TINY) {
            let mut bytes = [0; TINY];
            let taken = from.take(io.space, &mut bytes)?;
            let pushed = self.push(io, bytes.get(..taken).unwrap_or_default(), writing);
            return pushed.map(ByteCount::of_len);
        }
        if from.remaining() <= ByteCount::of_len(SMALL) {
            return self.write_by(io, from, &mut [0; SMALL], writing);
        }
        let mut chunk = fallible::filled(0, PIPE_BUF)?;
        self.write_by(io, from, &mut chunk, writing)
    }

    /// Moves bytes from a writer by way of `chunk`.
    fn write_by(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        chunk: &mut [u8],
        writing: &mut Writing,
    ) -> Result<ByteCount, Errno> {
        let mut written = ByteCount::ZERO;
        while !from.remaining().is_zero() {
            let length = from.remaining().to_usize().min(chunk.len());
            let chunk = chunk.get_mut(..length).unwrap_or_default();
            let step = from
                .take(io.space, chunk)
                .and_then(|taken| self.push(io, chunk.get(..taken).unwrap_or_default(), writing));
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
    fn push(&self, io: &Io<'_>, chunk: &[u8], writing: &mut Writing) -> Result<usize, Errno> {
        let Writing { attach, deadline } = writing;
        let mut attempt = || {
            let mut state = self.state.lock();
            if state.reader_gone || state.writer_gone {
                return Some(Err(Errno::EPIPE));
            }
            let is_plain = matches!(attach, Attach::Nothing);
            if is_plain && state.hand_over(chunk) {
                return Some(Ok(chunk.len()));
            }
            if state.space() < chunk.len() {
                return None;
            }
            if let Err(error) = state.grow(io.account(), chunk.len()) {
                return Some(Err(error));
            }
            if !is_plain && let Err(error) = state.mark(chunk.len(), attach) {
                return Some(Err(error));
            }
            state.bytes.extend(chunk);
            Some(Ok(chunk.len()))
        };
        let pushed = match attempt() {
            Some(pushed) => pushed,
            None if io.nonblocking => Err(Errno::EAGAIN),
            None => timeout::wait(&self.changed, false, deadline.as_ref(), attempt)?
                .unwrap_or(Err(Errno::EAGAIN)),
        };
        if pushed.is_ok() {
            self.changed.notify_of(Ready::READ);
        }
        pushed
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        ALL.fetch_sub(self.state.lock().capacity, Ordering::Relaxed);
    }
}
