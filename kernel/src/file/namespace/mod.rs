//! The table of mounts, and the resolution of paths over it.
//!
//! A *canonical* path is absolute, without `.`, `..`, symbolic links and a trailing `/`. Working
//! directories and open directories are kept as canonical paths. Resolution ([`resolve`]) is
//! lexical on top of them: components are collected up to a `..`, a mount point or the end, and
//! sent to the file system in one walk. If the walk meets a symbolic link, the link's target
//! replaces the part that was walked, and resolution continues. The part before a `..` is looked
//! up, so that `a/..` fails where `a` is not a directory, and follows `a` where it is a link. Known
//! difference from Linux: a working directory whose parent is renamed keeps its old name.
//!
//! Lock: `mounts`, held only to read or change the table, never during a walk.

mod operations;
mod resolve;

pub use resolve::{MAX_PATH, last_component, split, wants_directory};

use super::FileSystem;
use crate::mem::fallible;
use crate::sync::{Mutex, rank};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;

/// Mounts, at most.
const MAX_MOUNTS: usize = 256;

/// A mounted file system.
pub struct MountPoint {
    /// The canonical path where it is mounted.
    pub path: Vec<u8>,
    /// The source, as passed to mount(2).
    pub source: Vec<u8>,
    /// The mounted tree.
    pub filesystem: Arc<dyn FileSystem>,
}

/// The tree of all names: the table of mounts.
pub struct Namespace {
    mounts: Mutex<Vec<Arc<MountPoint>>, rank::Mounts>,
}

/// Where a file was found.
pub struct Place {
    /// The mounted tree that contains it.
    pub filesystem: Arc<dyn FileSystem>,
    /// Its canonical path, from the root of all names.
    pub path: Vec<u8>,
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Namespace {
    /// An empty table: every path is ENOENT.
    pub const fn new() -> Self {
        Self { mounts: Mutex::new(Vec::new()) }
    }

    /// Mounts a tree at a canonical path, which the caller has resolved. Hides an earlier mount at
    /// the same path. ENOSPC beyond [`MAX_MOUNTS`].
    pub fn mount(&self, mount: MountPoint) -> Result<(), Errno> {
        let mount = Arc::new(mount);
        let mut mounts = self.mounts.lock();
        if mounts.len() >= MAX_MOUNTS {
            return Err(Errno::ENOSPC);
        }
        fallible::reserve(&mut *mounts, 1)?;
        mounts.push(mount);
        Ok(())
    }

    /// Removes the last mount at a canonical path. EINVAL where there is none, EBUSY for the first
    /// mount at the root.
    pub fn unmount(&self, path: &[u8]) -> Result<Arc<MountPoint>, Errno> {
        let mut mounts = self.mounts.lock();
        let at = mounts.iter().rposition(|mount| mount.path == path).ok_or(Errno::EINVAL)?;
        // Without a root, no file could be found any more.
        if path == b"/" && mounts.iter().position(|mount| mount.path == path) == Some(at) {
            return Err(Errno::EBUSY);
        }
        Ok(mounts.remove(at))
    }

    /// All mounts, oldest first. The list takes half a page at most.
    pub fn mounts(&self) -> Vec<Arc<MountPoint>> {
        self.mounts.lock().clone()
    }

    /// Whether something is mounted at exactly this canonical path.
    pub fn is_mount_point(&self, path: &[u8]) -> bool {
        self.mounts.lock().iter().any(|mount| mount.path == path)
    }
}

static ROOT: Namespace = Namespace::new();

/// The tree of names of all processes.
pub fn root() -> &'static Namespace {
    &ROOT
}
