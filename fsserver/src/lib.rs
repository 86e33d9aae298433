//! File servers for the Sloth kernel.
//!
//! Owns: the [`FileServer`] trait, the [`Dispatcher`] that turns messages into its calls, the
//! server [`memfs`](mod@memfs) that keeps files in memory, [`scratchfs`](mod@scratchfs) that keeps
//! temporary ones on a block device, and [`snapfs`](mod@snapfs), the wrapper that adds snapshots to
//! any server. Does not own the messages (`fsproto`) nor the carriers: a message comes and goes
//! through a [`Transport`].
//!
//! Two doors, one each way. A request is checked by the dispatcher, a reply by [`Base`]; behind
//! them everything has a type that says so. No message makes a server panic.
//!
//! A server is serial: it takes one request at a time, so there are no locks here, and the order of
//! the requests is the order of what they do (rule C11).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod attributes;
mod base;
mod blocks;
mod buffer;
mod connection;
mod dispatch;
mod handles;
pub mod memfs;
pub mod scratchfs;
mod server;
pub mod snapfs;
mod transport;

pub use base::Base;
pub use blocks::BlockDevice;
pub use buffer::{AlignedBuffer, Inbox};
pub use connection::{Connection, LocalConnection};
pub use dispatch::{Dispatcher, MAX_HANDLES, MAX_SNAPSHOTS, Reply, SessionId};
pub use server::{Clock, FileServer, Payload, Terms, Walk};
pub use transport::{Transport, TransportConnection, serve};
