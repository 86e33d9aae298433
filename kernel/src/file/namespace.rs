//! Which name leads where: the table of mounts, and the resolution of paths over it.
//!
//! A *canonical* path is absolute, with no `.`, no `..`, no symbolic link and no trailing `/`:
//! working directories and open directories are kept as such. Resolution is lexical on top of
//! canonical paths. Components are collected up to a `..`, a mount point or the end and sent to the
//! file system in one walk; where it meets a symbolic link, the link's target takes the place of
//! what was walked, and resolution goes on. Before a `..` what precedes it is looked up, so that
//! `a/..` fails where `a` is no directory and follows `a` where it is a link. Known difference from
//! Linux: a working directory whose parent is renamed keeps its old name.
//!
//! Lock: `mounts`, held only to look up or change the table, never during a walk.

use super::{FileObject, FileSystem, FileSystemFigures, OpenHow, Stat, Walk};
use crate::sync::{Mutex, rank};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;
use fsproto::{MAX_NAME, MAX_PATH, OpenFlags, RenameFlags};

/// Symbolic links followed in one resolution, at most, as on Linux.
const MAX_LINKS: usize = 40;
/// Components of one resolution, links' targets included: a bound on what a path can make the
/// kernel keep.
const MAX_COMPONENTS: usize = 8 * MAX_PATH;
/// Mounts, at most.
const MAX_MOUNTS: usize = 256;

/// A mounted file system.
#[derive(Clone)]
pub struct MountPoint {
    /// Canonical path.
    pub path: Vec<u8>,
    /// What mount(2) was told the source was.
    pub source: Vec<u8>,
    /// The tree.
    pub filesystem: Arc<dyn FileSystem>,
}

/// The tree of all names.
pub struct Namespace {
    mounts: Mutex<Vec<MountPoint>, rank::Mounts>,
}

/// A file that was found: its file system and its canonical path.
pub struct Place {
    /// The file system.
    pub filesystem: Arc<dyn FileSystem>,
    /// The whole canonical path.
    pub path: Vec<u8>,
}

/// The path that is being resolved: what is known to be canonical, and what is left.
struct Resolution {
    done: Vec<u8>,
    left: VecDeque<Vec<u8>>,
    links: usize,
    /// The path ended in `/` or `.`, or a link in the last place did: only a directory will do.
    directory: bool,
}

/// A walk to be made: through one file system, up to the path's end or a `..`.
struct Stretch {
    filesystem: Arc<dyn FileSystem>,
    /// The canonical path of the file system's root.
    root: Vec<u8>,
    /// The path within it.
    path: Vec<u8>,
}

impl Stretch {
    fn whole(&self) -> Vec<u8> {
        if self.path.is_empty() { self.root.clone() } else { join(&self.root, &self.path) }
    }
}

/// `directory/name`.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if directory == b"/" { b"" } else { b"/" };
    [directory, separator, name].concat()
}

/// A canonical path without its last component, and that component; none for the root.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    let (parent, name) = (path.get(..slash)?, path.get(slash + 1..)?);
    if name.is_empty() { None } else { Some((if parent.is_empty() { b"/" } else { parent }, name)) }
}

impl Resolution {
    fn new(base: &[u8], path: &[u8]) -> Result<Self, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() > MAX_PATH {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut resolution =
            Self { done: base.to_vec(), left: VecDeque::new(), links: 0, directory: false };
        resolution.substitute(path)?;
        resolution.directory = wants_directory(path);
        Ok(resolution)
    }

    /// Puts a path, a link's target for instance, in front of what is left.
    fn substitute(&mut self, path: &[u8]) -> Result<(), Errno> {
        if path.first() == Some(&b'/') {
            self.done = b"/".to_vec();
        }
        for component in path.split(|&byte| byte == b'/').rev() {
            if component.len() > MAX_NAME {
                return Err(Errno::ENAMETOOLONG);
            }
            if !component.is_empty() && component != b"." {
                self.left.push_front(component.to_vec());
            }
        }
        if self.left.len() > MAX_COMPONENTS { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
    }

    /// Goes on at a link's target, which takes the place of the first `walked` bytes of the
    /// stretch.
    fn follow(&mut self, stretch: &Stretch, walked: usize, target: &[u8]) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        // Walks come from servers: what they say about the path is checked.
        let (front, rest) = stretch.path.split_at_checked(walked).ok_or(Errno::EIO)?;
        let directory_of_link = front
            .iter()
            .rposition(|&byte| byte == b'/')
            .map_or(&b""[..], |slash| front.get(..slash).unwrap_or_default());
        let rest = match rest {
            [] => rest,
            [b'/', names @ ..] => names,
            _ => return Err(Errno::EIO),
        };
        for component in
            rest.split(|&byte| byte == b'/').rev().filter(|component| !component.is_empty())
        {
            self.left.push_front(component.to_vec());
        }
        if self.left.is_empty() {
            self.directory |= wants_directory(target);
        }
        self.done = if directory_of_link.is_empty() {
            stretch.root.clone()
        } else {
            join(&stretch.root, directory_of_link)
        };
        self.substitute(target)
    }
}

