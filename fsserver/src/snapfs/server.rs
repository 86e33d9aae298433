//! The operations of the protocol. Requests that concern no snapshot are passed on to the base.

use alloc::vec::Vec;

use foundation::{ByteCount, Errno, PAGE_BYTES, SnapshotOffset};
use fsproto::{
    Allocate, Attr, AttrMask, CloneRange, Features, FileId, FileKind, GetAttr, GetStatFs, Handle,
    Hole, HolesListed, Link, ListHoles, MAX_PAYLOAD, MakeDir, MakeSymlink, Open, OpenFlags, Path,
    Piece, Read, ReadDir, ReadLink, Remove, Rename, SetAttr, Snapshot, Snapshotted, Stat, StatFs,
    Sync, Write, WriteFlags, Written,
};

use super::change::Change;
use super::handles::Opened;
use super::hidden::{HiddenName, without_folder};
use super::{Snapfs, Traffic, mutants};
use crate::connection::Connection;
use crate::server::{Clock, FileServer, Payload, Terms, Walk};

/// Features that the wrapper adds to those of the base.
const ADDED: Features = Features::SNAPSHOT.union(Features::WRITE_REFERENCES);

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Assigns a handle to what the base has opened.
    fn opened(&mut self, base: Handle, attr: &Attr, flags: OpenFlags) -> Handle {
        if attr.kind != FileKind::Regular {
            return self.handles.insert(Opened::Other { base, file: attr.id, flags });
        }
        self.files.opened(base, attr);
        self.handles.insert(Opened::File { base, file: attr.id, flags })
    }

    /// Truncates a file that was just opened; closes the handle if that fails.
    fn truncate_opened(&mut self, handle: Handle) -> Result<Attr, Errno> {
        let (base, id) = self.handles.regular(handle, OpenFlags::WRITE)?;
        let request = SetAttr { handle: base, mask: AttrMask::SIZE, ..SetAttr::default() };
        self.resize(id, Change::OpenTruncate, &request).inspect_err(|_| {
            // The client never sees this handle; the first error is the one to report.
            let _ = self.close(handle);
        })
    }

    /// A walk's reply as the client sees it. Records the file's attributes.
    fn walked(&mut self, mut walk: Walk) -> Walk {
        if !walk.is_link() {
            if let Ok(file) = self.files.get_mut(walk.reply.attr.id) {
                file.learn(&walk.reply.attr);
            }
            walk.reply.attr = self.shown(walk.reply.attr);
        }
        walk
    }

    /// A file has lost its last name. Whoever has it open, and its snapshots, keep it (C3, C4).
    fn name_lost(&mut self, id: FileId) {
        if self.files.contains(id) {
            mutants::remove_snapshotted(self, id);
            self.files.count_deleted(&mut self.base, id);
        } else {
            self.access_times.forget(id);
        }
    }

    /// Before a name is removed: if it is the last one of a file that is still needed, and the base
    /// would delete the file, moves it to the hidden folder and returns it.
    fn keep(&mut self, dir: Handle, path: Path<'_>) -> Result<Option<(FileId, HiddenName)>, Errno> {
        if !self.hidden.are_needed() {
            return Ok(None);
        }
        let walk = self.base.walk(&Stat { dir, flags: OpenFlags::NO_FOLLOW }, &[path.bytes()])?;
        let attr = walk.reply.attr;
        if walk.is_link()
            || attr.links != 1
            || attr.kind != FileKind::Regular
            || !self.files.contains(attr.id)
        {
            return Ok(None);
        }
        let name = self.hidden.move_in(&mut self.base, dir, path)?;
        self.set_kept(attr.id, Some(name));
        Ok(Some((attr.id, name)))
    }

    /// The request that would have taken a name failed: moves the kept file back.
    fn unkeep(&mut self, kept: (FileId, HiddenName), dir: Handle, path: Path<'_>) {
        if self.hidden.move_out(&mut self.base, kept.1, dir, path).is_ok() {
            self.set_kept(kept.0, None);
        }
    }

    /// A file's last name is in the hidden folder now, or no longer.
    fn set_kept(&mut self, id: FileId, name: Option<HiddenName>) {
        if let Ok(file) = self.files.get_mut(id) {
            (file.kept, file.attr) = (name, None);
        }
        self.files.count_deleted(&mut self.base, id);
    }

    /// Removes a name by moving its file to the hidden folder, if the file has to be kept.
    fn remove_by_keeping(&mut self, dir: Handle, path: Path<'_>) -> Result<Option<Walk>, Errno> {
        let Some((id, _)) = self.keep(dir, path)? else { return Ok(None) };
        let attr = self.base_attr(id)?;
        Ok(Some(Walk::done(Handle::NONE, self.shown(attr))))
    }

    /// ENOENT for the hidden folder and what is in it.
    fn check_visible(&self, dir: Handle, path: Path<'_>) -> Result<(), Errno> {
        let is_hidden = self.hidden.hides(path) && self.handles.is_root(dir);
        if is_hidden { Err(Errno::ENOENT) } else { Ok(()) }
    }

    /// Renames on a base that may delete the file that is replaced.
    fn rename_on_base(
        &mut self,
        request: &Rename,
        old: Path<'_>,
        new: Path<'_>,
    ) -> Result<Walk, Errno> {
        let mut kept = None;
        if self.is_replaced(request, old, new) {
            kept = self.keep(request.new_dir, new)?;
        }
        let walk = self.base.walk(request, &[old.bytes(), new.bytes()]);
        if let Some(kept) = kept.filter(|_| walk.as_ref().map_or(true, Walk::is_link)) {
            self.unkeep(kept, request.new_dir, new);
        }
        walk
    }

    /// Whether a rename would replace another file by a file.
    fn is_replaced(&mut self, request: &Rename, old: Path<'_>, new: Path<'_>) -> bool {
        if !self.hidden.are_needed() || !request.flags.is_empty() {
            return false;
        }
        let mut file_at = |dir, path: Path<'_>| {
            let walk =
                self.base.walk(&Stat { dir, flags: OpenFlags::NO_FOLLOW }, &[path.bytes()]).ok()?;
            let attr = walk.reply.attr;
            (!walk.is_link() && attr.kind != FileKind::Directory).then_some(attr.id)
        };
        let replacing = file_at(request.old_dir, old);
        replacing.is_some() && file_at(request.new_dir, new).is_some_and(|id| Some(id) != replacing)
    }

    /// Lists the root directory without the hidden folder.
    fn list_root(&mut self, base: Handle, request: &ReadDir) -> Result<Payload<'_>, Errno> {
        let mut cookie = request.cookie;
        loop {
            // Space for at least one entry, so the folder's own entry always fits.
            let length = request.length.clamp(PAGE_BYTES as u32, MAX_PAYLOAD as u32);
            let space = self.buffer.bytes_mut().get_mut(..length as usize).ok_or(Errno::EINVAL)?;
            let (_, received) =
                self.base.fetch(&ReadDir { handle: base, cookie, length }, &[], space)?;
            let list = self.buffer.bytes().get(..received).unwrap_or_default();
            let (shown, next) = without_folder(list, request.length as usize)?;
            if !shown.is_empty() || received == 0 {
                return Ok(Payload::owned(shown));
            }
            cookie = next;
        }
    }
}

