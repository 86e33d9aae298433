//! File servers for the Sloth kernel.
//!
//! Owns the [`FileServer`] trait; the [`Dispatcher`] that turns messages into its calls;
//! [`memfs`](mod@memfs), which keeps files in memory; [`scratchfs`](mod@scratchfs), which keeps
//! temporary files on a block device; and [`snapfs`](mod@snapfs), a wrapper that adds snapshots to
//! any server. Does not own the messages (`fsproto`) nor the transports: messages pass through a
//! [`Transport`].
//!
//! What arrives from outside is checked once: a request by the dispatcher, a reply by [`Base`].
//! Behind them, types carry the result of the check. No message makes a server panic.
//!
//! A server carries out one request at a time, so it has no locks, and the order of requests is the
//! order of their effects (C11).
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
mod mutants;
mod reply;
pub mod scratchfs;
mod server;
mod session;
pub mod snapfs;
mod transport;

pub use base::Base;
pub use blocks::BlockDevice;
pub use buffer::{AlignedBuffer, Inbox};
pub use connection::{Connection, LocalConnection};
pub use dispatch::{Dispatcher, SessionId};
pub use reply::Reply;
pub use server::{Clock, FileServer, Payload, Replenish, Resources, Terms, Walk};
pub use session::{ClientLimits, MAX_OPEN_FILES, MAX_SNAPSHOTS};
pub use transport::{Transport, TransportConnection, serve};
