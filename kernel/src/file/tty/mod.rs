//! Terminals: a line with a line discipline, a foreground process group and a session. The line is
//! a serial port, the keyboard, or the master of a pseudo-terminal ([`pair`]).
//!
//! Input arrives from the line ([`Tty::receive`]), in interrupt context for a serial port: it is
//! echoed, signals are sent, and readers are woken. Output is translated and sent while the caller
//! waits. Processes are reached through [`Tasks`](super::Tasks).
//!
//! Lock: `state`, not held while sending signals, waking, copying or writing to a serial port.
//! Every change is reported by `changed`, to both ends of a pseudo-terminal.

mod discipline;
mod input;
mod job;
mod output;
pub mod pair;
mod queue;
pub mod registry;
mod terminal;
mod termios;

pub use job::session_ended;
pub use terminal::Terminal;

use super::buffers::{load, store};
use super::pipe::FIONREAD;
use super::{IoCaller, Notifier, Ready};
use crate::arch::SerialPort;
use crate::mem::OutOfMemory;
use crate::sync::{Mutex, rank};
use discipline::{Discipline, Effects, Flow};
use foundation::Errno;
use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl as request;
use termios::{TERMIOS_BYTES, Termios};

/// `struct winsize`: rows, columns, and two numbers of pixels, 16 bits each.
const WINDOW_BYTES: usize = 8;

/// A terminal. Programs have it open as a [`Terminal`].
pub struct Tty {
    line: Line,
    /// The device number, which is also its inode number in `/dev`.
    number: u64,
    state: Mutex<State, rank::Terminal>,
    changed: Notifier,
}

/// The other side of a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Serial(SerialPort),
    /// The keyboard, which shows nothing.
    Keyboard,
    /// The master of the pseudo-terminal with this number.
    Pair(usize),
}

struct State {
    discipline: Discipline,
    window: [u8; WINDOW_BYTES],
    /// The session whose controlling terminal it is.
    session: Option<u32>,
    /// The foreground process group: gets signals, and may read.
    foreground: Option<u32>,
    /// Whether output is stopped.
    flow: Flow,
    permissions: Permissions,
    ends: pair::Ends,
}

/// Owner and permission bits, as set by chown and chmod. They are not enforced.
#[derive(Clone, Copy)]
struct Permissions {
    mode: u16,
    uid: u32,
    gid: u32,
}

impl Tty {
    fn new(
        line: Line,
        number: u64,
        termios: Termios,
        window: [u16; 4],
    ) -> Result<Self, OutOfMemory> {
        let mut bytes = [0; WINDOW_BYTES];
        bytes
            .iter_mut()
            .zip(window.into_iter().flat_map(u16::to_le_bytes))
            .for_each(|(to, from)| *to = from);
        let state = State {
            discipline: Discipline::new(termios)?,
            window: bytes,
            session: None,
            foreground: None,
            flow: Flow::Running,
            permissions: Permissions { mode: 0o620, uid: 0, gid: 0 },
            ends: pair::Ends::default(),
        };
        Ok(Self { line, number, state: Mutex::new(state), changed: Notifier::new() })
    }

    /// A terminal on a serial port; major 4, minor 64 is `ttyS0`.
    fn on_line(line: SerialPort, minor: u64, termios: Termios) -> Result<Self, OutOfMemory> {
        Self::new(Line::Serial(line), 4 << 8 | minor, termios, [24, 80, 0, 0])
    }

    /// The console, `/dev/ttyS0`.
    pub(super) fn console() -> Result<Self, OutOfMemory> {
        Self::on_line(SerialPort::Console, 64, Termios::new())
    }

    /// A raw line: `/dev/ttyS1` and `/dev/ttyS2`.
    pub(super) fn serial(line: SerialPort, minor: u64) -> Result<Self, OutOfMemory> {
        Self::on_line(line, minor, Termios::raw())
    }

    /// The bytes of the keyboard, `/dev/serio_raw0`: a raw line, as on Linux a device of the
    /// miscellaneous ones.
    pub(super) fn keyboard() -> Result<Self, OutOfMemory> {
        Self::new(Line::Keyboard, 10 << 8, Termios::raw(), [0; 4])
    }

    /// Processes input from the line. May run in interrupt context.
    pub fn receive(&self, bytes: &[u8]) {
        self.receive_while(bytes, |_| true);
    }

    /// Processes input while `takes` is true of the discipline. Returns the number of bytes.
    fn receive_while(&self, bytes: &[u8], takes: fn(&Discipline) -> bool) -> usize {
        let mut count = 0;
        while let Some(rest) = bytes.get(count..).filter(|rest| !rest.is_empty()) {
            let processed = self.process(rest, takes);
            count += processed;
            if processed == 0 {
                break;
            }
        }
        // Without input nothing has changed, and a writer that waits here must not wake itself.
        if count > 0 {
            self.changed.notify();
        }
        count
    }

