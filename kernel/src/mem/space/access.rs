//! Kinds of access to a page, and why one fails.
#![forbid(unsafe_code)]

use crate::{
    mem::{Prot, frame::OutOfMemory, page_table::EntryFlags, swap::Unavailable},
    sync::Interrupted,
};
use foundation::Errno;

/// What a program or the kernel wants to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Why a page cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there, or its permissions forbid the access: SIGSEGV, or EFAULT.
    Segv,
    /// The page could not be fetched: SIGBUS, or EIO (F5).
    Bus,
    /// The page lies wholly past the end of a mapped file, or the file's server has no space for a
    /// store to it: SIGBUS, or EFAULT (M3).
    Denied,
    /// No frame is available: the program ends, or ENOMEM.
    OutOfMemory,
    /// A signal that kills ended the wait (F7).
    Killed,
}

impl From<FaultError> for Errno {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::Segv | FaultError::Denied => Self::EFAULT,
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

impl From<Unavailable> for FaultError {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Memory => Self::OutOfMemory,
            // Never zeros: the page's bytes are nowhere (F5).
            Unavailable::Lost => Self::Bus,
        }
    }
}

impl From<Interrupted> for FaultError {
    fn from(_: Interrupted) -> Self {
        Self::Killed
    }
}

/// Whether a region's permissions allow an access. As on x86, a page that can be stored to or
/// executed can be loaded.
pub(super) fn permits(prot: Prot, access: Access) -> bool {
    match access {
        Access::Read => !prot.is_empty(),
        Access::Write => prot.contains(Prot::WRITE),
        Access::Execute => prot.contains(Prot::EXECUTE),
    }
}

/// Whether the CPU allows an access through an entry with these flags.
#[inline]
pub(super) fn allows(flags: EntryFlags, access: Access) -> bool {
    let granted = match access {
        Access::Read => true,
        Access::Write => flags.contains(EntryFlags::WRITE),
        Access::Execute => !flags.contains(EntryFlags::NO_EXECUTE),
    };
    granted && flags.contains(EntryFlags::PRESENT)
}

/// The flags of an entry in a region with these permissions, without [`EntryFlags::WRITE`] and
/// [`EntryFlags::PRIVATE`].
pub(super) fn base_flags(prot: Prot) -> EntryFlags {
    let mut flags = EntryFlags::USER;
    flags.set(EntryFlags::PRESENT, !prot.is_empty());
    flags.set(EntryFlags::NO_EXECUTE, !prot.contains(Prot::EXECUTE));
    flags
}

/// The flags, besides the base ones, of a private page that can be stored to.
pub(super) const PRIVATE_WRITABLE: EntryFlags = EntryFlags::PRIVATE.union(EntryFlags::WRITE);
