//! Attributes of files.

use foundation::ByteCount;
use fsproto::{Attr, AttrMask, FileKind, Time};

/// The type of a file. The numbers are those of `d_type` in directory entries, and of the type in
/// `st_mode` once shifted left by 12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FileType {
    /// An object of the kernel that no directory contains, such as an epoll: without a type.
    Nameless = 0,
    /// A pipe, named or not.
    Pipe = 1,
    /// A device of bytes: a terminal, `/dev/null`.
    CharacterDevice = 2,
    /// A directory of names.
    Directory = 4,
    /// A device of sectors.
    BlockDevice = 6,
    /// A regular file.
    #[default]
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
    /// A socket, or the name of one.
    Socket = 12,
}

impl From<FileKind> for FileType {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::Pipe => Self::Pipe,
            FileKind::Directory => Self::Directory,
            FileKind::Regular => Self::Regular,
            FileKind::Symlink => Self::Symlink,
            FileKind::Socket => Self::Socket,
        }
    }
}

/// Identifies a file, however often it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The file system (`st_dev`).
    pub device: u64,
    /// The file within its file system (`st_ino`).
    pub inode: u64,
}

/// The attributes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The file system (`st_dev`), unique among the mounted ones.
    pub device: u64,
    /// The file within its file system (`st_ino`).
    pub inode: u64,
    /// The file's type.
    pub file_type: FileType,
    /// Permission bits.
    pub mode: u16,
    /// Hard links.
    pub links: u32,
    /// The owner's user number.
    pub uid: u32,
    /// The owning group's number.
    pub gid: u32,
    /// Major and minor number of a device (`st_rdev`), else 0.
    pub device_number: u64,
    /// Length in bytes.
    pub size: ByteCount,
    /// Storage used, in units of 512 bytes.
    pub blocks: u64,
    /// Time of the last read.
    pub atime: Time,
    /// Time of the last change of data.
    pub mtime: Time,
    /// Time of the last change of data or attributes.
    pub ctime: Time,
    /// Time when the file was created; `None` where that is not known.
    pub btime: Option<Time>,
}

/// The `st_dev` of `/dev`.
const DEVICES: u64 = 5;

impl Stat {
    /// What the attributes of all files in `/dev` have in common.
    pub fn of_device() -> Self {
        Self { device: DEVICES, ..Self::default() }
    }

    /// The attributes that a server reports, on the file system numbered `device`.
    pub fn from_attr(attr: &Attr, device: u64) -> Self {
        Self {
            device,
            inode: attr.id.0,
            file_type: attr.kind.into(),
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
            btime: Some(attr.btime),
        }
    }

    /// `st_mode`: type and permission bits.
    pub fn linux_mode(&self) -> u32 {
        (self.file_type as u32) << 12 | u32::from(self.mode)
    }

    /// Which file this is.
    pub fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode }
    }
}

/// A change of attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Which of the other fields are changed.
    pub mask: AttrMask,
    /// Permission bits.
    pub mode: u16,
    /// The owner's user number.
    pub uid: u32,
    /// The owning group's number.
    pub gid: u32,
    /// Length in bytes.
    pub size: ByteCount,
    /// Time of the last read.
    pub atime: Time,
    /// Time of the last change of data.
    pub mtime: Time,
}
