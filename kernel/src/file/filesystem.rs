//! File systems: trees of names that can be mounted.

use super::{FileObject, Stat};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;
use fsproto::{OpenFlags, RenameFlags};
use spin::Once;

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    /// The protocol's flags. With neither `READ` nor `WRITE`, the object is used for attributes and
    /// names only (`O_PATH`, chmod, readlink).
    pub flags: OpenFlags,
    /// Permission bits of a new file, after the umask.
    pub mode: u16,
}

/// The result of a walk along a path.
#[derive(Debug)]
pub enum Walk<T> {
    /// The file was reached and the operation is complete.
    Done(T),
    /// A symbolic link has to be followed; nothing was done.
    Link {
        /// Which path of the operation: 0, or 1 for the new path of a rename.
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
    /// `f_type`: the magic number of the file system's type.
    pub magic: u64,
    /// Blocks of 4096 bytes.
    pub blocks: u64,
    /// Blocks of 4096 bytes that are free.
    pub blocks_free: u64,
    /// The largest number of files.
    pub files: u64,
    /// Files that can still be created.
    pub files_free: u64,
    /// Bytes that the server saved for snapshots before a change (E3).
    pub bytes_rescued: u64,
    /// Bytes of writes that the server skipped, because the file held them already (E3).
    pub bytes_elided: u64,
    /// Bytes of writes that the server copied or cloned on its own (E3).
    pub bytes_cloned: u64,
    /// Open handles on the server, and on its base.
    pub handles: [u64; 2],
    /// Open snapshots, and pages kept only for them.
    pub snapshots: [u64; 2],
    /// Unanswered requests.
    pub requests: u64,
}

/// A tree of files.
///
/// Paths are relative to its root, without leading or trailing `/`, empty components, `.` and `..`;
/// the empty path is the root. Operations walk the whole path and stop at the first symbolic link
/// that has to be followed. By default, changes are refused with EPERM.
pub trait FileSystem: Send + Sync {
    /// Its type, as in `/proc/mounts`.
    fn type_name(&self) -> &'static str;

    /// Opens or creates a file. With `NO_FOLLOW`, a link as last component is opened itself; with
    /// `DIRECTORY` as well, it is ENOTDIR.
    fn open(&self, path: &[u8], how: OpenHow) -> Result<Walk<Arc<dyn FileObject>>, Errno>;

    /// Attributes; `flags` may hold `NO_FOLLOW` and `DIRECTORY`.
    fn stat(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<Stat>, Errno>;

    /// The attributes of the file at a path, or that there is none, if that is known without asking
    /// a server. A path of another form than above is not known.
    fn known_stat(&self, _path: &[u8], _flags: OpenFlags) -> Option<Result<Stat, Errno>> {
        None
    }

    /// Creates a directory.
    fn make_dir(&self, path: &[u8], _mode: u16) -> Result<Walk<()>, Errno> {
        self.refuse_new(path)
    }

    /// Removes the name of an empty directory (with `DIRECTORY`), or of anything but a directory.
    fn remove(&self, path: &[u8], _flags: OpenFlags) -> Result<Walk<()>, Errno> {
        refused(self.stat(path, OpenFlags::NO_FOLLOW)?, 0)
    }

    /// Renames a file.
    fn rename(&self, old: &[u8], new: &[u8], _flags: RenameFlags) -> Result<Walk<()>, Errno> {
        match self.stat(old, OpenFlags::NO_FOLLOW)? {
            Walk::Done(_) => {}
            link @ Walk::Link { .. } => return Ok(link.map(drop)),
        }
        match self.stat(parent_within(new), OpenFlags::DIRECTORY)? {
            found @ Walk::Done(_) => refused(found, 1),
            Walk::Link { walked, target, .. } => Ok(Walk::Link { which: 1, walked, target }),
        }
    }

    /// Creates another name for an open file of this file system; EXDEV for any other object.
    fn link(&self, _existing: &Arc<dyn FileObject>, new: &[u8]) -> Result<Walk<()>, Errno> {
        self.refuse_new(new)
    }

    /// Creates a symbolic link.
    fn make_symlink(&self, path: &[u8], _target: &[u8]) -> Result<Walk<()>, Errno> {
        self.refuse_new(path)
    }

    /// The result of creating a name where that is not possible: EEXIST where there is one, EPERM
    /// where only that is in the way, and what the walk to its directory results in.
    fn refuse_new(&self, path: &[u8]) -> Result<Walk<()>, Errno> {
        match self.stat(path, OpenFlags::NO_FOLLOW) {
            Ok(Walk::Done(_)) => Err(Errno::EEXIST),
            Ok(link) => Ok(link.map(drop)),
            Err(Errno::ENOENT) => refused(self.stat(parent_within(path), OpenFlags::DIRECTORY)?, 0),
            Err(error) => Err(error),
        }
    }

    /// The device number of its files, where these are on a server.
    fn device(&self) -> Option<u64> {
        None
    }

    /// Figures for statfs.
    fn figures(&self) -> Result<FileSystemFigures, Errno>;

    /// The figures as they were last asked for, and the requests that are unanswered now. Does not
    /// wait for a server.
    fn known_figures(&self) -> FileSystemFigures {
        FileSystemFigures::default()
    }

    /// Returns when all data is on stable storage.
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// EPERM where a walk has reached what it was to check; otherwise the link that it has met, in the
/// path of this index.
fn refused(walk: Walk<Stat>, which: usize) -> Result<Walk<()>, Errno> {
    match walk {
        Walk::Done(_) => Err(Errno::EPERM),
        Walk::Link { walked, target, .. } => Ok(Walk::Link { which, walked, target }),
    }
}

/// The path of the directory of a path's last component, within a file system.
pub fn parent_within(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    slash.and_then(|slash| path.get(..slash)).unwrap_or_default()
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
