//! What an open file is about: a file on a server, a directory, a pipe's end, a device.

use super::{Caller, Kind, Ready, SetAttr, Stat, UserBuffers};
use crate::mem::{Frame, Snapshot, Space};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use foundation::Errno;
use fsproto::FileKind;

/// Who reads or writes, and how.
#[derive(Clone, Copy)]
pub struct Io<'a> {
    /// The address space on whose behalf: its policy says whether reads are lazy, its counters
    /// count.
    pub space: &'a Arc<Space>,
    /// The process, where one asks (none for the kernel's own reads).
    pub caller: Option<&'a dyn Caller>,
    /// EAGAIN rather than waiting (`O_NONBLOCK`); files on servers ignore it.
    pub nonblocking: bool,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// To this byte. Objects with no positions ignore it.
    Offset(u64),
    /// To the end, which the object (or its server) chooses (W6).
    End,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes taken.
    pub bytes: u64,
    /// Offset after the last of them.
    pub end: u64,
}

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// The file.
    pub inode: u64,
    /// Where to go on after it; never 0.
    pub next: u64,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: &'a [u8],
}

impl<'a> From<fsproto::dirent::DirEntry<'a>> for DirectoryEntry<'a> {
    fn from(entry: fsproto::dirent::DirEntry<'a>) -> Self {
        let kind: FileKind = entry.kind;
        Self { inode: entry.id.0, next: entry.next, kind: kind.into(), name: entry.name }
    }
}

/// An open file's object. The defaults are what Linux answers where an operation makes no sense.
///
/// No method is called with a lock held that a server could need. Access mode, negative offsets and
/// the like have been checked by the caller.
pub trait FileObject: Any + Send + Sync {
    /// Attributes.
    fn stat(&self) -> Result<Stat, Errno>;

    /// What the file is, however often it is opened: file system and number. None for what cannot
    /// be mapped shared.
    fn identity(&self) -> Option<(u64, u64)> {
        None
    }

    /// Reads at most `to.remaining()` bytes from offset `at` into `to`, and says how many. 0 at the
    /// end.
    fn read(&self, _io: &Io<'_>, _to: &mut UserBuffers, _at: u64) -> Result<u64, Errno> {
        Err(Errno::EINVAL)
    }

    /// Writes all of `from` that it can.
    fn write(&self, _io: &Io<'_>, _from: &mut UserBuffers, _at: WriteAt) -> Result<Written, Errno> {
        Err(Errno::EINVAL)
    }

    /// Whether it has positions. Pipes, sockets and terminals have none: lseek and pread give
    /// ESPIPE, and no position lock is taken.
    fn seekable(&self) -> bool {
        false
    }

    /// Changes attributes; a new size with `AttrMask::SIZE`.
    fn set_attr(&self, _change: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// Returns when it is on stable storage.
    fn sync(&self) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// fallocate; `mode` as in [`fsproto::Allocate`].
    fn allocate(&self, _offset: u64, _length: u64, _mode: u32) -> Result<(), Errno> {
        Err(Errno::ENODEV)
    }

    /// Gives entries after `cookie` (0: from the start) to `sink` until it says `false` or the
    /// directory ends. `.` and `..` are added by the caller.
    fn read_dir(
        &self,
        _cookie: u64,
        _sink: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// The target of a symbolic link.
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Device requests, numbered as on Linux.
    fn ioctl(&self, _caller: &dyn Caller, _request: u32, _argument: u64) -> Result<u64, Errno> {
        Err(Errno::ENOTTY)
    }

    /// What would not wait now. A change is told by [`Notifier::notify`](super::Notifier::notify).
    fn poll(&self) -> Ready {
        Ready::READ | Ready::WRITE
    }

    /// A snapshot of a range for mapping it: programs (A6) and private file mappings. `None` where
    /// the file has none to give or the space's policy is eager: the caller reads instead. Short at
    /// end of file.
    fn snapshot(
        &self,
        _space: &Arc<Space>,
        _offset: u64,
        _length: u64,
    ) -> Result<Option<Arc<Snapshot>>, Errno> {
        Ok(None)
    }

    /// The frames behind `pages` pages from page `first` on, given away for a private mapping
    /// (`/dev/ramdisk`, once). There may be fewer than `pages`.
    fn take_frames(&self, _first: u64, _pages: u64) -> Result<Vec<Frame>, Errno> {
        Err(Errno::ENODEV)
    }
}

/// The object as what it really is, if it is a `T`.
pub fn downcast<T: FileObject>(object: &Arc<dyn FileObject>) -> Option<Arc<T>> {
    let any: Arc<dyn Any + Send + Sync> = object.clone();
    any.downcast().ok()
}
