//! A file server that adds snapshots to another one, its *base*.
//!
//! Owns the snapshots, and the bytes rescued for them, which lie in files without names on the
//! base. Does not own the files: every request that concerns no snapshot is passed on. The wrapper
//! is the base's only client, so it sees every change.
//!
//! A snapshot costs a record in memory (C9). Before a change of bytes that a snapshot still finds
//! in its file, the old ones are copied to the file's *rescue file*, by the base itself where it
//! can (C1, C2, C5, C6). If that fails, the change is refused and nothing is lost. Appending needs
//! no rescue (C7), and neither does a file that loses its last name: it is held open (C3, C4), or
//! moved to a hidden folder.
//!
//! # Space
//!
//! The space that a snapshot may come to need in the rescue file is reserved when it is taken, once
//! for each page and nothing for holes. Without that much space the snapshot is refused (Q1). From
//! then on a change that needs space of its own gets ENOSPC before it would use what is reserved.
//!
//! # Writes by reference
//!
//! A write may refer to snapshots instead of carrying their bytes (W1). The base copies these from
//! the file or from the rescue file. Where they are written back to where they came from, and
//! nothing has changed since, nothing is done (W2). All that the write changes is rescued before
//! any of it is written, so source and target may be the same file (W3).
//!
//! # Order (C11)
//!
//! 1. The wrapper carries out one request at a time: `&mut self` of
//!    [`FileServer`](crate::FileServer). So snapshot, page-in and change each see what came before
//!    as a whole.
//! 2. A change is prepared (`prepare`): space is checked, then the old bytes are
//!    rescued (`Rescuing`). Only when all of that has succeeded is the base asked to change the
//!    file.
//! 3. A page-in (`gather`) reads live pages from the base first and then consults
//!    the rescue map again: pages that were rescued meanwhile are read from the rescue file. So it
//!    stays correct when the base is asked asynchronously.
//!
//! # Owners
//!
//! | type | owns |
//! |---|---|
//! | `Handles` | the clients' handles, and the snapshots among them |
//! | `Files` | the files that are open or have snapshots, each with its `RescueMap` and `RescueFile` |
//! | `SpaceAccount` | the sums over all rescue maps, and the base's free space |
//! | `HiddenNames` | the hidden folder |
//! | `Copier` | copies on the base, and which files share storage because of them |
//! | `AccessTimes` | access times that the base does not know |
//!
//! Invariants: a file's map covers the pages of all its snapshots. The account equals the sums over
//! the maps. A file is in `Files` as long as it has a handle or a snapshot, and has an open handle
//! on the base for as long.

mod access_times;
mod change;
mod clone;
mod copy;
mod coverage;
mod deleted;
mod file;
mod files;
mod gather;
mod handles;
mod hidden;
mod holes;
mod limits;
mod mutants;
mod pieces;
mod rescue_file;
mod rescue_map;
mod rescuing;
mod server;
mod snapshot;
mod space;
mod steps;
mod versions;

use foundation::{ByteCount, Errno, PAGE_BYTES, PageCount};
use fsproto::{Attr, Features, FileId, Handle, MAX_PAYLOAD, OpenFlags, Version};

use self::access_times::AccessTimes;
use self::copy::{Copier, Position};
use self::files::Files;
use self::handles::Handles;
use self::hidden::HiddenNames;
pub use self::limits::{Limits, RESERVE_BYTES};
use self::rescuing::Rescuing;
use self::space::SpaceAccount;
use crate::attributes::atime_is_due;
use crate::buffer::AlignedBuffer;
use crate::server::{Clock, Resources};
use crate::transport::{Transport, serve};
use crate::{Base, Connection};

/// Features of the base that are used where it has them. `DIRECT` is for the client: ids and
/// versions that it sees are the base's, so it may ask the base for pages itself (F9).
const WANTED: Features = Features::SPARSE
    .union(Features::OPEN_UNLINKED)
    .union(Features::CLONE)
    .union(Features::DIRECT)
    .union(Features::READ_RANGES)
    .union(Features::KEEP_TIMES)
    .union(Features::COUNT_SPACE);

/// What the wrapper holds at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Open snapshots.
    pub snapshots: usize,
    /// Pages of space that changes may have to use on the base.
    pub reserved_pages: u64,
    /// Rescued pages that are still needed.
    pub stored_pages: u64,
    /// Entries of all rescue maps.
    pub entries: usize,
    /// Temporary files that hold rescued bytes.
    pub rescue_files: usize,
    /// Regular files that a client has open or a snapshot needs.
    pub files: usize,
}

/// Bytes of changes since the start, by how they were handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traffic {
    rescued: ByteCount,
    elided: ByteCount,
    cloned: ByteCount,
}

