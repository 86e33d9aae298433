//! The status of a child, as wait4(2) reports it.
#![forbid(unsafe_code)]

use super::signal::Signal;

/// A status in wait4's encoding: `code << 8` for an exit, the number of a killing signal,
/// `signal << 8 | 0x7f` for a stop, 0xffff for a continuation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// The process was continued.
    pub const CONTINUED: Self = Self(0xffff);

    /// The process called exit with this code, of which the lowest 8 bits count.
    pub const fn exited(code: u64) -> Self {
        Self(((code & 0xff) as i32) << 8)
    }

    /// This signal ended the process.
    pub const fn killed(signal: Signal) -> Self {
        Self(signal.0 as i32)
    }

    /// This signal stopped the process.
    pub const fn stopped(signal: Signal) -> Self {
        Self((signal.0 as i32) << 8 | 0x7f)
    }
}
