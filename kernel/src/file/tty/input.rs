//! Reading from a terminal.

use super::Tty;
use super::discipline::{MAX_INPUT, ReadLimits};
use crate::file::{Io, UserBuffers, tasks};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use foundation::{ByteCount, Errno};

/// Nanoseconds in a unit of `VTIME`, 1/10 s.
const TENTH_NS: u64 = 100_000_000;

/// A time limit of a wait.
struct Timer {
    deadline_ns: u64,
    /// Wakes the thread at the deadline, unless dropped before.
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

/// The result of one wait of a read with a time limit.
enum Event {
    Bytes(Vec<u8>),
    /// More bytes have arrived, this many in all: the time limit starts again.
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
        let put = to.put(io.space, &bytes);
        let mut state = self.state.lock();
        state.discipline.settle(bytes.len());
        state.discipline.unread(bytes.get(put.unwrap_or(0)..).unwrap_or_default());
        drop(state);
        // A writer of the master may be waiting for space, and another reader for what is back.
        self.changed.notify();
        put.map(ByteCount::of_len)
    }

    /// The bytes of a read that does not have to wait; none after a hang-up.
    fn attempt(&self, max: usize) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        if state.ends.hung_up {
            return Some(Vec::new());
        }
        let bytes = state.discipline.read(max)?;
        state.discipline.hold(bytes.len());
        Some(bytes)
    }

    /// In non-canonical mode: the available bytes, at least one, even if fewer than `VMIN`.
    fn some(&self, max: usize) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        let bytes = state.discipline.take(max).filter(|bytes| !bytes.is_empty())?;
        state.discipline.hold(bytes.len());
        Some(bytes)
    }

    /// The bytes of a non-blocking read.
    fn input_now(&self, max: usize) -> Result<Vec<u8>, Errno> {
        self.attempt(max).or_else(|| self.some(max)).ok_or(Errno::EAGAIN)
    }

    fn wait_for_input(&self, max: usize) -> Result<Vec<u8>, Errno> {
        let limits = self.state.lock().discipline.read_limits();
        let bytes = match limits {
            Some(limits) if limits.tenths > 0 => self.wait_for_time(max, limits),
            _ => self.changed.wait(|| self.attempt(max)).map_err(Errno::from),
        };
        // After a signal, the read returns the bytes that have arrived.
        bytes.or_else(|error| self.some(max).ok_or(error))
    }

    /// With `VMIN`, the time limit starts with each byte; without, it starts at once.
    fn wait_for_time(&self, max: usize, limits: ReadLimits) -> Result<Vec<u8>, Errno> {
        let mut timer = (limits.bytes == 0).then(|| Timer::after_tenths(limits.tenths));
        let mut before = 0;
        loop {
            let event = self.changed.wait(|| {
                if let Some(bytes) = self.attempt(max) {
                    return Some(Event::Bytes(bytes));
                }
                let mut state = self.state.lock();
                let count = state.discipline.readable_bytes();
                if limits.bytes > 0 && count != before {
                    return Some(Event::More(count));
                }
                let is_over = timer.as_ref().is_some_and(Timer::is_over);
                let bytes = if is_over { state.discipline.take(max)? } else { return None };
                state.discipline.hold(bytes.len());
                Some(Event::Bytes(bytes))
            })?;
            match event {
                Event::Bytes(bytes) => return Ok(bytes),
                Event::More(count) => {
                    before = count;
                    timer = (count > 0).then(|| Timer::after_tenths(limits.tenths));
                }
            }
        }
    }
}
