//! A file server that keeps its files in memory and, if it has a block device, on that what does
//! not fit.
//!
//! Owns the tree and all bytes. The initial contents are an archive (the ramdisk), whose bytes stay
//! in place until they change. Names and the location of each page are always in memory; nothing on
//! the device outlives the server. Features: sparse files, removed files that exist while open,
//! clones that share pages, and reads of an earlier version where nothing has changed since (F9).
//! Snapshots are added by [`snapfs`](mod@crate::snapfs).
//!
//! Permission bits are stored, not checked: the kernel checks them. The access of a handle is
//! checked.
//!
//! Invariants: every inode has a name or a handle. The link count of a directory is 2 plus the
//! number of directories in it; of a file, the number of its names. A version increases with each
//! change of the file's bytes or length, in the same request and before the first byte changes.

mod archive;
mod changes;
mod content;
mod directory;
mod entries;
pub(crate) mod inode;
mod mutants;
mod names;
mod node;
mod page;
mod parts;
mod placed;
mod reading;
mod reference;
mod server;
mod shared;
mod slab;
mod spill;
mod tree;
mod walk;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use foundation::{Errno, PAGE_BYTES};
use fsproto::{Attr, Features, Handle, MAX_PAYLOAD, OpenFlags};

pub use archive::BadArchive;

use self::inode::{Body, INODE_BYTES, Inode};
use self::page::Pages;
use self::placed::WINDOW_BYTES;
use crate::blocks::BlockDevice;
use crate::handles::HandleTable;
use crate::server::{Clock, Resources};
use crate::session::ClientLimits;
use crate::transport::{Transport, serve};

/// Inode number of the root directory.
const ROOT_INODE: u64 = 1;

/// Number of files possible for each page of capacity: an inode with its name takes more than an
/// eighth of a page. Where memory is limited, what inodes and names take of it is the bound.
const FILES_PER_PAGE: u64 = 8;

/// Memory for the small allocations of one request: the tree nodes above the pages of a message, a
/// name, an inode.
pub const RESERVE_BYTES: usize = 256 << 10;

/// Memory that the server takes besides files, names and tables: the inbox, the buffer of the
/// device, the reserve, the slab that is being filled, and what the allocator has left in its last
/// mapping.
const FIXED_BYTES: u64 = (4 * (MAX_PAYLOAD + 2 * PAGE_BYTES) + RESERVE_BYTES) as u64;

/// The share of memory for the table of handles.
const HANDLES_SHARE: u64 = 64;

/// Memory of a handle: its slot, and the handle of the dispatcher.
const HANDLE_BYTES: u64 = 96;

/// Number of files that are always possible.
const MIN_FILES: u64 = 4096;

/// Features that the server supports.
const FEATURES: Features = Features::SPARSE
    .union(Features::OPEN_UNLINKED)
    .union(Features::CLONE)
    .union(Features::DIRECT)
    .union(Features::READ_RANGES)
    .union(Features::KEEP_TIMES)
    .union(Features::COUNT_SPACE);

/// Whether a read request updates the access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTimes {
    /// It does, if the access time is older than the last change or than a day (`relatime`).
    Relative,
    /// It does not: the wrapper above keeps access times, since it reads at other times than its
    /// clients (X6).
    Untouched,
}

/// The object of a handle.
#[derive(Clone, Copy, Debug)]
struct OpenFile {
    inode: u64,
    flags: OpenFlags,
}

/// The server.
pub struct Memfs<C> {
    clock: C,
    features: Features,
    access_times: AccessTimes,
    pages: Pages,
    max_files: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    handles: HandleTable<OpenFile>,
}

impl<C: Clock> Memfs<C> {
    /// An empty tree that can hold `capacity_bytes` of file bytes.
    pub fn new(capacity_bytes: u64, access_times: AccessTimes, clock: C) -> Self {
        let pages = Pages::new(capacity_bytes / PAGE_BYTES as u64);
        let max_files = pages.capacity.saturating_mul(FILES_PER_PAGE).max(MIN_FILES);
        let root = Inode::new(Body::directory(ROOT_INODE), 0o755, clock.now());
        let inodes = BTreeMap::from([(ROOT_INODE, root)]);
        let next_inode = ROOT_INODE + 1;
        let features = FEATURES;
        Self {
            clock,
            features,
            access_times,
            pages,
            max_files,
            inodes,
            next_inode,
            handles: HandleTable::default(),
        }
    }

    /// The same server with fewer features, to test wrappers with such a base.
    pub fn without(mut self, features: Features) -> Self {
        self.features.remove(features);
        self
    }

    /// The same server, which keeps at most `budget_bytes` of file bytes in memory and the rest on
    /// a device. ENOMEM without memory for the device's bit map.
    pub fn spill_to(
        mut self,
        device: Box<dyn BlockDevice>,
        budget_bytes: u64,
    ) -> Result<Self, Errno> {
        self.pages.spill_to(device, budget_bytes / PAGE_BYTES as u64)?;
        Ok(self)
    }

