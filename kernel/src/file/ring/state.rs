//! The bytes of a queue, what is attached to them, and how they leave it.

use super::SMALL;
use super::marks::{Attach, Marks, Taken};
use crate::file::waiter::Waiting;
use crate::file::{Io, UserBuffers, mutants};
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::fallible;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use foundation::Errno;

/// The bytes between two ends, under their lock.
pub(in crate::file) struct State {
    pub(in crate::file) bytes: VecDeque<u8>,
    /// One of the threads that wait for bytes, if its buffer is in a program's memory.
    pub waiting: Waiting<usize>,
    /// For the memory of `bytes`, once there is some.
    charge: Option<Charge>,
    /// Maximum of bytes in the queue.
    pub capacity: usize,
    /// Control data of the bytes, if there are any.
    pub marks: Option<Box<Marks>>,
    /// The other end was closed before it had read all: ECONNRESET, once.
    pub was_reset: bool,
    pub reader_gone: bool,
    pub writer_gone: bool,
}

impl State {
    /// An empty queue for `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            waiting: Waiting::default(),
            charge: None,
            capacity,
            marks: None,
            was_reset: false,
            reader_gone: false,
            writer_gone: false,
        }
    }

    /// Bytes that can be added.
    pub fn space(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// Releases the bytes and their memory. Returns their control data.
    #[must_use = "to be dropped after unlocking"]
    pub fn clear(&mut self) -> Option<Box<Marks>> {
        self.bytes = VecDeque::new();
        self.charge = None;
        self.marks.take()
    }

    /// Copies bytes to where a thread waits for them. False where none does, or they cannot be
    /// copied without waiting.
    pub fn hand_over(&mut self, bytes: &[u8]) -> bool {
        let is_next = self.bytes.is_empty() || mutants::overtake();
        is_next
            && !bytes.is_empty()
            && self.waiting.hand(|space, to| {
                let fits = bytes.len() <= to.len() && space.copy_out_mapped(to, bytes);
                fits.then_some(bytes.len())
            })
    }

    /// Moves the bytes that can be copied without a fault; `None` where bytes may come.
    #[inline]
    pub fn move_out(
        &mut self,
        io: &Io<'_>,
        to: &mut UserBuffers,
        taken: &mut Taken,
    ) -> Option<Moved> {
        let available = self.bytes.len();
        if available == 0 {
            let is_end = self.writer_gone || self.reader_gone;
            return is_end.then_some(Moved::FromQueue { available: 0, copied: 0 });
        }
        if mutants::consume_early() {
            return Some(Moved::FromQueue { available, copied: 0 });
        }
        if self.marks.is_some() {
            return Some(self.move_marked(io, to, taken));
        }
        let (front, back) = self.bytes.as_slices();
        let mut copied = to.try_put(io.space, front);
        if copied == front.len() && !back.is_empty() {
            copied += to.try_put(io.space, back);
        }
        if copied == available {
            self.bytes.clear();
        } else {
            self.bytes.drain(..copied);
        }
        Some(Moved::FromQueue { available, copied })
    }

    /// The same where control data lie among the bytes: up to where they end a read.
    #[inline(never)]
    fn move_marked(&mut self, io: &Io<'_>, to: &mut UserBuffers, taken: &mut Taken) -> Moved {
        let limit = self.marks.as_ref().map_or(usize::MAX, |marks| marks.limit(taken).0);
        let available = self.bytes.len().min(limit);
        let copied = put_front(&self.bytes, available, io, to);
        self.bytes.drain(..copied);
        if !self.marks.as_mut().is_some_and(|marks| marks.advance(copied, taken)) {
            self.marks = None;
        }
        Moved::FromQueue { available, copied }
    }

    /// Notes what is attached to bytes that are about to be queued.
    pub fn mark(&mut self, length: usize, attach: &mut Attach) -> Result<(), Errno> {
        let queued = self.bytes.len();
        let marks = self.marks.get_or_insert_default();
        marks.reserve()?;
        marks.push(queued, length, attach);
        Ok(())
    }

    /// Makes memory for `more` bytes, which fit.
    pub fn grow(&mut self, account: &Arc<Account>, more: usize) -> Result<(), Errno> {
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

/// Copies the first `count` bytes, as many as can be without a fault. Returns how many.
pub(super) fn put_front(
    bytes: &VecDeque<u8>,
    count: usize,
    io: &Io<'_>,
    to: &mut UserBuffers,
) -> usize {
    let (front, back) = bytes.as_slices();
    let front = front.get(..count).unwrap_or(front);
    let back = back.get(..count - front.len()).unwrap_or(back);
    let copied = to.try_put(io.space, front);
    if copied < front.len() { copied } else { copied + to.try_put(io.space, back) }
}

/// Bytes that have come to a reader.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::file) enum Moved {
    /// So many were copied to where it waited.
    Handed(usize),
    /// So many were in the queue, and so many of them could be copied without a fault: none of none
    /// at the end of the stream.
    FromQueue { available: usize, copied: usize },
}