impl<C: Connection, K: Clock> FileServer for Snapfs<C, K> {
    fn terms(&mut self) -> Result<Terms, Errno> {
        Ok(Terms {
            features: self.base.features().difference(Features::READ_RANGES)
                | ADDED
                | Features::OPEN_UNLINKED,
            root: self.base.root(),
        })
    }

    /// The times of the root directory show when the hidden folder comes and goes, for which a
    /// write to any file or a close can be the reason.
    fn is_steady(&self) -> bool {
        !self.hidden.are_needed()
    }

    fn open(&mut self, request: &Open, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.handles.on_base(request.dir)?;
        self.handles.prepare()?;
        let truncates = request.flags.contains(OpenFlags::TRUNCATE);
        if truncates && !request.flags.contains(OpenFlags::WRITE) {
            return Err(Errno::EINVAL);
        }
        // Every file is opened for reading, so it can be rescued from; the wrapper checks the
        // client's access. Truncation comes after the rescue.
        let flags = request.flags.difference(OpenFlags::TRUNCATE) | OpenFlags::READ;
        let walk = self.base.walk(&Open { dir, flags, mode: request.mode }, &[path.bytes()])?;
        if walk.is_link() {
            return Ok(walk);
        }
        let handle = self.opened(walk.reply.handle, &walk.reply.attr, request.flags);
        let mut attr = self.shown(walk.reply.attr);
        if truncates && attr.kind == FileKind::Regular {
            attr = self.truncate_opened(handle)?;
            attr = self.shown(attr);
        }
        Ok(Walk::done(handle, attr))
    }

    fn close(&mut self, handle: Handle) -> Result<(), Errno> {
        match self.handles.remove(handle).ok_or(Errno::EBADF)? {
            Opened::Snapshot(record) => {
                self.close_snapshot(&record);
                Ok(())
            }
            Opened::Other { base, .. } => {
                self.base.close(base);
                Ok(())
            }
            Opened::File { base, file: id, flags } => {
                self.files.get_mut(id)?.opens -= 1;
                mutants::close_with_file(self, id, flags);
                self.release(id, Some(base));
                Ok(())
            }
        }
    }

