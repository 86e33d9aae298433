//! The regular files that are open or have snapshots.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use foundation::{ByteCount, Errno};
use fsproto::{Attr, Features, FileId, GetAttr, Handle, Hole, ListHoles, Version};

use super::access_times::AccessTimes;
use super::deleted::Deleted;
use super::file::{FEW_HOLE_RANGES, File, MAX_HOLE_RANGES, PAGE};
use super::hidden::HiddenNames;
use super::holes::Holes;
use super::rescue_file::RescueFile;
use super::rescue_map::{Epoch, Holdings};
use super::space::SpaceAccount;
use crate::buffer::push;
use crate::{Base, Connection};

/// The whole pages of a hole in a file of `size` bytes; the file's last page counts as whole.
fn hole_pages(hole: &Hole, size: u64) -> Range<u64> {
    let end = hole.end();
    let end_page = if end >= size { size.div_ceil(PAGE) } else { end / PAGE };
    hole.offset.div_ceil(PAGE)..end_page
}

/// All files that a client has open or a snapshot needs. Each has an open handle on the base.
pub(super) struct Files {
    files: BTreeMap<FileId, File>,
    /// Those that may have many holes, in the order in which they were needed.
    fragmented: Vec<FileId>,
    max_fragmented: usize,
    /// Number of files with snapshots.
    with_snapshots: usize,
    /// Whether a map may reserve more than it needs.
    are_loose: bool,
    /// Number of rescue files.
    rescue_files: usize,
    deleted: Deleted,
}

impl Files {
    /// No files, at most `max_fragmented` of which may have many holes.
    pub fn new(max_fragmented: usize) -> Self {
        Self {
            files: BTreeMap::new(),
            fragmented: Vec::new(),
            max_fragmented,
            with_snapshots: 0,
            are_loose: false,
            rescue_files: 0,
            deleted: Deleted::default(),
        }
    }

    /// The sums over files that only snapshots keep.
    pub fn deleted(&self) -> Deleted {
        self.deleted
    }

    /// Number of rescue files.
    pub fn rescue_files(&self) -> usize {
        self.rescue_files
    }

    /// Gives a file its rescue file.
    pub fn add_rescue_file(&mut self, id: FileId, rescue_file: RescueFile) -> Result<(), Errno> {
        let file = self.get_mut(id)?;
        debug_assert!(file.rescue_file.is_none(), "a file has two rescue files");
        file.rescue_file = Some(rescue_file);
        self.rescue_files += 1;
        Ok(())
    }

    /// Takes a file's rescue file, to close it.
    pub fn take_rescue_file(&mut self, id: FileId) -> Option<RescueFile> {
        let rescue_file = self.files.get_mut(&id)?.rescue_file.take();
        self.rescue_files -= usize::from(rescue_file.is_some());
        rescue_file
    }

    /// A file was closed, or its names have changed: counts it among those that only snapshots
    /// keep, or no longer. One whose attributes the base does not report is not counted.
    pub fn count_deleted<C: Connection>(&mut self, base: &mut Base<C>, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        self.deleted.remove(file.counted.take());
        if file.may_be_deleted()
            && let Ok(attr) = self.base_attr(base, id)
            && let Some(file) = self.files.get_mut(&id).filter(|file| file.may_be_deleted())
        {
            file.counted = Some(self.deleted.add(&attr));
        }
    }

    /// Remembers many holes for this file, and those of another one no longer, which is returned.
    fn allow_many_holes(&mut self, id: FileId) -> Result<Option<FileId>, Errno> {
        let file = self.get(id)?;
        let ranges = file.holes.as_ref().map_or(0, Holes::ranges);
        if file.may_have_many_holes || ranges <= FEW_HOLE_RANGES {
            return Ok(None);
        }
        push(&mut self.fragmented, id)?;
        self.get_mut(id)?.may_have_many_holes = true;
        let is_full = self.fragmented.len() > self.max_fragmented;
        Ok(is_full.then(|| self.fragmented.remove(0)))
    }

