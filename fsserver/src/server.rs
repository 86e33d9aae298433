//! The file server trait: one call for each operation of the protocol.
//!
//! Calls come from the [`Dispatcher`](crate::Dispatcher), which has checked that handles are open
//! and belong to the requesting session, that paths and sizes are well-formed, and that the
//! operation's feature was granted. The server checks the type of a handle. Handles are unique over
//! all sessions of a server.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use foundation::{Errno, PAGE_BYTES};
use fsproto::{
    Allocate, Attr, ByteRange, CloneRange, CountSpace, Features, FileId, Handle, Hole, HolesListed,
    Link, ListHoles, MakeDir, MakeSymlink, Open, Path, Piece, Read, ReadAt, ReadDir, Records,
    Remove, Rename, SetAttr, Snapshot, Snapshotted, SpaceCounted, Stat, StatFs, Time, Walked,
    Write, Written,
};

use crate::buffer::ZEROS;

/// Makes a server's reserve of memory complete, from which the small allocations of a request are
/// served when there is no other memory. ENOMEM if that is not possible now.
pub type Replenish = fn() -> Result<(), Errno>;

/// What a server may use of its machine.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Bytes of memory that are available to it whenever it needs them: its floor. Its tables are
    /// sized by it, and so are the limits on what it keeps for its client.
    pub memory_bytes: u64,
    /// Replenishes its reserve of memory.
    pub replenish: Replenish,
}

/// A source of the current time.
pub trait Clock {
    /// The current time.
    fn now(&self) -> Time;

    /// The current time, or up to some milliseconds earlier if that is cheaper to determine.
    fn recent(&self) -> Time {
        self.now()
    }
}

impl<F: Fn() -> Time> Clock for F {
    fn now(&self) -> Time {
        self()
    }
}

/// The payload of a reply: segments that are sent one after the other, borrowed from the server's
/// storage where possible.
#[derive(Clone, Debug, Default)]
pub struct Payload<'a> {
    /// Mostly there is one segment, which needs no list.
    first: Option<Cow<'a, [u8]>>,
    rest: Vec<Cow<'a, [u8]>>,
}

impl<'a> Payload<'a> {
    /// An empty payload.
    #[inline]
    pub fn empty() -> Self {
        Self::default()
    }

    /// A payload of one owned segment.
    pub fn owned(bytes: Vec<u8>) -> Self {
        let mut payload = Self::empty();
        payload.push_owned(bytes);
        payload
    }

    /// Reserves memory for a number of further segments.
    #[inline]
    pub fn reserve(&mut self, segments: usize) {
        let listed = segments.saturating_sub(usize::from(self.first.is_none()));
        if listed > 0 {
            self.rest.reserve(listed);
        }
    }

    #[inline]
    fn push_segment(&mut self, segment: Cow<'a, [u8]>) {
        match &self.first {
            _ if segment.is_empty() => {}
            None => self.first = Some(segment),
            Some(_) => self.rest.push(segment),
        }
    }

    /// Appends a borrowed segment.
    #[inline]
    pub fn push(&mut self, bytes: &'a [u8]) {
        self.push_segment(Cow::Borrowed(bytes));
    }

    /// Appends an owned segment.
    pub fn push_owned(&mut self, bytes: Vec<u8>) {
        self.push_segment(Cow::Owned(bytes));
    }

    /// Appends `count` zero bytes, which all refer to one page of memory.
    pub fn push_zeros(&mut self, mut count: usize) {
        while count > 0 {
            let zeros = &ZEROS.0[..count.min(PAGE_BYTES)];
            self.push(zeros);
            count -= zeros.len();
        }
    }

    /// Total length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.segments().map(<[u8]>::len).sum()
    }

    /// Whether the length is 0.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The bytes, if there is at most one segment.
    #[inline]
    pub fn only(&self) -> Option<&[u8]> {
        self.rest.is_empty().then(|| self.first.as_deref().unwrap_or_default())
    }

    /// The segments in order.
    #[inline]
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.first.iter().chain(&self.rest).map(AsRef::as_ref)
    }

    /// Copies all segments into one vector.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments().flatten().copied().collect()
    }
}

/// Result of a request on a path: the reply, and the target of the symbolic link at which the walk
/// stopped, if it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The fields of the reply; `link_bytes` is the length of `target`.
    pub reply: Walked,
    /// The link's target, or empty.
    pub target: Vec<u8>,
}

impl Walk {
    /// The operation was carried out; `attr` describes the file.
    pub fn done(handle: Handle, attr: Attr) -> Self {
        Self { reply: Walked { handle, attr, ..Walked::default() }, target: Vec::new() }
    }

