//! Files as programs see them: descriptors, open files, paths, pipes, sockets, terminals, devices.
//!
//! Owns: what a descriptor refers to ([`FileObject`], [`OpenFile`], [`FdTable`]), the resolution of
//! paths ([`Namespace`], [`FileSystem`]), and the objects that need no server. Does not own: memory
//! (program buffers pass through [`UserBuffers`]), the client of file servers (`mount` implements
//! [`FileSystem`] and [`FileObject`]), processes (seen through the traits [`IoCaller`], [`Caller`]
//! and [`Tasks`], so that this layer runs on the host).
//!
//! Invariants. An object never changes its type. A system call looks up a descriptor once, and
//! keeps the open file alive until it returns. No lock of this layer is held while user memory is
//! faulted in or a server is asked, except two that sleep and can be interrupted by a kill: an open
//! file's position (R2), and the lock of a mapped file. The order of all locks is declared in
//! [`sync::rank`](crate::sync::rank).

#![forbid(unsafe_code)]

mod buffers;
mod caller;
pub mod control;
pub mod devices;
pub mod epoll;
pub mod eventfd;
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
mod ring;
pub mod signal_io;
pub mod socket;
mod stat;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
pub mod timeout;
pub mod tty;
mod waiter;

pub use buffers::UserBuffers;
pub use caller::IoCaller;
pub use filesystem::{FileSystem, FileSystemFigures, OpenHow, Walk};
pub use namespace::Namespace;
pub use notify::{Notifier, Ready, wait_for_any};
pub use object::{
    DirectoryEntry, FileObject, Io, MappingSource, Wanted, WriteOutcome, WritePosition, downcast,
    downcast_ref,
};
pub use open_file::{MovesPosition, OpenFile, Status, check_length};
pub use pipe::{nameless_stat, next_inode};
/// Bytes of a pipe, at most.
pub use ring::MAX_CAPACITY as MAX_PIPE_BYTES;
pub use stat::{FileType, Identity, SetAttr, Stat};
pub use table::{Descriptor, Fd, FdTable, MAX_DESCRIPTORS, OnExec};
pub use tasks::{
    Caller, FileContext, IoOwner, IoSignal, ProcessView, SignalSets, Tasks, Ticks, register, tasks,
};

use foundation::FileOffset;

/// The largest offset of a file, as on Linux.
pub const MAX_OFFSET: FileOffset = FileOffset(i64::MAX as u64);