    /// Remembers many holes for this file, if no other one's have to be forgotten for that.
    pub fn keep_many_holes(&mut self, id: FileId) {
        let has_space = self.fragmented.len() < self.max_fragmented;
        if let Some(file) = self.files.get_mut(&id).filter(|file| !file.may_have_many_holes)
            && has_space
            && push(&mut self.fragmented, id).is_ok()
        {
            file.may_have_many_holes = true;
        }
    }

    /// Forgets the holes of a file of which many were remembered.
    pub fn forget_holes(&mut self, id: FileId) {
        if let Ok(file) = self.get_mut(id) {
            (file.holes, file.may_have_many_holes) = (None, false);
        }
    }

    /// Reserves no more than changes may have to rescue. Returns whether it was more. Visits all
    /// that there is, so it is called only where a request would be refused.
    pub fn tighten(&mut self, space: &mut SpaceAccount) -> bool {
        let mut was_more = false;
        if core::mem::take(&mut self.are_loose) {
            for file in self.files.values_mut().filter(|file| file.snapshots > 0) {
                let before = file.map.holdings();
                file.map.tighten(file.holes.as_ref().unwrap_or(Holes::NONE));
                let after = file.map.holdings();
                was_more |= after.reserved < before.reserved;
                space.map_changed(before, after);
            }
        }
        was_more
    }

    /// A file that a handle or a snapshot refers to. Such a file is always known, so EIO would
    /// report a bug of the wrapper.
    #[inline]
    pub fn get(&self, id: FileId) -> Result<&File, Errno> {
        self.files.get(&id).ok_or(Errno::EIO)
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, id: FileId) -> Result<&mut File, Errno> {
        self.files.get_mut(&id).ok_or(Errno::EIO)
    }

    /// Number of files with snapshots.
    #[inline]
    pub fn with_snapshots(&self) -> usize {
        self.with_snapshots
    }

    /// Begins an epoch if the last one is over, and records a snapshot of `pages` in it. The holes
    /// must be known. Returns what the file's map holds before and after, too.
    #[inline]
    pub fn add_snapshot(
        &mut self,
        id: FileId,
        pages: Range<u64>,
    ) -> Result<(Epoch, [Holdings; 2]), Errno> {
        let file = self.files.get_mut(&id).ok_or(Errno::EIO)?;
        let before = file.map.holdings();
        let holes = file.holes.as_ref().ok_or(Errno::EIO)?;
        if core::mem::take(&mut file.epoch_is_over) {
            file.epoch += 1;
        }
        file.map.add_snapshot(pages, file.epoch, holes);
        self.with_snapshots += usize::from(file.snapshots == 0);
        file.snapshots += 1;
        self.are_loose = true;
        Ok((file.epoch, [before, file.map.holdings()]))
    }

    /// Removes a snapshot. Returns the slots of the rescue file that no snapshot needs any more,
    /// and what the file's map holds before and after.
    #[inline]
    pub fn remove_snapshot(
        &mut self,
        id: FileId,
        pages: Range<u64>,
        epoch: Epoch,
    ) -> Result<(Vec<Range<u64>>, [Holdings; 2]), Errno> {
        let file = self.files.get_mut(&id).ok_or(Errno::EIO)?;
        let before = file.map.holdings();
        debug_assert!(file.snapshots > 0);
        file.snapshots -= 1;
        self.with_snapshots -= usize::from(file.snapshots == 0);
        self.are_loose = true;
        let freed = file.map.remove_snapshot(pages, epoch);
        Ok((freed, [before, file.map.holdings()]))
    }

    /// Whether a file is open or has snapshots.
    #[inline]
    pub fn contains(&self, id: FileId) -> bool {
        self.files.contains_key(&id)
    }

