//! What can be mounted: a tree of names.

use super::{FileObject, Stat};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;
use fsproto::{OpenFlags, RenameFlags};
use spin::Once;

/// How to open, beyond the path.
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    /// The protocol's flags. With neither `READ` nor `WRITE`, the object serves attributes and
    /// names only (`O_PATH`, chmod, readlink).
    pub flags: OpenFlags,
    /// Permission bits of a file that is made; the umask has been applied.
    pub mode: u16,
}

/// Where a walk ended.
#[derive(Debug)]
pub enum Walk<T> {
    /// At the file; the operation was carried out.
    Done(T),
    /// At a symbolic link that has to be followed; nothing was done.
    Link {
        /// Which path of the operation (0; 1 for the new path of a rename).
        which: usize,
        /// Bytes of the path consumed, the link's own name included.
        walked: usize,
        /// The link's target.
        target: Vec<u8>,
    },
}

impl<T> Walk<T> {
    /// Converts the result of a completed operation.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Walk<U> {
        match self {
            Self::Done(value) => Walk::Done(convert(value)),
            Self::Link { which, walked, target } => Walk::Link { which, walked, target },
        }
    }
}

/// Figures of a file system, for statfs.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystemFigures {
    /// `f_type`: the magic number of its kind.
    pub magic: u64,
    /// Blocks of 4096 bytes in all.
    pub blocks: u64,
    /// Blocks free.
    pub blocks_free: u64,
    /// Files possible.
    pub files: u64,
    /// Files that can still be made.
    pub files_free: u64,
    /// Bytes that the server saved for snapshots before they changed (E3).
    pub bytes_rescued: u64,
    /// Bytes written back to where they came from and were still, for which it did nothing.
    pub bytes_elided: u64,
    /// Bytes of writes that it copied or shared by itself.
    pub bytes_cloned: u64,
    /// Handles that are held at the server, and those that it holds at its own.
    pub handles: [u64; 2],
    /// Snapshots that the server keeps now, and pages that it keeps for them alone.
    pub snapshots: [u64; 2],
    /// Requests that the server has not answered.
    pub requests: u64,
}

/// A tree of files.
///
/// Paths are relative to its root, with no leading or trailing `/`, no empty component, no `.` and
/// no `..`; the empty path is the root. Operations walk the whole path and stop at the first
/// symbolic link that is to be followed. What changes nothing by default answers EROFS or EPERM.
pub trait FileSystem: Send + Sync {
    /// Its type, as in `/proc/mounts`.
    fn type_name(&self) -> &'static str;

    /// Opens or makes a file. `NO_FOLLOW`: a link as last component is itself opened (`DIRECTORY`
    /// and `NO_FOLLOW` on a link: ENOTDIR).
    fn open(&self, path: &[u8], how: OpenHow) -> Result<Walk<Arc<dyn FileObject>>, Errno>;

    /// Attributes; `flags` may hold `NO_FOLLOW` and `DIRECTORY`.
    fn stat(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<Stat>, Errno>;

    /// Makes a directory.
    fn make_dir(&self, _path: &[u8], _mode: u16) -> Result<Walk<()>, Errno> {
        Err(Errno::EPERM)
    }

    /// Takes a name away: of an empty directory with `DIRECTORY`, else of anything but a directory.
    fn remove(&self, _path: &[u8], _flags: OpenFlags) -> Result<Walk<()>, Errno> {
        Err(Errno::EPERM)
    }

    /// Gives a file another name.
    fn rename(&self, _old: &[u8], _new: &[u8], _flags: RenameFlags) -> Result<Walk<()>, Errno> {
        Err(Errno::EPERM)
    }

    /// One more name for an open file of this same file system; EXDEV for an object of another.
    fn link(&self, _existing: &Arc<dyn FileObject>, _new: &[u8]) -> Result<Walk<()>, Errno> {
        Err(Errno::EPERM)
    }

    /// Makes a symbolic link.
    fn make_symlink(&self, _path: &[u8], _target: &[u8]) -> Result<Walk<()>, Errno> {
        Err(Errno::EPERM)
    }

    /// Figures of the store.
    fn figures(&self) -> Result<FileSystemFigures, Errno>;

    /// Returns when everything is on stable storage.
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// A type of file system that needs no server.
pub struct FileSystemType {
    /// The name that mount(2) takes.
    pub name: &'static [u8],
    /// Creates a file system.
    pub make: fn() -> Arc<dyn FileSystem>,
}

static TYPES: Once<&'static [FileSystemType]> = Once::new();

/// Registers the types that mount(2) can create; the first registration stays.
pub fn register_types(types: &'static [FileSystemType]) {
    TYPES.call_once(|| types);
}

/// A new file system of a registered type; ENODEV for an unknown name.
pub fn make(name: &[u8]) -> Result<Arc<dyn FileSystem>, Errno> {
    let mut types = TYPES.get().copied().unwrap_or_default().iter();
    types.find(|known| known.name == name).map(|found| (found.make)()).ok_or(Errno::ENODEV)
}