    fn settle(&mut self) {
        self.base.close_waiting();
    }

    fn attributes(&mut self, handle: Handle) -> Result<Attr, Errno> {
        if let Some(record) = self.handles.snapshot(handle) {
            if let Some(attr) = record.attr {
                return Ok(attr);
            }
            let (size, version) = record.at;
            let attr = self.base_attr(record.file)?;
            return Ok(Attr { size: ByteCount(size), version, ..self.shown(attr) });
        }
        let attr = match self.handles.file(handle) {
            Some(id) => self.base_attr(id)?,
            None => {
                let (base, _) = self.handles.on_base(handle)?;
                self.base.request(&GetAttr { handle: base }, &[])?
            }
        };
        Ok(self.shown(attr))
    }

    fn stat(&mut self, request: &Stat, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.handles.on_base(request.dir)?;
        let walk = self.base.walk(&Stat { dir, ..*request }, &[path.bytes()])?;
        Ok(self.walked(walk))
    }

    fn set_attributes(&mut self, request: &SetAttr) -> Result<Attr, Errno> {
        let (base, flags) = self.handles.on_base(request.handle)?;
        let passed = SetAttr { handle: base, ..*request };
        if request.mask.contains(AttrMask::SIZE) && !flags.contains(OpenFlags::WRITE) {
            return Err(Errno::EINVAL);
        }
        let attr = match self.handles.file(request.handle) {
            Some(id) if request.mask.contains(AttrMask::SIZE) => {
                self.resize(id, Change::Truncate, &passed)?
            }
            _ => self.base.request(&passed, &[])?,
        };
        if request.mask.intersects(AttrMask::ATIME | AttrMask::ACCESSED) {
            self.access_times.forget(attr.id);
        }
        if let Ok(file) = self.files.get_mut(attr.id) {
            file.learn(&attr);
        }
        Ok(self.shown(attr))
    }

