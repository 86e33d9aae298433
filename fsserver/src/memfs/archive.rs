//! The tree that an archive describes. Format: ustar (POSIX.1-1988), with GNU's long names, as the
//! `tar` crate writes it.
//!
//! The members' bytes stay in the archive until they are changed. Members called `.pad` are filler
//! that puts the next one on a page border.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use foundation::PAGE_BYTES;
use fsproto::*;

use super::content::Content;
use super::inode::Body;
use super::walk::{LastLink, Place};
use super::{Memfs, ROOT_INODE};
use crate::server::Clock;

/// Bytes of a tar block.
const BLOCK: usize = 512;

/// What is wrong with an archive, and with which member.
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

/// A member of an archive.
struct Member {
    name: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    kind: u8,
    data: &'static [u8],
}

/// A field of text: up to its first zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number: octal digits between blanks and zero bytes.
fn number(field: &[u8]) -> Option<u64> {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|&byte| byte == 0 || byte == b' ').unwrap_or(digits.len());
    digits.get(..end)?.iter().try_fold(0_u64, |value, &byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Whether the header's bytes add up to what it says.
fn checksum_is_right(header: &[u8; BLOCK]) -> bool {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, &byte)| u64::from(if (148..156).contains(&at) { b' ' } else { byte }))
        .sum();
    number(&header[148..156]) == Some(sum)
}

/// Takes the next member off the archive; nothing at its end.
fn next_member(rest: &mut &'static [u8]) -> Result<Option<Member>, BadArchive> {
    let (mut long_name, mut long_link) = (None, None);
    loop {
        let Some((header, behind)) = rest.split_first_chunk::<BLOCK>() else { return Ok(None) };
        if header.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let name = text(&header[..100]);
        let bad = |reason| BadArchive::new(name, reason);
        if !checksum_is_right(header) {
            return Err(bad("the header's checksum is wrong"));
        }
        let field = |range: core::ops::Range<usize>| {
            number(&header[range]).ok_or(bad("a number in the header is none"))
        };
        let length = usize::try_from(field(124..136)?).map_err(|_| bad("it is too long"))?;
        let data = behind.get(..length).ok_or(bad("the archive ends in the middle of it"))?;
        let padded = length.checked_next_multiple_of(BLOCK).ok_or(bad("it is too long"))?;
        *rest = behind.get(padded..).unwrap_or_default();
        match header[156] {
            b'L' => long_name = Some(text(data).to_vec()),
            b'K' => long_link = Some(text(data).to_vec()),
            kind => {
                let prefix =
                    if header[257..263] == *b"ustar\0" { text(&header[345..500]) } else { b"" };
                let whole =
                    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
                return Ok(Some(Member {
                    name: long_name.unwrap_or(whole),
                    link: long_link.unwrap_or_else(|| text(&header[157..257]).to_vec()),
                    mode: field(100..108)? as u32,
                    uid: field(108..116)? as u32,
                    gid: field(116..124)? as u32,
                    mtime: Time((field(136..148)? as i64).saturating_mul(1_000_000_000)),
                    kind,
                    data,
                }));
            }
        }
    }
}

/// The name as a path of the protocol: without `./` in front and `/` behind.
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
    /// Adds what an archive holds. On an error, what came before the bad member is there.
    pub fn add_archive(&mut self, archive: &'static [u8]) -> Result<(), BadArchive> {
        let mut rest = archive;
        while let Some(member) = next_member(&mut rest)? {
            let name = trimmed(&member.name);
            if name == b".pad" || name.ends_with(b"/.pad") {
                continue;
            }
            self.add_member(name, &member)
                .map_err(|reason| BadArchive::new(&member.name, reason))?;
        }
        Ok(())
    }

    fn add_member(&mut self, name: &[u8], member: &Member) -> Result<(), &'static str> {
        let path = Path::new(name).map_err(|_| "its name is not a path")?;
        let body = match member.kind {
            b'0' | 0 | b'7' => {
                self.pages
                    .check(member.data.len().div_ceil(PAGE_BYTES) as u64)
                    .map_err(|_| "there is no room for it")?;
                Body::Regular(
                    Content::from_archive(member.data, &mut self.pages)
                        .map_err(|_| "there is no room for it")?,
                )
            }
            b'2' if (1..=MAX_PATH).contains(&member.link.len()) => {
                Body::Symlink(member.link.as_slice().into())
            }
            b'5' => Body::directory(ROOT_INODE),
            b'1' => return self.add_link(path, member),
            // Extended headers of other writers (times, mostly): nothing that is needed here.
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
                    .map_err(|_| "there is no room for it")?,
            },
        };
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.mode = (member.mode & 0o7777) as u16;
            (inode.uid, inode.gid) = (member.uid, member.gid);
            (inode.atime, inode.mtime, inode.ctime) = (member.mtime, member.mtime, member.mtime);
        }
        Ok(())
    }

    /// A hard link to a member that came before.
    fn add_link(&mut self, path: Path<'_>, member: &Member) -> Result<(), &'static str> {
        let target = Path::new(trimmed(&member.link)).map_err(|_| "its link is not a path")?;
        let Ok(Place::Entry { inode, .. }) = self.walk(ROOT, target, LastLink::Take) else {
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

    /// Makes the directories on the way to a path's last component.
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
                    .map_err(|_| "there is no room for it")?,
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
