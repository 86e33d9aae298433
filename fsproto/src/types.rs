//! The values that messages consist of.

use foundation::{ByteCount, PageCount};

use crate::codec::{Field, flags_field, newtype_field, record};

/// Names an open file, a directory or a snapshot within one session. The server assigns it; it is
/// valid until [`Close`](crate::Close) or the end of the session.
///
/// The value 0 is never assigned. Where a directory is expected it means the root
/// ([`Self::ROOT`]); where a handle is optional it means none ([`Self::NONE`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);
newtype_field!(Handle, u64);

impl Handle {
    /// The server's root directory, which is open from the start of a session. In
    /// [`Sync`](crate::Sync) it means all files.
    pub const ROOT: Self = Self(0);

    /// No handle: a reply opened nothing, or a [`Piece`](crate::Piece) is data.
    pub const NONE: Self = Self(0);
}

/// Identifies a request in flight. The client chooses it, the reply repeats it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);
newtype_field!(Tag, u32);

/// Identifies a file. Never reused for another file of the same server, even after deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);
newtype_field!(FileId, u64);

impl FileId {
    /// No file: never assigned.
    pub const NONE: Self = Self(0);
}

/// Increases with every change of a file's bytes or size: equal [`FileId`] and version mean equal
/// bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);
newtype_field!(Version, u64);

/// Nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);
newtype_field!(Time, i64);

bitflags::bitflags! {
    /// A server's optional capabilities.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u32 {
        /// [`Snapshot`](crate::Snapshot) is supported.
        const SNAPSHOT = 1 << 0;
        /// [`Write`](crate::Write) accepts pieces that refer to snapshots, and can return a
        /// snapshot of its result.
        const WRITE_REFERENCES = 1 << 1;
        /// [`CloneRange`](crate::CloneRange) shares storage instead of copying bytes.
        const CLONE = 1 << 2;
        /// [`Reclaim`](crate::Reclaim) after a reconnection is supported.
        const RECLAIM = 1 << 3;
        /// [`Lease`](crate::Lease), and its recall by [`Invalidate`](crate::Invalidate), are
        /// supported.
        const LEASE = 1 << 4;
        /// A removed file continues to exist while a handle to it is open.
        const OPEN_UNLINKED = 1 << 5;
        /// Holes take no storage, and [`ListHoles`](crate::ListHoles) reports them.
        const SPARSE = 1 << 6;
        /// The server's files change by requests of this session only, which are carried out one
        /// after the other in the order of arrival. So what a reply reports, attributes and names
        /// included, stays true until the client itself requests a change. Reading a file, a
        /// directory or a link, or taking a snapshot, changes its access time at most, and a sync
        /// that file's attributes; an open that neither creates nor truncates, a page-in, a close
        /// or a request for attributes, figures or holes changes nothing. Other sessions may read.
        const SOLE = 1 << 7;
        /// Of a server: [`ReadAt`](crate::ReadAt) is supported in a direct session. Of a wrapper:
        /// ids and versions of its files are those of its base, which supports that.
        const DIRECT = 1 << 8;
        /// [`ReadRanges`](crate::ReadRanges) is supported.
        const READ_RANGES = 1 << 9;
        /// Requests may close handles besides ([`add_closes`](crate::add_closes)).
        const CLOSES = 1 << 10;
        /// [`WriteFlags::KEEP_TIMES`] is supported.
        const KEEP_TIMES = 1 << 11;
        /// [`CountSpace`](crate::CountSpace) is supported.
        const COUNT_SPACE = 1 << 11;
    }
}
flags_field!(Features, u32);

bitflags::bitflags! {
    /// Access and creation flags of a request that names a path.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// The handle may read bytes, or list a directory.
        const READ = 1 << 0;
        /// The handle may write bytes.
        const WRITE = 1 << 1;
        /// Create the file if it does not exist.
        const CREATE = 1 << 2;
        /// With `CREATE`: EEXIST if it exists.
        const EXCLUSIVE = 1 << 3;
        /// Truncate to length 0; needs `WRITE`.
        const TRUNCATE = 1 << 4;
        /// ENOTDIR unless it is a directory.
        const DIRECTORY = 1 << 5;
        /// Open a symbolic link in the last component itself instead of following it.
        const NO_FOLLOW = 1 << 6;
        /// With `CREATE`: create a file without a name; `path` is its directory. The file is
        /// deleted with its last handle, unless it was [linked](crate::Link) before. With
        /// `EXCLUSIVE` it cannot be linked.
        const UNNAMED = 1 << 7;
        /// With `CREATE` and `EXCLUSIVE`: create a named pipe.
        const PIPE = 1 << 8;
        /// Reads through the handle leave the file's access time as it is.
        const KEEP_ACCESS_TIME = 1 << 9;
        /// With `CREATE` and `EXCLUSIVE`: create the name of a socket.
        const SOCKET = 1 << 10;
    }
}
flags_field!(OpenFlags, u32);

