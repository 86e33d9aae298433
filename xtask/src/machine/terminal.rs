//! The user's terminal, in raw mode while it is connected to the guest's console.

use std::io::{Stdin, stdin};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

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

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // This fails only if the terminal is gone.
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Drain, &self.before);
    }
}
