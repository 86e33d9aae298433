//! Resolution of paths.

use super::{MountPoint, Namespace, Place};
use crate::file::{FileSystem, Walk};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;
use fsproto::{MAX_NAME, MAX_PATH, OpenFlags};

/// Symbolic links followed in one resolution, at most, as on Linux.
const MAX_LINKS: usize = 40;
/// Components of one resolution, link targets included: limits the memory that a path can use.
const MAX_COMPONENTS: usize = 8 * MAX_PATH;
/// A path that is being resolved.
pub(super) struct Resolution {
    /// The part that is resolved: a canonical path.
    done: Vec<u8>,
    /// The components that are left.
    left: VecDeque<Vec<u8>>,
    /// Links followed so far.
    links: usize,
    /// Whether the path, or a link that is its last component, ends in `/` or `.`: it must name a
    /// directory.
    pub(super) directory: bool,
}

/// A walk through one file system, up to the path's end or a `..`.
pub(super) struct Stretch {
    pub(super) filesystem: Arc<dyn FileSystem>,
    /// The canonical path of the file system's root.
    pub(super) root: Vec<u8>,
    /// The path within it.
    pub(super) path: Vec<u8>,
}

impl Stretch {
    /// The canonical path that the walk leads to.
    pub(super) fn whole(&self) -> Vec<u8> {
        if self.path.is_empty() { self.root.clone() } else { join(&self.root, &self.path) }
    }
}

/// A canonical path with one more component.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if directory == b"/" { b"" } else { b"/" };
    [directory, separator, name].concat()
}

/// A canonical path's parent and last component; `None` for the root.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    let (parent, name) = (path.get(..slash)?, path.get(slash + 1..)?);
    if name.is_empty() { None } else { Some((if parent.is_empty() { b"/" } else { parent }, name)) }
}

impl Resolution {
    /// Starts at the canonical path `base`. ENOENT for an empty path, ENAMETOOLONG beyond limits.
    pub(super) fn new(base: &[u8], path: &[u8]) -> Result<Self, Errno> {
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

    /// Inserts a path, such as a link's target, before the components that are left.
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

    /// Continues at a link's target, which replaces the first `walked` bytes of the stretch. ELOOP
    /// after too many links.
    pub(super) fn follow(
        &mut self,
        stretch: &Stretch,
        walked: usize,
        target: &[u8],
    ) -> Result<(), Errno> {
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

/// Whether the path's form requires a directory: `a/`, `a/.`, `a/..`.
pub fn wants_directory(path: &[u8]) -> bool {
    matches!(path.rsplit(|&byte| byte == b'/').next(), Some(b"" | b"." | b".."))
}

/// The last component as written, without trailing slashes. Operations that create or remove names
/// refuse `.` and `..`.
pub fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').find(|component| !component.is_empty()).unwrap_or_default()
}

impl Namespace {
    /// The file system that contains a canonical path, and the path within it.
    fn locate(&self, path: &[u8]) -> Result<Stretch, Errno> {
        let mounts = self.mounts.lock();
        let inside = |mount: &MountPoint| match path.strip_prefix(mount.path.as_slice()) {
            Some(rest) => rest.is_empty() || mount.path == b"/" || rest.first() == Some(&b'/'),
            None => false,
        };
        // The longest path, and among equals the newest: `max_by_key` returns the last.
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

    /// The next walk, to the end of the path. Looks up what precedes a `..` on the way.
    pub(super) fn next_stretch(&self, resolution: &mut Resolution) -> Result<Stretch, Errno> {
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

    /// Resolves a path, with `operation` as the walk; repeats it after each link.
    pub(super) fn walk<T>(
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
}
