//! The operations of the protocol: what concerns no snapshot is passed on.

use alloc::vec::Vec;

use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, PAGE_BYTES, PageCount};
use fsproto::{
    Allocate, Attr, AttrMask, CloneRange, Close, Features, FileId, FileKind, GetAttr, GetStatFs,
    Handle, Hole, HolesListed, Link, ListHoles, MAX_PAYLOAD, MakeDir, MakeSymlink, Open, OpenFlags,
    Path, Piece, Read, ReadDir, ReadLink, Remove, Rename, SetAttr, Snapshot, Snapshotted, Stat,
    StatFs, Sync, Write, WriteFlags, Written,
};

use super::change::Kind;
use super::{Open as Opened, Snapfs, Traffic};
use crate::connection::Connection;
use crate::server::{Clock, FileServer, Payload, Terms, Walk};

/// What this adds to the base.
const ADDED: Features = Features::SNAPSHOT.union(Features::WRITE_REFERENCES);

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Takes a file into the tables that the base has opened.
    fn opened(&mut self, base: Handle, attr: &Attr, flags: OpenFlags) -> Handle {
        if attr.kind != FileKind::Regular {
            return self.give_handle(Opened::Other { base, file: attr.id, flags });
        }
        let file = self.files.entry(attr.id).or_default();
        file.learn(attr);
        file.base_handles.push(base);
        file.opens += 1;
        self.give_handle(Opened::File { base, file: attr.id, flags })
    }

    /// Cuts a file off that was just opened, and gives the handle back if that fails.
    fn truncate_opened(&mut self, handle: Handle) -> Result<Attr, Errno> {
        let (base, id) = self.regular(handle, OpenFlags::WRITE)?;
        let request = SetAttr { handle: base, mask: AttrMask::SIZE, ..SetAttr::default() };
        self.resize(id, Kind::OpenTruncate, &request).inspect_err(|_| {
            // The handle is this call's own; the first error is the one to tell.
            let _ = self.close(handle);
        })
    }

    /// A walk's reply as the client sees it; the file's attributes are noted.
    fn walked(&mut self, mut walk: Walk) -> Walk {
        if !walk.is_link() {
            if let Some(file) = self.files.get_mut(&walk.reply.attr.id) {
                file.learn(&walk.reply.attr);
            }
            walk.reply.attr = self.shown(walk.reply.attr);
        }
        walk
    }

    /// A file has lost a name, maybe its last. Those who have it open, and its snapshots, keep it
    /// (C3, C4).
    fn name_lost(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else {
            self.access_times.remove(&id);
            return;
        };
        if active(Mutant::RemoveSnapshotted) {
            for handle in core::mem::take(&mut file.base_handles) {
                let _ = self.base.request(&Close { handle }, &[]);
            }
        }
    }

    /// Closes what a break of a rule says is closed with the file.
    fn close_snapshots_of(&mut self, id: FileId) {
        let of_file = |_: &Handle, open: &mut Opened| matches!(open, Opened::Snapshot(taken) if taken.file == id);
        let closing: Vec<Opened> =
            self.handles.extract_if(.., of_file).map(|(_, open)| open).collect();
        for open in closing {
            if let Opened::Snapshot(taken) = open {
                self.close_snapshot(&taken);
            }
        }
    }

    /// A rename, on a base that may let go of what it replaces.
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
            self.give_back(kept, request.new_dir, new);
        }
        walk
    }

    /// Whether a rename would replace another file by a file, as far as can be told before.
    fn is_replaced(&mut self, request: &Rename, old: Path<'_>, new: Path<'_>) -> bool {
        if self.hidden.is_none() || !request.flags.is_empty() {
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

    /// The root directory without the folder that nobody sees.
    fn list_root(&mut self, base: Handle, request: &ReadDir) -> Result<Payload<'_>, Errno> {
        let mut cookie = request.cookie;
        loop {
            // With room for one entry at least: the folder must not be felt by being too long.
            let length = request.length.clamp(PAGE_BYTES as u32, MAX_PAYLOAD as u32);
            let space = self.space.bytes_mut().get_mut(..length as usize).ok_or(Errno::EINVAL)?;
            let (_, received) =
                self.base.fetch(&ReadDir { handle: base, cookie, length }, &[], space)?;
            let list = self.space.bytes().get(..received).unwrap_or_default();
            let (shown, next) = Self::without_folder(list, request.length as usize)?;
            if !shown.is_empty() || received == 0 {
                return Ok(Payload::owned(shown));
            }
            cookie = next;
        }
    }

    /// Files that nobody but snapshots keeps: for everyone else they are gone, and so is what they
    /// hold.
    fn kept_for_snapshots(&mut self) -> Result<(u64, u64), Errno> {
        let ids: Vec<FileId> =
            self.files.iter().filter(|(_, file)| file.opens == 0).map(|(&id, _)| id).collect();
        let (mut files, mut pages) = (0, 0);
        for id in ids {
            let attr = self.base_attr(id)?;
            if self.shown(attr).links == 0 {
                files += 1;
                pages += attr.blocks * 512 / PAGE_BYTES as u64;
            }
        }
        Ok((files, pages))
    }
}

