//! The user's terminal, in raw mode while it is connected to the guest's console.

use std::io::{Stdin, stdin};
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// A terminal in raw mode; dropping it restores the previous mode.
pub struct RawTerminal {
    terminal: Stdin,
    before: Termios,
}

impl RawTerminal {
    /// Switches standard input to raw mode, if it is a terminal.
    pub fn enter() -> Option<Self> {
        let terminal = stdin();
        if !isatty(terminal.as_fd()) {
            return None;
        }
        let before = tcgetattr(terminal.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal.as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // This fails only if the terminal is gone.
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Drain, &self.before);
    }
}
