//! What is known about a file.

use fsproto::{Attr, AttrMask, FileKind, Time};

/// What a file is; the numbers are those of `d_type` in directory entries, and of the type in
/// `st_mode` once shifted by 12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A pipe.
    Pipe = 1,
    /// A device of bytes.
    CharacterDevice = 2,
    /// A directory.
    Directory = 4,
    /// A device of blocks.
    BlockDevice = 6,
    /// A regular file.
    #[default]
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
    /// A socket.
    Socket = 12,
}

impl From<FileKind> for Kind {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::Pipe => Self::Pipe,
            FileKind::Directory => Self::Directory,
            FileKind::Regular => Self::Regular,
            FileKind::Symlink => Self::Symlink,
        }
    }
}

/// The attributes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The file system; no two mounted ones share a number.
    pub device: u64,
    /// The file within its file system.
    pub inode: u64,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u16,
    /// Names it has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// A device's number.
    pub device_number: u64,
    /// Length in bytes.
    pub size: u64,
    /// Storage in units of 512 bytes.
    pub blocks: u64,
    /// Last read.
    pub atime: Time,
    /// Last change of the bytes.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
}

impl Stat {
    /// What a server tells of a file, on the file system numbered `device`.
    pub fn from_attr(attr: &Attr, device: u64) -> Self {
        Self {
            device,
            inode: attr.id.0,
            kind: attr.kind.into(),
            mode: attr.mode & 0o7777,
            links: attr.links,
            uid: attr.uid,
            gid: attr.gid,
            device_number: 0,
            size: attr.size,
            blocks: attr.blocks,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
        }
    }

    /// `st_mode`: type and permission bits.
    pub fn linux_mode(&self) -> u32 {
        (self.kind as u32) << 12 | u32::from(self.mode)
    }
}

/// A change of attributes; `mask` says which fields count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// What is changed.
    pub mask: AttrMask,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last read.
    pub atime: Time,
    /// Last change of the bytes.
    pub mtime: Time,
}