    fn read(&mut self, request: &Read) -> Result<Payload<'_>, Errno> {
        if let Some(record) = self.handles.snapshot(request.handle) {
            let (offset, length) = (SnapshotOffset(request.offset), request.length.into());
            return self.read_snapshot(&record, offset, ByteCount(length));
        }
        let (base, id) = self.handles.regular(request.handle, OpenFlags::READ)?;
        self.read_by(request.handle, id);
        let space =
            self.buffer.bytes_mut().get_mut(..request.length as usize).ok_or(Errno::EINVAL)?;
        let (_, received) = self.base.fetch(&Read { handle: base, ..*request }, &[], space)?;
        let mut payload = Payload::empty();
        payload.push(self.buffer.bytes().get(..received).unwrap_or_default());
        Ok(payload)
    }

    fn write(&mut self, request: &Write, data: &[u8], pieces: &[Piece]) -> Result<Written, Errno> {
        let mut written = if pieces.is_empty() {
            self.write_data(request, data)?
        } else {
            self.write_pieces(request, data, pieces)?
        };
        if request.flags.contains(WriteFlags::SNAPSHOT) && written.length > ByteCount(0) {
            let (_, id) = self.handles.regular(request.handle, OpenFlags::WRITE)?;
            written.snapshot =
                self.snapshot_of_written(id, written.offset.0..(written.offset + written.length).0);
        }
        Ok(written)
    }

    fn snapshot(&mut self, request: &Snapshot) -> Result<(Snapshotted, Payload<'_>), Errno> {
        self.take_snapshot(request)
    }

    fn read_dir(&mut self, request: &ReadDir) -> Result<Payload<'_>, Errno> {
        let (base, flags) = self.handles.on_base(request.handle)?;
        if !flags.contains(OpenFlags::READ) {
            return Err(Errno::EBADF);
        }
        if self.hidden.has_folder() && self.handles.is_root(request.handle) {
            return self.list_root(base, request);
        }
        let space =
            self.buffer.bytes_mut().get_mut(..request.length as usize).ok_or(Errno::EINVAL)?;
        let (_, received) = self.base.fetch(&ReadDir { handle: base, ..*request }, &[], space)?;
        let mut payload = Payload::empty();
        payload.push(self.buffer.bytes().get(..received).unwrap_or_default());
        Ok(payload)
    }

    fn make_dir(&mut self, request: &MakeDir, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.handles.on_base(request.dir)?;
        self.base.walk(&MakeDir { dir, ..*request }, &[path.bytes()])
    }

    fn remove(&mut self, request: &Remove, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.handles.on_base(request.dir)?;
        if !request.flags.contains(OpenFlags::DIRECTORY)
            && let Some(walk) = self.remove_by_keeping(dir, path)?
        {
            return Ok(walk);
        }
        let walk = self.base.walk(&Remove { dir, ..*request }, &[path.bytes()])?;
        let walk = self.walked(walk);
        if !walk.is_link() && walk.reply.attr.links == 0 {
            self.name_lost(walk.reply.attr.id);
        }
        Ok(walk)
    }

    fn rename(&mut self, request: &Rename, old: Path<'_>, new: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.old_dir, old)?;
        self.check_visible(request.new_dir, new)?;
        let (old_dir, _) = self.handles.on_base(request.old_dir)?;
        let (new_dir, _) = self.handles.on_base(request.new_dir)?;
        let passed = Rename { old_dir, new_dir, ..*request };
        let replaced = mutants::replaced_file(self, new_dir, new);
        let walk = self.rename_on_base(&passed, old, new)?;
        if let Ok(file) = self.files.get_mut(walk.reply.displaced) {
            file.renamed();
            self.files.count_deleted(&mut self.base, walk.reply.displaced);
        }
        mutants::close_replaced(self, replaced);
        Ok(self.walked(walk))
    }

    fn link(&mut self, request: &Link, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        if let Ok((_, id)) = self.handles.regular(request.handle, OpenFlags::empty())
            && self.files.get(id)?.kept.is_some()
        {
            return Err(Errno::ENOENT);
        }
        let (handle, _) = self.handles.on_base(request.handle)?;
        let (dir, _) = self.handles.on_base(request.dir)?;
        let walk = self.base.walk(&Link { handle, dir }, &[path.bytes()])?;
        Ok(self.walked(walk))
    }

    fn make_symlink(
        &mut self,
        request: &MakeSymlink,
        path: Path<'_>,
        target: &[u8],
    ) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.handles.on_base(request.dir)?;
        self.base.walk(&MakeSymlink { dir, ..*request }, &[path.bytes(), target])
    }

    fn read_link(&mut self, handle: Handle) -> Result<Payload<'_>, Errno> {
        let (base, _) = self.handles.on_base(handle)?;
        let (_, received) =
            self.base.fetch(&ReadLink { handle: base }, &[], self.buffer.bytes_mut())?;
        let mut payload = Payload::empty();
        payload.push(self.buffer.bytes().get(..received).unwrap_or_default());
        Ok(payload)
    }

    fn stat_fs(&mut self) -> Result<StatFs, Errno> {
        let deleted = self.files.deleted();
        let mut figures = self.base.request(&GetStatFs {}, &[])?;
        self.space.learn_free(figures.blocks_free);
        // What only the wrapper has on the base counts as free: it goes with the snapshots.
        let pages_kept = self.space.stored() + deleted.pages;
        let own_files = self.files.rescue_files() as u64 + u64::from(self.hidden.has_folder());
        figures.blocks_free = figures.blocks_free.saturating_add(pages_kept.0).min(figures.blocks);
        figures.files_free =
            figures.files_free.saturating_add(own_files + deleted.files).min(figures.files);
        let Traffic { rescued, elided, cloned } = self.traffic;
        Ok(StatFs {
            bytes_rescued: rescued,
            bytes_elided: elided,
            bytes_cloned: cloned,
            snapshots: self.handles.snapshots() as u64,
            pages_kept,
            base_handles: figures.handles,
            ..figures
        })
    }

    fn sync(&mut self, handle: Handle) -> Result<(), Errno> {
        let (base, _) = self.handles.on_base(handle)?;
        self.base.request(&Sync { handle: base }, &[]).map(drop)
    }

    fn list_holes(&mut self, request: &ListHoles) -> Result<(HolesListed, Vec<Hole>), Errno> {
        if let Some(record) = self.handles.snapshot(request.handle) {
            return self.snapshot_holes(&record, request);
        }
        let (base, _) = self.handles.on_base(request.handle)?;
        self.base.list_holes(&ListHoles { handle: base, ..*request })
    }

    fn allocate(&mut self, request: &Allocate) -> Result<Attr, Errno> {
        self.allocate_range(request)
    }

    fn clone_range(&mut self, request: &CloneRange) -> Result<Written, Errno> {
        let (target, id) = self.handles.regular(request.target, OpenFlags::WRITE)?;
        if let Some(record) = self.handles.snapshot(request.source) {
            return self.clone_snapshot(record, request, target, id);
        }
        let (source, source_id) = self.handles.regular(request.source, OpenFlags::READ)?;
        self.clone_file((source, source_id), request, target, id)
    }
}
