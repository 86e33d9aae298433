//! Creating, removing and renaming directory entries.

use foundation::Errno;
use fsproto::{Attr, FileId, FileKind, Handle, Link, OpenFlags, Path, Remove, Rename, RenameFlags};

use super::directory::entry_bytes;
use super::inode::{Body, INODE_BYTES};
use super::walk::{LastLink, Place};
use super::{Memfs, ROOT_INODE};
use crate::server::{Clock, Walk};

/// A directory entry that a request names.
struct Named<'p> {
    parent: u64,
    name: &'p [u8],
    inode: Option<u64>,
}

/// Where a path leads if its last component is not followed, or the link at which the walk stopped.
enum Target<'p> {
    Named(Named<'p>),
    Link(Walk),
}

impl<C: Clock> Memfs<C> {
    /// The entry that a path names. Fails with `at_start` for the empty path.
    fn entry<'p>(&self, dir: Handle, path: Path<'p>, at_start: Errno) -> Result<Target<'p>, Errno> {
        Ok(match self.walk(dir, path, LastLink::Take)? {
            Place::Start(_) => return Err(at_start),
            Place::Entry { parent, name, inode } => {
                Target::Named(Named { parent, name, inode: Some(inode) })
            }
            Place::Absent { parent, name } => Target::Named(Named { parent, name, inode: None }),
            Place::Link(walk) => Target::Link(walk),
        })
    }

    fn is_directory(&self, inode: u64) -> Result<bool, Errno> {
        Ok(self.inode(inode)?.kind() == FileKind::Directory)
    }

    /// A removed directory may still be open, but accepts no entries and lists none.
    pub(super) fn check_takes_entries(&self, directory: u64) -> Result<(), Errno> {
        if self.inode(directory)?.links == 0 { Err(Errno::ENOENT) } else { Ok(()) }
    }

    /// Adds a name of an inode. A previous entry of that name is replaced.
    pub(super) fn attach(&mut self, parent: u64, name: &[u8], inode: u64) -> Result<(), Errno> {
        let now = self.clock.now();
        let child = self.inode_mut(inode)?;
        let kind = child.kind();
        match &mut child.body {
            Body::Directory(directory) => directory.parent = parent,
            _ => child.links += 1,
        }
        child.ctime = now;
        let directory = self.inode_mut(parent)?;
        directory.links += u32::from(kind == FileKind::Directory);
        let taken = directory.entries_mut()?.insert(name, inode, kind);
        directory.changed(now);
        self.pages.charge(taken);
        Ok(())
    }

    /// Removes an entry; its inode remains.
    fn detach(&mut self, parent: u64, name: &[u8], inode: u64) -> Result<(), Errno> {
        self.uncount(parent, inode)?;
        let freed = self.inode_mut(parent)?.entries_mut()?.remove(name);
        self.pages.refund(freed);
        Ok(())
    }

    /// Records that `inode` has lost a name in `parent`.
    fn uncount(&mut self, parent: u64, inode: u64) -> Result<(), Errno> {
        let now = self.clock.now();
        let is_directory = self.is_directory(inode)?;
        let directory = self.inode_mut(parent)?;
        directory.links -= u32::from(is_directory);
        directory.changed(now);
        let child = self.inode_mut(inode)?;
        child.links -= u32::from(!is_directory);
        child.ctime = now;
        Ok(())
    }

    /// Frees a file that has lost its last name, unless it is open. Returns its attributes.
    fn drop_unnamed(&mut self, inode: u64) -> Result<Attr, Errno> {
        let child = self.inode_mut(inode)?;
        if matches!(child.body, Body::Directory(_)) {
            child.links = 0;
        }
        let attr = self.attr(inode)?;
        self.free_if_unused(inode);
        Ok(attr)
    }

    /// Creates a file with a name. EEXIST if the name exists.
    pub(super) fn make_named(
        &mut self,
        parent: u64,
        name: &[u8],
        body: Body,
        mode: u32,
    ) -> Result<u64, Errno> {
        self.check_takes_entries(parent)?;
        self.check_files()?;
        self.pages.make_metadata_space(INODE_BYTES + body.bytes() + entry_bytes(name))?;
        let inode = self.make(body, mode);
        self.inherit_group(parent, inode)?;
        self.attach(parent, name, inode)?;
        Ok(inode)
    }

    /// What is made in a directory with the set-group-ID bit belongs to the directory's group, and
    /// a directory gets the bit, too.
    pub(super) fn inherit_group(&mut self, parent: u64, inode: u64) -> Result<(), Errno> {
        const SET_GROUP_ID: u16 = 0o2000;
        let directory = self.inode(parent)?;
        if directory.mode & SET_GROUP_ID == 0 {
            return Ok(());
        }
        let gid = directory.gid;
        let child = self.inode_mut(inode)?;
        child.gid = gid;
        if child.kind() == FileKind::Directory {
            child.mode |= SET_GROUP_ID;
        }
        Ok(())
    }

    pub(super) fn make_at(
        &mut self,
        dir: Handle,
        path: Path<'_>,
        mode: u32,
        body: impl FnOnce(u64) -> Body,
    ) -> Result<Walk, Errno> {
        match self.entry(dir, path, Errno::EEXIST)? {
            Target::Link(walk) => Ok(walk),
            Target::Named(Named { inode: Some(_), .. }) => Err(Errno::EEXIST),
            Target::Named(Named { parent, name, inode: None }) => {
                let inode = self.make_named(parent, name, body(parent), mode)?;
                Ok(Walk::done(Handle::NONE, self.attr(inode)?))
            }
        }
    }

    pub(super) fn remove_at(&mut self, request: &Remove, path: Path<'_>) -> Result<Walk, Errno> {
        let Named { parent, name, inode } = match self.entry(request.dir, path, Errno::EBUSY)? {
            Target::Link(walk) => return Ok(walk),
            Target::Named(named) => named,
        };
        let inode = inode.ok_or(Errno::ENOENT)?;
        let wants_directory = request.flags.contains(OpenFlags::DIRECTORY);
        match (&self.inode(inode)?.body, wants_directory) {
            (Body::Directory(entries), true) if !entries.is_empty() => {
                return Err(Errno::ENOTEMPTY);
            }
            (Body::Directory(_), false) => return Err(Errno::EISDIR),
            (Body::Directory(_), true) => {}
            (_, true) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.detach(parent, name, inode)?;
        Ok(Walk::done(Handle::NONE, self.drop_unnamed(inode)?))
    }

    pub(super) fn link_at(&mut self, request: &Link, path: Path<'_>) -> Result<Walk, Errno> {
        let inode = self.open_file(request.handle)?.inode;
        match self.entry(request.dir, path, Errno::EEXIST)? {
            Target::Link(walk) => Ok(walk),
            Target::Named(Named { inode: Some(_), .. }) => Err(Errno::EEXIST),
            Target::Named(_) if self.is_directory(inode)? => Err(Errno::EPERM),
            Target::Named(Named { parent, name, inode: None }) => {
                self.check_takes_entries(parent)?;
                match self.inode(inode)? {
                    file if file.links == u32::MAX => return Err(Errno::EMLINK),
                    file if file.links == 0 && !file.is_linkable => return Err(Errno::ENOENT),
                    _ => {}
                }
                self.pages.make_metadata_space(entry_bytes(name))?;
                self.attach(parent, name, inode)?;
                self.inode_mut(inode)?.is_linkable = false;
                Ok(Walk::done(Handle::NONE, self.attr(inode)?))
            }
        }
    }

    /// The order of the checks is that of Linux, so the errors are the same.
    pub(super) fn rename_at(
        &mut self,
        request: &Rename,
        old: Path<'_>,
        new: Path<'_>,
    ) -> Result<Walk, Errno> {
        let old = match self.entry(request.old_dir, old, Errno::EBUSY)? {
            Target::Link(walk) => return Ok(walk),
            Target::Named(named) => named,
        };
        let new = match self.entry(request.new_dir, new, Errno::EBUSY)? {
            Target::Link(walk) => return Ok(walk.in_second_path()),
            Target::Named(named) => named,
        };
        let inode = old.inode.ok_or(Errno::ENOENT)?;
        let exchanges = request.flags.contains(RenameFlags::EXCHANGE);
        match new.inode {
            Some(_) if request.flags.contains(RenameFlags::NO_REPLACE) => {
                return Err(Errno::EEXIST);
            }
            None if exchanges => return Err(Errno::ENOENT),
            _ => {}
        }
        self.check_takes_entries(new.parent)?;
        if self.lies_in(new.parent, inode)? {
            return Err(Errno::EINVAL);
        }
        let mut displaced = new.inode.map_or(FileId::NONE, FileId);
        match new.inode {
            Some(other) if self.lies_in(old.parent, other)? => {
                return Err(if exchanges { Errno::EINVAL } else { Errno::ENOTEMPTY });
            }
            // Two names of the same file: nothing is done (POSIX).
            Some(other) if other == inode => displaced = FileId::NONE,
            Some(other) if exchanges => self.exchange(&old, inode, &new, other)?,
            replaced => self.replace(&old, inode, &new, replaced)?,
        }
        let mut walk = Walk::done(Handle::NONE, self.attr(inode)?);
        walk.reply.displaced = displaced;
        Ok(walk)
    }

    /// Whether `directory` is `inode` or below it.
    fn lies_in(&self, mut directory: u64, inode: u64) -> Result<bool, Errno> {
        while directory != inode {
            if directory == ROOT_INODE {
                return Ok(false);
            }
            directory = self.inode(directory)?.entries()?.parent;
        }
        Ok(true)
    }

    fn exchange(
        &mut self,
        old: &Named<'_>,
        inode: u64,
        new: &Named<'_>,
        other: u64,
    ) -> Result<(), Errno> {
        self.detach(old.parent, old.name, inode)?;
        self.detach(new.parent, new.name, other)?;
        self.attach(new.parent, new.name, inode)?;
        self.attach(old.parent, old.name, other)
    }

    fn replace(
        &mut self,
        old: &Named<'_>,
        inode: u64,
        new: &Named<'_>,
        replaced: Option<u64>,
    ) -> Result<(), Errno> {
        if let Some(replaced) = replaced {
            match (self.is_directory(inode)?, &self.inode(replaced)?.body) {
                (true, Body::Directory(entries)) if !entries.is_empty() => {
                    return Err(Errno::ENOTEMPTY);
                }
                (true, Body::Directory(_)) => {}
                (true, _) => return Err(Errno::ENOTDIR),
                (false, Body::Directory(_)) => return Err(Errno::EISDIR),
                _ => {}
            }
        } else {
            self.pages.make_metadata_space(entry_bytes(new.name))?;
        }
        if let Some(replaced) = replaced {
            // The entry is kept, so a listing in progress contains it once.
            self.uncount(new.parent, replaced)?;
            self.drop_unnamed(replaced)?;
        }
        self.detach(old.parent, old.name, inode)?;
        self.attach(new.parent, new.name, inode)
    }
}