/// Whether the path's form says that it means a directory: `a/`, `a/.`, `a/..`.
pub fn wants_directory(path: &[u8]) -> bool {
    matches!(path.rsplit(|&byte| byte == b'/').next(), Some(b"" | b"." | b".."))
}

/// The last component as it was written, trailing slashes aside: `.` and `..` are refused by what
/// makes and removes names.
pub fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').find(|component| !component.is_empty()).unwrap_or_default()
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Namespace {
    /// With nothing mounted: no name leads anywhere.
    pub const fn new() -> Self {
        Self { mounts: Mutex::new(Vec::new()) }
    }

    /// Mounts a tree at a canonical path (which the caller has resolved). Later mounts hide earlier
    /// ones of the same path.
    pub fn mount(&self, mount: MountPoint) -> Result<(), Errno> {
        let mut mounts = self.mounts.lock();
        if mounts.len() >= MAX_MOUNTS {
            return Err(Errno::ENOSPC);
        }
        mounts.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        mounts.push(mount);
        Ok(())
    }

    /// Takes the last mount at a canonical path away. EINVAL where there is none, EBUSY for the
    /// root's first one.
    pub fn unmount(&self, path: &[u8]) -> Result<MountPoint, Errno> {
        let mut mounts = self.mounts.lock();
        let at = mounts.iter().rposition(|mount| mount.path == path).ok_or(Errno::EINVAL)?;
        // Without a root there would be no file left for anybody.
        if path == b"/" && mounts.iter().position(|mount| mount.path == path) == Some(at) {
            return Err(Errno::EBUSY);
        }
        Ok(mounts.remove(at))
    }

    /// All mounts, oldest first.
    pub fn mounts(&self) -> Vec<MountPoint> {
        self.mounts.lock().clone()
    }

    /// Whether something is mounted at exactly this canonical path.
    pub fn is_mount_point(&self, path: &[u8]) -> bool {
        self.mounts.lock().iter().any(|mount| mount.path == path)
    }

    /// The file system that a canonical path is in, and the path within it.
    fn locate(&self, path: &[u8]) -> Result<Stretch, Errno> {
        let mounts = self.mounts.lock();
        let inside = |mount: &MountPoint| match path.strip_prefix(mount.path.as_slice()) {
            Some(rest) => rest.is_empty() || mount.path == b"/" || rest.first() == Some(&b'/'),
            None => false,
        };
        // The longest path wins, and among equals the youngest (max_by_key takes the last).
        let mount = mounts
            .iter()
            .filter(|mount| inside(mount))
            .max_by_key(|mount| mount.path.len())
            .ok_or(Errno::ENOENT)?;
        let rest = path.get(mount.path.len()..).unwrap_or_default();
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        Ok(Stretch {
            filesystem: mount.filesystem.clone(),
            root: mount.path.clone(),
            path: rest.to_vec(),
        })
    }

    /// Goes as far as one walk reaches: to the end of the path. What precedes a `..` is looked up
    /// on the way.
    fn next_stretch(&self, resolution: &mut Resolution) -> Result<Stretch, Errno> {
        loop {
            let Some(component) = resolution.left.pop_front() else {
                return self.locate(&resolution.done);
            };
            if component != b".." {
                resolution.done = join(&resolution.done, &component);
                continue;
            }
            let stretch = self.locate(&resolution.done)?;
            match stretch.filesystem.stat(&stretch.path, OpenFlags::DIRECTORY)? {
                Walk::Done(_) => {
                    let parent = split(&resolution.done).map(|(parent, _)| parent.to_vec());
                    resolution.done = parent.unwrap_or_else(|| b"/".to_vec());
                }
                Walk::Link { walked, target, .. } => {
                    resolution.left.push_front(component);
                    resolution.follow(&stretch, walked, &target)?;
                }
            }
        }
    }

    /// Resolves a path and carries out `operation` at its end, again wherever a link was met.
    fn walk<T>(
        &self,
        base: &[u8],
        path: &[u8],
        mut operation: impl FnMut(&Stretch, OpenFlags) -> Result<Walk<T>, Errno>,
    ) -> Result<(T, Place), Errno> {
        let mut resolution = Resolution::new(base, path)?;
        loop {
            let stretch = self.next_stretch(&mut resolution)?;
            let directory =
                if resolution.directory { OpenFlags::DIRECTORY } else { OpenFlags::empty() };
            match operation(&stretch, directory)? {
                Walk::Done(value) => {
                    let path = stretch.whole();
                    return Ok((value, Place { filesystem: stretch.filesystem, path }));
                }
                Walk::Link { walked, target, .. } => {
                    resolution.follow(&stretch, walked, &target)?
                }
            }
        }
    }

    /// Opens or makes a file. A path that ends in `/` must lead to a directory, whatever the flags.
    pub fn open(
        &self,
        base: &[u8],
        path: &[u8],
        how: OpenHow,
    ) -> Result<(Arc<dyn FileObject>, Place), Errno> {
        self.walk(base, path, |stretch, directory| {
            if !directory.is_empty() && how.flags.contains(OpenFlags::CREATE) {
                return Err(Errno::EISDIR);
            }
            let flags = how.flags | directory;
            // With a trailing slash a link in the last place is followed even so.
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

    /// The canonical path of a mount point, found without asking the file system that is mounted
    /// there: its server may be gone.
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

    /// Makes a directory.
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

    /// What making something under a name that must already exist answers: EEXIST, if it does
    /// exist.
    fn exists_or_not(&self, base: &[u8], path: &[u8]) -> Result<(), Errno> {
        self.stat(base, path, OpenFlags::empty())?;
        Err(Errno::EEXIST)
    }

    /// Takes a file's name away.
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

    /// Takes an empty directory away.
    pub fn remove_dir(&self, base: &[u8], path: &[u8]) -> Result<(), Errno> {
        match last_component(path) {
            b"." => return self.stat(base, path, OpenFlags::DIRECTORY).and(Err(Errno::EINVAL)),
            b".." => return self.stat(base, path, OpenFlags::DIRECTORY).and(Err(Errno::ENOTEMPTY)),
            _ => {}
        }
        self.walk(base, path, |stretch, _| {
            if stretch.path.is_empty() || self.is_mount_point(&stretch.whole()) {
                return Err(Errno::EBUSY);
            }
            stretch.filesystem.remove(&stretch.path, OpenFlags::DIRECTORY)
        })
        .map(drop)
    }

    /// Makes a symbolic link.
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

    /// One more name for an open file that was found at `place`.
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
            if !Arc::ptr_eq(from, &stretch.filesystem) {
                return Err(Errno::EXDEV);
            }
            stretch.filesystem.link(existing, &stretch.path)
        })
        .map(drop)
    }

    /// Gives a file another name within its file system.
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
            return Err(Errno::EXDEV);
        }
        let busy =
            |stretch: &Stretch| stretch.path.is_empty() || self.is_mount_point(&stretch.whole());
        if busy(from) || busy(to) {
            return Err(Errno::EBUSY);
        }
        if directory {
            // `a/` names a directory: anything else is refused before something is changed.
            match from.filesystem.stat(&from.path, OpenFlags::NO_FOLLOW | OpenFlags::DIRECTORY)? {
                Walk::Done(_) => {}
                Walk::Link { walked, .. } if walked == from.path.len() => {
                    return Err(Errno::ENOTDIR);
                }
                link @ Walk::Link { .. } => return Ok(discard(link)),
            }
        }
        from.filesystem.rename(&from.path, &to.path, flags)
    }

    /// Figures of the file system that a path is in.
    pub fn figures(&self, base: &[u8], path: &[u8]) -> Result<FileSystemFigures, Errno> {
        self.stat(base, path, OpenFlags::empty())?.1.filesystem.figures()
    }
}

/// A walk that met a link, whatever it was to find.
fn discard<T>(walk: Walk<T>) -> Walk<()> {
    match walk {
        Walk::Done(_) => Walk::Done(()),
        Walk::Link { which, walked, target } => Walk::Link { which, walked, target },
    }
}

static ROOT: Namespace = Namespace::new();

/// The tree of names of all processes.
pub fn root() -> &'static Namespace {
    &ROOT
}
