//! Writing to a terminal.

use super::discipline::Flow;
use super::{Line, Tty};
use crate::arch::serial;
use crate::file::{Io, UserBuffers};
use crate::sync::{Interrupt, relax};
use foundation::{ByteCount, Errno};

/// Bytes of output translated at once.
const CHUNK: usize = 512;

impl Tty {
    pub(super) fn write(&self, io: &Io<'_>, from: &mut UserBuffers) -> Result<ByteCount, Errno> {
        if let Some(caller) = io.caller {
            self.require_foreground_to_write(caller)?;
        }
        let mut written = ByteCount::ZERO;
        let mut chunk = [0; CHUNK];
        while !from.remaining().is_zero() {
            let step = from.take(io.space, &mut chunk).and_then(|taken| {
                let bytes = chunk.get(..taken).unwrap_or_default();
                let output = self.state.lock().discipline.output(bytes)?;
                self.send(io, &output).map(|()| taken)
            });
            match step {
                Ok(0) => break,
                Ok(taken) => written += ByteCount::of_len(taken),
                Err(error) => return if !written.is_zero() { Ok(written) } else { Err(error) },
            }
            // A signal ends a long write between two chunks.
            if !from.remaining().is_zero() && relax(Interrupt::Signal).is_err() {
                break;
            }
        }
        Ok(written)
    }

    /// Sends all of `bytes`. Waits while output is stopped and, to a master, until there is space.
    fn send(&self, io: &Io<'_>, bytes: &[u8]) -> Result<(), Errno> {
        let attempt = || {
            let mut state = self.state.lock();
            if state.ends.hung_up {
                return Some(Err(Errno::EIO));
            }
            if state.flow == Flow::Stopped {
                return None;
            }
            match self.line {
                Line::Serial(line) => {
                    drop(state);
                    serial::send(line, bytes);
                    Some(Ok(()))
                }
                Line::Keyboard => Some(Ok(())),
                Line::Pair(_) => state.ends.put(bytes),
            }
        };
        let sent = if io.nonblocking {
            attempt().unwrap_or(Err(Errno::EAGAIN))
        } else {
            self.changed.wait(attempt)?
        };
        if self.is_pseudo() {
            self.changed.notify();
        }
        sent
    }

    /// Sends echoes and messages of the kernel, without waiting. To a master, only as much as fits.
    pub(super) fn show(&self, bytes: &[u8]) {
        match self.line {
            Line::Serial(line) => serial::send(line, bytes),
            Line::Keyboard => {}
            Line::Pair(_) => self.state.lock().ends.put_echo(bytes),
        }
    }

    /// Shows a message of the kernel.
    pub(in crate::file) fn announce(&self, text: &[u8]) {
        let output = self.state.lock().discipline.output(text).unwrap_or_default();
        self.show(&output);
        self.changed.notify();
    }

    fn is_pseudo(&self) -> bool {
        matches!(self.line, Line::Pair(_))
    }
}
