//! Operations on names.

use super::resolve::{Resolution, Stretch, innermost, last_component};
use super::{Namespace, Place};
use crate::file::{FileObject, FileSystem, FileSystemFigures, OpenHow, Stat, Walk};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;
use fsproto::{OpenFlags, RenameFlags};

/// Longer relative paths are resolved, with their base.
const MAX_KNOWN: usize = 256;

/// A path behind a base, in `space`; `None` where it is too long for that.
fn joined<'a>(base: &[u8], path: &[u8], space: &'a mut [u8]) -> Option<&'a [u8]> {
    let base = if base == b"/" { b"" } else { base };
    let bytes = base.len() + 1 + path.len();
    let whole = space.get_mut(..bytes)?;
    let (front, behind) = whole.split_at_mut(base.len());
    front.copy_from_slice(base);
    let (slash, behind) = behind.split_first_mut()?;
    *slash = b'/';
    behind.copy_from_slice(path);
    Some(whole)
}

impl Namespace {
    /// Opens or creates a file. A path that ends in `/` must name a directory, whatever the flags.
    pub fn open(
        &self,
        base: &[u8],
        path: &[u8],
        how: OpenHow,
    ) -> Result<(Arc<dyn FileObject>, Place), Errno> {
        // What an unnamed file is created in is a directory in any case.
        let is_unnamed = how.flags.contains(OpenFlags::UNNAMED);
        self.walk(base, path, |stretch, directory| {
            let directory = if is_unnamed { OpenFlags::empty() } else { directory };
            if !directory.is_empty() && how.flags.contains(OpenFlags::CREATE) {
                return Err(Errno::EISDIR);
            }
            let flags = how.flags | directory;
            // With a trailing slash, a link as last component is followed in any case.
            let flags = if directory.is_empty() { flags } else { flags - OpenFlags::NO_FOLLOW };
            stretch.filesystem.open(&stretch.path, OpenHow { flags, mode: how.mode })
        })
    }

    /// Attributes; `flags` may hold `NO_FOLLOW` and `DIRECTORY`.
    pub fn stat(&self, base: &[u8], path: &[u8], flags: OpenFlags) -> Result<(Stat, Place), Errno> {
        self.walk(base, path, |stretch, directory| {
            let flags = if directory.is_empty() {
                flags
            } else {
                (flags | directory) - OpenFlags::NO_FOLLOW
            };
            stretch.filesystem.stat(&stretch.path, flags)
        })
    }

    /// The attributes of the file at a canonical path, however long that is.
    pub fn stat_canonical(&self, path: &[u8], flags: OpenFlags) -> Result<Stat, Errno> {
        Ok(self.stat(path, b".", flags)?.0)
    }

    /// The attributes of the file at a path, or that there is none, if that is known without
    /// resolving the path.
    ///
    /// The path is looked up as if it were canonical from `base` on. One that is not may lead to a
    /// wrong place in this way, but nothing is known there: only canonical paths of files that were
    /// reached on them are.
    pub fn known_stat(
        &self,
        base: &[u8],
        path: &[u8],
        flags: OpenFlags,
    ) -> Option<Result<Stat, Errno>> {
        match path {
            [] => None,
            [b'/', ..] => self.known_at(path, flags),
            _ => {
                let mut space = [0; MAX_KNOWN];
                self.known_at(joined(base, path, &mut space)?, flags)
            }
        }
    }

    fn known_at(&self, path: &[u8], flags: OpenFlags) -> Option<Result<Stat, Errno>> {
        let mounts = self.mounts.lock();
        let (mount, rest) = innermost(&mounts, path)?;
        mount.filesystem.known_stat(rest, flags)
    }

    /// The canonical path of a mount point. Does not use the file system that is mounted there, as
    /// its server may be dead.
    pub fn mount_point(&self, base: &[u8], path: &[u8]) -> Result<Vec<u8>, Errno> {
        let found = self.walk(base, path, |stretch, directory| match stretch.path.as_slice() {
            [] => Ok(Walk::Done(())),
            path => Ok(match stretch.filesystem.stat(path, directory)? {
                Walk::Done(_) => return Err(Errno::EINVAL),
                Walk::Link { which, walked, target } => Walk::Link { which, walked, target },
            }),
        });
        Ok(found?.1.path)
    }

    /// The canonical path of a directory.
    pub fn directory(&self, base: &[u8], path: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(self.stat(base, path, OpenFlags::DIRECTORY)?.1.path)
    }

    /// Creates a directory.
    pub fn make_dir(&self, base: &[u8], path: &[u8], mode: u16) -> Result<(), Errno> {
        if matches!(last_component(path), b"." | b"..") {
            return self.exists_or_not(base, path);
        }
        self.walk(base, path, |stretch, _| match stretch.path.as_slice() {
            [] => Err(Errno::EEXIST),
            path => stretch.filesystem.make_dir(path, mode),
        })
        .map(drop)
    }

    /// The result of creating something under `.` or `..`: EEXIST, if it exists.
    fn exists_or_not(&self, base: &[u8], path: &[u8]) -> Result<(), Errno> {
        self.stat(base, path, OpenFlags::empty())?;
        Err(Errno::EEXIST)
    }

