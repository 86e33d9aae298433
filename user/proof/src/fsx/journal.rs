//! The last operations, printed after a failure.

use alloc::collections::VecDeque;
use core::fmt;

/// Number of operations kept.
const KEPT: usize = 40;

/// An operation. Offsets, lengths and positions in bytes.
#[derive(Clone, Copy)]
pub enum Step {
    /// read(2) from the file into a buffer.
    Read { how: &'static str, buffer: usize, at: usize, length: usize, offset: usize },
    /// write(2) from a buffer to the file.
    Write { how: &'static str, buffer: usize, at: usize, length: usize, offset: usize },
    /// Stores by the program to a range of a buffer.
    Store { buffer: usize, at: usize, length: usize },
    /// Loads from a buffer.
    Check { buffer: usize, at: usize, length: usize },
    /// A new length of the file.
    Truncate { from: usize, to: usize },
    /// A punched hole.
    Punch { offset: usize, length: usize },
    /// Close and open.
    Reopen,
    /// A child checks all buffers while this process stores to one.
    Fork { buffer: usize },
    /// fsync(2) or fstat(2).
    Ask(&'static str),
    /// Loads from a mapping of the file, or stores to it.
    Mapped { how: &'static str, offset: usize, length: usize },
    /// read(2) from the file into its mapping, or write(2) from there to the file.
    MapCopy { how: &'static str, from: usize, to: usize, length: usize },
}

/// The last [`KEPT`] steps with their numbers.
#[derive(Default)]
pub struct Journal {
    steps: VecDeque<Step>,
    done: u64,
}

impl Journal {
    /// Records a step before it is taken.
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
            Self::Mapped { how, offset, length } => {
                write!(f, "{how}, {length} bytes from {offset} on")
            }
            Self::MapCopy { how, from, to, length } => {
                write!(f, "{how} with the mapping, {length} bytes from {from} to {to}")
            }
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
