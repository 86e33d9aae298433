//! Resolution of paths.

use super::{MountPoint, Namespace, Place};
use crate::file::filesystem::parent_within;
use crate::file::{FileSystem, Walk};
use crate::mem::{OutOfMemory, fallible};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;
use fsproto::{MAX_NAME, MAX_TARGET, OpenFlags};

/// Bytes of a path that a program passes, at most, as on Linux. With its base it may be longer.
pub const MAX_PATH: usize = MAX_TARGET;

/// Symbolic links followed in one resolution, at most, as on Linux.
const MAX_LINKS: usize = 40;
/// A path that is being resolved.
pub(super) struct Resolution {
    /// The part that is resolved: a canonical path.
    done: Vec<u8>,
    /// The text that is left, from byte `next` on. The path and each link's target add at most
    /// [`MAX_PATH`] bytes.
    left: Vec<u8>,
    next: usize,
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
    /// Checks that the directory of the last component exists. ENOENT, ENOTDIR.
    pub(super) fn parent(&self) -> Result<Walk<()>, Errno> {
        let path = parent_within(&self.path);
        Ok(self.filesystem.stat(path, OpenFlags::DIRECTORY)?.map(drop))
    }

    /// The canonical path that the walk leads to.
    pub(super) fn whole(&self) -> Result<Vec<u8>, OutOfMemory> {
        let mut path = fallible::with_capacity(self.root.len() + 1 + self.path.len())?;
        path.extend_from_slice(&self.root);
        append(&mut path, &self.path)?;
        Ok(path)
    }
}

/// Appends a relative path, which may be empty, to a canonical one.
fn append(directory: &mut Vec<u8>, path: &[u8]) -> Result<(), OutOfMemory> {
    if path.is_empty() {
        return Ok(());
    }
    if directory.as_slice() != b"/" {
        fallible::push(directory, b'/')?;
    }
    fallible::extend(directory, path)
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
        let mut done = fallible::with_capacity(base.len() + 1 + path.len())?;
        done.extend_from_slice(base);
        let mut resolution = Self { done, left: Vec::new(), next: 0, links: 0, directory: false };
        resolution.prepend(path, b"")?;
        resolution.directory = wants_directory(path);
        Ok(resolution)
    }

    /// Inserts a path, such as a link's target, and what follows it before the text that is left.
    fn prepend(&mut self, path: &[u8], behind: &[u8]) -> Result<(), Errno> {
        if path.len() > MAX_PATH
            || path.split(|&byte| byte == b'/').any(|name| name.len() > MAX_NAME)
        {
            return Err(Errno::ENAMETOOLONG);
        }
        if path.first() == Some(&b'/') {
            self.done.truncate(0);
            fallible::push(&mut self.done, b'/')?;
        }
        let rest = self.left.get(self.next..).unwrap_or_default();
        let mut left = fallible::with_capacity(path.len() + behind.len() + rest.len() + 2)?;
        for part in [path, b"/", behind, b"/", rest] {
            left.extend_from_slice(part);
        }
        (self.left, self.next) = (left, 0);
        Ok(())
    }

    /// Takes the next component that is left, other than `.`.
    fn take_component(&mut self) -> Option<core::ops::Range<usize>> {
        loop {
            let rest = self.left.get(self.next..).filter(|rest| !rest.is_empty())?;
            let length = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let component = self.next..self.next + length;
            self.next = (component.end + 1).min(self.left.len());
            if !matches!(self.left.get(component.clone())?, b"" | b".") {
                return Some(component);
            }
        }
    }

    /// Whether no component is left.
    fn is_at_end(&self) -> bool {
        let rest = self.left.get(self.next..).unwrap_or_default();
        rest.split(|&byte| byte == b'/').all(|component| matches!(component, b"" | b"."))
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
        if self.is_at_end() && rest.iter().all(|&byte| byte == b'/') {
            self.directory |= wants_directory(target);
        }
        self.done.truncate(0);
        fallible::extend(&mut self.done, &stretch.root)?;
        append(&mut self.done, directory_of_link)?;
        self.prepend(target, rest)
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

/// The mount that contains a canonical path, and the path within it.
pub(super) fn innermost<'m, 'p>(
    mounts: &'m [Arc<MountPoint>],
    path: &'p [u8],
) -> Option<(&'m MountPoint, &'p [u8])> {
    let mut innermost: Option<(&MountPoint, &[u8])> = None;
    for mount in mounts {
        let is_longest = innermost.is_none_or(|(other, _)| mount.path.len() >= other.path.len());
        // The longest path, and among equals the newest.
        if is_longest && let Some(rest) = path_within(&mount.path, path) {
            innermost = Some((mount, rest));
        }
    }
    innermost
}

/// The part of a path below a canonical one, without the slash between them. What remains of a path
/// that is not canonical is not either: of `//a` it is `/a`.
fn path_within<'p>(directory: &[u8], path: &'p [u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(directory)?;
    match rest {
        [] => Some(rest),
        _ if directory == b"/" => Some(rest),
        [b'/', names @ ..] => Some(names),
        _ => None,
    }
}

impl Namespace {
    /// The file system that contains a canonical path, and the path within it.
    fn locate(&self, path: &[u8]) -> Result<Stretch, Errno> {
        let mounts = self.mounts.lock();
        let (mount, rest) = innermost(&mounts, path).ok_or(Errno::ENOENT)?;
        Ok(Stretch {
            filesystem: mount.filesystem.clone(),
            root: fallible::to_vec(&mount.path)?,
            path: fallible::to_vec(rest)?,
        })
    }

    /// The next walk, to the end of the path. Looks up what precedes a `..` on the way.
    pub(super) fn next_stretch(&self, resolution: &mut Resolution) -> Result<Stretch, Errno> {
        loop {
            let before = resolution.next;
            let Some(component) = resolution.take_component() else {
                return self.locate(&resolution.done);
            };
            let component = resolution.left.get(component).unwrap_or_default();
            if component != b".." {
                append(&mut resolution.done, component)?;
                continue;
            }
            let stretch = self.locate(&resolution.done)?;
            match stretch.filesystem.stat(&stretch.path, OpenFlags::DIRECTORY)? {
                Walk::Done(_) => {
                    let parent = split(&resolution.done).map_or(1, |(parent, _)| parent.len());
                    resolution.done.truncate(parent);
                }
                Walk::Link { walked, target, .. } => {
                    // The `..` comes again.
                    resolution.next = before;
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
                    let path = stretch.whole()?;
                    return Ok((value, Place { filesystem: stretch.filesystem, path }));
                }
                Walk::Link { walked, target, .. } => {
                    resolution.follow(&stretch, walked, &target)?
                }
            }
        }
    }
}
