//! The operations of the protocol.

use alloc::vec::Vec;

use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES, PageCount};
use fsproto::{
    Allocate, AllocateMode, Attr, AttrMask, ByteRange, CloneRange, CountSpace, Features, FileId,
    FileKind, Handle, Hole, HolesListed, Link, ListHoles, MAX_HOLES, MakeDir, MakeSymlink, Open,
    OpenFlags, Path, Piece, Read, ReadAt, ReadDir, Records, Remove, Rename, SetAttr, SpaceCounted,
    Stat, StatFs, Version, Write, WriteFlags, Writer, Written,
};

use super::content::Extension;
use super::inode::{Body, INODE_BYTES};
use super::walk::{LastLink, Place};
use super::{AccessTimes, Memfs, ROOT_INODE, mutants};
use crate::attributes::MAX_FILE_BYTES;
use crate::buffer::zeros;
use crate::server::{Clock, FileServer, Payload, Terms, Walk};

impl<C: Clock> Memfs<C> {
    /// Opens an existing file.
    fn open_existing(&mut self, inode: u64, flags: OpenFlags) -> Result<Walk, Errno> {
        match self.inode(inode)?.kind() {
            FileKind::Directory if flags.intersects(OpenFlags::WRITE | OpenFlags::CREATE) => {
                return Err(Errno::EISDIR);
            }
            FileKind::Regular | FileKind::Symlink | FileKind::Pipe | FileKind::Socket
                if flags.contains(OpenFlags::DIRECTORY) =>
            {
                return Err(Errno::ENOTDIR);
            }
            FileKind::Regular if flags.contains(OpenFlags::TRUNCATE) => self.resize(inode, 0)?,
            _ => {}
        }
        let handle = self.assign_handle(inode, flags)?;
        Ok(Walk::done(handle, self.attr(inode)?))
    }

    /// Creates a file and opens it.
    fn open_new(&mut self, parent: u64, name: &[u8], request: &Open) -> Result<Walk, Errno> {
        if !request.flags.contains(OpenFlags::CREATE) {
            return Err(Errno::ENOENT);
        }
        let body = if request.flags.contains(OpenFlags::PIPE) {
            Body::Pipe
        } else if request.flags.contains(OpenFlags::SOCKET) {
            Body::Socket
        } else {
            Body::Regular(Default::default())
        };
        let inode = self.make_named(parent, name, body, request.mode)?;
        let handle = self.assign_handle(inode, request.flags)?;
        Ok(Walk::done(handle, self.attr(inode)?))
    }

    /// Creates a file without a name and opens it.
    fn open_unnamed(&mut self, request: &Open, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_feature(Features::OPEN_UNLINKED)?;
        let directory = match self.walk(request.dir, path, LastLink::Follow)? {
            Place::Link(walk) => return Ok(walk),
            Place::Absent { .. } => return Err(Errno::ENOENT),
            Place::Start(inode) | Place::Entry { inode, .. } => inode,
        };
        self.check_takes_entries(directory)?;
        self.inode(directory)?.entries()?;
        self.check_files()?;
        self.pages.make_metadata_space(INODE_BYTES)?;
        let inode = self.make(Body::Regular(Default::default()), request.mode);
        self.inherit_group(directory, inode)?;
        self.inode_mut(inode)?.is_linkable = !request.flags.contains(OpenFlags::EXCLUSIVE);
        let handle = self.assign_handle(inode, request.flags)?;
        Ok(Walk::done(handle, self.attr(inode)?))
    }

    /// The inode that is read through a handle. Updates its access time.
    fn read_by(&mut self, handle: Handle) -> Result<u64, Errno> {
        let number = self.opened_for(handle, OpenFlags::READ)?;
        let keeps = self.open_file(handle)?.flags.contains(OpenFlags::KEEP_ACCESS_TIME);
        if self.access_times == AccessTimes::Relative && !keeps {
            let now = self.clock.recent();
            self.inode_mut(number)?.accessed(now);
        }
        Ok(number)
    }

    /// Changes a file's length.
    fn resize(&mut self, inode: u64, size: u64) -> Result<(), Errno> {
        let now = self.clock.now();
        let inode = self.inodes.get_mut(&inode).ok_or(Errno::ESTALE)?;
        if inode.content()?.size() != size {
            let removed = mutants::truncated(size..u64::MAX);
            inode.change(removed, &mut self.pages, |content, pages| content.resize(size, pages))?;
        }
        inode.touched(now);
        Ok(())
    }
}

