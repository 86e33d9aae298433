//! `scratchfs`: sparse temporary files on a block device. They have no names and are deleted with
//! their handle, so the device holds no metadata, and its previous contents do not matter.
//!
//! The kernel swaps to it (Q3), so it takes no memory while it works: the map of all blocks, their
//! bits, the table of files and one buffer are allocated when it starts. Every block in use belongs
//! to exactly one page of one file.

mod map;

use alloc::vec::Vec;

use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES};
use fsproto::{
    Allocate, AllocateMode, Attr, AttrMask, CloneRange, Features, FileId, FileKind, Handle, Hole,
    HolesListed, Link, ListHoles, MAX_HOLES, MAX_PAYLOAD, MakeDir, MakeSymlink, Open, OpenFlags,
    Path, Piece, Read, ReadDir, Remove, Rename, SetAttr, Stat, StatFs, Version, Write, WriteFlags,
    Written,
};

use self::map::{FileNumber, Map};
use crate::blocks::{BlockDevice, Blocks};
use crate::buffer::AlignedBuffer;
use crate::handles::HandleTable;
use crate::server::{FileServer, Payload, Resources, Terms, Walk};
use crate::session::ClientLimits;
use crate::transport::{Transport, serve};

const PAGE: u64 = PAGE_BYTES as u64;

/// Inode number of the root directory, which is always empty.
const ROOT_INODE: u64 = 1;

/// Maximum number of files at a time.
const MAX_FILES: usize = 1024;

/// Memory for the small allocations of one request.
pub const RESERVE_BYTES: usize = 64 << 10;

/// Maximum size of a file in bytes, far beyond any device.
const MAX_SIZE: u64 = 1 << 50;

struct File {
    /// Number of pages that have a block.
    pages: u64,
    size: u64,
    version: u64,
    flags: OpenFlags,
    mode: u16,
}

/// The server.
pub struct Scratchfs<D> {
    device: D,
    blocks: Blocks,
    map: Map,
    files: HandleTable<File>,
    /// Number of open files.
    open: usize,
    /// The pages of one message, and one more for messages that begin within a page.
    buffer: AlignedBuffer,
}

impl<D: BlockDevice> Scratchfs<D> {
    /// A server on an empty device. ENOMEM without memory for its tables.
    pub fn new(device: D) -> Result<Self, Errno> {
        let blocks = Blocks::new(device.blocks())?;
        let map = Map::new(device.blocks())?;
        let mut files = HandleTable::default();
        files.reserve(MAX_FILES)?;
        Ok(Self {
            device,
            blocks,
            map,
            files,
            open: 0,
            buffer: AlignedBuffer::new(MAX_PAYLOAD + PAGE_BYTES)?,
        })
    }

    fn file(&self, handle: Handle) -> Result<&File, Errno> {
        self.files.get(handle).ok_or(if handle == Handle::ROOT {
            Errno::EISDIR
        } else {
            Errno::EBADF
        })
    }

    fn attr(&self, handle: Handle) -> Result<Attr, Errno> {
        let file = self.file(handle)?;
        Ok(Attr {
            id: FileId(handle.0 + ROOT_INODE),
            version: Version(file.version),
            size: ByteCount(file.size),
            blocks: file.pages * (PAGE / 512),
            mode: file.mode,
            kind: FileKind::Regular,
            ..Attr::default()
        })
    }

    fn root_attr(&self) -> Attr {
        Attr {
            id: FileId(ROOT_INODE),
            links: 2,
            mode: 0o700,
            kind: FileKind::Directory,
            ..Attr::default()
        }
    }

    /// Reads pages from `first` on to the start of the buffer.
    fn load(&mut self, handle: Handle, first: u64, pages: u64) -> Result<(), Errno> {
        let (map, file) = (&self.map, number_of(handle));
        let bytes =
            self.buffer.bytes_mut().get_mut(..(pages * PAGE) as usize).ok_or(Errno::EINVAL)?;
        let mut page = 0;
        while page < pages {
            let block = map.get(file, first + page);
            let alike = |&next: &u64| match block {
                Some(block) => map.get(file, first + next) == Some(block + (next - page)),
                None => map.get(file, first + next).is_none(),
            };
            let end = (page + 1..pages).take_while(alike).last().map_or(page + 1, |last| last + 1);
            let part = bytes
                .get_mut((page * PAGE) as usize..(end * PAGE) as usize)
                .ok_or(Errno::EINVAL)?;
            match block {
                Some(block) => self.device.read(block, part)?,
                None => part.fill(0),
            }
            page = end;
        }
        Ok(())
    }

