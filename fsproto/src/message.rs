//! The operations, each a request and its reply.
//!
//! Paths are relative to a directory handle, several components separated by `/`, with no `..`, no
//! empty component and no leading `/`; the empty path is the directory itself. A server walks the
//! whole path; where it meets a symbolic link that has to be followed it stops and answers
//! [`Walked`] with `link_bytes` > 0: the client goes on, since the link may lead to another server.

use crate::codec::{Field, record};
use crate::{
    Attr, AttrMask, Features, FileId, HEAD_BYTES, Handle, Head, HeadFlags, Malformed, OpenFlags,
    Reader, RenameFlags, StoreInfo, Tag, Time, Version, WriteFlags,
};

/// An operation of the protocol: a request's fields, and the type of its reply's.
pub trait Operation: Field {
    /// Its number in the head.
    const OP: Op;
    /// The fields of a reply whose status is 0.
    type Reply: Field + Default;

    /// The head of a request.
    fn request(&self, tag: Tag, payload_bytes: usize) -> [u8; HEAD_BYTES] {
        head_of(Self::OP, tag, payload_bytes).encode(self)
    }

    /// The head of a reply that succeeded.
    fn reply(tag: Tag, reply: &Self::Reply, payload_bytes: usize) -> [u8; HEAD_BYTES] {
        let mut head = head_of(Self::OP, tag, payload_bytes);
        head.flags |= HeadFlags::REPLY;
        head.encode(reply)
    }

    /// Takes the fields of a reply from where [`Head::decode`] left off.
    fn decode_reply(reader: &mut Reader<'_>) -> Result<Self::Reply, Malformed> {
        Self::Reply::get(reader)
    }
}

fn head_of(op: Op, tag: Tag, payload_bytes: usize) -> Head {
    let mut flags = HeadFlags::empty();
    flags.set(HeadFlags::FROM_SERVER, op.from_server());
    Head { payload_bytes: payload_bytes as u32, tag, op: op as u16, flags, ..Head::default() }
}

/// The head of a reply that failed.
pub fn error_reply(op: u16, tag: Tag, error: foundation::Errno) -> [u8; HEAD_BYTES] {
    let flags = HeadFlags::REPLY;
    Head { tag, op, flags, status: error.0, ..Head::default() }.encode(&Nothing {})
}

