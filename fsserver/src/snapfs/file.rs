//! What the wrapper knows of a regular file that is open or has snapshots.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{ByteCount, Errno, PAGE_BYTES};
use fsproto::{Attr, Close, Features, FileId, GetAttr, Handle, Hole, ListHoles, Version};

use super::hidden::HiddenName;
use super::holes::Holes;
use super::rescue::{Era, RescueMap};
use super::{MAX_ACCESS_TIMES, Snapfs};
use crate::connection::Connection;
use crate::memfs::inode::atime_is_due;
use crate::server::Clock;

pub(super) const PAGE: u64 = PAGE_BYTES as u64;

/// Ranges of holes that are kept of one file; where there are more, the rest counts as data, which
/// costs room but no bytes.
const MAX_HOLE_RANGES: usize = 65_536;

/// A file.
#[derive(Default)]
pub(super) struct File {
    /// Handles on the base; every one can be read through.
    pub base_handles: Vec<Handle>,
    /// Handles of clients.
    pub opens: usize,
    pub snapshots: usize,
    /// What the base told, while it is still so.
    pub attr: Option<Attr>,
    /// Length and version, while they are known.
    pub bytes: Option<(u64, Version)>,
    /// The holes, once they were asked for; kept up to date from then on.
    pub holes: Option<Holes>,
    pub map: RescueMap,
    pub era: Era,
    /// Whether something was rescued in this era, so that the next snapshot begins another.
    pub era_is_over: bool,
    /// The file on the base that holds what was rescued.
    pub store: Option<Handle>,
    /// The store's name, where it has one.
    pub store_name: Option<HiddenName>,
    /// The name by which the file is kept, where it has lost its last one and the base would let it
    /// go.
    pub kept: Option<HiddenName>,
    /// The first page of it that was never used.
    pub store_end: u64,
}

impl File {
    /// A handle on the base.
    pub fn base_handle(&self) -> Result<Handle, Errno> {
        self.base_handles.first().copied().ok_or(Errno::EIO)
    }

    /// Takes over what the base says.
    pub fn learn(&mut self, attr: &Attr) {
        self.attr = Some(*attr);
        self.bytes = Some((attr.size.0, attr.version));
    }

    /// A change failed, and it is not known how far it came: everything has to be asked for again.
    pub fn forget(&mut self) {
        (self.attr, self.bytes, self.holes) = (None, None, None);
    }

    /// The file has another length: what was added is a hole.
    pub fn resized(&mut self, before: u64, after: u64) {
        if let Some(holes) = &mut self.holes {
            let (before, after) = (before.div_ceil(PAGE), after.div_ceil(PAGE));
            if after > before { holes.insert(before..after) } else { holes.remove(after..before) }
        }
    }

    /// A range was stored to.
    pub fn stored(&mut self, bytes: Range<u64>) {
        if let Some(holes) = &mut self.holes {
            holes.remove(bytes.start / PAGE..bytes.end.div_ceil(PAGE));
            if holes.ranges() > MAX_HOLE_RANGES {
                self.holes = None;
            }
        }
    }

    /// A range of a file of `size` bytes was made a hole.
    pub fn punched(&mut self, bytes: Range<u64>, size: u64) {
        let end = if bytes.end >= size { size.div_ceil(PAGE) } else { bytes.end / PAGE };
        if let Some(holes) = &mut self.holes {
            holes.insert(bytes.start.div_ceil(PAGE)..end);
        }
    }
}