    /// The block of a page, allocated if there is none. Of a new block the whole page must be
    /// written.
    fn block_for(&mut self, handle: Handle, page: u64) -> Result<u64, Errno> {
        let (map, file) = (&mut self.map, number_of(handle));
        if let Some(block) = map.get(file, page) {
            return Ok(block);
        }
        let before = page.checked_sub(1).and_then(|before| map.get(file, before));
        let block = self.blocks.take(before.map(|block| block + 1))?;
        map.put(file, page, block);
        self.files.get_mut(handle).ok_or(Errno::EBADF)?.pages += 1;
        Ok(block)
    }

    /// Writes whole pages from `page` on. Returns how many bytes were written; an error only if
    /// none.
    fn write_pages(&mut self, handle: Handle, page: u64, data: &[u8]) -> Result<u64, Errno> {
        let mut done = 0;
        while done < data.len() {
            let at = page + done as u64 / PAGE;
            let first = match self.block_for(handle, at) {
                Ok(block) => block,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let mut pages = 1;
            while (done + pages as usize * PAGE_BYTES) < data.len()
                && self.block_for(handle, at + pages) == Ok(first + pages)
            {
                pages += 1;
            }
            let end = done + pages as usize * PAGE_BYTES;
            self.device.write(first, data.get(done..end).unwrap_or_default())?;
            done = end;
        }
        Ok(done as u64)
    }

    /// Writes within one page.
    fn write_part(&mut self, handle: Handle, offset: u64, data: &[u8]) -> Result<u64, Errno> {
        let (page, start) = (offset / PAGE, (offset % PAGE) as usize);
        self.load(handle, page, 1)?;
        self.buffer
            .bytes_mut()
            .get_mut(start..start + data.len())
            .ok_or(Errno::EINVAL)?
            .copy_from_slice(data);
        let block = self.block_for(handle, page)?;
        self.device.write(block, self.buffer.bytes().get(..PAGE_BYTES).unwrap_or_default())?;
        Ok(data.len() as u64)
    }

    fn write_next(&mut self, handle: Handle, offset: u64, data: &[u8]) -> Result<u64, Errno> {
        let to_border = (PAGE - offset % PAGE) as usize;
        if to_border == PAGE_BYTES && data.len() >= PAGE_BYTES {
            let whole = data.len() / PAGE_BYTES * PAGE_BYTES;
            self.write_pages(handle, offset / PAGE, data.get(..whole).unwrap_or_default())
        } else {
            self.write_part(
                handle,
                offset,
                data.get(..data.len().min(to_border)).unwrap_or_default(),
            )
        }
    }

    /// Turns a range into a hole: the blocks of whole pages are freed, parts of pages are zeroed.
    fn punch(&mut self, handle: Handle, start: u64, end: u64) -> Result<(), Errno> {
        let (first, last) = (start.div_ceil(PAGE), end / PAGE);
        let parts = if first > last {
            [(start, end), (0, 0)]
        } else {
            [(start, first * PAGE), (last * PAGE, end)]
        };
        for (from, to) in parts.into_iter().filter(|(from, to)| from < to) {
            if self.map.get(number_of(handle), from / PAGE).is_some() {
                let zeros = [0; PAGE_BYTES];
                self.write_part(
                    handle,
                    from,
                    zeros.get(..(to - from) as usize).unwrap_or_default(),
                )?;
            }
        }
        let (blocks, mut freed) = (&mut self.blocks, 0);
        if first < last {
            self.map.remove(number_of(handle), first, last, |block| {
                blocks.release(block, 1);
                freed += 1;
            });
        }
        let file = self.files.get_mut(handle).ok_or(Errno::EBADF)?;
        file.pages -= freed;
        file.version += 1;
        Ok(())
    }

    fn resize(&mut self, handle: Handle, size: u64) -> Result<(), Errno> {
        let now = self.file(handle)?.size;
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        if size < now {
            self.punch(handle, size, now.next_multiple_of(PAGE))?;
        }
        let file = self.files.get_mut(handle).ok_or(Errno::EBADF)?;
        file.size = size;
        file.version += 1;
        Ok(())
    }
}

impl<D: BlockDevice> FileServer for Scratchfs<D> {
    fn terms(&mut self) -> Result<Terms, Errno> {
        Ok(Terms { features: Features::SPARSE | Features::OPEN_UNLINKED, root: FileId(ROOT_INODE) })
    }

