//! The wrapper: a file server that talks to another one, and adds snapshots to it.
//!
//! Owns: which snapshots there are, and the bytes that were rescued for them, in files without
//! names on the server beneath (the *base*). Does not own the files: everything but snapshots is
//! passed on. It has the base to itself, so it knows of every change.
//!
//! A snapshot costs a record in memory (rule C9). Before a change of bytes that a snapshot still
//! finds in the file, the old ones are copied to the *store* of the file, by the base itself where
//! it can (C1, C2, C5, C6); if that fails, the change is refused and nothing is lost. What is
//! appended needs no rescue (C7), nor does a file that loses its last name: it is held open (C3,
//! C4), or moved to where no client sees it.
//!
//! Room. What a snapshot may come to need in the store is reserved when it is taken, once for a
//! page, and nothing for a hole; where there is not so much room the snapshot is refused (Q1). From
//! then on a change that needs room of its own gets ENOSPC before it would touch what is reserved.
//!
//! A write may refer to snapshots instead of carrying their bytes (W1): these are copied by the
//! base, from the file or from the store; and where they are written back to where they came from
//! and nothing has changed since, there is nothing to do (W2). All that the write changes is
//! rescued before any of it is written, so it does not matter that source and target may be one
//! file (W3).
//!
//! Order (C11). The wrapper is serial: snapshot, page-in and change each see what came before as a
//! whole. A page-in looks at the map again after the base's answer, so that this stays right when
//! the base is asked asynchronously.
//!
//! Invariants. The map of a file covers the pages of all its snapshots. The sum of the maps'
//! reserved pages is `reserved`, of their stored pages `stored`. A file is known here as long as it
//! has a handle or a snapshot, and has an open handle on the base as long.

mod change;
mod clone;
mod file;
mod hidden;
mod holes;
mod pieces;
mod rescue;
mod server;
mod snapshot;
mod store;

use alloc::collections::BTreeMap;

use foundation::Errno;
use fsproto::{Features, FileId, Handle, MAX_PAYLOAD, OpenFlags, Time};

use self::clone::Cloned;
use self::file::File;
use self::hidden::Hidden;
use self::snapshot::Taken;
use crate::buffer::AlignedBuffer;
use crate::server::Clock;
use crate::transport::{Transport, serve};
use crate::{Base, Connection};

/// Snapshots of one file, at most (Q4): each may cost a few segments of the file's map.
pub const MAX_SNAPSHOTS_PER_FILE: usize = 32_768;

/// Snapshots in all, at most (Q4): a few hundred bytes each.
pub const MAX_SNAPSHOTS_TOTAL: usize = 65_536;

/// Segments of one file's map, at most (Q4): past it a snapshot is refused, so that many small
/// changes cannot use up the memory.
pub const MAX_SEGMENTS: usize = 65_536;

/// Access times that are kept here; the oldest files' go first.
const MAX_ACCESS_TIMES: usize = 4096;

/// What is used of the base where it has it.
const WANTED: Features = Features::SPARSE.union(Features::OPEN_UNLINKED).union(Features::CLONE);

/// What a handle stands for.
enum Open {
    /// A regular file, with the base's handle.
    File { base: Handle, file: FileId, flags: OpenFlags },
    /// A directory or a link.
    Other { base: Handle, file: FileId, flags: OpenFlags },
    /// A snapshot.
    Snapshot(Taken),
}

/// How much the wrapper keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Snapshots that are open.
    pub snapshots: usize,
    /// Pages of room that are set aside on the base.
    pub reserved_pages: u64,
    /// Pages that were rescued and are still needed.
    pub stored_pages: u64,
    /// Files on the base in which they are.
    pub stores: usize,
    /// Regular files that are known, because a client has them open or a snapshot needs them.
    pub files: usize,
}

/// How many bytes took which way since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traffic {
    rescued: u64,
    elided: u64,
    cloned: u64,
}