    /// The same server, with a device on which files of the archive are. ENOMEM without memory for
    /// the pages of a request.
    pub fn placed_on(mut self, device: Box<dyn BlockDevice>) -> Result<Self, Errno> {
        self.pages.placed_on(device)?;
        Ok(self)
    }

    /// The same server, whose files, names and tables take at most `bytes` of memory.
    pub fn limited_to(mut self, bytes: u64) -> Self {
        self.pages.limit_memory(bytes);
        self
    }

    /// EOPNOTSUPP unless the server has the feature.
    fn check_feature(&self, feature: Features) -> Result<(), Errno> {
        if self.features.contains(feature) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    fn inode(&self, number: u64) -> Result<&Inode, Errno> {
        // Names and handles keep their inodes, except handles of removed files without
        // `OPEN_UNLINKED`.
        self.inodes.get(&number).ok_or(Errno::ESTALE)
    }

    fn inode_mut(&mut self, number: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&number).ok_or(Errno::ESTALE)
    }

    fn open_file(&self, handle: Handle) -> Result<OpenFile, Errno> {
        if handle == Handle::ROOT {
            return Ok(OpenFile { inode: ROOT_INODE, flags: OpenFlags::READ });
        }
        self.handles.get(handle).copied().ok_or(Errno::EBADF)
    }

    /// The inode of a handle that was opened for `access`; EBADF otherwise.
    fn opened_for(&self, handle: Handle, access: OpenFlags) -> Result<u64, Errno> {
        let open = self.open_file(handle)?;
        if open.flags.contains(access) { Ok(open.inode) } else { Err(Errno::EBADF) }
    }

    fn attr(&self, number: u64) -> Result<Attr, Errno> {
        Ok(self.inode(number)?.attr(number))
    }

    /// Assigns a handle to an inode; the caller has prepared the table of handles.
    fn assign_handle(&mut self, inode: u64, flags: OpenFlags) -> Result<Handle, Errno> {
        self.inode_mut(inode)?.handles += 1;
        Ok(self.handles.insert(OpenFile { inode, flags }))
    }

    /// ENOSPC unless another file is possible.
    fn check_files(&self) -> Result<(), Errno> {
        if (self.inodes.len() as u64) < self.max_files { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// Creates an inode without a name.
    fn make(&mut self, body: Body, mode: u32) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.pages.charge(INODE_BYTES + body.bytes());
        self.inodes.insert(number, Inode::new(body, (mode & 0o7777) as u16, self.clock.now()));
        number
    }

    /// Frees an inode that has neither names nor handles.
    fn free_if_unused(&mut self, number: u64) {
        let keeps_open = self.features.contains(Features::OPEN_UNLINKED);
        if self
            .inodes
            .get(&number)
            .is_some_and(|inode| inode.links == 0 && (inode.handles == 0 || !keeps_open))
            && let Some(mut inode) = self.inodes.remove(&number)
        {
            self.pages.refund(INODE_BYTES + inode.body.bytes() + inode.changes.bytes());
            if let Body::Regular(content) = &mut inode.body {
                content.clear(&mut self.pages);
            }
        }
    }
}

/// Serves the tree of a ramdisk's archive to one client through `transport`. Returns when the
/// client is gone. Within the memory of `resources` it keeps file bytes, names and tables in
/// addition to the archive, and more file bytes on the first device, if there is one. On the second
/// one are the files that the archive only lists.
pub fn run(
    archive: &'static [u8],
    resources: Resources,
    [device, placed]: [Option<Box<dyn BlockDevice>>; 2],
    clock: impl Clock,
    transport: impl Transport,
) -> Result<(), BadArchive> {
    let most = ClientLimits::default().files;
    let for_handles = resources.memory_bytes / HANDLES_SHARE;
    let files = usize::try_from(for_handles / HANDLE_BYTES).unwrap_or(most).clamp(256, most);
    let tables = device.as_ref().map_or(0, |device| device.blocks() / 8);
    let window = if placed.is_some() { WINDOW_BYTES } else { 0 };
    let fixed = FIXED_BYTES + for_handles + tables + window;
    let memory_bytes = resources.memory_bytes.saturating_sub(fixed);
    // The archive's bytes do not count against the memory for writing.
    let capacity_bytes = memory_bytes.saturating_add(archive.len() as u64);
    let no_memory = |_| BadArchive::no_memory();
    let mut server = Memfs::new(capacity_bytes, AccessTimes::Untouched, clock);
    if let Some(device) = device {
        server = server.spill_to(device, memory_bytes).map_err(no_memory)?;
    }
    if let Some(device) = placed {
        server = server.placed_on(device).map_err(no_memory)?;
    }
    server = server.limited_to(memory_bytes);
    server.handles.reserve(files).map_err(no_memory)?;
    server.add_archive(archive)?;
    let limits = ClientLimits { files, snapshots: 0 };
    serve(server, resources.replenish, limits, transport).map_err(no_memory)
}
