//! Building the tree from a tar archive.
//!
//! The members' bytes stay in the archive until they change. Members named `.pad` are padding that
//! aligns the next member to a page boundary. Of a file that does not fit into memory the archive
//! only lists where its pages are on a device.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use foundation::archive::{self, Member, MemberName};
use foundation::{Errno, PAGE_BYTES};
use fsproto::{Component, FileKind, Handle, MAX_TARGET, Path, Time};

use super::content::{Content, Run};
use super::inode::Body;
use super::walk::{LastLink, Place};
use super::{Memfs, ROOT_INODE};
use crate::attributes::MAX_FILE_BYTES;
use crate::server::Clock;

/// An error in an archive, with the member that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadArchive {
    member: String,
    reason: &'static str,
}

impl BadArchive {
    fn new(member: &[u8], reason: &'static str) -> Self {
        Self { member: String::from_utf8_lossy(member).into_owned(), reason }
    }

    pub(super) fn no_memory() -> Self {
        Self::new(b"", "no memory to serve with")
    }
}

impl fmt::Display for BadArchive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.member, self.reason)
    }
}

/// A member's name, joined.
fn whole_name(member: &Member<'_>) -> Vec<u8> {
    let MemberName { prefix, name } = member.name;
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// The name as a path of the protocol: without a leading `./` and a trailing `/`.
fn trimmed(name: &[u8]) -> &[u8] {
    let mut name = name;
    while let Some(rest) = name.strip_prefix(b"./").or(name.strip_prefix(b"/")) {
        name = rest;
    }
    while let Some(rest) = name.strip_suffix(b"/") {
        name = rest;
    }
    if name == b"." { b"" } else { name }
}

impl<C: Clock> Memfs<C> {
    /// Adds the members of an archive. On an error, the members before the bad one have been added.
    pub fn add_archive(&mut self, archive: &'static [u8]) -> Result<(), BadArchive> {
        for member in archive::members(archive) {
            let member = member.map_err(|bad| BadArchive::new(bad.member, bad.reason))?;
            let whole = whole_name(&member);
            let name = trimmed(&whole);
            if name == b".pad" || name.ends_with(b"/.pad") {
                continue;
            }
            self.add_member(name, &member).map_err(|reason| BadArchive::new(&whole, reason))?;
        }
        Ok(())
    }

    fn add_member(&mut self, name: &[u8], member: &Member<'static>) -> Result<(), &'static str> {
        let path = Path::new(name).map_err(|_| "its name is not a path")?;
        let body = match member.kind {
            b'0' | 0 | b'7' => {
                self.pages
                    .check(member.data.len().div_ceil(PAGE_BYTES) as u64)
                    .map_err(|_| "there is no space for it")?;
                Body::Regular(
                    Content::from_archive(member.data, &mut self.pages)
                        .map_err(|_| "there is no space for it")?,
                )
            }
            archive::PLACED => Body::Regular(self.placed(member.data)?),
            b'2' if (1..=MAX_TARGET).contains(&member.link.len()) => {
                Body::Symlink(member.link.into())
            }
            b'5' => Body::directory(ROOT_INODE),
            b'1' => return self.add_link(path, member),
            // Extended headers of other writers, mostly times: not needed here.
            b'x' | b'g' => return Ok(()),
            _ => return Err("its kind is unknown"),
        };
        let (parent, last) = self.make_parents(path)?;
        let inode = match (last, &body) {
            (None, Body::Directory(_)) => ROOT_INODE,
            (None, _) => return Err("it has no name"),
            (Some(last), body_new) => match (self.child(parent, last), body_new) {
                (Some(there), Body::Directory(_)) if self.is_dir(there) => there,
                (Some(_), _) => return Err("its name is there already"),
                (None, _) => self
                    .make_named(parent, last, body, member.mode)
                    .map_err(|_| "there is no space for it")?,
            },
        };
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.mode = (member.mode & 0o7777) as u16;
            (inode.uid, inode.gid) = (member.uid, member.gid);
            let modified = Time((member.modified_s as i64).saturating_mul(1_000_000_000));
            (inode.atime, inode.mtime, inode.ctime) = (modified, modified, modified);
        }
        Ok(())
    }

    /// The contents of a file on the device, of which the archive has the list of runs.
    fn placed(&mut self, list: &[u8]) -> Result<Content, &'static str> {
        const BAD: &str = "the list of its pages is wrong";
        let (numbers, []) = list.as_chunks::<8>() else { return Err(BAD) };
        let [size, runs @ ..] = numbers else { return Err(BAD) };
        let (runs, []) = runs.as_chunks::<3>() else { return Err(BAD) };
        let size = u64::from_le_bytes(*size);
        let runs = runs.iter().map(|run| {
            let [first, pages, block] = run.map(u64::from_le_bytes);
            Run { pages: first..first.saturating_add(pages), block }
        });
        let end = runs.clone().try_fold(0, |behind, Run { pages, .. }| {
            (pages.start >= behind && !pages.is_empty()).then_some(pages.end)
        });
        let is_inside = |end| size <= MAX_FILE_BYTES && end <= size.div_ceil(PAGE_BYTES as u64);
        if !end.is_some_and(is_inside) {
            return Err(BAD);
        }
        Content::from_device(size, runs, &mut self.pages).map_err(|error| match error {
            Errno::EINVAL => "it is on no device",
            _ => "there is no space for it",
        })
    }

    /// Adds a hard link to an earlier member.
    fn add_link(&mut self, path: Path<'_>, member: &Member<'static>) -> Result<(), &'static str> {
        let target = Path::new(trimmed(member.link)).map_err(|_| "its link is not a path")?;
        let Ok(Place::Entry { inode, .. }) = self.walk(Handle::ROOT, target, LastLink::Take) else {
            return Err("it links to nothing");
        };
        let (parent, last) = self.make_parents(path)?;
        let last = last
            .filter(|last| self.child(parent, last).is_none())
            .ok_or("its name is there already")?;
        if self.is_dir(inode) {
            return Err("it links to a directory");
        }
        self.attach(parent, last, inode).map_err(|_| "it cannot be linked")
    }

    /// Creates the missing directories of a path, without its last component.
    fn make_parents<'p>(
        &mut self,
        path: Path<'p>,
    ) -> Result<(u64, Option<&'p [u8]>), &'static str> {
        let mut parent = ROOT_INODE;
        for Component { name, is_last, .. } in path.components() {
            if is_last {
                return Ok((parent, Some(name)));
            }
            parent = match self.child(parent, name) {
                Some(inode) if self.is_dir(inode) => inode,
                Some(_) => return Err("a directory on its way is none"),
                None => self
                    .make_named(parent, name, Body::directory(parent), 0o755)
                    .map_err(|_| "there is no space for it")?,
            };
        }
        Ok((parent, None))
    }

    fn child(&self, parent: u64, name: &[u8]) -> Option<u64> {
        self.inodes.get(&parent)?.entries().ok()?.get(name)
    }

    fn is_dir(&self, inode: u64) -> bool {
        self.inodes.get(&inode).is_some_and(|inode| inode.kind() == FileKind::Directory)
    }
}
