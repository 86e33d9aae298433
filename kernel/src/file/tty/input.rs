//! Reading from a terminal: how long a read waits, and for what.

use super::Tty;
use super::discipline::{MAX_INPUT, Patience};
use crate::file::{Io, UserBuffers, tasks};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use foundation::{ByteCount, Errno};

/// A tenth of a second, the unit of `VTIME`.
const TENTH_NS: u64 = 100_000_000;

/// An end to a wait.
struct Timer {
    deadline_ns: u64,
    /// Wakes the thread when it is dropped no earlier.
    _wake: Option<Box<dyn Any>>,
}

impl Timer {
    fn after_tenths(tenths: u64) -> Self {
        let tasks = tasks();
        let deadline_ns =
            tasks.map_or(0, |tasks| tasks.uptime_ns()).saturating_add(tenths * TENTH_NS);
        Self { deadline_ns, _wake: tasks.map(|tasks| tasks.wake_at(deadline_ns)) }
    }

    fn is_over(&self) -> bool {
        tasks().is_none_or(|tasks| tasks.uptime_ns() >= self.deadline_ns)
    }
}

/// What ends a wait of a read with a time limit.
enum Event {
    Bytes(Vec<u8>),
    /// There are so many bytes now: the time begins anew.
    More(usize),
}

impl Tty {
    pub(super) fn read(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
        if to.remaining().is_zero() {
            return Ok(ByteCount::ZERO);
        }
        if let Some(caller) = io.caller {
            self.require_foreground_to_read(caller)?;
        }
        let max = to.remaining().to_usize().min(MAX_INPUT);
        let bytes = if io.nonblocking { self.input_now(max)? } else { self.wait_for_input(max)? };
        // Whoever types may have been waiting for room.
        self.changed.notify();
        match to.put(io.space, &bytes) {
            Ok(count) => Ok(ByteCount::of_len(count)),
            Err(error) => {
                self.state.lock().discipline.unread(&bytes);
                Err(error)
            }
        }
    }

    /// What a read gets, if it gets something; nothing once the other end of a pair is gone.
    fn attempt(&self, max: usize) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        if state.ends.hung_up { Some(Vec::new()) } else { state.discipline.read(max) }
    }

    /// What there is without lines, enough or not, but not nothing.
    fn some(&self, max: usize) -> Option<Vec<u8>> {
        self.state.lock().discipline.take(max).filter(|bytes| !bytes.is_empty())
    }

    /// Without waiting, whatever there is will do.
    fn input_now(&self, max: usize) -> Result<Vec<u8>, Errno> {
        self.attempt(max).or_else(|| self.some(max)).ok_or(Errno::EAGAIN)
    }

    fn wait_for_input(&self, max: usize) -> Result<Vec<u8>, Errno> {
        let patience = self.state.lock().discipline.patience();
        let bytes = match patience {
            Some(patience) if patience.tenths > 0 => self.wait_for_time(max, patience),
            _ => self.changed.wait(|| self.attempt(max)).map_err(Errno::from),
        };
        // A signal does not lose what has come so far.
        bytes.or_else(|error| self.some(max).ok_or(error))
    }

    /// With `VMIN` the time begins with each byte that comes; without, at once.
    fn wait_for_time(&self, max: usize, patience: Patience) -> Result<Vec<u8>, Errno> {
        let mut timer = (patience.bytes == 0).then(|| Timer::after_tenths(patience.tenths));
        let mut before = 0;
        loop {
            let event = self.changed.wait(|| {
                if let Some(bytes) = self.attempt(max) {
                    return Some(Event::Bytes(bytes));
                }
                let mut state = self.state.lock();
                let count = state.discipline.readable_bytes();
                if patience.bytes > 0 && count != before {
                    return Some(Event::More(count));
                }
                let is_over = timer.as_ref().is_some_and(Timer::is_over);
                if is_over { state.discipline.take(max).map(Event::Bytes) } else { None }
            })?;
            match event {
                Event::Bytes(bytes) => return Ok(bytes),
                Event::More(count) => {
                    before = count;
                    timer = (count > 0).then(|| Timer::after_tenths(patience.tenths));
                }
            }
        }
    }
}
