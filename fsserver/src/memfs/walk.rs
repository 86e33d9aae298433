//! Path walking.

use foundation::Errno;
use fsproto::{Component, Handle, OpenFlags, Path};

use super::Memfs;
use super::inode::Body;
use crate::server::{Clock, Walk};

/// The place where a walk ended.
pub(super) enum Place<'p> {
    /// The directory where it started: the path was empty.
    Start(u64),
    /// An entry of a directory.
    Entry { parent: u64, name: &'p [u8], inode: u64 },
    /// A name that the directory does not contain.
    Absent { parent: u64, name: &'p [u8] },
    /// A link that must be followed, as reply to the client.
    Link(Walk),
}

/// How a link in the last component is treated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LastLink {
    Follow,
    Take,
}

impl LastLink {
    /// As the flags of a request demand.
    pub fn by(flags: OpenFlags) -> Self {
        if flags.contains(OpenFlags::NO_FOLLOW) { Self::Take } else { Self::Follow }
    }
}

impl<C: Clock> Memfs<C> {
    /// Walks a path from a directory. ENOENT if a directory on the way is absent, ENOTDIR if it is
    /// of another type.
    pub(super) fn walk<'p>(
        &self,
        dir: Handle,
        path: Path<'p>,
        last_link: LastLink,
    ) -> Result<Place<'p>, Errno> {
        let mut parent = self.open_file(dir)?.inode;
        let mut entries = self.inode(parent)?.entries()?;
        for Component { name, end, is_last } in path.components() {
            let Some(inode) = entries.get(name) else {
                return if is_last {
                    Ok(Place::Absent { parent, name })
                } else {
                    Err(Errno::ENOENT)
                };
            };
            let found = self.inode(inode)?;
            if let Body::Symlink(target) = &found.body
                && (!is_last || last_link == LastLink::Follow)
            {
                return Ok(Place::Link(Walk::link(end, target)));
            }
            if is_last {
                return Ok(Place::Entry { parent, name, inode });
            }
            (parent, entries) = (inode, found.entries()?);
        }
        Ok(Place::Start(parent))
    }
}
