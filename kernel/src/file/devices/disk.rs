//! Disks in `/dev`: `vda`, `vdb` and so on, and links to them by serial number, as on Linux:
//! `/dev/disk/by-id/virtio-SERIAL`.
//!
//! A transfer has three steps. First the pages are at hand: those of a write are loaded and held by
//! references to their frames, those of a read are new. Then they are moved with the disk locked.
//! Then those that were read are mapped or copied to the program. So whatever the program's memory
//! is, and however long its servers take, nobody else waits for it.
//!
//! `O_EXCL` opens a disk exclusively: until all descriptors that result from that open are closed,
//! every other open is EBUSY, and it is EBUSY itself where the disk is open already.

use super::{Directory, refuse_length};
use crate::dev::disk::{self, Disk, MAX_PAGES, Opening, Part, Sharing};
use crate::file::socket::{copied_frame, leading_pages, map_pages};
use crate::file::{
    DirectoryEntry, FileObject, FileType, Io, OpenHow, SetAttr, Stat, UserBuffers, Walk,
    WriteOutcome, WritePosition,
};
use crate::mem::{self, Claim, Frame, PAGE_BYTES, PageRange, fallible};
use crate::sync::{Interrupt, relax};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::OpenFlags;

/// Linux's device number of the first virtio disk.
const FIRST_NUMBER: u64 = 254 << 8;
/// Linux's minor numbers for each disk: itself and its partitions.
const MINORS: u64 = 16;
/// Inode numbers of disks and of their links, behind those of all other entries of `/dev`.
const FIRST_INODE: u64 = 0x1000;
const FIRST_LINK_INODE: u64 = 0x2000;

/// The folders of links.
#[derive(Clone, Copy)]
pub(super) enum Folder {
    /// `/dev/disk`.
    Disk = 0x3000,
    /// `/dev/disk/by-id`.
    ById = 0x3001,
}

/// What a path in `/dev` names, if it has to do with disks.
pub(super) enum Node {
    Folder(Folder),
    Link {
        link: Link,
        /// Bytes of the path up to the link's end.
        walked: usize,
    },
    Disk(Arc<Disk>),
}

/// The name of a disk in `/dev`.
fn name_of(disk: &Disk) -> [u8; 3] {
    [b'v', b'd', b'a' + disk.number() as u8]
}

/// All disks.
pub(super) fn all() -> impl Iterator<Item = Arc<Disk>> {
    (0..).map_while(disk::get)
}

/// Passes the disks to `sink` as entries of `/dev`, whose other entries have cookies up to `first`.
pub(super) fn list(cookie: u64, first: u64, sink: &mut dyn FnMut(DirectoryEntry<'_>) -> bool) {
    for disk in all() {
        let number = disk.number() as u64;
        let entry = DirectoryEntry {
            inode: FIRST_INODE + number,
            next: first + number + 1,
            file_type: FileType::BlockDevice,
            name: &name_of(&disk),
        };
        if entry.next > cookie && !sink(entry) {
            return;
        }
    }
}

/// What a path in `/dev` names; `None` if it has nothing to do with disks.
pub(super) fn find(path: &[u8]) -> Option<Result<Node, Errno>> {
    let mut parts = path.split(|&byte| byte == b'/');
    let (first, second, third) = (parts.next()?, parts.next(), parts.next());
    if let [b'v', b'd', letter @ b'a'..=b'z'] = first {
        let disk = disk::get(usize::from(letter - b'a'))?;
        return Some(if second.is_none() { Ok(Node::Disk(disk)) } else { Err(Errno::ENOTDIR) });
    }
    if first != b"disk" {
        return None;
    }
    Some(match (second, third) {
        (None, _) => Ok(Node::Folder(Folder::Disk)),
        (Some(b"by-id"), None) => Ok(Node::Folder(Folder::ById)),
        (Some(b"by-id"), Some(name)) => {
            let disk = all().find(|disk| Link::of(disk).is_some_and(|link| link.name() == name));
            let link = disk.as_deref().and_then(Link::of).ok_or(Errno::ENOENT);
            link.map(|link| Node::Link { link, walked: b"disk/by-id/".len() + name.len() })
        }
        (Some(_), _) => Err(Errno::ENOENT),
    })
}

impl Node {
    /// Opens what the path names.
    pub(super) fn open(
        self,
        path: &[u8],
        how: OpenHow,
    ) -> Result<Walk<Arc<dyn FileObject>>, Errno> {
        let flags = how.flags;
        let exists = flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE);
        let changes = flags.intersects(OpenFlags::WRITE | OpenFlags::CREATE);
        Ok(match self {
            Self::Link { link, walked } if link.is_followed(path, walked, flags) => {
                Walk::Link { which: 0, walked, target: link.target()? }
            }
            _ if exists => return Err(Errno::EEXIST),
            Self::Link { link, .. } => Walk::Done(Arc::new(link)),
            Self::Folder(_) if changes => return Err(Errno::EISDIR),
            Self::Folder(folder) => Walk::Done(Arc::new(folder)),
            Self::Disk(_) if flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
            Self::Disk(disk) => Walk::Done(open(&disk, flags)?),
        })
    }

    /// The attributes of what the path names.
    pub(super) fn stat(self, path: &[u8], flags: OpenFlags) -> Result<Walk<Stat>, Errno> {
        Ok(match self {
            Self::Link { link, walked } if link.is_followed(path, walked, flags) => {
                Walk::Link { which: 0, walked, target: link.target()? }
            }
            Self::Link { link, .. } => Walk::Done(link.stat()?),
            Self::Folder(folder) => Walk::Done(folder.stat()?),
            Self::Disk(_) if flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
            Self::Disk(disk) => Walk::Done(stat_of(&disk)),
        })
    }
}

