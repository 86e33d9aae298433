//! The message protocol between the Sloth kernel and its file servers.
//!
//! Plain data: no transport, no allocation. A *message* is a header of exactly [`HEADER_BYTES`]
//! bytes, followed by a payload whose length the header states. The header holds every field of
//! fixed size. Everything of variable size (names, file bytes, lists) is payload, so a transport
//! that moves pages can place the payload on a page boundary. Integers are little-endian.
//!
//! A session begins with [`Hello`], which negotiates version and features; a client uses only what
//! the server granted. Each request carries a tag, which its reply repeats: many requests may be in
//! flight, and replies arrive in any order. A *handle* names an open file, a directory or a
//! snapshot; the server assigns it, and it is valid until [`Close`] or the end of the session.
//!
//! A wrapper is a server that is a client of another one, its base. For page-ins that the wrapper
//! has nothing to add to, its client may have a *direct session* with the base, whose messages
//! travel on the wrapper's connection and are marked ([`HeaderFlags::DIRECT`]). It has one request,
//! [`ReadAt`]: no handles, no names, nothing that changes.
//!
//! Every decoder is total: no input makes it panic, and a decoded value is within the limits of
//! this crate.
//!
//! The requests, their payloads and their errors are documented at the operations, each of which is
//! a struct of this crate.
#![no_std]
#![forbid(unsafe_code)]

mod codec;
pub mod dirent;
mod header;
mod holes;
mod message;
mod negotiation;
mod path;
mod pieces;
mod replies;
mod types;

pub use codec::{Field, Malformed, Reader, Writer};
pub use header::{Header, HeaderFlags, MAX_CLOSES, add_closes, closes, is_direct, mark_direct};
pub use holes::decode_holes;
pub use message::{
    Allocate, CloneRange, Close, CountSpace, GetAttr, GetStatFs, Hello, Invalidate, Lease, Link,
    ListHoles, MakeDir, MakeSymlink, Op, Open, Operation, Read, ReadAt, ReadDir, ReadLink,
    ReadRanges, Recall, Reclaim, Remove, Rename, Request, SetAttr, Snapshot, Stat, Sync, Write,
    error_reply,
};
pub use negotiation::{agree, grant, hello};
pub use path::{Component, Path};
pub use pieces::{ByteRange, Hole, Piece, Records};
pub use replies::{HolesListed, Nothing, Snapshotted, SpaceCounted, Walked, Welcome, Written};
pub use types::{
    AllocateMode, Attr, AttrMask, Features, FileId, FileKind, Handle, OpenFlags, RenameFlags,
    StatFs, Tag, Time, Version, WriteFlags,
};

/// Length of every message's header in bytes.
pub const HEADER_BYTES: usize = 128;

/// Maximum length of a message's payload in bytes. It bounds what one side must buffer for the
/// other. 256 KiB are 64 pages, as many as a page fault fetches at most; the header is negligible
/// beside them.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Maximum length of one name within a directory in bytes, as on Linux.
pub const MAX_NAME: usize = 255;

/// Maximum length of a path in a request in bytes: what a [`Walked`] can count. It is larger than
/// the paths that programs pass, because it is counted from a directory with a handle, for the
/// kernel mostly the root.
pub const MAX_PATH: usize = u16::MAX as usize;

/// Maximum length of the target of a symbolic link in bytes, as on Linux.
pub const MAX_TARGET: usize = 4095;

/// Maximum number of holes in one reply. The client requests further ones by [`ListHoles`].
pub const MAX_HOLES: usize = 64;

/// Maximum number of pieces in one [`Write`].
pub const MAX_PIECES: usize = 1024;

/// Maximum number of ranges in one [`ReadRanges`]: a reply of maximum length in alternating pages,
/// and as many again.
pub const MAX_RANGES: usize = 128;

/// The only version of the protocol so far.
pub const VERSION: u32 = 1;
