//! Files as programs see them: descriptors, open files, paths, pipes, sockets and terminals.
//!
//! Owns: what a descriptor refers to ([`FileObject`], [`OpenFile`], [`FdTable`]), which names lead
//! where ([`Namespace`], [`FileSystem`]), and the objects that need no server ([`pipe`],
//! [`socket`]). Does not own: memory (user bytes pass through [`UserBuffers`]), the client of file
//! servers (`mount` implements [`FileSystem`] and [`FileObject`]), processes (they are seen through
//! the narrow traits [`IoCaller`] and [`Tasks`], so that all of this runs on the host).
//!
//! Invariants. An object is immutable in kind; a descriptor is looked up once for each system call,
//! and the call keeps the open file alive. No lock of this module is held while user memory faults
//! or a server is asked, except two sleeping locks: the position lock of an open file (R2) and the
//! lock of a file that is mapped shared. The lock order is declared in [`rank`](crate::sync::rank).

mod buffers;
mod caller;
pub mod devices;
pub mod fifo;
pub mod filesystem;
#[cfg(not(target_os = "none"))]
pub mod host;
pub mod lock;
pub mod mapped;
mod mutants;
pub mod namespace;
mod notify;
mod object;
mod open_file;
pub mod pipe;
pub mod random;
pub mod socket;
mod stat;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
pub mod tty;

pub use buffers::UserBuffers;
pub use caller::IoCaller;
pub use filesystem::{FileSystem, FileSystemFigures, OpenHow, Walk};
pub use namespace::Namespace;
pub use notify::{Notifier, Ready, wait_for_any};
pub use object::{DirectoryEntry, FileObject, Io, WriteOutcome, WritePosition, downcast};
pub use open_file::{OpenFile, Status};
pub use stat::{FileType, Identity, SetAttr, Stat};
pub use table::{Descriptor, Fd, FdTable, MAX_DESCRIPTORS, OnExec};
pub use tasks::{Caller, FileContext, ProcessView, Tasks, register, tasks};

use foundation::FileOffset;

/// The largest offset of a file, as on Linux.
pub const MAX_OFFSET: FileOffset = FileOffset(i64::MAX as u64);