impl FileObject for Folder {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat { inode: *self as u64, ..Directory.stat()? })
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        Directory.read(io, to, at)
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read_dir(
        &self,
        cookie: u64,
        sink: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let by_id = DirectoryEntry {
            inode: Folder::ById as u64,
            next: 1,
            file_type: FileType::Directory,
            name: b"by-id",
        };
        match self {
            Self::Disk if cookie == 0 => drop(sink(by_id)),
            Self::Disk => {}
            Self::ById => {
                for link in all().filter_map(|disk| Link::of(&disk)) {
                    let entry = DirectoryEntry {
                        inode: FIRST_LINK_INODE + link.number,
                        next: link.number + 1,
                        file_type: FileType::Symlink,
                        name: link.name(),
                    };
                    if entry.next > cookie && !sink(entry) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

const LINK_PREFIX: &[u8] = b"virtio-";
const LINK_NAME_BYTES: usize = LINK_PREFIX.len() + disk::SERIAL_BYTES;

/// A link by a disk's serial number.
pub(super) struct Link {
    number: u64,
    name: [u8; LINK_NAME_BYTES],
    name_bytes: usize,
    disk: [u8; 3],
}

impl Link {
    /// The link to a disk. `None` if the disk has no serial number, or one before it has the same.
    fn of(disk: &Disk) -> Option<Self> {
        let serial = disk.serial();
        let is_first = all().take(disk.number()).all(|other| other.serial() != serial);
        if serial.is_empty() || !is_first {
            return None;
        }
        let mut name = [0; LINK_NAME_BYTES];
        let bytes = LINK_PREFIX.iter().copied().chain(serial.iter().copied().map(allowed));
        name.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        Some(Self {
            number: disk.number() as u64,
            name,
            name_bytes: LINK_PREFIX.len() + serial.len(),
            disk: name_of(disk),
        })
    }

    fn name(&self) -> &[u8] {
        self.name.get(..self.name_bytes).unwrap_or_default()
    }

    fn target(&self) -> Result<Vec<u8>, Errno> {
        let mut target = fallible::with_capacity(b"../../".len() + self.disk.len())?;
        target.extend_from_slice(b"../../");
        target.extend_from_slice(&self.disk);
        Ok(target)
    }

    /// Whether the link has to be followed: it is not the last component, or that one is followed.
    fn is_followed(&self, path: &[u8], walked: usize, flags: OpenFlags) -> bool {
        walked < path.len() || !flags.contains(OpenFlags::NO_FOLLOW)
    }
}

/// A byte of a serial number as it appears in a name: udev replaces all others, too.
fn allowed(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte) { byte } else { b'_' }
}

impl FileObject for Link {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat {
            file_type: FileType::Symlink,
            mode: 0o777,
            links: 1,
            inode: FIRST_LINK_INODE + self.number,
            size: ByteCount::of_len(self.target()?.len()),
            ..Stat::of_device()
        })
    }
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        self.target()
    }
}

