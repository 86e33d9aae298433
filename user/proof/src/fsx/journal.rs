//! The last operations, to be shown where one fails.

use alloc::collections::VecDeque;
use core::fmt;

/// How many are kept.
const KEPT: usize = 40;

/// What was done. Offsets, lengths and places in bytes.
#[derive(Clone, Copy)]
pub enum Step {
    /// Bytes of the file into a buffer.
    Read { how: &'static str, buffer: usize, at: usize, length: usize, offset: usize },
    /// Bytes of a buffer into the file.
    Write { how: &'static str, buffer: usize, at: usize, length: usize, offset: usize },
    /// Stores to a buffer.
    Store { buffer: usize, at: usize, length: usize },
    /// A look at a buffer.
    Check { buffer: usize, at: usize, length: usize },
    /// The file's length changed.
    Truncate { from: usize, to: usize },
    /// A part of the file became a hole.
    Punch { offset: usize, length: usize },
    /// Closed, and opened again.
    Reopen,
    /// A child looked at all buffers, while this process stored to one.
    Fork { buffer: usize },
    /// fsync(2) or fstat(2).
    Ask(&'static str),
}

/// The last [`KEPT`] steps with their numbers.
#[derive(Default)]
pub struct Journal {
    steps: VecDeque<Step>,
    done: u64,
}

impl Journal {
    /// Notes a step that is about to be taken.
    pub fn note(&mut self, step: Step) {
        if self.steps.len() == KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
        self.done += 1;
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Read { how, buffer, at, length, offset } => {
                write!(f, "{how} {length} bytes from {offset} to place {at} of buffer {buffer}")
            }
            Self::Write { how, buffer, at, length, offset } => {
                write!(f, "{how} {length} bytes to {offset} from place {at} of buffer {buffer}")
            }
            Self::Store { buffer, at, length } => {
                write!(f, "store {length} bytes at place {at} of buffer {buffer}")
            }
            Self::Check { buffer, at, length } => {
                write!(f, "check {length} bytes at place {at} of buffer {buffer}")
            }
            Self::Truncate { from, to } => write!(f, "truncate from {from} to {to}"),
            Self::Punch { offset, length } => {
                write!(f, "punch a hole of {length} bytes at {offset}")
            }
            Self::Reopen => f.write_str("close and open"),
            Self::Fork { buffer } => write!(f, "fork, and store to buffer {buffer} on both sides"),
            Self::Ask(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.done - self.steps.len() as u64;
        (first + 1..)
            .zip(&self.steps)
            .try_for_each(|(number, step)| write!(f, "\n  {number}: {step}"))
    }
}
