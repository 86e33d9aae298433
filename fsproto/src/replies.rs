//! The fields of replies that several operations have, or that are more than attributes.

use foundation::{ByteCount, FileOffset, PageCount, SnapshotOffset};

use crate::codec::record;
use crate::{Attr, Features, FileId, Handle, Version};

record! {
    /// A request or reply without fields.
    Nothing {}
}

record! {
    /// The terms of a session.
    Welcome {
        /// Version of the session, at most the client's.
        version: u32,
        /// Features that the client may use: a subset of those in its [`Hello`](crate::Hello).
        features: Features,
        /// Identifies the root directory.
        root: FileId,
        /// Files, directories and links that the client may have open at once, beyond which opening
        /// fails with ENFILE; 0 where the server does not say.
        files: u32,
    }
}

record! {
    /// Result of a request on a path. With `link_bytes` > 0 the walk stopped at a symbolic link
    /// after `walked_bytes` of the path (the link's own name included), nothing was done, and the
    /// reply's payload is the link's target. Otherwise the operation was carried out.
    Walked {
        /// The handle, if one was opened.
        handle: Handle,
        /// Attributes of the file at the path.
        attr: Attr,
        /// Bytes of the path up to and including the link.
        walked_bytes: u16,
        /// Length of the link's target in bytes, or 0.
        link_bytes: u16,
        /// Index of the request's path in which the link was found: 0, or 1 in
        /// [`Rename`](crate::Rename).
        which: u16,
        /// Of [`Rename`](crate::Rename): the file that had the new name before, and has lost it
        /// or, with `EXCHANGE`, has the old one now. [`FileId::NONE`] if there was no other file.
        displaced: FileId,
    }
}

record! {
    /// Result of a write.
    Written {
        /// Bytes written from the start on. Fewer than requested only if an error occurred after
        /// some bytes; the next write reports it.
        length: ByteCount,
        /// Position of the first byte.
        offset: FileOffset,
        /// Size of the file after the write.
        size: ByteCount,
        /// Version of the file after the write.
        version: Version,
        /// The snapshot requested by `SNAPSHOT`, of `length` bytes from `offset` on;
        /// [`Handle::NONE`] if refused.
        snapshot: Handle,
    }
}

record! {
    /// Result of taking a snapshot.
    Snapshotted {
        /// The snapshot, or [`Handle::NONE`] if the payload holds all bytes.
        handle: Handle,
        /// True length, determined when the snapshot was taken.
        length: ByteCount,
        /// Identifies the file.
        file: FileId,
        /// The file's version when the snapshot was taken.
        version: Version,
        /// Length of the leading fragment in bytes.
        leading_bytes: u32,
        /// Length of the trailing fragment in bytes.
        trailing_bytes: u32,
        /// Number of holes in the payload: all that begin before `holes_end`.
        holes: u32,
        /// Position up to which the list of holes is complete.
        holes_end: SnapshotOffset,
    }
}

record! {
    /// Result of [`CountSpace`](crate::CountSpace).
    SpaceCounted {
        /// Pages of further space: holes, and pages without storage of their own. Where they are
        /// more than are free, at least one more than that.
        pages: PageCount,
    }
}

record! {
    /// Result of [`ListHoles`](crate::ListHoles).
    HolesListed {
        /// Position up to which the list is complete, counted as in the request.
        holes_end: u64,
    }
}
