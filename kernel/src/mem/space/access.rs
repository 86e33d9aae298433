//! What may be done with a page, and why it cannot.

use crate::{mem::frame::OutOfMemory, sync::Interrupted};
use foundation::Errno;

/// What a program or the kernel wants to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store some of it.
    Write,
    /// Fetch instructions.
    Execute,
}

/// Why a page cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there, or not for this: SIGSEGV, or EFAULT.
    Segv,
    /// The page could not be fetched: SIGBUS, or EIO (F5).
    Bus,
    /// No memory: the program ends, or ENOMEM.
    OutOfMemory,
    /// The wait was ended by a signal that kills (F7).
    Killed,
}

impl From<FaultError> for Errno {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::Segv => Self::EFAULT,
            FaultError::Bus => Self::EIO,
            FaultError::OutOfMemory => Self::ENOMEM,
            FaultError::Killed => Self::EINTR,
        }
    }
}

impl From<OutOfMemory> for FaultError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<Interrupted> for FaultError {
    fn from(_: Interrupted) -> Self {
        Self::Killed
    }
}
