//! The clients' handles: open files, directories, links and snapshots.

use fsproto::{FileId, Handle, OpenFlags};

use foundation::Errno;

use super::snapshot::SnapshotRecord;
use crate::handles::HandleTable;

/// The object of a handle.
pub(super) enum Opened {
    /// A regular file, with the base's handle.
    File { base: Handle, file: FileId, flags: OpenFlags },
    /// A directory or a link, with the base's handle.
    Other { base: Handle, file: FileId, flags: OpenFlags },
    /// A byte range of a file at one version.
    Snapshot(SnapshotRecord),
}

/// The table of the clients' handles.
pub(super) struct Handles {
    table: HandleTable<Opened>,
    /// Identifies the root directory.
    root: FileId,
    /// Number of snapshots in the table.
    snapshots: usize,
}

impl Handles {
    /// An empty table.
    #[inline]
    pub fn new(root: FileId) -> Self {
        Self { table: HandleTable::default(), root, snapshots: 0 }
    }

    /// Number of snapshots.
    #[inline]
    pub fn snapshots(&self) -> usize {
        self.snapshots
    }

    /// Allocates memory for `handles` handles in all. ENOMEM.
    pub fn reserve(&mut self, handles: usize) -> Result<(), Errno> {
        self.table.reserve(handles)
    }

    /// Makes sure that a handle can be assigned. ENOMEM.
    #[inline]
    pub fn prepare(&mut self) -> Result<(), Errno> {
        self.table.prepare()
    }

    /// Assigns a handle; the caller has [prepared](Self::prepare) that.
    #[inline]
    pub fn insert(&mut self, opened: Opened) -> Handle {
        self.snapshots += usize::from(matches!(opened, Opened::Snapshot(_)));
        self.table.insert(opened)
    }

    /// Closes a handle.
    #[inline]
    pub fn remove(&mut self, handle: Handle) -> Option<Opened> {
        let opened = self.table.remove(handle)?;
        self.snapshots -= usize::from(matches!(opened, Opened::Snapshot(_)));
        Some(opened)
    }

    /// Closes the handles of all snapshots of a file. Only a mutant does this.
    #[inline]
    pub fn remove_snapshots_of(&mut self, id: FileId) -> alloc::vec::Vec<Opened> {
        let of_file = |open: &Opened| matches!(open, Opened::Snapshot(record) if record.file == id);
        let removed = self.table.extract(of_file);
        self.snapshots -= removed.len();
        removed
    }

    /// The regular file of a handle, if it is one.
    #[inline]
    pub fn file(&self, handle: Handle) -> Option<FileId> {
        match self.table.get(handle) {
            Some(Opened::File { file, .. }) => Some(*file),
            _ => None,
        }
    }

    /// The snapshot of a handle, if it is one.
    #[inline]
    pub fn snapshot(&self, handle: Handle) -> Option<SnapshotRecord> {
        match self.table.get(handle) {
            Some(Opened::Snapshot(record)) => Some(record.clone()),
            _ => None,
        }
    }

    /// The base's handle and the access of a file, directory or link. EINVAL for a snapshot.
    #[inline]
    pub fn on_base(&self, handle: Handle) -> Result<(Handle, OpenFlags), Errno> {
        if handle == Handle::ROOT {
            return Ok((Handle::ROOT, OpenFlags::READ));
        }
        match self.table.get(handle).ok_or(Errno::EBADF)? {
            Opened::File { base, flags, .. } | Opened::Other { base, flags, .. } => {
                Ok((*base, *flags))
            }
            Opened::Snapshot(_) => Err(Errno::EINVAL),
        }
    }

    /// Whether a handle is the root directory.
    #[inline]
    pub fn is_root(&self, handle: Handle) -> bool {
        let opened = self.table.get(handle);
        handle == Handle::ROOT
            || matches!(opened, Some(Opened::Other { file, .. }) if *file == self.root)
    }

    /// The base's handle and the id of a regular file that was opened for `access`. EISDIR for a
    /// directory or link, EINVAL for a snapshot, EBADF otherwise.
    #[inline]
    pub fn regular(&self, handle: Handle, access: OpenFlags) -> Result<(Handle, FileId), Errno> {
        match self.table.get(handle) {
            Some(Opened::File { base, file, flags }) if flags.contains(access) => {
                Ok((*base, *file))
            }
            Some(Opened::File { .. }) => Err(Errno::EBADF),
            Some(Opened::Other { flags, .. }) if !flags.contains(access) => Err(Errno::EBADF),
            Some(Opened::Other { .. }) => Err(Errno::EISDIR),
            Some(Opened::Snapshot(_)) => Err(Errno::EINVAL),
            None if handle == Handle::ROOT => Err(Errno::EISDIR),
            None => Err(Errno::EBADF),
        }
    }
}