/// The server.
pub struct Snapfs<C, K> {
    base: Base<C>,
    clock: K,
    handles: Handles,
    files: Files,
    space: SpaceAccount,
    limits: Limits,
    copier: Copier,
    hidden: HiddenNames,
    access_times: AccessTimes,
    traffic: Traffic,
    /// Where the bytes of a reply are assembled: those from the file, and from the next page on
    /// those from the rescue file.
    buffer: AlignedBuffer,
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Opens a session with the base. The wrapper must be its only client.
    pub fn new(connection: C, clock: K) -> Result<Self, Errno> {
        let mut base = Base::connect(connection, WANTED)?;
        let hidden = HiddenNames::new(&mut base)?;
        let handles = Handles::new(base.root());
        Ok(Self {
            base,
            clock,
            handles,
            files: Files::new(Limits::default().fragmented_files()),
            space: SpaceAccount::default(),
            limits: Limits::default(),
            copier: Copier::default(),
            hidden,
            access_times: AccessTimes::default(),
            traffic: Traffic::default(),
            buffer: AlignedBuffer::new(MAX_PAYLOAD + PAGE_BYTES)?,
        })
    }

    /// The same server with other limits. For one that has not been used yet.
    pub fn limited_to(self, limits: Limits) -> Self {
        Self { limits, files: Files::new(limits.fragmented_files()), ..self }
    }

    /// What is held at present.
    pub fn figures(&self) -> Figures {
        Figures {
            snapshots: self.handles.snapshots(),
            reserved_pages: self.files.iter().map(|(_, file)| file.live_data_pages().0).sum(),
            stored_pages: self.space.stored().0,
            entries: self.space.entries(),
            rescue_files: self.files.rescue_files(),
            files: self.files.len(),
        }
    }

    /// The session with the base.
    pub fn base(&self) -> &Base<C> {
        &self.base
    }

    /// Lends what rescuing needs.
    fn rescuing(&mut self) -> Rescuing<'_, C> {
        Rescuing {
            base: &mut self.base,
            files: &mut self.files,
            space: &mut self.space,
            limits: self.limits,
            hidden: &mut self.hidden,
            copier: &mut self.copier,
            buffer: &mut self.buffer,
            rescued: &mut self.traffic.rescued,
        }
    }

    /// The base's attributes of a file that is open or has snapshots.
    fn base_attr(&mut self, id: FileId) -> Result<Attr, Errno> {
        self.files.base_attr(&mut self.base, id)
    }

    /// Length in bytes and version of a file that is open or has snapshots.
    fn size_and_version(&mut self, id: FileId) -> Result<(u64, Version), Errno> {
        self.files.size_and_version(&mut self.base, id)
    }

    /// A handle (`closed`, the base's one) or a snapshot of a file was closed.
    fn release(&mut self, id: FileId, closed: Option<Handle>) {
        let Self { base, hidden, access_times, files, .. } = self;
        files.release(base, hidden, access_times, (id, closed));
    }

    /// ENOSPC unless the base has space for `pages` in addition to all that is reserved.
    fn check_space(&mut self, pages: PageCount) -> Result<(), Errno> {
        match self.space.check(&mut self.base, pages) {
            Err(Errno::ENOSPC) if self.files.tighten(&mut self.space) => {
                self.space.check(&mut self.base, pages)
            }
            checked => checked,
        }
    }

    /// Copies a range on the base.
    fn copy_on_base(
        &mut self,
        from: Position,
        to: Position,
        length: ByteCount,
    ) -> Result<fsproto::Written, Errno> {
        self.copier.copy(&mut self.base, &mut self.buffer, from, to, length)
    }

    /// Attributes as a client sees them, from the base's.
    fn shown(&self, mut attr: Attr) -> Attr {
        if let Some(atime) = self.access_times.get(attr.id) {
            attr.atime = atime;
        }
        if self.files.get(attr.id).is_ok_and(|file| file.kept.is_some()) {
            attr.links = 0;
        }
        if attr.id == self.base.root() && self.hidden.has_folder() {
            attr.links = attr.links.saturating_sub(1);
        }
        attr
    }

    /// A client has read a file through a handle.
    fn read_by(&mut self, handle: Handle, id: FileId) {
        let opened = self.handles.on_base(handle);
        if !opened.is_ok_and(|(_, flags)| flags.contains(OpenFlags::KEEP_ACCESS_TIME)) {
            self.accessed(id);
        }
    }

    /// A client has read a file: updates the access time, if it is due.
    fn accessed(&mut self, id: FileId) {
        let now = self.clock.recent();
        // Unknown attributes mean that the file has changed since its last read.
        let attr = self.files.get(id).ok().and_then(|file| file.attr).map(|attr| self.shown(attr));
        if attr.is_none_or(|attr| atime_is_due(attr.atime, attr.mtime, attr.ctime, now)) {
            self.access_times.set(id, now);
        }
    }
}

/// Serves what the base at the other end of `connection` holds, with snapshots, to one client
/// through `transport`. Returns when the client is gone.
pub fn run(
    connection: impl Connection,
    resources: Resources,
    clock: impl Clock,
    transport: impl Transport,
) -> Result<(), Errno> {
    let server = Snapfs::new(connection, clock)?;
    let (limits, clients) = Limits::within(resources.memory_bytes, server.base.max_files());
    let mut server = server.limited_to(limits);
    server.handles.reserve(clients.files + clients.snapshots)?;
    serve(server, resources.replenish, clients, transport)
}