/// The whole pages of a hole in a file of `size` bytes; the file's last page counts as whole.
fn hole_pages(hole: &Hole, size: u64) -> Range<u64> {
    let end = hole.offset.saturating_add(hole.length.0);
    let end_page = if end >= size { size.div_ceil(PAGE) } else { end / PAGE };
    hole.offset.div_ceil(PAGE)..end_page
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// The attributes as a client sees them.
    pub(super) fn shown(&self, mut attr: Attr) -> Attr {
        if let Some(&atime) = self.access_times.get(&attr.id) {
            attr.atime = atime;
        }
        if self.files.get(&attr.id).is_some_and(|file| file.kept.is_some()) {
            attr.links = 0;
        }
        if attr.id == self.base.root() && self.has_folder() {
            attr.links = attr.links.saturating_sub(1);
        }
        attr
    }

    /// The base's attributes of a file that is known.
    pub(super) fn base_attr(&mut self, id: FileId) -> Result<Attr, Errno> {
        let file = self.files.get_mut(&id).ok_or(Errno::EIO)?;
        if let Some(attr) = file.attr {
            return Ok(attr);
        }
        let attr = self.base.request(&GetAttr { handle: file.base_handle()? }, &[])?;
        if attr.id != id {
            return Err(Errno::EPROTO);
        }
        file.learn(&attr);
        Ok(attr)
    }

    /// Its length and version.
    pub(super) fn size_and_version(&mut self, id: FileId) -> Result<(u64, Version), Errno> {
        match self.file(id)?.bytes {
            Some(bytes) => Ok(bytes),
            None => self.base_attr(id).map(|attr| (attr.size.0, attr.version)),
        }
    }

    /// Finds the file's holes out, unless they are known.
    pub(super) fn load_holes(&mut self, id: FileId) -> Result<(), Errno> {
        let (size, _) = self.size_and_version(id)?;
        let file = self.files.get_mut(&id).ok_or(Errno::EIO)?;
        if file.holes.is_some() {
            return Ok(());
        }
        let mut holes = Holes::default();
        let allocated_whole =
            file.attr.is_some_and(|attr| attr.blocks >= size.div_ceil(PAGE) * (PAGE / 512));
        let handle = file.base_handle()?;
        let mut offset = 0;
        while offset < size && !allocated_whole && self.base.features().contains(Features::SPARSE) {
            let (listed, found) = self.base.list_holes(&ListHoles {
                handle,
                offset,
                length: ByteCount(size - offset),
            })?;
            found.iter().for_each(|hole| holes.insert(hole_pages(hole, size)));
            // An answer that gets nowhere, or too many of them: the rest counts as data.
            let is_end = listed.holes_end >= size;
            if listed.holes_end <= offset
                || (found.is_empty() && !is_end)
                || holes.ranges() > MAX_HOLE_RANGES
            {
                break;
            }
            offset = listed.holes_end;
        }
        file.holes = Some(holes);
        Ok(())
    }

    /// A client has read: the access time moves, if it is due.
    pub(super) fn accessed(&mut self, id: FileId) {
        let now = self.clock.recent();
        // Where the attributes are not known, the file has changed since they were.
        let attr = self.files.get(&id).and_then(|file| file.attr).map(|attr| self.shown(attr));
        if attr.is_some_and(|attr| !atime_is_due(attr.atime, attr.mtime, attr.ctime, now)) {
            return;
        }
        self.access_times.insert(id, now);
        if self.access_times.len() > MAX_ACCESS_TIMES {
            self.access_times.pop_first();
        }
    }

    /// A handle or a snapshot has gone: lets go of the base's handles that are not needed any more.
    pub(super) fn release(&mut self, id: FileId, handle: Option<Handle>) {
        let Some(file) = self.files.get_mut(&id) else { return };
        let unused = file.opens == 0 && file.snapshots == 0;
        let mut closing = Vec::new();
        let mut names = Vec::new();
        if unused {
            names.extend(file.kept.take());
            names.extend(file.store_name.take());
            closing.append(&mut file.base_handles);
            closing.extend(file.store.take());
            self.files.remove(&id);
        } else if let Some(handle) = handle
            && file.base_handles.len() > 1
        {
            file.base_handles.retain(|&other| other != handle);
            closing.push(handle);
        }
        for handle in closing {
            // An error would be the base's loss of its own handle: there is nothing to be done
            // about it here.
            let _ = self.base.request(&Close { handle }, &[]);
        }
        names.into_iter().for_each(|name| self.drop_name(name));
    }
}