bitflags::bitflags! {
    /// The attributes that a [`SetAttr`](crate::SetAttr) changes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AttrMask: u32 {
        /// Permission bits.
        const MODE = 1 << 0;
        /// The owner's user id.
        const UID = 1 << 1;
        /// The id of the owning group.
        const GID = 1 << 2;
        /// Length: truncates the file, or extends it by a hole.
        const SIZE = 1 << 3;
        /// Access time.
        const ATIME = 1 << 4;
        /// Modification time.
        const MTIME = 1 << 5;
        /// Access time, which a read has set: nothing else of the file changes, the change time
        /// included.
        const ACCESSED = 1 << 6;
        /// Unless it is a directory, the file loses its set-user-ID bit, and its set-group-ID bit
        /// if its group may execute it: it got another owner.
        const CLEAR_SET_ID = 1 << 7;
    }
}
flags_field!(AttrMask, u32);

bitflags::bitflags! {
    /// Options of a [`Write`](crate::Write).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct WriteFlags: u32 {
        /// Write at the end of the file; the server chooses the offset.
        const APPEND = 1 << 0;
        /// Return a snapshot of the written range, taken atomically with the write.
        const SNAPSHOT = 1 << 1;
        /// The file's times stay: what is written was stored to memory before, and an
        /// [`Allocate`](crate::Allocate) has set them then. Needs [`Features::KEEP_TIMES`].
        const KEEP_TIMES = 1 << 2;
    }
}
flags_field!(WriteFlags, u32);

bitflags::bitflags! {
    /// Options of a [`Rename`](crate::Rename).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// EEXIST if the new name exists.
        const NO_REPLACE = 1 << 0;
        /// Exchange the two names.
        const EXCHANGE = 1 << 1;
    }
}
flags_field!(RenameFlags, u32);

/// Implements [`Field`] for an enumeration of `u16` or `u32` values. Unknown ones are malformed.
macro_rules! enum_field {
    ($name:ident, $integer:ty, [$($variant:ident),*]) => {
        impl Field for $name {
            const BYTES: usize = size_of::<$integer>();
            fn put(&self, writer: &mut crate::Writer<'_>) -> Result<(), crate::Malformed> {
                (*self as $integer).put(writer)
            }
            fn get(reader: &mut crate::Reader<'_>) -> Result<Self, crate::Malformed> {
                let value = <$integer>::get(reader)?;
                let all = [$(Self::$variant),*];
                all.into_iter().find(|&one| one as $integer == value).ok_or(crate::Malformed)
            }
        }
    };
}

/// A file's type. The values are those of `d_type` in Linux's directory entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FileKind {
    /// A named pipe. The server keeps its name and attributes only; its data pass through the
    /// kernel.
    Pipe = 1,
    /// A folder with entries for files.
    Directory = 4,
    /// A regular file.
    #[default]
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
    /// The name of a socket. As of a pipe, the server keeps its name and attributes only.
    Socket = 12,
}
enum_field!(FileKind, u16, [Pipe, Directory, Regular, Symlink, Socket]);

/// What an [`Allocate`](crate::Allocate) does with its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum AllocateMode {
    /// Allocate storage, and extend the file if the range ends beyond its end.
    #[default]
    Extend = 0,
    /// Allocate storage; the file keeps its size.
    KeepSize = 1,
    /// Turn the range into a hole; the file keeps its size.
    PunchHole = 2,
}
enum_field!(AllocateMode, u32, [Extend, KeepSize, PunchHole]);

record! {
    /// A file's attributes.
    Attr {
        /// Identifies the file.
        id: FileId,
        /// Version of its bytes.
        version: Version,
        /// Length in bytes.
        size: ByteCount,
        /// Storage in use, in units of 512 bytes.
        blocks: u64,
        /// Time of the last read.
        atime: Time,
        /// Time of the last change of the bytes.
        mtime: Time,
        /// Time of the last change of bytes or attributes.
        ctime: Time,
        /// Time when the file was created.
        btime: Time,
        /// The owner's user id.
        uid: u32,
        /// The id of the owning group.
        gid: u32,
        /// Number of names; 0 once the last name is removed.
        links: u32,
        /// Permission bits, at most 0o7777.
        mode: u16,
        /// Regular file, directory, link, pipe or socket.
        kind: FileKind,
    }
}

record! {
    /// Figures of a file system. The `bytes_*` fields count since the server's start and never
    /// decrease.
    StatFs {
        /// Total number of blocks of 4096 bytes.
        blocks: u64,
        /// Blocks that can still be written.
        blocks_free: u64,
        /// Total number of files possible.
        files: u64,
        /// Number of files that can still be created.
        files_free: u64,
        /// Bytes copied for snapshots before they were overwritten.
        bytes_rescued: ByteCount,
        /// Bytes written back unchanged to where they came from, for which nothing was done (W2).
        bytes_elided: ByteCount,
        /// Bytes of writes that the server copied or shared on its side (W4).
        bytes_cloned: ByteCount,
        /// Handles that the requesting session holds, snapshots included.
        handles: u64,
        /// Snapshots that the server holds.
        snapshots: u64,
        /// Pages kept for snapshots alone: rescued ones, and those of files without a name.
        pages_kept: PageCount,
        /// Handles that the server itself holds at its base.
        base_handles: u64,
    }
}
