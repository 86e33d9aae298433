//! The user's terminal: in raw mode while it is connected to the guest's console, and watched for
//! changes of its size.

use std::io::{Read, Stdin, stdin};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::SIGWINCH;

/// A terminal in raw mode; dropping it restores the previous mode.
pub struct RawTerminal {
    terminal: Stdin,
    before: Termios,
}

impl RawTerminal {
    /// Switches standard input, which is a terminal, to raw mode.
    pub fn enter() -> Result<Self> {
        let terminal = stdin();
        let before = tcgetattr(terminal.as_fd()).context("cannot read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal.as_fd(), OptionalActions::Now, &raw)
            .context("cannot change the terminal's mode")?;
        Ok(Self { terminal, before })
    }
}

/// A handler for SIGWINCH, the signal of a terminal whose size has changed.
pub struct Resizes {
    /// Readable after a signal, until [`clear`](Self::clear).
    readable: UnixStream,
}

impl Resizes {
    /// Installs the handler.
    pub fn listen() -> Result<Self> {
        let (readable, writable) = UnixStream::pair().context("cannot create a socket pair")?;
        readable.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGWINCH, writable)?;
        Ok(Self { readable })
    }

    /// Forgets the signals that have arrived.
    pub fn clear(&mut self) {
        while self.readable.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for Resizes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // This fails only if the terminal is gone.
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Drain, &self.before);
    }
}