    fn open(&mut self, request: &Open, path: Path<'_>) -> Result<Walk, Errno> {
        let at_root = request.dir == Handle::ROOT && path.components().next().is_none();
        if at_root && request.flags.contains(OpenFlags::CREATE | OpenFlags::UNNAMED) {
            if self.open >= MAX_FILES {
                return Err(Errno::ENFILE);
            }
            self.files.prepare()?;
            let mode = (request.mode & 0o7777) as u16;
            let file = File { pages: 0, size: 0, version: 1, flags: request.flags, mode };
            let handle = self.files.insert(file);
            self.open += 1;
            return Ok(Walk::done(handle, self.attr(handle)?));
        }
        Err(if at_root {
            Errno::EISDIR
        } else if request.flags.contains(OpenFlags::CREATE) {
            Errno::EPERM
        } else {
            Errno::ENOENT
        })
    }

    fn close(&mut self, handle: Handle) -> Result<(), Errno> {
        self.files.remove(handle).ok_or(Errno::EBADF)?;
        self.open -= 1;
        let blocks = &mut self.blocks;
        self.map.remove(number_of(handle), 0, MAX_SIZE / PAGE, |block| blocks.release(block, 1));
        Ok(())
    }

    fn attributes(&mut self, handle: Handle) -> Result<Attr, Errno> {
        if handle == Handle::ROOT { Ok(self.root_attr()) } else { self.attr(handle) }
    }

    fn stat(&mut self, _: &Stat, path: Path<'_>) -> Result<Walk, Errno> {
        if path.components().next().is_none() {
            Ok(Walk::done(Handle::NONE, self.root_attr()))
        } else {
            Err(Errno::ENOENT)
        }
    }

    fn set_attributes(&mut self, request: &SetAttr) -> Result<Attr, Errno> {
        let writable = self.file(request.handle)?.flags.contains(OpenFlags::WRITE);
        if request.mask.contains(AttrMask::SIZE) {
            if !writable {
                return Err(Errno::EINVAL);
            }
            self.resize(request.handle, request.size.0)?;
        }
        if request.mask.contains(AttrMask::MODE)
            && let Some(file) = self.files.get_mut(request.handle)
        {
            file.mode = (request.mode & 0o7777) as u16;
        }
        self.attr(request.handle)
    }

    fn read(&mut self, request: &Read) -> Result<Payload<'_>, Errno> {
        let file = self.file(request.handle)?;
        if !file.flags.contains(OpenFlags::READ) {
            return Err(Errno::EBADF);
        }
        let length = file.size.saturating_sub(request.offset).min(request.length.into());
        let mut payload = Payload::empty();
        if length > 0 {
            let (first, end) = (request.offset / PAGE, (request.offset + length).div_ceil(PAGE));
            self.load(request.handle, first, end - first)?;
            let start = (request.offset % PAGE) as usize;
            payload.push(
                self.buffer.bytes().get(start..start + length as usize).ok_or(Errno::EINVAL)?,
            );
        }
        Ok(payload)
    }

    fn write(&mut self, request: &Write, data: &[u8], _pieces: &[Piece]) -> Result<Written, Errno> {
        let handle = request.handle;
        let file = self.file(handle)?;
        if !file.flags.contains(OpenFlags::WRITE) {
            return Err(Errno::EBADF);
        }
        let start =
            if request.flags.contains(WriteFlags::APPEND) { file.size } else { request.offset.0 };
        start.checked_add(data.len() as u64).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let mut length = 0;
        while length < data.len() as u64 {
            match self.write_next(
                handle,
                start + length,
                data.get(length as usize..).unwrap_or_default(),
            ) {
                Ok(count) => length += count,
                Err(_) if length > 0 => break,
                Err(error) => return Err(error),
            }
        }
        let file = self.files.get_mut(handle).ok_or(Errno::EBADF)?;
        file.size = file.size.max(start + length);
        file.version += 1;
        Ok(Written {
            length: ByteCount(length),
            offset: FileOffset(start),
            size: ByteCount(file.size),
            version: Version(file.version),
            snapshot: Handle::NONE,
        })
    }