impl<C: Connection, K: Clock> FileServer for Snapfs<C, K> {
    fn terms(&mut self) -> Result<Terms, Errno> {
        Ok(Terms {
            features: self.base.features() | ADDED | Features::OPEN_UNLINKED,
            root: self.base.root(),
        })
    }

    fn open(&mut self, request: &Open, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.passed_on(request.dir)?;
        let truncates = request.flags.contains(OpenFlags::TRUNCATE);
        if truncates && !request.flags.contains(OpenFlags::WRITE) {
            return Err(Errno::EINVAL);
        }
        // Everything is opened so that it can be rescued from; the client's rights are checked
        // here. Cutting off comes after rescuing.
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
        match self.handles.remove(&handle).ok_or(Errno::EBADF)? {
            Opened::Snapshot(taken) => {
                self.close_snapshot(&taken);
                Ok(())
            }
            Opened::Other { base, .. } => self.base.request(&Close { handle: base }, &[]).map(drop),
            Opened::File { base, file: id, flags } => {
                self.file(id)?.opens -= 1;
                // Programs are opened for reading, and have to run before any test can see this.
                if active(Mutant::CloseWithFile) && flags.contains(OpenFlags::WRITE) {
                    self.close_snapshots_of(id);
                }
                self.release(id, Some(base));
                Ok(())
            }
        }
    }

    fn attributes(&mut self, handle: Handle) -> Result<Attr, Errno> {
        match self.handles.get(&handle) {
            Some(Opened::File { file, .. }) => {
                let file = *file;
                let attr = self.base_attr(file)?;
                Ok(self.shown(attr))
            }
            Some(Opened::Snapshot(taken)) => match taken.attr {
                Some(attr) => Ok(attr),
                None => {
                    let (file, (size, version)) = (taken.file, taken.at);
                    let attr = self.base_attr(file)?;
                    Ok(Attr { size: ByteCount(size), version, ..self.shown(attr) })
                }
            },
            _ => {
                let (base, _) = self.passed_on(handle)?;
                let attr = self.base.request(&GetAttr { handle: base }, &[])?;
                Ok(self.shown(attr))
            }
        }
    }

    fn stat(&mut self, request: &Stat, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.passed_on(request.dir)?;
        let walk = self.base.walk(&Stat { dir, ..*request }, &[path.bytes()])?;
        Ok(self.walked(walk))
    }

    fn set_attributes(&mut self, request: &SetAttr) -> Result<Attr, Errno> {
        let (base, flags) = self.passed_on(request.handle)?;
        let passed = SetAttr { handle: base, ..*request };
        let id = match self.handles.get(&request.handle) {
            Some(Opened::File { file, .. }) => Some(*file),
            _ => None,
        };
        if request.mask.contains(AttrMask::SIZE) && !flags.contains(OpenFlags::WRITE) {
            return Err(Errno::EINVAL);
        }
        let attr = match id {
            Some(id) if request.mask.contains(AttrMask::SIZE) => {
                self.resize(id, Kind::Truncate, &passed)?
            }
            _ => self.base.request(&passed, &[])?,
        };
        if request.mask.contains(AttrMask::ATIME) {
            self.access_times.remove(&attr.id);
        }
        if let Some(file) = self.files.get_mut(&attr.id) {
            file.learn(&attr);
        }
        Ok(self.shown(attr))
    }

