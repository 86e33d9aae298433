//! A file server that keeps its files in memory and, where it is given a block device, as much as
//! does not fit on that.
//!
//! Owns: the tree and all bytes. What it was started with is an archive (the ramdisk), whose
//! members' bytes stay where they are until they are changed. Names and where each page is are
//! always in memory; nothing on the device outlives the server. Features: sparse files, removed
//! files that live on while open, clones that share pages. No snapshots:
//! [`snapfs`](mod@crate::snapfs) adds those.
//!
//! Permission bits are kept and told, not checked: the kernel checks them. What a handle was opened
//! for is checked.
//!
//! Invariants. Every inode is in use by a name or by a handle. A directory's link count is 2 plus
//! its directories; a file's, its names. A version grows with each change of the file's bytes or
//! length, in the same request.

mod archive;
mod content;
mod directory;
pub(crate) mod inode;
mod mutants;
mod names;
mod page;
mod server;
mod slab;
mod spill;
mod tree;
mod walk;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use foundation::{Errno, PAGE_BYTES};
use fsproto::{Attr, Features, Handle, OpenFlags};

pub use archive::BadArchive;

use self::inode::{Body, Inode};
use self::page::Pages;
use crate::blocks::BlockDevice;
use crate::handles::HandleTable;
use crate::server::Clock;
use crate::transport::{Transport, serve};

/// Number of the root directory.
const ROOT_INODE: u64 = 1;

/// Files there can be for each page in memory: an inode takes memory too, somewhat less than a page
/// with its names.
const FILES_PER_PAGE: u64 = 1;

/// Files there can always be.
const MIN_FILES: u64 = 4096;

/// What this server does.
const FEATURES: Features = Features::SPARSE.union(Features::OPEN_UNLINKED).union(Features::CLONE);

/// Whether a read through the protocol sets the access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTimes {
    /// It does, where the one there is older than the last change or than a day (`relatime`).
    Relative,
    /// It does not: the wrapper above keeps them, since it reads at other times than its clients do
    /// (rule X6).
    Untouched,
}

/// What a handle stands for.
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

    /// The same server with some of its features taken away: what lesser servers do, for tests of
    /// what stands above.
    pub fn without(mut self, features: Features) -> Self {
        self.features.remove(features);
        self
    }

    /// The same server, which keeps so many bytes of files in memory, and as many more as fit there
    /// on a device. ENOMEM where there is no memory for its table.
    pub fn spill_to(
        mut self,
        device: Box<dyn BlockDevice>,
        budget_bytes: u64,
    ) -> Result<Self, Errno> {
        self.pages.spill_to(device, budget_bytes / PAGE_BYTES as u64)?;
        Ok(self)
    }

    /// EOPNOTSUPP unless the feature is there.
    fn check_feature(&self, feature: Features) -> Result<(), Errno> {
        if self.features.contains(feature) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    fn inode(&self, number: u64) -> Result<&Inode, Errno> {
        // Numbers come from names and handles, which keep their inodes; handles do not where
        // removed files are not kept.
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

    /// The inode of a handle that was opened for this.
    fn opened_for(&self, handle: Handle, right: OpenFlags) -> Result<u64, Errno> {
        let open = self.open_file(handle)?;
        if open.flags.contains(right) { Ok(open.inode) } else { Err(Errno::EBADF) }
    }

    fn attr(&self, number: u64) -> Result<Attr, Errno> {
        Ok(self.inode(number)?.attr(number))
    }

    /// A handle for an inode.
    fn give_handle(&mut self, inode: u64, flags: OpenFlags) -> Result<Handle, Errno> {
        self.inode_mut(inode)?.handles += 1;
        Ok(self.handles.insert(OpenFile { inode, flags }))
    }

    /// ENOSPC unless there can be one more file.
    fn check_files(&self) -> Result<(), Errno> {
        if (self.inodes.len() as u64) < self.max_files { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// A new inode, not yet named.
    fn make(&mut self, body: Body, mode: u32) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, Inode::new(body, (mode & 0o7777) as u16, self.clock.now()));
        number
    }

    /// Lets an inode go if nothing uses it any more.
    fn drop_if_unused(&mut self, number: u64) {
        let keeps_open = self.features.contains(Features::OPEN_UNLINKED);
        if self
            .inodes
            .get(&number)
            .is_some_and(|inode| inode.links == 0 && (inode.handles == 0 || !keeps_open))
            && let Some(mut inode) = self.inodes.remove(&number)
            && let Body::Regular(content) = &mut inode.body
        {
            content.clear(&mut self.pages);
        }
    }
}

/// Serves a tree made of a ramdisk's archive through `transport`, to one client, until that is gone. It
/// keeps `memory_bytes` of files in memory beside that, and more on a device, where there is one.
pub fn run(
    archive: &'static [u8],
    memory_bytes: u64,
    device: Option<Box<dyn BlockDevice>>,
    clock: impl Clock,
    transport: impl Transport,
) -> Result<(), BadArchive> {
    // The ramdisk is there beside what can be written.
    let mut server = Memfs::new(
        memory_bytes.saturating_add(archive.len() as u64),
        AccessTimes::Untouched,
        clock,
    );
    if let Some(device) = device {
        server = server.spill_to(device, memory_bytes).map_err(|_| BadArchive::no_memory())?;
    }
    server.add_archive(archive)?;
    serve(server, transport).map_err(|_| BadArchive::no_memory())
}
