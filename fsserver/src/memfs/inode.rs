//! Files of all kinds, without their names.

use alloc::boxed::Box;

use foundation::{ByteCount, Errno, PAGE_BYTES};
use fsproto::{Attr, FileId, FileKind, Time, Version};

use super::content::Content;
use super::directory::Directory;
use crate::attributes::atime_is_due;

/// What a file holds.
pub(super) enum Body {
    Regular(Content),
    Directory(Directory),
    Symlink(Box<[u8]>),
    /// What passes through it is no business of the server's.
    Pipe,
}

impl Body {
    /// An empty directory.
    pub fn directory(parent: u64) -> Self {
        Self::Directory(Directory::new(parent))
    }
}

/// A file.
pub(super) struct Inode {
    pub body: Body,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Names, for a directory with those that `.` and `..` would be.
    pub links: u32,
    /// Handles that are open.
    pub handles: u32,
    pub version: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
}

impl Inode {
    /// A file without a name.
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
            atime: now,
            mtime: now,
            ctime: now,
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> FileKind {
        match self.body {
            Body::Regular(_) => FileKind::Regular,
            Body::Directory(_) => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Pipe => FileKind::Pipe,
        }
    }

    /// The attributes.
    pub fn attr(&self, number: u64) -> Attr {
        let (size, pages) = match &self.body {
            Body::Regular(content) => (content.size(), content.pages()),
            Body::Directory(directory) => (directory.size(), 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Pipe => (0, 0),
        };
        Attr {
            id: FileId(number),
            version: Version(self.version),
            size: ByteCount(size),
            blocks: pages * (PAGE_BYTES as u64 / 512),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            uid: self.uid,
            gid: self.gid,
            links: self.links,
            mode: self.mode,
            kind: self.kind(),
        }
    }

    /// The bytes: EISDIR for a directory, EINVAL for a link or a pipe.
    pub fn content(&self) -> Result<&Content, Errno> {
        match &self.body {
            Body::Regular(content) => Ok(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            Body::Symlink(_) | Body::Pipe => Err(Errno::EINVAL),
        }
    }

    /// The same, to be changed.
    pub fn content_mut(&mut self) -> Result<&mut Content, Errno> {
        match &mut self.body {
            Body::Regular(content) => Ok(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            Body::Symlink(_) | Body::Pipe => Err(Errno::EINVAL),
        }
    }

    /// The entries: ENOTDIR for anything else.
    pub fn entries(&self) -> Result<&Directory, Errno> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The same, to be changed.
    pub fn entries_mut(&mut self) -> Result<&mut Directory, Errno> {
        match &mut self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Notes that the bytes, or the entries, have changed.
    pub fn changed(&mut self, now: Time) {
        self.version += 1;
        self.mtime = now;
        self.ctime = now;
    }

    /// Notes a read.
    pub fn accessed(&mut self, now: Time) {
        if atime_is_due(self.atime, self.mtime, self.ctime, now) {
            self.atime = now;
        }
    }
}
