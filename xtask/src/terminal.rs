//! The user's terminal, raw for as long as the guest has it.

use std::io::{Stdin, stdin};
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// A raw terminal; dropping it gives it back as it was.
pub struct RawTerminal {
    terminal: Stdin,
    before: Termios,
}

impl RawTerminal {
    /// Makes standard input raw, if it is a terminal.
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
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Drain, &self.before);
    }
}
