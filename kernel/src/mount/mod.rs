//! The client side of the protocol: makes a file server's files usable by programs.
//!
//! Owns: the connection ([`Session`]), the lazy read, the write by reference, read-ahead, and the
//! translation of names and attributes. Does not own: memory (`mem` maps snapshots, and requests
//! their pages through [`Pager`](crate::mem::Pager)), open files and paths (`file`).
//!
//! From the bottom up: messages, the session, page-ins (also past a wrapper, `direct`), the mounted
//! server ([`Mount`]), a file's handle on it, reading and writing by that handle, and on top the
//! objects that programs open ([`RemoteFile`]) and the tree of names ([`MountedTree`]).
//!
//! Invariants. Every handle that a server returns is owned by exactly one object, an open file or a
//! `Snapshot`, whose drop closes it. Replies are validated before they are used; an invalid reply
//! is EIO for the request that it answers, and for nothing else.

#![forbid(unsafe_code)]

mod closes;
mod copy;
mod direct;
mod handles;
mod in_flight;
mod kept;
mod known;
mod local;
mod message;
mod mutants;
mod page_in;
mod read;
mod read_ahead;
mod remote_file;
mod seek;
mod sequential;
mod server;
mod server_file;
mod session;
mod snapshot_reply;
pub mod swap;
mod tags;
mod transfer;
mod tree;
mod vectored;
mod write;
mod write_body;
mod write_pages;

pub use closes::close_waiting;
pub use local::connect;
pub use message::Payload;
pub use read_ahead::ReadAhead;
pub use remote_file::RemoteFile;
pub use server::{Mount, Trust};
pub use session::{Session, Transport};
pub use tree::MountedTree;
