//! Inodes: files of all types, without their names.

use alloc::boxed::Box;
use core::ops::Range;

use foundation::{ByteCount, Errno, PAGE_BYTES};
use fsproto::{Attr, FileId, FileKind, Time, Version};

use super::changes::Changes;
use super::content::Content;
use super::directory::Directory;
use super::mutants;
use super::page::Pages;
use crate::attributes::atime_is_due;

/// Bytes of memory that an inode takes, with what its table and the allocator add.
pub(super) const INODE_BYTES: u64 = 2 * (size_of::<Inode>() + size_of::<u64>()) as u64;

/// The contents of a file, by type.
pub(super) enum Body {
    Regular(Content),
    Directory(Directory),
    Symlink(Box<[u8]>),
    /// Without contents: the data of a pipe pass through the kernel.
    Pipe,
    /// Without contents: the name of a socket.
    Socket,
}

impl Body {
    /// Bytes of memory that it takes besides its pages, entries and inode.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Symlink(target) => target.len() as u64 + 32,
            _ => 0,
        }
    }

    /// An empty directory in `parent`.
    pub fn directory(parent: u64) -> Self {
        Self::Directory(Directory::new(parent))
    }
}

/// A file, directory, symbolic link, named pipe or socket.
pub(super) struct Inode {
    pub body: Body,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Number of names; of a directory including `.` and the `..` of its directories.
    pub links: u32,
    /// Number of open handles.
    pub handles: u32,
    pub version: u64,
    /// Of a regular file: what has changed with which version.
    pub changes: Changes,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    /// When it was made.
    pub btime: Time,
    /// Whether it was made without a name, and can get one.
    pub is_linkable: bool,
}

impl Inode {
    /// An inode without a name.
    pub fn new(body: Body, mode: u16, now: Time) -> Self {
        let links = if matches!(body, Body::Directory(_)) { 2 } else { 0 };
        Self {
            body,
            mode,
            uid: 0,
            gid: 0,
            links,
            handles: 0,
            version: 1,
            changes: Changes::default(),
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            is_linkable: false,
        }
    }

    /// The file type.
    pub fn kind(&self) -> FileKind {
        match self.body {
            Body::Regular(_) => FileKind::Regular,
            Body::Directory(_) => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Pipe => FileKind::Pipe,
            Body::Socket => FileKind::Socket,
        }
    }

    /// The attributes as the protocol has them.
    pub fn attr(&self, number: u64) -> Attr {
        let (size, pages) = match &self.body {
            Body::Regular(content) => (content.size(), content.pages()),
            Body::Directory(directory) => (directory.size(), 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Pipe | Body::Socket => (0, 0),
        };
        Attr {
            id: FileId(number),
            version: Version(self.version),
            size: ByteCount(size),
            blocks: pages * (PAGE_BYTES as u64 / 512),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            uid: self.uid,
            gid: self.gid,
            links: self.links,
            mode: self.mode,
            kind: self.kind(),
        }
    }

    /// What a change of the owner does to the bits by which a program acts as the owner. As on
    /// Linux, the set-group-ID bit of a file whose group may not execute it stays.
    pub fn clear_set_id(&mut self) {
        if self.kind() != FileKind::Directory {
            let of_group = if self.mode & 0o010 != 0 { 0o2000 } else { 0 };
            self.mode &= !(0o4000 | of_group);
        }
    }

    /// The contents of a regular file. EISDIR for a directory, EINVAL for any other.
    pub fn content(&self) -> Result<&Content, Errno> {
        match &self.body {
            Body::Regular(content) => Ok(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            Body::Symlink(_) | Body::Pipe | Body::Socket => Err(Errno::EINVAL),
        }
    }

    /// The same, to change them.
    pub fn content_mut(&mut self) -> Result<&mut Content, Errno> {
        match &mut self.body {
            Body::Regular(content) => Ok(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            Body::Symlink(_) | Body::Pipe | Body::Socket => Err(Errno::EINVAL),
        }
    }

    /// The entries of a directory. ENOTDIR for any other type.
    pub fn entries(&self) -> Result<&Directory, Errno> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The same, to change them.
    pub fn entries_mut(&mut self) -> Result<&mut Directory, Errno> {
        match &mut self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Records a change of the entries: a new version, and new times.
    pub fn changed(&mut self, now: Time) {
        self.version += 1;
        self.touched(now);
    }

    /// Records a change of the bytes: new times. The version is new already.
    pub fn touched(&mut self, now: Time) {
        self.mtime = now;
        self.ctime = now;
    }

    /// Changes the bytes of a regular file. `range` are those that may differ afterwards; bytes at
    /// the end or beyond it did not exist before, and do not count (F9).
    ///
    /// The version is new, and the range recorded, before the first byte changes. Both stay if the
    /// change fails, since it may have changed some bytes. EISDIR for a directory, EINVAL for a
    /// link or a pipe; otherwise what `change` returns.
    pub fn change<T>(
        &mut self,
        range: Range<u64>,
        pages: &mut Pages,
        change: impl FnOnce(&mut Content, &mut Pages) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let size = self.content()?.size();
        let existed = if range.end == u64::MAX { u64::MAX } else { range.end.min(size) };
        let range = range.start.min(size)..existed;
        let before = self.version;
        self.version += 1;
        if range.start < size {
            let taken = self.changes.record(self.version, range, pages.free_metadata());
            pages.charge(taken);
        }
        let outcome = change(self.content_mut()?, pages);
        if outcome.is_err() && mutants::version_kept() {
            self.version = before;
        }
        outcome
    }

    /// Whether a range of bytes is certainly what it was at a version (F9).
    pub fn has_version(&self, version: u64, range: &Range<u64>) -> bool {
        let is_unchanged = version == self.version
            || version < self.version && self.changes.is_unchanged(version, range);
        is_unchanged || mutants::any_version()
    }

    /// Records a read: updates the access time if it is due.
    pub fn accessed(&mut self, now: Time) {
        if atime_is_due(self.atime, self.mtime, self.ctime, now) {
            self.atime = now;
        }
    }
}