    fn read(&mut self, request: &Read) -> Result<Payload<'_>, Errno> {
        if matches!(self.handles.get(&request.handle), Some(Opened::Snapshot(_))) {
            return self.read_snapshot(request.handle, request.offset, request.length);
        }
        let (base, id) = self.regular(request.handle, OpenFlags::READ)?;
        self.accessed(id);
        let space =
            self.space.bytes_mut().get_mut(..request.length as usize).ok_or(Errno::EINVAL)?;
        let (_, received) = self.base.fetch(&Read { handle: base, ..*request }, &[], space)?;
        let mut payload = Payload::empty();
        payload.push(self.space.bytes().get(..received).unwrap_or_default());
        Ok(payload)
    }

    fn write(&mut self, request: &Write, data: &[u8], pieces: &[Piece]) -> Result<Written, Errno> {
        let mut written = if pieces.is_empty() {
            self.write_data(request, data)?
        } else {
            self.write_pieces(request, data, pieces)?
        };
        if request.flags.contains(WriteFlags::SNAPSHOT) && written.length > ByteCount(0) {
            let (_, id) = self.regular(request.handle, OpenFlags::WRITE)?;
            written.snapshot =
                self.snapshot_of_written(id, written.offset.0..(written.offset + written.length).0);
        }
        Ok(written)
    }

    fn snapshot(&mut self, request: &Snapshot) -> Result<(Snapshotted, Payload<'_>), Errno> {
        self.take_snapshot(request)
    }

    fn read_dir(&mut self, request: &ReadDir) -> Result<Payload<'_>, Errno> {
        let (base, flags) = self.passed_on(request.handle)?;
        if !flags.contains(OpenFlags::READ) {
            return Err(Errno::EBADF);
        }
        if self.has_folder() && self.is_root(request.handle) {
            return self.list_root(base, request);
        }
        let space =
            self.space.bytes_mut().get_mut(..request.length as usize).ok_or(Errno::EINVAL)?;
        let (_, received) = self.base.fetch(&ReadDir { handle: base, ..*request }, &[], space)?;
        let mut payload = Payload::empty();
        payload.push(self.space.bytes().get(..received).unwrap_or_default());
        Ok(payload)
    }

    fn make_dir(&mut self, request: &MakeDir, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.passed_on(request.dir)?;
        self.base.walk(&MakeDir { dir, ..*request }, &[path.bytes()])
    }

    fn remove(&mut self, request: &Remove, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        let (dir, _) = self.passed_on(request.dir)?;
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
        let (old_dir, _) = self.passed_on(request.old_dir)?;
        let (new_dir, _) = self.passed_on(request.new_dir)?;
        let passed = Rename { old_dir, new_dir, ..*request };
        let mut lost = None;
        if active(Mutant::RenameOverSnapshotted) {
            let there =
                self.base.walk(&Stat { dir: new_dir, flags: OpenFlags::NO_FOLLOW }, &[new.bytes()]);
            lost = there.ok().map(|walk| walk.reply.attr.id);
        }
        let walk = self.rename_on_base(&passed, old, new)?;
        if !walk.is_link() {
            // Some file may have lost this name; the reply does not tell which.
            self.files.values_mut().for_each(|file| file.attr = None);
        }
        if let Some(file) = lost.and_then(|id| self.files.get_mut(&id)) {
            for handle in core::mem::take(&mut file.base_handles) {
                let _ = self.base.request(&Close { handle }, &[]);
            }
        }
        Ok(self.walked(walk))
    }

    fn link(&mut self, request: &Link, path: Path<'_>) -> Result<Walk, Errno> {
        self.check_visible(request.dir, path)?;
        if let Ok((_, id)) = self.regular(request.handle, OpenFlags::empty())
            && self.file(id)?.kept.is_some()
        {
            return Err(Errno::ENOENT);
        }
        let (handle, _) = self.passed_on(request.handle)?;
        let (dir, _) = self.passed_on(request.dir)?;
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
        let (dir, _) = self.passed_on(request.dir)?;
        self.base.walk(&MakeSymlink { dir, ..*request }, &[path.bytes(), target])
    }

    fn read_link(&mut self, handle: Handle) -> Result<Payload<'_>, Errno> {
        let (base, _) = self.passed_on(handle)?;
        let (_, received) =
            self.base.fetch(&ReadLink { handle: base }, &[], self.space.bytes_mut())?;
        let mut payload = Payload::empty();
        payload.push(self.space.bytes().get(..received).unwrap_or_default());
        Ok(payload)
    }

    fn stat_fs(&mut self) -> Result<StatFs, Errno> {
        let (kept_files, kept_pages) = self.kept_for_snapshots()?;
        let mut info = self.base.request(&GetStatFs {}, &[])?;
        self.free_at_least = info.blocks_free;
        let stores =
            self.files.values().filter(|file| file.store.is_some()).count() as u64 + self.folders();
        info.blocks_free =
            info.blocks_free.saturating_add(self.stored + kept_pages).min(info.blocks);
        info.files_free = info.files_free.saturating_add(stores + kept_files).min(info.files);
        let Traffic { rescued, elided, cloned } = self.traffic;
        (info.bytes_rescued, info.bytes_elided, info.bytes_cloned) =
            (ByteCount(rescued), ByteCount(elided), ByteCount(cloned));
        (info.snapshots, info.pages_kept, info.base_handles) =
            (self.figures().snapshots as u64, PageCount(self.stored + kept_pages), info.handles);
        Ok(info)
    }

    fn sync(&mut self, handle: Handle) -> Result<(), Errno> {
        let (base, _) = self.passed_on(handle)?;
        self.base.request(&Sync { handle: base }, &[]).map(drop)
    }

    fn list_holes(&mut self, request: &ListHoles) -> Result<(HolesListed, Vec<Hole>), Errno> {
        if let Some(Opened::Snapshot(taken)) = self.handles.get(&request.handle) {
            let taken = taken.clone();
            return self.snapshot_extents(&taken, request);
        }
        let (base, _) = self.passed_on(request.handle)?;
        self.base.list_holes(&ListHoles { handle: base, ..*request })
    }

    fn allocate(&mut self, request: &Allocate) -> Result<Attr, Errno> {
        self.allocate_range(request)
    }

    fn clone_range(&mut self, request: &CloneRange) -> Result<Written, Errno> {
        let (target, id) = self.regular(request.target, OpenFlags::WRITE)?;
        if let Some(Opened::Snapshot(taken)) = self.handles.get(&request.source) {
            let taken = taken.clone();
            return self.clone_snapshot(taken, request, target, id);
        }
        let (source, source_id) = self.regular(request.source, OpenFlags::READ)?;
        self.clone_file((source, source_id), request, target, id)
    }
}