/// The server.
pub struct Snapfs<C, K> {
    base: Base<C>,
    clock: K,
    handles: BTreeMap<Handle, Open>,
    next_handle: u64,
    files: BTreeMap<FileId, File>,
    snapshots: usize,
    reserved: u64,
    stored: u64,
    traffic: Traffic,
    /// Blocks that are certainly free on the base; it is asked when this is too few.
    free_at_least: u64,
    /// Whether the base copies ranges by itself; learned when it refuses.
    base_copies: bool,
    /// Which files may share pages on the base.
    cloned: Cloned,
    /// Access times that are newer than the base's: a read here is no read there (X6).
    access_times: BTreeMap<FileId, Time>,
    /// Where files are kept that may have no name, on a base that cannot keep those.
    hidden: Option<Hidden>,
    /// Where a reply's bytes are put together.
    space: AlignedBuffer,
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Opens a session with the base, of which this has to be the only client.
    pub fn new(client: C, clock: K) -> Result<Self, Errno> {
        let base = Base::connect(client, WANTED)?;
        let keeps_unlinked = base.features().contains(Features::OPEN_UNLINKED);
        let mut wrapper = Self {
            base,
            clock,
            handles: BTreeMap::new(),
            next_handle: Handle::ROOT.0 + 1,
            files: BTreeMap::new(),
            snapshots: 0,
            reserved: 0,
            stored: 0,
            traffic: Traffic::default(),
            free_at_least: 0,
            base_copies: true,
            cloned: Cloned::default(),
            access_times: BTreeMap::new(),
            hidden: (!keeps_unlinked).then(Hidden::default),
            space: AlignedBuffer::new(MAX_PAYLOAD)?,
        };
        if wrapper.hidden.is_some() {
            wrapper.clear_folder()?;
        }
        Ok(wrapper)
    }

    /// How much is kept now.
    pub fn figures(&self) -> Figures {
        Figures {
            snapshots: self.snapshots,
            reserved_pages: self.reserved,
            stored_pages: self.stored,
            stores: self.files.values().filter(|file| file.store.is_some()).count(),
            files: self.files.len(),
        }
    }

    /// The session with the base.
    pub fn base(&self) -> &Base<C> {
        &self.base
    }

    fn give_handle(&mut self, open: Open) -> Handle {
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        self.handles.insert(handle, open);
        handle
    }

    /// The base's handle and the rights of a file or directory; EINVAL for a snapshot, which is
    /// neither written nor searched.
    fn passed_on(&self, handle: Handle) -> Result<(Handle, OpenFlags), Errno> {
        if handle == Handle::ROOT {
            return Ok((Handle::ROOT, OpenFlags::READ));
        }
        match self.handles.get(&handle).ok_or(Errno::EBADF)? {
            Open::File { base, flags, .. } | Open::Other { base, flags, .. } => Ok((*base, *flags)),
            Open::Snapshot(_) => Err(Errno::EINVAL),
        }
    }

    /// Whether a client's handle is the root directory.
    fn is_root(&self, handle: Handle) -> bool {
        let root = self.base.root();
        handle == Handle::ROOT
            || matches!(self.handles.get(&handle), Some(Open::Other { file, .. }) if *file == root)
    }

    /// A regular file that was opened for this; EISDIR or EINVAL for what is none.
    fn regular(&self, handle: Handle, right: OpenFlags) -> Result<(Handle, FileId), Errno> {
        match self.handles.get(&handle) {
            Some(Open::File { base, file, flags }) if flags.contains(right) => Ok((*base, *file)),
            Some(Open::File { .. }) => Err(Errno::EBADF),
            Some(Open::Other { flags, .. }) if !flags.contains(right) => Err(Errno::EBADF),
            Some(Open::Other { .. }) => Err(Errno::EISDIR),
            Some(Open::Snapshot(_)) => Err(Errno::EINVAL),
            None if handle == Handle::ROOT => Err(Errno::EISDIR),
            None => Err(Errno::EBADF),
        }
    }

    fn file(&mut self, id: FileId) -> Result<&mut File, Errno> {
        // Cannot fail: a handle or a snapshot keeps its file. No reason to panic either.
        self.files.get_mut(&id).ok_or(Errno::EIO)
    }
}

/// Serves what the server at the other end of `client` holds, with snapshots, through `transport`, to
/// one client, until that is gone.
pub fn run(
    client: impl Connection,
    clock: impl Clock,
    transport: impl Transport,
) -> Result<(), Errno> {
    serve(Snapfs::new(client, clock)?, transport)
}
