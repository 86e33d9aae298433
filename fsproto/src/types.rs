//! The values that messages are made of.

use crate::codec::{Field, flags_field, newtype_field, record};

/// Names an open file, directory or snapshot within one session. Given out by the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);
newtype_field!(Handle, u64);

/// Names a request in flight; chosen by the client, repeated by the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);
newtype_field!(Tag, u32);

/// Names a file for as long as the server's store lives: never given to another file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);
newtype_field!(FileId, u64);

/// Grows with every change of a file's bytes or size. The same id and version always mean the same
/// bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);
newtype_field!(Version, u64);

/// Nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);
newtype_field!(Time, i64);

bitflags::bitflags! {
    /// What a server can do beyond the ordinary requests.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u32 {
        /// [`Snapshot`](crate::Snapshot) is served.
        const SNAPSHOT = 1 << 0;
        /// [`Write`](crate::Write) takes pieces that refer to snapshots and can return a snapshot
        /// of its result.
        const WRITE_REFERENCES = 1 << 1;
        /// [`Clone`](crate::CloneRange) shares storage rather than copying bytes.
        const CLONE = 1 << 2;
        /// [`Reclaim`](crate::Reclaim) after a reconnect.
        const RECLAIM = 1 << 3;
        /// [`Lease`](crate::Lease) and its recall by [`Invalidate`](crate::Invalidate).
        const LEASE = 1 << 4;
        /// A file that was removed lives on while a handle is open.
        const OPEN_UNLINKED = 1 << 5;
        /// Holes take no space, and [`Extents`](crate::Extents) tells them.
        const SPARSE = 1 << 6;
        /// Nobody changes the server's files but by requests of this session, which are carried out
        /// one after the other in the order in which they come: what the client was told stays true
        /// until it asks for a change itself.
        const SOLE = 1 << 7;
    }
}
flags_field!(Features, u32);

bitflags::bitflags! {
    /// How to open.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Bytes will be read.
        const READ = 1 << 0;
        /// Bytes will be written.
        const WRITE = 1 << 1;
        /// Make the file where it is absent.
        const CREATE = 1 << 2;
        /// With `CREATE`: fail with EEXIST where it is present.
        const EXCLUSIVE = 1 << 3;
        /// Cut to length 0 (needs `WRITE`).
        const TRUNCATE = 1 << 4;
        /// ENOTDIR unless it is a directory.
        const DIRECTORY = 1 << 5;
        /// A symbolic link as the last component is opened itself, not followed.
        const NO_FOLLOW = 1 << 6;
        /// With `CREATE`: a file without a name; `path` is its directory. It is gone when the last
        /// handle is.
        const UNNAMED = 1 << 7;
        /// With `CREATE` and `EXCLUSIVE`: what is made is a named pipe.
        const PIPE = 1 << 8;
    }
}
flags_field!(OpenFlags, u32);

bitflags::bitflags! {
    /// Which attributes a [`SetAttr`](crate::SetAttr) changes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AttrMask: u32 {
        /// Permission bits.
        const MODE = 1 << 0;
        /// Owner.
        const UID = 1 << 1;
        /// Group.
        const GID = 1 << 2;
        /// Length: cut off or extended by a hole.
        const SIZE = 1 << 3;
        /// Access time.
        const ATIME = 1 << 4;
        /// Modification time.
        const MTIME = 1 << 5;
    }
}
flags_field!(AttrMask, u32);

bitflags::bitflags! {
    /// How to write.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct WriteFlags: u32 {
        /// The server chooses the offset: the end of the file.
        const APPEND = 1 << 0;
        /// Return a snapshot of the range written, taken at the write's own instant.
        const SNAPSHOT = 1 << 1;
    }
}
flags_field!(WriteFlags, u32);

bitflags::bitflags! {
    /// How to rename.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// EEXIST rather than replacing.
        const NO_REPLACE = 1 << 0;
        /// The two names change places.
        const EXCHANGE = 1 << 1;
    }
}
flags_field!(RenameFlags, u32);

/// What a file is; the numbers are those of `d_type` in Linux's directory entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FileKind {
    /// A named pipe: the server keeps its name and attributes, and nothing else of it.
    Pipe = 1,
    /// A directory.
    Directory = 4,
    /// A regular file.
    #[default]
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
}

impl Field for FileKind {
    const BYTES: usize = 2;
    fn put(&self, writer: &mut crate::Writer<'_>) -> Result<(), crate::Malformed> {
        (*self as u16).put(writer)
    }
    fn get(reader: &mut crate::Reader<'_>) -> Result<Self, crate::Malformed> {
        match u16::get(reader)? {
            1 => Ok(Self::Pipe),
            4 => Ok(Self::Directory),
            8 => Ok(Self::Regular),
            10 => Ok(Self::Symlink),
            _ => Err(crate::Malformed),
        }
    }
}

record! {
    /// What a server knows about a file.
    Attr {
        /// Its id.
        id: FileId,
        /// The version of its bytes.
        version: Version,
        /// Length in bytes.
        size: u64,
        /// Bytes of storage in use, in units of 512 bytes.
        blocks: u64,
        /// Last read.
        atime: Time,
        /// Last change of the bytes.
        mtime: Time,
        /// Last change of anything.
        ctime: Time,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Names it has.
        links: u32,
        /// Permission bits, 0o7777 at most.
        mode: u16,
        /// What it is.
        kind: FileKind,
    }
}

record! {
    /// Figures of a server's store.
    StoreInfo {
        /// Blocks of 4096 bytes in all.
        blocks: u64,
        /// Blocks free.
        blocks_free: u64,
        /// Files possible in all.
        files: u64,
        /// Files that can still be made.
        files_free: u64,
        /// Bytes that were saved for snapshots before they changed, since the server started. Like
        /// the two below, it never falls.
        bytes_rescued: u64,
        /// Bytes written back to where they came from and were still, for which nothing was done
        /// (W2).
        bytes_elided: u64,
        /// Bytes of writes that were copied or shared on the server's side (W4).
        bytes_cloned: u64,
        /// Handles that the asking session holds now, snapshots among them.
        handles: u64,
        /// Snapshots that the server keeps now.
        snapshots: u64,
        /// Pages that it keeps for them alone: rescued ones, and those of files that have no name
        /// any more.
        pages_kept: u64,
        /// Handles that it holds itself at the server beneath.
        base_handles: u64,
    }
}