/// Flags that cannot be combined.
fn check_open_flags(flags: OpenFlags) -> Result<(), Errno> {
    let truncates_unwritten =
        flags.contains(OpenFlags::TRUNCATE) && !flags.contains(OpenFlags::WRITE);
    let makes_directory = flags.contains(OpenFlags::CREATE | OpenFlags::DIRECTORY);
    let unnamed_but_not_made =
        flags.contains(OpenFlags::UNNAMED) && !flags.contains(OpenFlags::CREATE);
    let special = OpenFlags::PIPE | OpenFlags::SOCKET;
    let special_but_not_made =
        flags.intersects(special) && !flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE);
    let is_both = flags.contains(special);
    if special_but_not_made
        || is_both
        || truncates_unwritten
        || makes_directory
        || unnamed_but_not_made
    {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

impl<C: Clock> FileServer for Memfs<C> {
    fn terms(&mut self) -> Result<Terms, Errno> {
        Ok(Terms { features: self.features, root: FileId(ROOT_INODE) })
    }

    fn open(&mut self, request: &Open, path: Path<'_>) -> Result<Walk, Errno> {
        let flags = request.flags;
        check_open_flags(flags)?;
        self.handles.prepare()?;
        if flags.contains(OpenFlags::UNNAMED) {
            return self.open_unnamed(request, path);
        }
        let exclusive = flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE);
        let last_link = if exclusive { LastLink::Take } else { LastLink::by(flags) };
        match self.walk(request.dir, path, last_link)? {
            Place::Link(walk) => Ok(walk),
            Place::Start(_) | Place::Entry { .. } if exclusive => Err(Errno::EEXIST),
            Place::Start(inode) | Place::Entry { inode, .. } => self.open_existing(inode, flags),
            Place::Absent { parent, name } => self.open_new(parent, name, request),
        }
    }

    fn close(&mut self, handle: Handle) -> Result<(), Errno> {
        let open = self.handles.remove(handle).ok_or(Errno::EBADF)?;
        if let Some(inode) = self.inodes.get_mut(&open.inode) {
            inode.handles -= 1;
        }
        self.free_if_unused(open.inode);
        Ok(())
    }

    fn attributes(&mut self, handle: Handle) -> Result<Attr, Errno> {
        self.attr(self.open_file(handle)?.inode)
    }

    fn stat(&mut self, request: &Stat, path: Path<'_>) -> Result<Walk, Errno> {
        let inode = match self.walk(request.dir, path, LastLink::by(request.flags))? {
            Place::Link(walk) => return Ok(walk),
            Place::Absent { .. } => return Err(Errno::ENOENT),
            Place::Start(inode) | Place::Entry { inode, .. } => inode,
        };
        if request.flags.contains(OpenFlags::DIRECTORY) {
            self.inode(inode)?.entries()?;
        }
        Ok(Walk::done(Handle::NONE, self.attr(inode)?))
    }

    fn set_attributes(&mut self, request: &SetAttr) -> Result<Attr, Errno> {
        let open = self.open_file(request.handle)?;
        let mask = request.mask;
        if mask.contains(AttrMask::SIZE) {
            if !open.flags.contains(OpenFlags::WRITE) {
                return Err(Errno::EINVAL);
            }
            self.resize(open.inode, request.size.0)?;
        }
        let now = self.clock.now();
        let inode = self.inode_mut(open.inode)?;
        if mask.contains(AttrMask::MODE) {
            inode.mode = (request.mode & 0o7777) as u16;
        }
        if mask.contains(AttrMask::UID) {
            inode.uid = request.uid;
        }
        if mask.contains(AttrMask::GID) {
            inode.gid = request.gid;
        }
        if mask.contains(AttrMask::CLEAR_SET_ID) {
            inode.clear_set_id();
        }
        if mask.intersects(AttrMask::ATIME | AttrMask::ACCESSED) {
            inode.atime = request.atime;
        }
        if mask.contains(AttrMask::MTIME) {
            inode.mtime = request.mtime;
        }
        if !(mask - AttrMask::ACCESSED).is_empty() {
            inode.ctime = now;
        }
        self.attr(open.inode)
    }

    fn read(&mut self, request: &Read) -> Result<Payload<'_>, Errno> {
        let inode = self.read_by(request.handle)?;
        let inode = self.inodes.get_mut(&inode).ok_or(Errno::ESTALE)?;
        inode.content_mut()?.read(request.offset, request.length as usize, &mut self.pages)
    }

    fn read_at(&mut self, request: &ReadAt) -> Result<Payload<'_>, Errno> {
        let inode = self.inodes.get_mut(&request.file.0).ok_or(Errno::ESTALE)?;
        let offset = request.offset.0;
        let range = offset..offset.saturating_add(u64::from(request.length));
        let content = inode.content().map_err(|_| Errno::ESTALE)?;
        if range.end > content.size() || !inode.has_version(request.version.0, &range) {
            return Err(Errno::ESTALE);
        }
        // A page-in is not a read of the file: its access time stays (X6).
        inode.content_mut()?.read(offset, request.length as usize, &mut self.pages)
    }

    fn read_ranges(
        &mut self,
        handle: Handle,
        ranges: Records<'_, ByteRange>,
    ) -> Result<Payload<'_>, Errno> {
        self.check_feature(Features::READ_RANGES)?;
        let inode = self.read_by(handle)?;
        let inode = self.inodes.get_mut(&inode).ok_or(Errno::ESTALE)?;
        let ranges =
            ranges.map(|range| range.offset..range.offset.saturating_add(u64::from(range.length)));
        inode.content_mut()?.read_ranges(ranges, &mut self.pages)
    }

    fn write(&mut self, request: &Write, data: &[u8], _pieces: &[Piece]) -> Result<Written, Errno> {
        let number = self.opened_for(request.handle, OpenFlags::WRITE)?;
        let now = self.clock.now();
        let inode = self.inodes.get_mut(&number).ok_or(Errno::ESTALE)?;
        let offset = if request.flags.contains(WriteFlags::APPEND) {
            inode.content()?.size()
        } else {
            request.offset.0
        };
        if data.is_empty() {
            inode.content_mut()?.write(offset, data, &mut self.pages)?;
        } else {
            let written = offset..offset.saturating_add(data.len() as u64);
            inode.change(written, &mut self.pages, |content, pages| {
                content.write(offset, data, pages)
            })?;
            if !request.flags.contains(WriteFlags::KEEP_TIMES) {
                inode.touched(now);
            }
        }
        let size = inode.content()?.size();
        Ok(Written {
            length: ByteCount(data.len() as u64),
            offset: FileOffset(offset),
            size: ByteCount(size),
            version: Version(inode.version),
            snapshot: Handle::NONE,
        })
    }

    fn read_dir(&mut self, request: &ReadDir) -> Result<Payload<'_>, Errno> {
        let inode = self.opened_for(request.handle, OpenFlags::READ)?;
        self.check_takes_entries(inode)?;
        let mut space = zeros(request.length as usize)?;
        let mut writer = Writer::new(&mut space);
        self.inode(inode)?.entries()?.list(request.cookie, &mut writer)?;
        let used = writer.used();
        space.truncate(used);
        Ok(Payload::owned(space))
    }

    fn make_dir(&mut self, request: &MakeDir, path: Path<'_>) -> Result<Walk, Errno> {
        self.make_at(request.dir, path, request.mode, Body::directory)
    }

    fn remove(&mut self, request: &Remove, path: Path<'_>) -> Result<Walk, Errno> {
        self.remove_at(request, path)
    }

    fn rename(&mut self, request: &Rename, old: Path<'_>, new: Path<'_>) -> Result<Walk, Errno> {
        self.rename_at(request, old, new)
    }

    fn link(&mut self, request: &Link, path: Path<'_>) -> Result<Walk, Errno> {
        self.link_at(request, path)
    }

    fn make_symlink(
        &mut self,
        request: &MakeSymlink,
        path: Path<'_>,
        target: &[u8],
    ) -> Result<Walk, Errno> {
        self.make_at(request.dir, path, 0o777, |_| Body::Symlink(target.into()))
    }

    fn read_link(&mut self, handle: Handle) -> Result<Payload<'_>, Errno> {
        match &self.inode(self.open_file(handle)?.inode)?.body {
            Body::Symlink(target) => {
                let mut payload = Payload::empty();
                payload.push(target);
                Ok(payload)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn stat_fs(&mut self) -> Result<StatFs, Errno> {
        let files_free = self.max_files.saturating_sub(self.inodes.len() as u64);
        let files_free = files_free.min(self.pages.free_metadata() / INODE_BYTES);
        Ok(StatFs {
            blocks: self.pages.capacity,
            blocks_free: self.pages.unused(),
            // What is in use and what memory allows, so that their difference is exact.
            files: self.inodes.len() as u64 + files_free,
            files_free,
            ..StatFs::default()
        })
    }

    fn sync(&mut self, handle: Handle) -> Result<(), Errno> {
        self.open_file(handle).map(drop)
    }

    fn list_holes(&mut self, request: &ListHoles) -> Result<(HolesListed, Vec<Hole>), Errno> {
        self.check_feature(Features::SPARSE)?;
        let inode = self.open_file(request.handle)?.inode;
        let (holes, holes_end) =
            self.inode(inode)?.content()?.holes(request.offset, request.length.0, MAX_HOLES);
        Ok((HolesListed { holes_end }, holes))
    }

    fn allocate(&mut self, request: &Allocate) -> Result<Attr, Errno> {
        let number = self.opened_for(request.handle, OpenFlags::WRITE)?;
        let now = self.clock.now();
        let inode = self.inodes.get_mut(&number).ok_or(Errno::ESTALE)?;
        inode.content()?;
        let Allocate { offset, length, mode, .. } = *request;
        if length.is_zero() {
            return Err(Errno::EINVAL);
        }
        let end = offset
            .checked_add(length)
            .filter(|&end| end <= FileOffset(MAX_FILE_BYTES))
            .ok_or(Errno::EFBIG)?;
        let pages = &mut self.pages;
        match mode {
            AllocateMode::PunchHole => {
                inode.change(offset.0..end.0, pages, |content, pages| {
                    content.punch(offset.0, length.0, pages)
                })?;
            }
            AllocateMode::Extend if end.0 > inode.content()?.size() => {
                inode.change(end.0..end.0, pages, |content, pages| {
                    content.fill(offset, length, Extension::Allowed, pages)
                })?;
            }
            // Storage changes neither bytes nor length, so the version stays.
            AllocateMode::Extend | AllocateMode::KeepSize => {
                inode.content_mut()?.fill(offset, length, Extension::Forbidden, pages)?;
            }
        }
        inode.touched(now);
        self.attr(number)
    }

    fn count_space(&mut self, request: &CountSpace) -> Result<SpaceCounted, Errno> {
        let content = self.inode(self.open_file(request.handle)?.inode)?.content()?;
        let (start, end) = (request.offset.0, request.offset.0.saturating_add(request.length.0));
        let pages = start / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64);
        let pages = if start < end { content.space_for(&pages, &self.pages) } else { 0 };
        Ok(SpaceCounted { pages: PageCount(pages) })
    }

    fn clone_range(&mut self, request: &CloneRange) -> Result<Written, Errno> {
        self.check_feature(Features::CLONE)?;
        let source = self.opened_for(request.source, OpenFlags::READ)?;
        let target = self.opened_for(request.target, OpenFlags::WRITE)?;
        self.inode(target)?.content()?;
        let content = self.inode(source)?.content()?;
        let shared = content.share(request.source_offset, request.length.0);
        let now = self.clock.now();
        let start = request.target_offset.0;
        // Bytes that are copied onto themselves do not change.
        let in_place = source == target && request.source_offset == start;
        let length = if in_place { 0 } else { shared.length() };
        let changing = start..start.saturating_add(length);
        let inode = self.inodes.get_mut(&target).ok_or(Errno::ESTALE)?;
        let outcome = if shared.length() == 0 {
            inode.content_mut()?.put_clone(start, &shared, &mut self.pages)
        } else {
            inode.change(changing, &mut self.pages, |content, pages| {
                content.put_clone(start, &shared, pages)
            })
        };
        shared.release(&mut self.pages);
        mutants::stamp_travels(&mut self.inodes, source, target);
        let length = outcome?;
        let inode = self.inode_mut(target)?;
        if length > 0 {
            inode.touched(now);
        }
        let (size, version) = (inode.content()?.size(), Version(inode.version));
        Ok(Written {
            length: ByteCount(length),
            offset: request.target_offset,
            size: ByteCount(size),
            version,
            snapshot: Handle::NONE,
        })
    }
}
