//! The operations: each is a request and its reply.
//!
//! Paths are relative to a directory handle: components separated by `/`, with no `.` or `..`, no
//! empty component and no leading or trailing `/`. The empty path is the directory itself. The
//! server walks the whole path. At a symbolic link that has to be followed it stops and answers
//! [`Walked`] with `link_bytes` > 0; the client continues the walk, since the link may lead to
//! another server.
//!
//! # Errors
//!
//! Every request may fail with these; the operations list what else is typical of them.
//!
//! | error | cause |
//! |---|---|
//! | EPROTO | the message is malformed, or the session was not opened by [`Hello`] |
//! | ENOSYS | the server does not know the operation |
//! | EOPNOTSUPP | the operation needs a feature that was not granted |
//! | EBADF | a handle is not one of this session, or was not opened for this access |
//! | EISDIR, ENOTDIR, EINVAL | the handle is of the wrong type |
//! | EIO | the storage failed |
//!
//! Requests on paths also fail with ENOENT, ENOTDIR, ENAMETOOLONG and EINVAL (malformed path);
//! those that create something with ENOSPC and EEXIST.

use foundation::{ByteCount, FileOffset};

use crate::codec::{Field, record};
use crate::{
    AllocateMode, Attr, AttrMask, Features, FileId, HEADER_BYTES, Handle, Header, HeaderFlags,
    HolesListed, MAX_CLOSES, Malformed, Nothing, OpenFlags, Reader, RenameFlags, Snapshotted,
    SpaceCounted, StatFs, Tag, Time, Version, Walked, Welcome, WriteFlags, Written,
};

/// An operation of the protocol. The implementing type holds the fields of the request.
pub trait Operation: Field {
    /// Its number in the header.
    const OP: Op;
    /// The fields of a reply whose status is 0.
    type Reply: Field + Default;
    /// How many handles a request of it can close besides.
    const CLOSES: usize = {
        let space = (HEADER_BYTES - Header::BYTES - Self::BYTES) / Handle::BYTES;
        if space < MAX_CLOSES { space } else { MAX_CLOSES }
    };

    /// Encodes the header of a request.
    fn request(&self, tag: Tag, payload_bytes: usize) -> [u8; HEADER_BYTES] {
        header_of(Self::OP, tag, payload_bytes).encode(self)
    }

    /// Encodes the header of a reply that reports success.
    fn reply(tag: Tag, reply: &Self::Reply, payload_bytes: usize) -> [u8; HEADER_BYTES] {
        let mut header = header_of(Self::OP, tag, payload_bytes);
        header.flags |= HeaderFlags::REPLY;
        header.encode(reply)
    }

    /// Decodes the fields of a successful reply, from the reader that [`Header::decode`] returned.
    fn decode_reply(reader: &mut Reader<'_>) -> Result<Self::Reply, Malformed> {
        Self::Reply::get(reader)
    }
}

fn header_of(op: Op, tag: Tag, payload_bytes: usize) -> Header {
    let mut flags = HeaderFlags::empty();
    flags.set(HeaderFlags::FROM_SERVER, op.from_server());
    Header { payload_bytes: payload_bytes as u32, tag, op: op as u16, flags, ..Header::default() }
}

/// Encodes the header of a reply that reports `error`.
pub fn error_reply(op: u16, tag: Tag, error: foundation::Errno) -> [u8; HEADER_BYTES] {
    let flags = HeaderFlags::REPLY;
    Header { tag, op, flags, status: error.0, ..Header::default() }.encode(&Nothing {})
}