    /// The walk stopped at a link.
    pub fn link(walked_bytes: usize, target: &[u8]) -> Self {
        let reply = Walked {
            walked_bytes: walked_bytes as u16,
            link_bytes: target.len() as u16,
            ..Walked::default()
        };
        Self { reply, target: target.to_vec() }
    }

    /// The same, in the second path of the request.
    pub fn in_second_path(mut self) -> Self {
        self.reply.which = 1;
        self
    }

    /// Whether the walk stopped at a link and nothing was done.
    pub fn is_link(&self) -> bool {
        self.reply.link_bytes > 0
    }
}

/// A server's answer to the first request of a session.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Features that the server supports.
    pub features: Features,
    /// Identifies the root directory.
    pub root: FileId,
}

/// A file server. [`fsproto`] documents the operations and their errors.
#[allow(missing_docs)]
pub trait FileServer {
    fn terms(&mut self) -> Result<Terms, Errno>;
    /// Whether files and attributes, as clients see them, change by the clients' requests alone, so
    /// that the only client may be promised that ([`Features::SOLE`](fsproto::Features::SOLE)).
    fn is_steady(&self) -> bool {
        true
    }
    fn open(&mut self, request: &Open, path: Path<'_>) -> Result<Walk, Errno>;
    fn close(&mut self, handle: Handle) -> Result<(), Errno>;
    /// Does what was put off until the next request: the client has nothing to ask for now.
    fn settle(&mut self) {}
    fn attributes(&mut self, handle: Handle) -> Result<Attr, Errno>;
    fn stat(&mut self, request: &Stat, path: Path<'_>) -> Result<Walk, Errno>;
    fn set_attributes(&mut self, request: &SetAttr) -> Result<Attr, Errno>;
    /// `length` is at most [`MAX_PAYLOAD`](fsproto::MAX_PAYLOAD).
    fn read(&mut self, request: &Read) -> Result<Payload<'_>, Errno>;
    /// Bytes that a file held at a version, all of them; ESTALE where that is not certain (F9).
    /// `length` is at most [`MAX_PAYLOAD`](fsproto::MAX_PAYLOAD).
    fn read_at(&mut self, _request: &ReadAt) -> Result<Payload<'_>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Reads ranges of a file, all their bytes. They are at most
    /// [`MAX_PAYLOAD`](fsproto::MAX_PAYLOAD) bytes, and [`Features::READ_RANGES`] was granted.
    fn read_ranges(
        &mut self,
        _handle: Handle,
        _ranges: Records<'_, ByteRange>,
    ) -> Result<Payload<'_>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// `pieces` is empty unless [`Features::WRITE_REFERENCES`] was granted. The lengths of its data
    /// pieces add up to that of `data`.
    fn write(&mut self, request: &Write, data: &[u8], pieces: &[Piece]) -> Result<Written, Errno>;
    fn snapshot(&mut self, _request: &Snapshot) -> Result<(Snapshotted, Payload<'_>), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    fn read_dir(&mut self, request: &ReadDir) -> Result<Payload<'_>, Errno>;
    fn make_dir(&mut self, request: &MakeDir, path: Path<'_>) -> Result<Walk, Errno>;
    fn remove(&mut self, request: &Remove, path: Path<'_>) -> Result<Walk, Errno>;
    fn rename(&mut self, request: &Rename, old: Path<'_>, new: Path<'_>) -> Result<Walk, Errno>;
    fn link(&mut self, request: &Link, path: Path<'_>) -> Result<Walk, Errno>;
    /// `target` has 1 to [`MAX_TARGET`](fsproto::MAX_TARGET) bytes, none of them NUL.
    fn make_symlink(
        &mut self,
        request: &MakeSymlink,
        path: Path<'_>,
        target: &[u8],
    ) -> Result<Walk, Errno>;
    fn read_link(&mut self, handle: Handle) -> Result<Payload<'_>, Errno>;
    fn stat_fs(&mut self) -> Result<StatFs, Errno>;
    fn sync(&mut self, handle: Handle) -> Result<(), Errno>;
    /// Returns at most [`MAX_HOLES`](fsproto::MAX_HOLES) holes.
    fn list_holes(&mut self, request: &ListHoles) -> Result<(HolesListed, Vec<Hole>), Errno>;
    fn allocate(&mut self, request: &Allocate) -> Result<Attr, Errno>;
    /// [`Features::COUNT_SPACE`] was granted.
    fn count_space(&mut self, _request: &CountSpace) -> Result<SpaceCounted, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    fn clone_range(&mut self, request: &CloneRange) -> Result<Written, Errno>;
}
