//! The entries of a directory, by name and in the order in which they are listed.
//!
//! An entry's cookie is assigned when the entry is created. Cookies ascend and are never reused, so
//! a listing continues where it was, even if entries are added and removed meanwhile.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use foundation::Errno;
use fsproto::dirent::DirEntry;
use fsproto::{FileId, FileKind, Writer};

/// An entry: its cookie, and the inode that it names.
#[derive(Clone, Copy)]
struct Entry {
    inode: u64,
    kind: FileKind,
    cookie: u64,
}

/// Bytes of memory that an entry takes besides its name, with what its tables and the allocator
/// add.
const ENTRY_BYTES: u64 =
    (2 * (size_of::<Entry>() + size_of::<u64>() + 2 * size_of::<Arc<[u8]>>()) + 48) as u64;

/// Bytes of memory that an entry of a name takes.
pub(super) fn entry_bytes(name: &[u8]) -> u64 {
    ENTRY_BYTES + name.len() as u64
}

/// The entries of a directory.
pub(super) struct Directory {
    /// Inode of the parent directory; of itself for the root.
    pub parent: u64,
    by_name: BTreeMap<Arc<[u8]>, Entry>,
    by_cookie: BTreeMap<u64, Arc<[u8]>>,
    last_cookie: u64,
}

impl Directory {
    /// A directory without entries.
    pub fn new(parent: u64) -> Self {
        Self { parent, by_name: BTreeMap::new(), by_cookie: BTreeMap::new(), last_cookie: 0 }
    }

    /// The inode that a name refers to.
    pub fn get(&self, name: &[u8]) -> Option<u64> {
        self.by_name.get(name).map(|entry| entry.inode)
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The length that `stat` reports: a number that grows with the entries.
    pub fn size(&self) -> u64 {
        40 + 20 * self.by_name.len() as u64
    }

    /// Adds an entry. An existing name keeps its place in the listing and refers to the new inode.
    /// Returns the bytes of memory that this took.
    pub fn insert(&mut self, name: &[u8], inode: u64, kind: FileKind) -> u64 {
        if let Some(entry) = self.by_name.get_mut(name) {
            (entry.inode, entry.kind) = (inode, kind);
            return 0;
        }
        let bytes = entry_bytes(name);
        self.last_cookie += 1;
        let (name, cookie): (Arc<[u8]>, u64) = (name.into(), self.last_cookie);
        self.by_cookie.insert(cookie, name.clone());
        self.by_name.insert(name, Entry { inode, kind, cookie });
        bytes
    }

    /// Removes an entry. Returns the bytes of memory that this freed.
    pub fn remove(&mut self, name: &[u8]) -> u64 {
        let Some(entry) = self.by_name.remove(name) else { return 0 };
        self.by_cookie.remove(&entry.cookie);
        entry_bytes(name)
    }

    /// Encodes as many entries behind `cookie` as fit. EINVAL if there is one and it does not fit.
    pub fn list(&self, cookie: u64, writer: &mut Writer<'_>) -> Result<(), Errno> {
        for (&next, name) in
            self.by_cookie.range((core::ops::Bound::Excluded(cookie), core::ops::Bound::Unbounded))
        {
            let Some(entry) = self.by_name.get(name) else { continue };
            let entry = DirEntry { id: FileId(entry.inode), next, kind: entry.kind, name };
            if entry.encode(writer).is_err() {
                return if writer.used() == 0 { Err(Errno::EINVAL) } else { Ok(()) };
            }
        }
        Ok(())
    }
}