    /// All files.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &File)> {
        self.files.iter().map(|(&id, file)| (id, file))
    }

    /// Number of files.
    #[inline]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Records that a client has opened a file.
    #[inline]
    pub fn opened(&mut self, base: Handle, attr: &Attr) {
        let file = self.files.entry(attr.id).or_default();
        file.learn(attr);
        if attr.size.is_zero() {
            // So a new file need not be asked for its holes.
            file.holes.get_or_insert_default();
        }
        file.base_handles.push(base);
        file.opens += 1;
    }

    /// The base's attributes of a file.
    pub fn base_attr<C: Connection>(
        &mut self,
        base: &mut Base<C>,
        id: FileId,
    ) -> Result<Attr, Errno> {
        let file = self.get_mut(id)?;
        if let Some(attr) = file.attr {
            return Ok(attr);
        }
        let attr = base.request(&GetAttr { handle: file.base_handle()? }, &[])?;
        if attr.id != id {
            return Err(Errno::EPROTO);
        }
        file.learn(&attr);
        Ok(attr)
    }

    /// A file's length in bytes, and its version.
    pub fn size_and_version<C: Connection>(
        &mut self,
        base: &mut Base<C>,
        id: FileId,
    ) -> Result<(u64, Version), Errno> {
        match self.get(id)?.bytes {
            Some(bytes) => Ok(bytes),
            None => self.base_attr(base, id).map(|attr| (attr.size.0, attr.version)),
        }
    }

    /// Requests a file's holes from the base, unless they are known. Returns another file, whose
    /// holes have to be forgotten now.
    pub fn load_holes<C: Connection>(
        &mut self,
        base: &mut Base<C>,
        id: FileId,
    ) -> Result<Option<FileId>, Errno> {
        if self.get(id)?.holes.is_some() {
            return self.allow_many_holes(id);
        }
        let (size, _) = self.size_and_version(base, id)?;
        let file = self.get_mut(id)?;
        let mut holes = Holes::default();
        let allocated_whole =
            file.attr.is_some_and(|attr| attr.blocks >= size.div_ceil(PAGE) * (PAGE / 512));
        let handle = file.base_handle()?;
        let mut offset = 0;
        while offset < size && !allocated_whole && base.features().contains(Features::SPARSE) {
            let length = ByteCount(size - offset);
            let (listed, found) = base.list_holes(&ListHoles { handle, offset, length })?;
            found.iter().for_each(|hole| holes.insert(hole_pages(hole, size)));
            // If an answer makes no progress, or there are too many holes, the rest counts as data.
            let is_end = listed.holes_end >= size;
            if listed.holes_end <= offset
                || (found.is_empty() && !is_end)
                || holes.ranges() >= MAX_HOLE_RANGES
            {
                break;
            }
            offset = listed.holes_end;
        }
        holes.keep(MAX_HOLE_RANGES);
        self.get_mut(id)?.holes = Some(holes);
        self.allow_many_holes(id).inspect_err(|_| self.forget_holes(id))
    }

    /// A handle (`closed`, the base's one) or a snapshot of a file was closed: closes the base's
    /// handles that are no longer needed.
    pub fn release<C: Connection>(
        &mut self,
        base: &mut Base<C>,
        hidden: &mut HiddenNames,
        access_times: &mut AccessTimes,
        (id, closed): (FileId, Option<Handle>),
    ) {
        let Some(file) = self.files.get(&id) else { return };
        if file.counted.is_some() || file.may_be_deleted() {
            self.count_deleted(base, id);
        }
        let Some(file) = self.files.get_mut(&id) else { return };
        // An error of a close would mean that the base has lost its own handle: it is closed
        // anyway.
        if file.opens == 0 && file.snapshots == 0 {
            let rescue_file = self.take_rescue_file(id);
            let Some(file) = self.files.remove(&id) else { return };
            if let Ok(handle) = file.base_handle() {
                access_times.closing(base, id, handle);
            }
            self.fragmented.retain(|&other| other != id);
            debug_assert!(file.map.is_empty(), "a file without snapshots has a rescue map");
            for handle in file.base_handles {
                base.close(handle);
            }
            if let Some(rescue_file) = rescue_file {
                rescue_file.close(base, hidden);
            }
            if let Some(name) = file.kept {
                hidden.drop_name(base, name);
            }
        } else if let Some(handle) = closed
            && file.base_handles.len() > 1
        {
            file.base_handles.retain(|&other| other != handle);
            base.close(handle);
        }
    }
}