    /// Processes input until enough echo is collected, and returns the number of bytes.
    fn process(&self, bytes: &[u8], takes: fn(&Discipline) -> bool) -> usize {
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        let mut count = 0;
        for &byte in bytes {
            if !takes(&state.discipline) || effects.is_full() {
                break;
            }
            state.discipline.input(byte, &mut effects);
            count += 1;
        }
        // Without memory there is no echo.
        let echo = state.discipline.output(&effects.echo).unwrap_or_default();
        state.flow = effects.flow.unwrap_or(state.flow);
        let foreground = state.foreground;
        drop(state);
        self.show(&echo);
        if let Some(group) = foreground {
            effects.signals().for_each(|signal| job::signal_group(group, signal));
        }
        count
    }

    fn settings(&self, caller: &dyn IoCaller, argument: u64, flush: Flush) -> Result<u64, Errno> {
        let mut bytes = [0; TERMIOS_BYTES];
        load(caller.space(), argument, &mut bytes)?;
        self.require_foreground_to_change(caller)?;
        let mut state = self.state.lock();
        if flush == Flush::Input {
            state.discipline.flush_input();
        }
        state.discipline.set(Termios::from_bytes(&bytes));
        if state.discipline.termios.input & linux::IXON == 0 {
            state.flow = Flow::Running;
        }
        drop(state);
        self.changed.notify();
        Ok(0)
    }

    fn set_window(&self, caller: &dyn IoCaller, argument: u64) -> Result<u64, Errno> {
        let mut window = [0; WINDOW_BYTES];
        load(caller.space(), argument, &mut window)?;
        let mut state = self.state.lock();
        let changed = core::mem::replace(&mut state.window, window) != window;
        let foreground = state.foreground.filter(|_| changed);
        drop(state);
        if let Some(group) = foreground {
            job::signal_group(group, job::SIGWINCH);
        }
        Ok(0)
    }

    /// TCXONC: stops or restarts output. Requests about input are ignored.
    fn set_flow(&self, action: u64) -> Result<u64, Errno> {
        let flow = match u32::try_from(action) {
            Ok(linux::TCOOFF) => Flow::Stopped,
            Ok(linux::TCOON) => Flow::Running,
            Ok(linux::TCIOFF | linux::TCION) => return Ok(0),
            _ => return Err(Errno::EINVAL),
        };
        self.state.lock().flow = flow;
        self.changed.notify();
        Ok(0)
    }

    /// TCFLSH: discards unread input, or output that was not sent. `input` and `output` are the
    /// queue selectors of these two, which are swapped for the master.
    fn flush(&self, queue: u64, input: u32, output: u32) -> Result<u64, Errno> {
        let queue = u32::try_from(queue)
            .ok()
            .filter(|&queue| queue <= linux::TCIOFLUSH)
            .ok_or(Errno::EINVAL)?;
        let mut state = self.state.lock();
        if queue == input || queue == linux::TCIOFLUSH {
            state.discipline.flush_input();
        }
        if queue == output || queue == linux::TCIOFLUSH {
            state.ends.output.clear();
        }
        drop(state);
        self.changed.notify();
        Ok(0)
    }

    /// Readiness of the terminal's side.
    fn poll(&self) -> Ready {
        let state = self.state.lock();
        if state.ends.hung_up {
            return Ready::READ | Ready::WRITE | Ready::UNASKED;
        }
        let mut ready = Ready::empty();
        ready.set(Ready::READ, state.discipline.is_readable());
        ready.set(Ready::WRITE, state.flow == Flow::Running && state.ends.has_space());
        ready
    }

    fn ioctl(&self, caller: &dyn IoCaller, number: u32, argument: u64) -> Result<u64, Errno> {
        if self.state.lock().ends.hung_up {
            return Err(if number == request::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
        }
        match number {
            request::TCGETS => {
                let bytes = self.state.lock().discipline.termios.to_bytes();
                store(caller.space(), argument, &bytes)
            }
            request::TCSETS | request::TCSETSW => self.settings(caller, argument, Flush::Nothing),
            request::TCSETSF => self.settings(caller, argument, Flush::Input),
            request::TCFLSH => self.flush(argument, linux::TCIFLUSH, linux::TCOFLUSH),
            request::TCSBRK | request::TCSBRKP => Ok(0),
            request::TCXONC => self.set_flow(argument),
            request::TIOCGWINSZ => {
                let window = self.state.lock().window;
                store(caller.space(), argument, &window)
            }
            request::TIOCSWINSZ => self.set_window(caller, argument),
            request::TIOCGPGRP => self.foreground_group(caller, argument),
            request::TIOCSPGRP => self.set_foreground_group(caller, argument),
            request::TIOCGSID => self.session_number(caller, argument),
            request::TIOCSCTTY => self.make_controlling(caller, argument),
            request::TIOCNOTTY => self.give_up(caller),
            FIONREAD => {
                let bytes = self.state.lock().discipline.readable_bytes() as u32;
                store(caller.space(), argument, &bytes.to_le_bytes())
            }
            // Output is never queued.
            request::TIOCOUTQ => store(caller.space(), argument, &0u32.to_le_bytes()),
            _ => Err(Errno::ENOTTY),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Nothing,
    Input,
}
