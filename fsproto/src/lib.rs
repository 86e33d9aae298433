//! The message protocol between the Sloth kernel and its file servers.
//!
//! Plain data, no transport, no allocation. A *message* is a head of exactly [`HEAD_BYTES`] bytes,
//! followed by a payload of as many bytes as the head says. The head holds every field of fixed
//! size; whatever varies in size (names, file bytes, lists) is payload, so that a carrier which
//! moves pages can place the payload on a page border.
//!
//! A session is opened by [`Hello`], which settles version and features; a client uses only what
//! the server declared. Requests carry a tag that the reply repeats: many may be in flight, and
//! replies come in any order. A *handle* names an open file, a directory or a snapshot, is given
//! out by the server and lives until [`Close`] or the end of the session.
//!
//! Every decoder is total: no input makes it panic, and a value that decodes is within the limits
//! of this crate.
#![no_std]
#![forbid(unsafe_code)]

mod codec;
pub mod dirent;
mod head;
mod holes;
mod message;
mod path;
mod pieces;
mod types;

pub use codec::{Field, Malformed, Reader, Writer};
pub use head::{Head, HeadFlags};
pub use holes::decode_holes;
pub use message::*;
pub use path::{Component, Path};
pub use pieces::{Hole, Piece, Pieces};
pub use types::*;

/// Bytes of every message's head.
pub const HEAD_BYTES: usize = 128;

/// Bytes of a message's payload, at most. It bounds what one side must buffer for the other; 256
/// KiB is 64 pages, as much as a fault ever asks for at once, and large enough that the head is
/// lost in it.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Bytes of one name within a directory, at most (as on Linux).
pub const MAX_NAME: usize = 255;

/// Bytes of a path in a request, at most (as on Linux).
pub const MAX_PATH: usize = 4095;

/// Holes listed in one reply, at most; the client asks for the rest by [`Extents`] when it needs
/// them.
pub const MAX_HOLES: usize = 64;

/// Pieces in one [`Write`], at most.
pub const MAX_PIECES: usize = 1024;

/// The one version of the protocol so far.
pub const VERSION: u32 = 1;

/// The handle of the server's root directory, open from the session's start.
pub const ROOT: Handle = Handle(0);