macro_rules! operations {
    ($($(#[$doc:meta])* $number:literal $name:ident $fields:tt -> $reply:ty;)*) => {
        /// The number of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Op { $($(#[$doc])* $name = $number,)* }

        impl Op {
            /// All operations in numerical order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The operation with this number, if there is one.
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }

        /// A decoded request of any operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Request { $($name($name),)* }

        impl Request {
            /// Decodes the fields of a request whose header holds the number `op`.
            pub fn decode(op: u16, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                match Op::from_number(op).ok_or(Malformed)? {
                    $(Op::$name => Ok(Self::$name($name::get(reader)?)),)*
                }
            }
        }

        $(
            record! { $(#[$doc])* $name $fields }
            impl Operation for $name {
                const OP: Op = Op::$name;
                type Reply = $reply;
            }
            const _: () = assert!($name::BYTES + Header::BYTES <= HEADER_BYTES);
            const _: () = assert!(<$reply as Field>::BYTES + Header::BYTES <= HEADER_BYTES);
        )*
    };
}

impl Op {
    /// Whether it is a request of the server to its client.
    pub fn from_server(self) -> bool {
        matches!(self, Self::Recall | Self::Invalidate)
    }
}

operations! {
    /// Opens the session. Must be its first request, and only that: EPROTO otherwise.
    1 Hello {
        /// Highest version that the client supports; EPROTO for 0.
        version: u32,
        /// Features that the client can use.
        features: Features,
    } -> Welcome;

    /// Opens a file, or creates one. Payload: path. EEXIST with `EXCLUSIVE`, EINVAL for `TRUNCATE`
    /// without `WRITE`, ENFILE past the session's limit of open files.
    2 Open {
        /// Directory where the path starts.
        dir: Handle,
        /// Access and creation flags.
        flags: OpenFlags,
        /// Permission bits of a file that is created (the client has applied the umask).
        mode: u32,
    } -> Walked;

    /// Closes a handle. Closing a snapshot frees the bytes that were rescued for it alone.
    3 Close {
        /// An open file or a snapshot.
        handle: Handle,
    } -> Nothing;

    /// Returns the attributes of a file. For a snapshot: its file's size and version when it was
    /// taken, and the other attributes of then or of now.
    4 GetAttr {
        /// An open file, a directory or a snapshot.
        handle: Handle,
    } -> Attr;

    /// Returns the attributes of the file at a path without opening it. Payload: path. The reply's
    /// handle is [`Handle::NONE`].
    5 Stat {
        /// Directory where the path starts.
        dir: Handle,
        /// `NO_FOLLOW` and `DIRECTORY` are respected.
        flags: OpenFlags,
    } -> Walked;

    /// Changes attributes; the fields that `mask` does not select are ignored. A new size is a
    /// change of the file's bytes (C2): EFBIG past the server's limit, ENOSPC where snapshots need
    /// the truncated bytes and there is no space for them.
    6 SetAttr {
        /// An open file or directory.
        handle: Handle,
        /// Selects the attributes to change.
        mask: AttrMask,
        /// Permission bits.
        mode: u32,
        /// The owner's user id.
        uid: u32,
        /// The id of the owning group.
        gid: u32,
        /// Length in bytes.
        size: ByteCount,
        /// Access time.
        atime: Time,
        /// Modification time.
        mtime: Time,
    } -> Attr;

    /// Reads bytes of a file or a snapshot. Reply payload: the bytes, fewer than requested only at
    /// the end of the file or snapshot.
    7 Read {
        /// An open file or a snapshot.
        handle: Handle,
        /// First byte, counted from the start of the file or snapshot that `handle` names.
        offset: u64,
        /// Number of bytes, at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD).
        length: u32,
    } -> Nothing;

    /// Writes bytes. Payload: `data_bytes` bytes of data, then a list of [`Piece`](crate::Piece)s
    /// that specify in order what is written; with an empty list, the data are. Records need
    /// [`Features::WRITE_REFERENCES`]. EFBIG past the server's limit, ENOSPC without space for the
    /// bytes or for what snapshots need of the old ones, EINVAL for a piece that reaches beyond the
    /// end of its snapshot. On an error nothing was written.
    8 Write {
        /// An open file.
        handle: Handle,
        /// First byte (ignored with `APPEND`).
        offset: FileOffset,
        /// Where the bytes are written, and what the reply returns.
        flags: WriteFlags,
        /// Number of bytes of data in front of the pieces.
        data_bytes: u32,
    } -> Written;

    /// Takes a snapshot: a read-only object that keeps `length` bytes from `offset` on as they are
    /// now, fewer at the end of the file. Reply payload: leading fragment, trailing fragment, then
    /// the [`Hole`](crate::Hole)s. EDQUOT past the limit of snapshots, ENOSPC without space for
    /// all bytes that may have to be rescued (Q1).
    ///
    /// The fragments are the bytes in the first and the last page of the reader's buffer if the
    /// transfer covers these pages only partly. With `n` the true length and `m` = `misalignment`,
    /// the leading fragment has `(4096 - m) % 4096` bytes and the trailing fragment
    /// `(m + n) % 4096`. If no whole page lies between them, or `n` is at most `inline_max`, all
    /// `n` bytes are the leading fragment and no snapshot is taken (`handle` is
    /// [`Handle::NONE`]).
    9 Snapshot {
        /// An open file.
        handle: Handle,
        /// First byte.
        offset: FileOffset,
        /// Number of bytes, without limit.
        length: ByteCount,
        /// Address of the reader's buffer modulo the page size.
        misalignment: u32,
        /// Up to this number of bytes the client prefers the bytes themselves.
        inline_max: u32,
    } -> Snapshotted;

    /// Lists a directory. Reply payload: entries as [`dirent`](crate::dirent) encodes them; empty
    /// at the end. EINVAL where not even one entry fits.
    10 ReadDir {
        /// An open directory.
        handle: Handle,
        /// Where to continue: 0, or the `next` of an entry.
        cookie: u64,
        /// Maximum number of bytes of entries.
        length: u32,
    } -> Nothing;

    /// Creates a directory. Payload: path.
    11 MakeDir {
        /// Directory where the path starts.
        dir: Handle,
        /// Permission bits.
        mode: u32,
    } -> Walked;

    /// Removes a name; with `DIRECTORY`, an empty directory (ENOTEMPTY otherwise). Payload: path.
    /// A symbolic link in the last component is removed, not followed.
    12 Remove {
        /// Directory where the path starts.
        dir: Handle,
        /// Empty, or `DIRECTORY`.
        flags: OpenFlags,
    } -> Walked;

    /// Renames a file. Payload: old path (`old_bytes` bytes), new path. [`Walked::which`] says in
    /// which of them a link was found (0 old, 1 new).
    13 Rename {
        /// Directory where the old path starts.
        old_dir: Handle,
        /// Directory where the new path starts.
        new_dir: Handle,
        /// Length of the old path in bytes.
        old_bytes: u32,
        /// What happens if the new path exists.
        flags: RenameFlags,
    } -> Walked;

    /// Gives a file (not a directory) another name. Payload: new path.
    14 Link {
        /// An open file.
        handle: Handle,
        /// Directory where the new path starts.
        dir: Handle,
    } -> Walked;

    /// Creates a symbolic link. Payload: path (`path_bytes` bytes), target.
    15 MakeSymlink {
        /// Directory where the path starts.
        dir: Handle,
        /// Length of the path in bytes.
        path_bytes: u32,
    } -> Walked;

    /// Reads a symbolic link. Reply payload: target.
    16 ReadLink {
        /// A link opened with `NO_FOLLOW`.
        handle: Handle,
    } -> Nothing;

    /// Returns the file system's figures.
    17 GetStatFs {
    } -> StatFs;

    /// Returns when the file, or everything with [`Handle::ROOT`], is on stable storage.
    18 Sync {
        /// An open file, or [`Handle::ROOT`].
        handle: Handle,
    } -> Nothing;

    /// Lists the holes of a file or a snapshot in a range. Reply payload: [`Hole`](crate::Hole)s
    /// in order, at most [`MAX_HOLES`](crate::MAX_HOLES). All offsets count from the start of the
    /// file or snapshot that `handle` names.
    19 ListHoles {
        /// An open file or a snapshot.
        handle: Handle,
        /// First byte of the range.
        offset: u64,
        /// Length of the range.
        length: ByteCount,
    } -> HolesListed;

    /// Allocates storage for a range, or turns it into a hole. EINVAL for an empty range, EFBIG
    /// past the server's limit, ENOSPC.
    ///
    /// What lies within the file afterwards has storage of its own: a [`Write`] of it does not
    /// fail for want of space until it becomes a hole, or is copied to or from by a [`CloneRange`]
    /// or a write by reference, which may share it.
    20 Allocate {
        /// An open file.
        handle: Handle,
        /// First byte.
        offset: FileOffset,
        /// Length of the range.
        length: ByteCount,
        /// What to do with the range.
        mode: AllocateMode,
    } -> Attr;

    /// Copies a range on the server's side, atomically; shares storage where possible. Source and
    /// target may overlap, as for `memmove`. Holes stay holes. The reply's length is short at the
    /// source's end, or where the storage failed after some bytes.
    21 CloneRange {
        /// An open file or a snapshot.
        source: Handle,
        /// First byte in the file or snapshot that `source` names.
        source_offset: u64,
        /// An open file.
        target: Handle,
        /// First byte in the target.
        target_offset: FileOffset,
        /// Number of bytes.
        length: ByteCount,
    } -> Written;

    /// After a reconnection: the client still uses this snapshot and requests a handle for it in
    /// the new session.
    22 Reclaim {
        /// Identifies the file.
        file: FileId,
        /// The file's version when the snapshot was taken.
        version: Version,
        /// First byte in the file.
        offset: FileOffset,
        /// Number of bytes.
        length: ByteCount,
        /// The snapshot's handle in the former session.
        former: Handle,
    } -> Snapshotted;

    /// From the server: read all bytes of this snapshot now, then close it.
    23 Recall {
        /// A snapshot.
        handle: Handle,
    } -> Nothing;

    /// Requests an [`Invalidate`] before the file changes. Until then the client may answer reads
    /// from its own cache.
    24 Lease {
        /// An open file.
        handle: Handle,
    } -> Attr;

    /// From the server: a lease ends. The file changes only after the client has replied.
    25 Invalidate {
        /// Identifies the file.
        file: FileId,
    } -> Nothing;

    /// Reads bytes that a file held at a version: the only request of a
    /// [direct session](HeaderFlags::DIRECT) besides [`Hello`]. Reply payload: exactly `length`
    /// bytes. The server answers only if the file has this version still, or if no change since
    /// then meets the range, and states that atomically with the bytes (F9). ESTALE in every other
    /// case: then the server above is asked, which has the snapshot. Needs [`Features::DIRECT`].
    26 ReadAt {
        /// Identifies the file, which may have lost its names.
        file: FileId,
        /// The version whose bytes are requested.
        version: Version,
        /// First byte.
        offset: FileOffset,
        /// Number of bytes, at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD).
        length: u32,
    } -> Nothing;

    /// Reads several ranges of a file. Payload: [`ByteRange`](crate::ByteRange)s, at most
    /// [`MAX_RANGES`](crate::MAX_RANGES), in any order. Reply payload: their bytes, one range after
    /// the other. EINVAL where they are more than [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes, or
    /// where one ends beyond the end of the file. Needs [`Features::READ_RANGES`].
    27 ReadRanges {
        /// An open file.
        handle: Handle,
    } -> Nothing;

    /// Counts what a write of a whole range would take. Needs [`Features::COUNT_SPACE`].
    28 CountSpace {
        /// An open file.
        handle: Handle,
        /// First byte.
        offset: FileOffset,
        /// Length of the range.
        length: ByteCount,
    } -> SpaceCounted;
}
