//! The shell at a terminal: prompt, process groups, Ctrl-C.
//!
//! While a foreground job runs, its process group owns the terminal, so that Ctrl-C reaches the job
//! and not the shell. While the shell itself computes (a loop of builtins), Ctrl-C sets a flag that
//! is checked between commands.

use super::Shell;
use super::parse::{Parser, SyntaxError};
use crate::edit::{Editor, Line};
use crate::prelude::*;
use core::sync::atomic::{AtomicBool, Ordering};
use sys::abi;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The descriptor of the terminal.
const TERMINAL: Fd = Fd::STDIN;

/// Terminal signals that an interactive shell ignores.
const TERMINAL_SIGNALS: [u32; 4] = [abi::SIGQUIT, abi::SIGTSTP, abi::SIGTTIN, abi::SIGTTOU];

extern "C" fn note_interrupt(_: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether Ctrl-C was pressed since the last call.
pub(super) fn take_interrupt() -> bool {
    INTERRUPTED.swap(false, Ordering::Relaxed)
}

/// The process group of a child.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The foreground, in the process group of the pipeline's first process, or in its own if 0.
    Foreground { group: i32 },
    /// A process group of its own, without the terminal.
    Background,
}

/// Moves a child to its process group. Both parent and child do this, since either may run first.
pub(super) fn place_child(interactive: bool, child: i32, place: Place) {
    if !interactive {
        return;
    }
    match place {
        Place::Foreground { group } => {
            let _ = sys::setpgid(child, group);
            let group = if group != 0 {
                group
            } else if child != 0 {
                child
            } else {
                sys::getpid()
            };
            let _ = sys::set_foreground(TERMINAL, group);
        }
        Place::Background => drop(sys::setpgid(child, 0)),
    }
}

/// Takes the terminal back after a foreground job.
pub(super) fn take_terminal(interactive: bool) {
    if interactive {
        let _ = sys::set_foreground(TERMINAL, sys::getpid());
    }
}

/// Reports the signal that ended a job, unless the user caused it.
pub(super) fn report_signal(interactive: bool, status: sys::WaitStatus) {
    match status.signal().map(|signal| signal as u32) {
        Some(abi::SIGINT) if interactive => eprintln!(""),
        Some(abi::SIGINT | abi::SIGPIPE) | None => {}
        Some(signal) if interactive => {
            eprintln!("{}", Show(super::text::signal_text(signal as i32).as_bytes()))
        }
        Some(_) => {}
    }
}

/// Resets a child's signal actions to their defaults.
pub(super) fn restore_signals() {
    for signal in TERMINAL_SIGNALS.into_iter().chain([abi::SIGINT]) {
        let _ = sys::signal_default(signal as i32);
    }
}

impl Shell {
    /// Reads and runs lines from the terminal until Ctrl-D or `exit`. Returns the exit status.
    pub fn run_interactive(&mut self) -> i32 {
        self.interactive = true;
        for signal in TERMINAL_SIGNALS {
            let _ = sys::signal_ignore(signal as i32);
        }
        let _ = sys::signal_handle(abi::SIGINT as i32, note_interrupt, 0);
        let _ = sys::setpgid(0, 0);
        take_terminal(true);
        let mut editor = Editor::new(TERMINAL, Fd::STDOUT);
        let mut text = Vec::new();
        loop {
            self.reap();
            let prompt = if text.is_empty() { self.prompt() } else { b"> ".to_vec() };
            let is_last = match editor.read_line(&prompt) {
                Ok(Line::Entered(line)) => {
                    text.extend_from_slice(&line);
                    text.push(b'\n');
                    false
                }
                Ok(Line::Abandoned) => {
                    text.clear();
                    self.status = 128 + abi::SIGINT as i32;
                    continue;
                }
                Ok(Line::End) if text.is_empty() => return self.status,
                Ok(Line::End) => true,
                Err(error) => return complain("sh", b"terminal", error),
            };
            if !is_last && Parser::new(&text).breaks_off() {
                continue;
            }
            take_interrupt();
            let line = core::mem::take(&mut text);
            match self.run_commands(&line) {
                Ok(()) | Err(super::Flow::Break(_) | super::Flow::Continue(_)) => {}
                Err(super::Flow::Exit(status)) => return status,
                Err(super::Flow::Error(status) | super::Flow::Return(status)) => {
                    self.status = status
                }
            }
        }
    }

    /// Reaps children that have ended, and reports them.
    fn reap(&mut self) {
        while let Ok(Some((child, status))) = sys::wait(-1, abi::WNOHANG) {
            self.ended.insert(child, status.shell_status());
            eprintln!("[{child}] {}", if status.shell_status() == 0 { "Done" } else { "Failed" });
        }
    }

    /// Expands `PS1`, in which `\w` is replaced by the working directory.
    fn prompt(&self) -> Vec<u8> {
        let format = self.get(b"PS1").unwrap_or(b"\\w # ");
        let mut prompt = Vec::new();
        let mut rest = format;
        while let Some((&byte, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(b"\\w") {
                prompt.extend(sys::getcwd().unwrap_or_default());
                rest = after;
            } else {
                prompt.push(byte);
                rest = after;
            }
        }
        prompt
    }
}

impl Parser<'_> {
    /// Whether the text ends in the middle of a command.
    pub(super) fn breaks_off(mut self) -> bool {
        loop {
            match self.next_command() {
                Ok(Some(_)) => {}
                result => return self.continues || result == Err(SyntaxError::Incomplete),
            }
        }
    }
}
