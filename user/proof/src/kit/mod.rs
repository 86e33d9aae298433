//! The test kit: failures, recognisable bytes, files, buffers, processes that take turns.

pub mod claims;
mod delay;
mod files;
mod memory;
mod pattern;
mod poll;
mod process;

pub use crate::os::raw;
pub use delay::{MAX_DELAY, check_delay, check_kill};
pub use files::{File, content, directory, file, read_lazily, remove_tree};
pub use memory::{Buffer, check_memory, load, store, whole_pages};
pub use pattern::{Content, UNTOUCHED, ZEROS, byte, fill, pattern, word};
pub use poll::{polled, wait_until};
pub use process::{Child, Gate, checking_child, child, expect_success, in_child, signal_of};

use core::fmt::Display;

use user::prelude::*;

/// The result of a test: the error says what is wrong and where.
pub type Outcome<T = ()> = core::result::Result<T, String>;

/// Bytes of a page.
pub const PAGE: usize = user::pages::PAGE_BYTES;

/// Fails the test unless the condition holds. An optional message follows.
#[macro_export]
macro_rules! check {
    ($condition:expr) => {
        $crate::check!($condition, "not so: {}", stringify!($condition))
    };
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::format!(
                "{}:{}: {}",
                file!(),
                line!(),
                format_args!($($message)+)
            ));
        }
    };
}

/// Fails the test unless both values are equal. An optional message says what they are.
#[macro_export]
macro_rules! check_eq {
    ($found:expr, $expected:expr) => {
        $crate::check_eq!($found, $expected, "{}", stringify!($found))
    };
    ($found:expr, $expected:expr, $($message:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => $crate::check!(
                *found == *expected,
                "{}: got {found:?}, expected {expected:?}",
                format_args!($($message)+)
            ),
        }
    };
}

/// The value of a call that must succeed.
#[macro_export]
macro_rules! ok {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => {
                return Err($crate::format!(
                    "{}:{}: {}: {error:?}",
                    file!(),
                    line!(),
                    stringify!($result)
                ));
            }
        }
    };
}

/// Adds to the error of a system call what was being done.
pub trait Named<T> {
    /// Returns the value, or fails the test with a message that begins with `what`.
    fn named(self, what: impl Display) -> Outcome<T>;
}

impl<T> Named<T> for sys::Result<T> {
    fn named(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| format!("{what}: {error:?}"))
    }
}

/// Prefixes the message of a failure.
pub fn within(what: impl Display, outcome: Outcome) -> Outcome {
    outcome.map_err(|failure| format!("{what}: {failure}"))
}