fn stat_of(disk: &Disk) -> Stat {
    let number = disk.number() as u64;
    Stat {
        file_type: FileType::BlockDevice,
        mode: 0o600,
        links: 1,
        inode: FIRST_INODE + number,
        size: disk.size(),
        device_number: FIRST_NUMBER + MINORS * number,
        ..Stat::of_device()
    }
}

/// Opens a disk: for its attributes only, or to read and write it.
fn open(disk: &Arc<Disk>, flags: OpenFlags) -> Result<Arc<dyn FileObject>, Errno> {
    if !flags.intersects(OpenFlags::READ | OpenFlags::WRITE) {
        return Ok(Arc::new(Closed(disk.clone())));
    }
    if flags.contains(OpenFlags::WRITE) && disk.is_read_only() {
        return Err(Errno::EROFS);
    }
    let exclusive = flags.contains(OpenFlags::EXCLUSIVE);
    let sharing = if exclusive { Sharing::Exclusive } else { Sharing::Shared };
    Ok(Arc::new(Open(disk.open(sharing)?)))
}

/// A disk that was opened for its attributes only.
struct Closed(Arc<Disk>);

impl FileObject for Closed {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(stat_of(&self.0))
    }
    fn seekable(&self) -> bool {
        true
    }
    fn reopen(&self, flags: OpenFlags) -> Result<Option<Arc<dyn FileObject>>, Errno> {
        open(&self.0, flags).map(Some)
    }
}

/// A disk that can be read and written.
struct Open(Opening);

impl FileObject for Open {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(stat_of(self.0.disk()))
    }

    /// Not this opening again: it may be exclusive.
    fn reopen(&self, flags: OpenFlags) -> Result<Option<Arc<dyn FileObject>>, Errno> {
        open(self.0.disk(), flags).map(Some)
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        in_parts(self.0.disk(), at, to.remaining(), |part| self.read_part(io, to, part))
    }

    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let WritePosition::At(start) = at else { return Err(Errno::EINVAL) };
        let wanted = from.remaining();
        let bytes = in_parts(self.0.disk(), start, wanted, |part| self.write_part(io, from, part))?;
        if bytes.is_zero() && !wanted.is_zero() {
            return Err(Errno::ENOSPC);
        }
        Ok(WriteOutcome::from_start(start, bytes))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        refuse_length(change)
    }

    fn sync(&self) -> Result<(), Errno> {
        self.0.flush()
    }
}

/// Moves a range part by part. `act` returns how many bytes it moved: fewer than the part has end
/// the transfer, as an error does. An error counts only where nothing was moved.
fn in_parts(
    disk: &Disk,
    at: FileOffset,
    len: ByteCount,
    mut act: impl FnMut(Part) -> Result<usize, Errno>,
) -> Result<ByteCount, Errno> {
    let mut done = ByteCount::ZERO;
    while let Some(part) = disk.part(at.saturating_add(done), len - done) {
        let moved = match act(part) {
            Err(error) if done.is_zero() => return Err(error),
            moved => moved.unwrap_or(0),
        };
        done += ByteCount::of_len(moved);
        if moved == 0 || done < len && relax(Interrupt::Killable).is_err() {
            break;
        }
    }
    Ok(done)
}

impl Open {
    /// Returns how many bytes were read: fewer than the part has where memory is short or ends.
    fn read_part(&self, io: &Io<'_>, to: &mut UserBuffers, part: Part) -> Result<usize, Errno> {
        let mut frames = new_frames(io.space.policy.claim(), part.pages())?;
        let part = part.within(frames.len()).ok_or(Errno::ENOMEM)?;
        self.0.read(part, &mut frames)?;
        deliver(io, part, &frames, to)
    }