    fn read_dir(&mut self, request: &ReadDir) -> Result<Payload<'_>, Errno> {
        if request.handle == Handle::ROOT { Ok(Payload::empty()) } else { Err(Errno::ENOTDIR) }
    }

    fn make_dir(&mut self, _: &MakeDir, _: Path<'_>) -> Result<Walk, Errno> {
        Err(Errno::EPERM)
    }

    fn remove(&mut self, _: &Remove, _: Path<'_>) -> Result<Walk, Errno> {
        Err(Errno::ENOENT)
    }

    fn rename(&mut self, _: &Rename, _: Path<'_>, _: Path<'_>) -> Result<Walk, Errno> {
        Err(Errno::ENOENT)
    }

    fn link(&mut self, _: &Link, _: Path<'_>) -> Result<Walk, Errno> {
        Err(Errno::EPERM)
    }

    fn make_symlink(&mut self, _: &MakeSymlink, _: Path<'_>, _: &[u8]) -> Result<Walk, Errno> {
        Err(Errno::EPERM)
    }

    fn read_link(&mut self, _: Handle) -> Result<Payload<'_>, Errno> {
        Err(Errno::EINVAL)
    }

    fn stat_fs(&mut self) -> Result<StatFs, Errno> {
        let files_free = MAX_FILES.saturating_sub(self.open) as u64;
        Ok(StatFs {
            blocks: self.blocks.count(),
            blocks_free: self.blocks.free(),
            files: MAX_FILES as u64,
            files_free,
            ..StatFs::default()
        })
    }

    fn sync(&mut self, handle: Handle) -> Result<(), Errno> {
        if handle == Handle::ROOT { Ok(()) } else { self.file(handle).map(drop) }
    }

    fn list_holes(&mut self, request: &ListHoles) -> Result<(HolesListed, Vec<Hole>), Errno> {
        let file = self.file(request.handle)?;
        let end = request.offset.saturating_add(request.length.0).min(file.size);
        let (mut holes, mut at) = (Vec::new(), request.offset);
        while at < end && holes.len() < MAX_HOLES {
            let number = number_of(request.handle);
            if self.map.get(number, at / PAGE).is_some() {
                at = ((at / PAGE + 1) * PAGE).min(end);
                continue;
            }
            let start = self.map.next(number, at / PAGE).unwrap_or(MAX_SIZE / PAGE);
            let hole_end = (start * PAGE).min(end);
            holes.push(Hole { offset: at, length: ByteCount(hole_end - at) });
            at = hole_end;
        }
        Ok((HolesListed { holes_end: at.max(request.offset) }, holes))
    }

    fn allocate(&mut self, request: &Allocate) -> Result<Attr, Errno> {
        let Allocate { handle, offset, length, mode } = *request;
        if !self.file(handle)?.flags.contains(OpenFlags::WRITE) {
            return Err(Errno::EBADF);
        }
        if length.is_zero() {
            return Err(Errno::EINVAL);
        }
        let end = offset
            .checked_add(length)
            .filter(|&end| end <= FileOffset(MAX_SIZE))
            .ok_or(Errno::EFBIG)?;
        // Allocation in advance is not supported.
        if mode != AllocateMode::PunchHole {
            return Err(Errno::EOPNOTSUPP);
        }
        self.punch(handle, offset.0, end.0)?;
        self.attr(handle)
    }

    fn clone_range(&mut self, _: &CloneRange) -> Result<Written, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// The number of an open file in the map.
fn number_of(handle: Handle) -> FileNumber {
    handle.0 as u32
}

/// Serves a device to one client through `transport`. Returns when the client is gone.
pub fn run(
    device: impl BlockDevice,
    resources: Resources,
    transport: impl Transport,
) -> Result<(), Errno> {
    let limits = ClientLimits { files: MAX_FILES, snapshots: 0 };
    serve(Scratchfs::new(device)?, resources.replenish, limits, transport)
}
