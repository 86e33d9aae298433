//! Terminals: a serial line with a line discipline, a foreground process group and a session.
//!
//! Input arrives in interrupt context ([`Tty::receive`]); it is echoed there, signals are sent, and readers are woken. A program's output is translated and
//! sent while the caller waits. Processes are reached through [`Tasks`](super::Tasks).
//!
//! Lock: `state`, not held while sending signals, waking, copying or writing to the line.

mod discipline;
mod job;
mod termios;

pub use job::session_ended;

use super::buffers::{load, store};
use super::pipe::FIONREAD;
use super::{Caller, FileObject, Io, Kind, Notifier, Ready, Stat, UserBuffers, WriteAt, Written, tasks};
use crate::dev::uart;
use crate::sync::{Interrupt, Mutex, relax};
use discipline::{Discipline, Effects, MAX_INPUT};
use fsproto::Errno;
use linux_raw_sys::ioctl as request;
use termios::{TERMIOS_BYTES, Termios};

/// Bytes of output that are translated at once.
const CHUNK: usize = 512;

/// Rows, columns, and two numbers of pixels, each of 16 bits.
const WINDOW_BYTES: usize = 8;

/// A terminal.
pub struct Tty {
    line: uart::Line,
    /// Minor number: major 4, minor 64 is `ttyS0`.
    minor: u64,
    state: Mutex<State>,
    changed: Notifier,
}

struct State {
    discipline: Discipline,
    window: [u8; WINDOW_BYTES],
    /// The session it controls.
    session: Option<u32>,
    /// The process group that gets signals and may read.
    foreground: Option<u32>,
}

impl Tty {
    /// A terminal on a line; `termios` are its settings until a program changes them.
    fn new(line: uart::Line, minor: u64, termios: Termios) -> Self {
        let mut window = [0; WINDOW_BYTES];
        let size = [24u16, 80, 0, 0].into_iter().flat_map(u16::to_le_bytes);
        window.iter_mut().zip(size).for_each(|(to, from)| *to = from);
        let state = State { discipline: Discipline::new(termios), window, session: None, foreground: None };
        Self { line, minor, state: Mutex::new(state), changed: Notifier::new() }
    }

    /// The console, `/dev/ttyS0`.
    pub(super) fn console() -> Self {
        Self::new(uart::Line::Console, 64, Termios::new())
    }

    /// A line that carries bytes as they are, `/dev/ttyS1` and `/dev/ttyS2`.
    pub(super) fn serial(line: uart::Line, minor: u64) -> Self {
        Self::new(line, minor, Termios::raw())
    }

    /// Takes bytes from the line. Interrupt context.
    pub fn receive(&self, bytes: &[u8]) {
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        bytes.iter().for_each(|&byte| state.discipline.input(byte, &mut effects));
        let echo = state.discipline.output(&effects.echo);
        let foreground = state.foreground;
        drop(state);
        uart::send(self.line, &echo);
        if let (Some(group), Some(tasks)) = (foreground, tasks()) {
            effects.signals.iter().for_each(|&signal| tasks.signal_group(group, signal));
        }
        self.changed.notify();
    }

    /// Shows what the kernel has to say, on a line of its own.
    pub(super) fn announce(&self, text: &[u8]) {
        let output = self.state.lock().discipline.output(text);
        uart::send(self.line, &output);
    }

    fn read_input(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<u64, Errno> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        if let Some(caller) = io.caller {
            self.require_foreground_to_read(caller)?;
        }
        let max = to.remaining().min(MAX_INPUT as u64) as usize;
        let attempt = || self.state.lock().discipline.read(max);
        let bytes = if io.nonblocking { attempt().ok_or(Errno::EAGAIN)? } else { self.changed.wait(attempt)? };
        match to.put(io.space, &bytes) {
            Ok(count) => Ok(count as u64),
            Err(error) => {
                self.state.lock().discipline.unread(&bytes);
                Err(error)
            }
        }
    }