    /// Returns how many bytes were written: fewer than the part has where the program's memory
    /// ends.
    fn write_part(&self, io: &Io<'_>, from: &mut UserBuffers, part: Part) -> Result<usize, Errno> {
        let mut frames = fallible::with_capacity(MAX_PAGES)?;
        let gathered = gather(io, part, from, &mut frames);
        let part = match (gathered, part.within(frames.len())) {
            (Ok(()), _) => part,
            (Err(error), None) => return Err(error),
            (Err(_), Some(shorter)) => shorter,
        };
        self.0.write(part, &mut frames)?;
        Ok(part.bytes())
    }
}

/// Up to `pages` frames that nobody else holds, at least one. May wait.
fn new_frames(claim: Claim, pages: usize) -> Result<Vec<Frame>, Errno> {
    let mut frames = fallible::with_capacity(pages)?;
    while frames.len() < pages {
        match Frame::recycled(claim) {
            Ok(frame) => frames.push(frame),
            Err(_) if !frames.is_empty() => break,
            Err(_) if mem::make_room(1, claim)? => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(frames)
}

/// Loads and holds the pages with the bytes of a part: whole pages of the program are lent, all
/// other bytes are copied. Fails where memory ends; `frames` then has the pages before that. May
/// wait.
fn gather(
    io: &Io<'_>,
    part: Part,
    from: &mut UserBuffers,
    frames: &mut Vec<Frame>,
) -> Result<(), Errno> {
    let claim = io.space.policy.claim();
    while frames.len() < part.pages() {
        let first = frames.len() * PAGE_BYTES;
        let left = part.end() - first;
        // The disk fills in the other bytes of sectors that are written in part.
        let pages = leading_pages(from, if part.is_aligned() { left / PAGE_BYTES } else { 0 });
        if !pages.is_empty() {
            // Where memory ends, the pages before that are lent one by one.
            let one = PageRange::new(pages.start, PageCount(1));
            let lent = io.space.lend(pages).or_else(|_| io.space.lend(one))?;
            from.skip(ByteCount::of_len(lent.len() * PAGE_BYTES));
            frames.extend(lent);
        } else if first == 0 && part.start() > 0 {
            let mut frame = Frame::zeroed_for(claim)?;
            let page = frame.bytes_mut().ok_or(Errno::ENOMEM)?;
            let bytes = page.get_mut(part.start()..left.min(PAGE_BYTES)).unwrap_or_default();
            if from.take(io.space, bytes)? < bytes.len() {
                return Err(Errno::EFAULT);
            }
            frames.push(frame);
        } else {
            frames.push(copied_frame(io, from, left.min(PAGE_BYTES), claim)?);
        }
    }
    Ok(())
}

/// Delivers the bytes of a part to a program's buffers: whole pages are mapped where possible, all
/// other bytes are copied. Returns how many bytes; an error only for none. May wait.
fn deliver(
    io: &Io<'_>,
    part: Part,
    frames: &[Frame],
    to: &mut UserBuffers,
) -> Result<usize, Errno> {
    let mut at = part.start();
    while at < part.end() {
        let rest = frames.get(at / PAGE_BYTES..).unwrap_or_default();
        let Some(frame) = rest.first() else { break };
        let inside = at % PAGE_BYTES;
        let whole = if inside == 0 { (part.end() - at) / PAGE_BYTES } else { 0 };
        let pages = leading_pages(to, whole);
        let mapped = if pages.is_empty() { Ok(0) } else { map_pages(io, pages, rest) };
        let moved = match mapped {
            Ok(0) => {
                let end = (inside + part.end() - at).min(PAGE_BYTES);
                to.put(io.space, frame.bytes().get(inside..end).unwrap_or_default())
            }
            Ok(mapped) => {
                to.skip(ByteCount::of_len(mapped * PAGE_BYTES));
                Ok(mapped * PAGE_BYTES)
            }
            Err(error) => Err(error),
        };
        match moved {
            Ok(0) => break,
            Ok(moved) => at += moved,
            Err(error) if at == part.start() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(at - part.start())
}