    /// Removes a file's name.
    pub fn unlink(&self, base: &[u8], path: &[u8]) -> Result<(), Errno> {
        if matches!(last_component(path), b"." | b".." | b"") {
            self.stat(base, path, OpenFlags::empty())?;
            return Err(Errno::EISDIR);
        }
        self.walk(base, path, |stretch, directory| {
            if stretch.path.is_empty() {
                return Err(Errno::EISDIR);
            }
            if !directory.is_empty() {
                return match stretch
                    .filesystem
                    .stat(&stretch.path, OpenFlags::NO_FOLLOW | OpenFlags::DIRECTORY)?
                {
                    Walk::Done(_) => Err(Errno::EISDIR),
                    Walk::Link { which, walked, target } => {
                        Ok(Walk::Link { which, walked, target })
                    }
                };
            }
            stretch.filesystem.remove(&stretch.path, OpenFlags::empty())
        })
        .map(drop)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, base: &[u8], path: &[u8]) -> Result<(), Errno> {
        match last_component(path) {
            b"." => return self.stat(base, path, OpenFlags::DIRECTORY).and(Err(Errno::EINVAL)),
            b".." => return self.stat(base, path, OpenFlags::DIRECTORY).and(Err(Errno::ENOTEMPTY)),
            _ => {}
        }
        self.walk(base, path, |stretch, _| {
            if stretch.path.is_empty() || self.is_mount_point(&stretch.whole()?) {
                return Err(Errno::EBUSY);
            }
            stretch.filesystem.remove(&stretch.path, OpenFlags::DIRECTORY)
        })
        .map(drop)
    }

    /// Creates a symbolic link.
    pub fn make_symlink(&self, base: &[u8], path: &[u8], target: &[u8]) -> Result<(), Errno> {
        if matches!(last_component(path), b"." | b".." | b"") {
            return self.exists_or_not(base, path);
        }
        self.walk(base, path, |stretch, directory| {
            match (stretch.path.as_slice(), directory.is_empty()) {
                ([], _) => Err(Errno::EEXIST),
                (_, false) => Err(Errno::ENOENT),
                (path, true) => stretch.filesystem.make_symlink(path, target),
            }
        })
        .map(drop)
    }

    /// Creates another name for an open file of the file system `from`.
    pub fn link(
        &self,
        existing: &Arc<dyn FileObject>,
        from: &Arc<dyn FileSystem>,
        base: &[u8],
        path: &[u8],
    ) -> Result<(), Errno> {
        if matches!(last_component(path), b"." | b".." | b"") {
            return self.exists_or_not(base, path);
        }
        self.walk(base, path, |stretch, directory| {
            if stretch.path.is_empty() {
                return Err(Errno::EEXIST);
            }
            if !directory.is_empty() {
                return Err(Errno::ENOENT);
            }
            // A file that was found through `/proc/PID/fd` is on the file system that holds it.
            let device = existing.identity().map(|identity| identity.device);
            let is_on = device.is_some() && device == stretch.filesystem.device();
            if !is_on && !Arc::ptr_eq(from, &stretch.filesystem) {
                return match stretch.parent()? {
                    Walk::Done(()) => Err(Errno::EXDEV),
                    link => Ok(link),
                };
            }
            stretch.filesystem.link(existing, &stretch.path)
        })
        .map(drop)
    }

    /// Renames a file within its file system. Both paths are given with their base.
    pub fn rename(
        &self,
        old: (&[u8], &[u8]),
        new: (&[u8], &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        if [old.1, new.1]
            .iter()
            .any(|path| matches!(last_component(path), b"." | b".." | b"") && !path.is_empty())
        {
            return Err(Errno::EBUSY);
        }
        let mut resolutions = [Resolution::new(old.0, old.1)?, Resolution::new(new.0, new.1)?];
        let mut stretches = [None, None];
        loop {
            for (stretch, resolution) in stretches.iter_mut().zip(&mut resolutions) {
                if stretch.is_none() {
                    *stretch = Some(self.next_stretch(resolution)?);
                }
            }
            let [Some(from), Some(to)] = &stretches else { return Err(Errno::EIO) };
            let directory = resolutions.iter().any(|resolution| resolution.directory);
            let (which, walked, target) = match self.rename_stretch(from, to, directory, flags)? {
                Walk::Done(()) => return Ok(()),
                Walk::Link { which, walked, target } => (which, walked, target),
            };
            let stretch = stretches.get_mut(which).and_then(Option::take).ok_or(Errno::EIO)?;
            resolutions.get_mut(which).ok_or(Errno::EIO)?.follow(&stretch, walked, &target)?;
        }
    }

    fn rename_stretch(
        &self,
        from: &Stretch,
        to: &Stretch,
        directory: bool,
        flags: RenameFlags,
    ) -> Result<Walk<()>, Errno> {
        if !Arc::ptr_eq(&from.filesystem, &to.filesystem) {
            // Where there is no such directory, that is the error.
            for (which, stretch) in [from, to].into_iter().enumerate() {
                if let Walk::Link { walked, target, .. } = stretch.parent()? {
                    return Ok(Walk::Link { which, walked, target });
                }
            }
            return Err(Errno::EXDEV);
        }
        let is_busy = |stretch: &Stretch| {
            Ok::<_, Errno>(stretch.path.is_empty() || self.is_mount_point(&stretch.whole()?))
        };
        if is_busy(from)? || is_busy(to)? {
            return Err(Errno::EBUSY);
        }
        if directory {
            // `a/` must be a directory: anything else is refused before the change.
            match from.filesystem.stat(&from.path, OpenFlags::NO_FOLLOW | OpenFlags::DIRECTORY)? {
                Walk::Done(_) => {}
                Walk::Link { walked, .. } if walked == from.path.len() => {
                    return Err(Errno::ENOTDIR);
                }
                link @ Walk::Link { .. } => return Ok(link.map(drop)),
            }
        }
        from.filesystem.rename(&from.path, &to.path, flags)
    }

    /// Figures of the file system that contains a path.
    pub fn figures(&self, base: &[u8], path: &[u8]) -> Result<FileSystemFigures, Errno> {
        self.stat(base, path, OpenFlags::empty())?.1.filesystem.figures()
    }
}