    fn write_output(&self, io: &Io<'_>, from: &mut UserBuffers) -> Result<u64, Errno> {
        if let Some(caller) = io.caller {
            self.require_foreground_to_write(caller)?;
        }
        let mut written = 0;
        let mut chunk = [0; CHUNK];
        while from.remaining() > 0 {
            let taken = match from.take(io.space, &mut chunk) {
                Ok(taken) => taken,
                Err(error) => return if written > 0 { Ok(written) } else { Err(error) },
            };
            let Some(bytes) = chunk.get(..taken).filter(|bytes| !bytes.is_empty()) else { break };
            let output = self.state.lock().discipline.output(bytes);
            uart::send(self.line, &output);
            written += taken as u64;
            // A signal ends a long piece of output between two chunks.
            if from.remaining() > 0 && relax(Interrupt::Signal).is_err() {
                break;
            }
        }
        Ok(written)
    }

    fn settings(&self, caller: &dyn Caller, argument: u64, flush: Flush) -> Result<u64, Errno> {
        let mut bytes = [0; TERMIOS_BYTES];
        load(caller.space(), argument, &mut bytes)?;
        self.require_foreground_to_change(caller)?;
        let mut state = self.state.lock();
        if flush == Flush::Input {
            state.discipline.flush_input();
        }
        state.discipline.set(Termios::from_bytes(&bytes));
        drop(state);
        self.changed.notify();
        Ok(0)
    }

    fn set_window(&self, caller: &dyn Caller, argument: u64) -> Result<u64, Errno> {
        let mut window = [0; WINDOW_BYTES];
        load(caller.space(), argument, &mut window)?;
        let mut state = self.state.lock();
        let changed = core::mem::replace(&mut state.window, window) != window;
        let foreground = state.foreground.filter(|_| changed);
        drop(state);
        if let (Some(group), Some(tasks)) = (foreground, tasks()) {
            tasks.signal_group(group, job::SIGWINCH);
        }
        Ok(0)
    }

    fn flush(&self, queue: u64) -> Result<u64, Errno> {
        const INPUT: u64 = 0;
        const OUTPUT: u64 = 1;
        const BOTH: u64 = 2;
        match queue {
            INPUT | BOTH => self.state.lock().discipline.flush_input(),
            OUTPUT => {}
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Nothing,
    Input,
}

impl FileObject for Tty {
    fn stat(&self) -> Result<Stat, Errno> {
        let number = 4 << 8 | self.minor;
        Ok(Stat { kind: Kind::CharacterDevice, mode: 0o620, links: 1, inode: number, device_number: number, ..super::devices::stat() })
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: u64) -> Result<u64, Errno> {
        self.read_input(io, to)
    }

    fn write(&self, io: &Io<'_>, from: &mut UserBuffers, _at: WriteAt) -> Result<Written, Errno> {
        Ok(Written { bytes: self.write_output(io, from)?, end: 0 })
    }

    fn poll(&self) -> Ready {
        let mut ready = Ready::WRITE;
        ready.set(Ready::READ, self.state.lock().discipline.is_readable());
        ready
    }

    fn ioctl(&self, caller: &dyn Caller, number: u32, argument: u64) -> Result<u64, Errno> {
        match number {
            request::TCGETS => {
                let bytes = self.state.lock().discipline.termios.to_bytes();
                store(caller.space(), argument, &bytes)
            }
            request::TCSETS | request::TCSETSW => self.settings(caller, argument, Flush::Nothing),
            request::TCSETSF => self.settings(caller, argument, Flush::Input),
            request::TCFLSH => self.flush(argument),
            request::TCSBRK | request::TCXONC => Ok(0),
            request::TIOCGWINSZ => {
                let window = self.state.lock().window;
                store(caller.space(), argument, &window)
            }
            request::TIOCSWINSZ => self.set_window(caller, argument),
            request::TIOCGPGRP => self.foreground_group(caller, argument),
            request::TIOCSPGRP => self.set_foreground_group(caller, argument),
            request::TIOCGSID => self.session_number(caller, argument),
            request::TIOCSCTTY => self.make_controlling(caller),
            request::TIOCNOTTY => self.give_up(caller),
            FIONREAD => {
                let bytes = self.state.lock().discipline.readable_bytes() as u32;
                store(caller.space(), argument, &bytes.to_le_bytes())
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}