macro_rules! operations {
    ($($(#[$doc:meta])* $number:literal $name:ident $fields:tt -> $reply:ty;)*) => {
        /// The operations' numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Op { $($(#[$doc])* $name = $number,)* }

        impl Op {
            /// All operations, in order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The operation of a number from a head.
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }

        /// A request of any operation, decoded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Request { $($name($name),)* }

        impl Request {
            /// Decodes the fields of a request whose head says `op`.
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
            const _: () = assert!($name::BYTES + Head::BYTES <= HEAD_BYTES);
            const _: () = assert!(<$reply as Field>::BYTES + Head::BYTES <= HEAD_BYTES);
        )*
    };
}

impl Op {
    /// Sent by the server to its client, not the other way round.
    pub fn from_server(self) -> bool {
        matches!(self, Self::Recall | Self::Invalidate)
    }
}

operations! {
    /// Opens the session; the first request of it. `version` and `features` are what the client
    /// knows.
    1 Hello {
        /// Highest version that the client speaks.
        version: u32,
        /// Features that the client can use.
        features: Features,
    } -> Welcome;

    /// Opens a file, or makes one. Payload: path.
    2 Open {
        /// Where the path starts.
        dir: Handle,
        /// How.
        flags: OpenFlags,
        /// Permission bits of a file that is made (the client has applied the umask).
        mode: u32,
    } -> Walked;

    /// Gives a handle back. A snapshot is gone, with what was rescued for it alone.
    3 Close {
        /// Which.
        handle: Handle,
    } -> Nothing;

    /// The attributes of a handle (a snapshot's too: those of its file at its instant).
    4 GetAttr {
        /// Whose.
        handle: Handle,
    } -> Attr;

    /// The attributes of a path, without opening it. Payload: path. `flags` may hold `NO_FOLLOW`
    /// and `DIRECTORY`. The reply's handle is 0.
    5 Stat {
        /// Where the path starts.
        dir: Handle,
        /// Whether the last component is followed.
        flags: OpenFlags,
    } -> Walked;

    /// Changes attributes. A new size is a change of the file's bytes (C2).
    6 SetAttr {
        /// Whose.
        handle: Handle,
        /// Which of the following count.
        mask: AttrMask,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Length in bytes.
        size: u64,
        /// Access time.
        atime: Time,
        /// Modification time.
        mtime: Time,
    } -> Attr;

    /// Bytes of a file or a snapshot: the payload of the reply, short only at the end.
    7 Read {
        /// Open file or snapshot.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Bytes wanted, at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD).
        length: u32,
    } -> Nothing;

    /// Changes bytes. Payload: `data_bytes` bytes of data, then a list of [`Piece`](crate::Piece)s
    /// which say in order what is written; with no piece, the data themselves are. A server without
    /// [`Features::WRITE_REFERENCES`] gets no pieces.
    8 Write {
        /// Open file.
        handle: Handle,
        /// First byte (ignored with `APPEND`).
        offset: u64,
        /// How.
        flags: WriteFlags,
        /// Bytes of data in front of the pieces.
        data_bytes: u32,
    } -> Written;

    /// A read-only object that keeps `length` bytes from `offset` as they are now. Short at end of
    /// file. Reply payload: head fragment, tail fragment, then the [`Hole`](crate::Hole)s.
    ///
    /// Fragments are the parts of the reader's first and last page that the transfer covers only
    /// partly: with `n` the true length and `m` = `misalignment`, the head has `(4096 - m) % 4096`
    /// bytes and the tail `(m + n) % 4096`; where no whole page lies in between, or `n` is at most
    /// `inline_max`, all `n` bytes come as head fragment and no snapshot is made (`handle` 0).
    9 Snapshot {
        /// Open file.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Bytes wanted; no limit.
        length: u64,
        /// Address of the reader's buffer modulo the page size.
        misalignment: u32,
        /// Up to this length the client prefers the bytes themselves.
        inline_max: u32,
    } -> Snapshotted;

    /// Entries of a directory. Reply payload: entries as [`dirent`](crate::dirent) writes them;
    /// none at the end.
    10 ReadDir {
        /// Open directory.
        handle: Handle,
        /// Where to go on: 0, or the `next` of an entry.
        cookie: u64,
        /// Bytes of entries, at most.
        length: u32,
    } -> Nothing;

    /// Makes a directory. Payload: path.
    11 MakeDir {
        /// Where the path starts.
        dir: Handle,
        /// Permission bits.
        mode: u32,
    } -> Walked;

    /// Takes a name away; with `DIRECTORY`, an empty directory. Payload: path. A link as last
    /// component is not followed.
    12 Remove {
        /// Where the path starts.
        dir: Handle,
        /// Empty, or `DIRECTORY`.
        flags: OpenFlags,
    } -> Walked;

    /// Gives a file another name. Payload: old path (`old_bytes` of it), new path. `Walked::which`
    /// tells which path a link was met in (0 old, 1 new).
    13 Rename {
        /// Where the old path starts.
        old_dir: Handle,
        /// Where the new path starts.
        new_dir: Handle,
        /// Bytes of the old path.
        old_bytes: u32,
        /// How.
        flags: RenameFlags,
    } -> Walked;

    /// One more name for a file (not a directory). Payload: new path.
    14 Link {
        /// Open file.
        handle: Handle,
        /// Where the new path starts.
        dir: Handle,
    } -> Walked;

    /// Makes a symbolic link. Payload: path (`path_bytes` of it), target.
    15 MakeSymlink {
        /// Where the path starts.
        dir: Handle,
        /// Bytes of the path.
        path_bytes: u32,
    } -> Walked;

    /// Reads a symbolic link, opened with `NO_FOLLOW`. Reply payload: target.
    16 ReadLink {
        /// The link.
        handle: Handle,
    } -> Nothing;

    /// Figures of the store.
    17 StatStore {
    } -> StoreInfo;

    /// Returns when the file, or everything with handle 0, is on stable storage.
    18 Sync {
        /// Which, or [`ROOT`](crate::ROOT) for all.
        handle: Handle,
    } -> Nothing;

    /// The holes of a file or a snapshot from `offset` on, within `length` bytes. Reply payload:
    /// [`Hole`](crate::Hole)s in order, offsets relative to the handle's byte 0.
    19 Extents {
        /// Open file or snapshot.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Bytes looked at.
        length: u64,
    } -> ExtentsListed;

    /// Makes bytes into a hole, or makes sure of space for them.
    20 Allocate {
        /// Open file.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// 0: allocate and extend; 1: allocate, keep the size; 2: punch a hole.
        mode: u32,
    } -> Attr;

    /// Copies a range on the server's side, atomically, memmove-safe; shares storage where it can.
    /// Holes stay holes. Short where the server's store breaks on the way.
    21 CloneRange {
        /// Open file or snapshot.
        source: Handle,
        /// First byte of the source.
        source_offset: u64,
        /// Open file.
        target: Handle,
        /// First byte of the target.
        target_offset: u64,
        /// Bytes; short at the source's end.
        length: u64,
    } -> Written;

    /// After a reconnect: the client still holds this snapshot and wants it back under a handle of
    /// the new session.
    22 Reclaim {
        /// The file.
        file: FileId,
        /// Its version at the snapshot's instant.
        version: Version,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// The handle it had.
        former: Handle,
    } -> Snapshotted;

    /// From the server: take the bytes of this snapshot now (read them all, then close it).
    23 Recall {
        /// The snapshot.
        handle: Handle,
    } -> Nothing;

    /// Asks for word before the file changes; until then the client may answer reads from its own
    /// cache.
    24 Lease {
        /// Open file.
        handle: Handle,
    } -> Attr;

    /// From the server: a lease ends; the file changes once the client has answered.
    25 Invalidate {
        /// The file.
        file: FileId,
    } -> Nothing;
}

record! {
    /// No fields.
    Nothing {}
}

record! {
    /// The session's terms.
    Welcome {
        /// Version of the session, at most the client's.
        version: u32,
        /// What the client may use: a subset of what it named.
        features: Features,
        /// Id of the root directory.
        root: FileId,
    }
}

record! {
    /// Where a path led. `link_bytes` > 0: the walk stopped at a symbolic link after `walked_bytes`
    /// of the path (the link's own name included); nothing was done, and the payload is the link's
    /// target. Otherwise the operation was carried out on the file told.
    Walked {
        /// The handle, where one was opened.
        handle: Handle,
        /// The file.
        attr: Attr,
        /// Bytes of the path that were consumed when a link was met.
        walked_bytes: u16,
        /// Bytes of the link's target, or 0.
        link_bytes: u16,
        /// Which path of the request the link was met in.
        which: u16,
    }
}

record! {
    /// What a write did.
    Written {
        /// Bytes written, from the front; short only with an error in mid-way (which comes with the
        /// next write).
        length: u64,
        /// Offset of the first byte.
        offset: u64,
        /// The file's size now.
        size: u64,
        /// The file's version now.
        version: Version,
        /// The snapshot asked for by `SNAPSHOT`, of `length` bytes from `offset`; 0 if refused.
        snapshot: Handle,
    }
}

record! {
    /// A snapshot.
    Snapshotted {
        /// Its handle, or 0 where the payload says it all.
        handle: Handle,
        /// True length in bytes, decided at the snapshot's instant.
        length: u64,
        /// The file.
        file: FileId,
        /// Its version at that instant.
        version: Version,
        /// Bytes of the head fragment in the payload.
        head_bytes: u32,
        /// Bytes of the tail fragment.
        tail_bytes: u32,
        /// Holes listed; those are all the holes up to `holes_end`.
        holes: u32,
        /// Byte of the snapshot up to which the list of holes is complete.
        holes_end: u64,
    }
}

record! {
    /// What [`Extents`] found.
    ExtentsListed {
        /// Byte up to which the list of holes is complete.
        holes_end: u64,
    }
}
