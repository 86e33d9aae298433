//! Changes of a file's bytes: check space, rescue, change, answer.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::{
    Allocate, AllocateMode, Attr, CountSpace, Features, FileId, Handle, OpenFlags, SetAttr, Write,
    WriteFlags, Written,
};

use super::file::{File, PAGE};
use super::rescue_map::LiveRun;
use super::{Snapfs, mutants};
use crate::attributes::MAX_FILE_BYTES;
use crate::connection::Connection;
use crate::server::Clock;

/// The kind of a change. Only mutants tell them apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Write,
    Truncate,
    OpenTruncate,
    Punch,
    Clone,
}

/// The pages that a range of bytes touches, as page numbers.
pub(super) fn pages_of(bytes: &Range<u64>) -> Range<u64> {
    if bytes.is_empty() { 0..0 } else { bytes.start / PAGE..bytes.end.div_ceil(PAGE) }
}

/// Number of pages that are only partly in a range: making a hole may have to store them anew.
fn partial_pages(bytes: &Range<u64>) -> PageCount {
    let is_partial = |at: u64| u64::from(!at.is_multiple_of(PAGE));
    PageCount(is_partial(bytes.start) + is_partial(bytes.end))
}

/// The range of a change. EFBIG where it ends beyond the maximum size of a file.
pub(super) fn range_of(offset: u64, length: u64) -> Result<Range<u64>, Errno> {
    let end =
        offset.checked_add(length).filter(|&end| end <= MAX_FILE_BYTES).ok_or(Errno::EFBIG)?;
    Ok(offset..end)
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Prepares a change of `bytes`, for which the base may need `stores` pages of space: checks
    /// the space, and rescues what snapshots need of the range. On an error nothing has changed,
    /// and the change must not be made.
    pub(super) fn prepare(
        &mut self,
        id: FileId,
        change: Change,
        bytes: Range<u64>,
        stores: PageCount,
    ) -> Result<(), Errno> {
        self.prepare_all(id, change, core::slice::from_ref(&bytes), stores)
    }

    /// The same for several ranges, which are ordered and disjoint.
    pub(super) fn prepare_all(
        &mut self,
        id: FileId,
        change: Change,
        ranges: &[Range<u64>],
        stores: PageCount,
    ) -> Result<(), Errno> {
        debug_assert!(ranges.is_sorted_by(|a, b| a.end <= b.start), "ranges overlap");
        let live = self.live_runs(id, ranges)?;
        let covered: PageCount = live.iter().map(LiveRun::data_pages).sum();
        // A rescue is paid for by its reservation, be it for the copy, or for the change of a page
        // that the copy shares. A base that neither shares nor reports holes may need both: the
        // copy of a hole, and the page that is stored in its place.
        let pays = self.base.features().intersects(Features::CLONE | Features::SPARSE);
        let paid = if pays { covered } else { PageCount::ZERO };
        let unpaid = stores.saturating_sub(paid);
        self.check_change(id, ranges, unpaid, covered)?;
        self.space.used_up(unpaid.saturating_add(covered));
        if mutants::skip_rescue(change) {
            return Ok(());
        }
        self.rescuing().rescue(id, &live)
    }

    /// The runs of pages in some ranges that snapshots find in the file.
    fn live_runs(&mut self, id: FileId, ranges: &[Range<u64>]) -> Result<Vec<LiveRun>, Errno> {
        let mut live: Vec<LiveRun> = Vec::new();
        if self.files.get(id)?.snapshots == 0 {
            return Ok(live);
        }
        self.rescuing().load_holes(id)?;
        let (size, _) = self.size_and_version(id)?;
        let file = self.files.get(id)?;
        for bytes in ranges {
            // No snapshot contains bytes beyond the end (C7). But a last page that is a hole
            // becomes data as a whole when bytes behind the end are stored to it. The snapshots
            // that record it as a hole must be updated, which copies nothing.
            let end = size.next_multiple_of(PAGE);
            let pages = pages_of(&(bytes.start.min(end)..bytes.end.min(end)));
            // Two ranges may meet in one page.
            let counted = live.last().map_or(0, |run| run.pages.end);
            let found = file.live(pages.start.max(counted)..pages.end)?;
            live.try_reserve(found.len()).map_err(|_| Errno::ENOMEM)?;
            live.extend(found.into_iter().filter(|run| run.is_hole || bytes.start < size));
        }
        Ok(live)
    }

    /// ENOSPC unless the base has space for what a change of some ranges needs in addition to all
    /// that is reserved: at most `unpaid` pages, besides `covered` ones that reservations pay for.
    pub(super) fn check_change(
        &mut self,
        id: FileId,
        ranges: &[Range<u64>],
        unpaid: PageCount,
        covered: PageCount,
    ) -> Result<(), Errno> {
        if unpaid.is_zero() || !self.space.has_reservations() {
            return Ok(());
        }
        let Err(error) = self.check_space(unpaid) else { return Ok(()) };
        // The exact number is determined only where it decides.
        let needed = match self.base.features().contains(Features::COUNT_SPACE) {
            true => unpaid.min(self.counted_space(id, ranges)?),
            false => {
                let allocated = self.allocated_pages(id, ranges)?.saturating_sub(covered);
                unpaid.saturating_sub(allocated)
            }
        };
        // What needs nothing takes nothing of what is reserved.
        if needed.is_zero() { Ok(()) } else { self.check_space(needed).map_err(|_| error) }
    }

    /// Number of pages of space that a change of all of some ranges takes from the base.
    fn counted_space(&mut self, id: FileId, ranges: &[Range<u64>]) -> Result<PageCount, Errno> {
        let handle = self.files.get(id)?.base_handle()?;
        let mut counted = PageCount::ZERO;
        for bytes in ranges {
            let (offset, length) = (FileOffset(bytes.start), ByteCount(bytes.end - bytes.start));
            let answer = self.base.request(&CountSpace { handle, offset, length }, &[])?;
            counted = counted.saturating_add(answer.pages);
        }
        Ok(counted)
    }

    /// Number of pages in some ranges that the base has allocated for this file alone: changing
    /// them needs no further space. 0 if the file may share storage with another one, or the base
    /// does not report holes.
    fn allocated_pages(&mut self, id: FileId, ranges: &[Range<u64>]) -> Result<PageCount, Errno> {
        if self.copier.may_share(id) || !self.base.features().contains(Features::SPARSE) {
            return Ok(PageCount::ZERO);
        }
        self.rescuing().load_holes(id)?;
        let (size, _) = self.size_and_version(id)?;
        let holes = self.files.get(id)?.holes.as_ref().ok_or(Errno::EIO)?;
        let (mut allocated, mut counted) = (0, 0);
        for bytes in ranges {
            let pages = pages_of(bytes);
            let pages = pages.start.max(counted)..pages.end.min(size.div_ceil(PAGE));
            counted = counted.max(pages.end);
            if !pages.is_empty() {
                allocated += holes.data_pages(pages);
            }
        }
        Ok(PageCount(allocated))
    }

    /// Performs a write without references.
    pub(super) fn write_data(&mut self, request: &Write, data: &[u8]) -> Result<Written, Errno> {
        let (base, id) = self.handles.regular(request.handle, OpenFlags::WRITE)?;
        let (size, version) = self.size_and_version(id)?;
        let offset = match request.flags.contains(WriteFlags::APPEND) {
            true => FileOffset(size),
            false => request.offset,
        };
        let bytes = range_of(offset.0, data.len() as u64)?;
        if data.is_empty() {
            return Ok(Written { offset, size: ByteCount(size), version, ..Written::default() });
        }
        let pages = pages_of(&bytes);
        let stores = PageCount(pages.end - pages.start);
        let flags = request.flags & WriteFlags::KEEP_TIMES;
        if mutants::rescue_after_change() {
            let written = self.send_data(base, id, bytes.clone(), flags, data)?;
            return self.prepare(id, Change::Write, bytes, stores).map(|()| written);
        }
        self.prepare(id, Change::Write, bytes.clone(), stores)?;
        self.send_data(base, id, bytes, flags, data)
    }

    /// Has the base write data.
    fn send_data(
        &mut self,
        base: Handle,
        id: FileId,
        bytes: Range<u64>,
        flags: WriteFlags,
        data: &[u8],
    ) -> Result<Written, Errno> {
        let request = Write {
            handle: base,
            offset: FileOffset(bytes.start),
            flags,
            data_bytes: data.len() as u32,
        };
        let written = self.base.request(&request, &[data]);
        self.note_write(id, bytes, written)
    }

    /// Records the base's answer to a write of `bytes`.
    pub(super) fn note_write(
        &mut self,
        id: FileId,
        bytes: Range<u64>,
        written: Result<Written, Errno>,
    ) -> Result<Written, Errno> {
        let mut file = self.files.get_mut(id)?;
        let before = file.bytes;
        if file.has_few_holes_left() {
            self.files.keep_many_holes(id);
            file = self.files.get_mut(id)?;
        }
        match written {
            Ok(written)
                if written.length <= ByteCount(bytes.end - bytes.start)
                    && written.offset == FileOffset(bytes.start) =>
            {
                if let Some((size, _)) = before {
                    // A gap behind the end; the rest is stored.
                    file.resized(size, bytes.start.max(size));
                }
                file.stored(bytes);
                file.attr = None;
                file.bytes = Some((written.size.0, written.version));
                Ok(Written { snapshot: Handle::NONE, ..written })
            }
            Ok(_) => {
                file.forget();
                Err(Errno::EIO)
            }
            Err(error) => {
                file.forget();
                Err(error)
            }
        }
    }

    /// Changes a file's length. Returns the base's attributes.
    pub(super) fn resize(
        &mut self,
        id: FileId,
        change: Change,
        request: &SetAttr,
    ) -> Result<Attr, Errno> {
        if request.size > ByteCount(MAX_FILE_BYTES) {
            return Err(Errno::EFBIG);
        }
        let (size, _) = self.size_and_version(id)?;
        if request.size < ByteCount(size) {
            let bytes = request.size.0..size;
            self.prepare(id, change, bytes.clone(), partial_pages(&(bytes.start..0)))?;
        }
        let attr = self.base.request(request, &[]);
        self.note_attr(id, attr, |file| file.resized(size, request.size.0))
    }

    /// Records the base's answer to a change that returns attributes.
    fn note_attr(
        &mut self,
        id: FileId,
        attr: Result<Attr, Errno>,
        note: impl FnOnce(&mut File),
    ) -> Result<Attr, Errno> {
        let file = self.files.get_mut(id)?;
        match attr {
            Ok(attr) if attr.id == id => {
                note(file);
                file.learn(&attr);
                Ok(attr)
            }
            other => {
                file.forget();
                other.and(Err(Errno::EPROTO))
            }
        }
    }

    /// Prepares an allocation of storage for a range. It changes no byte, so data need no rescue:
    /// what is reserved for them pays for a later write, however often the range is allocated. But
    /// holes become data, which a write would rescue with space that nobody has reserved. So
    /// snapshots record them as holes now.
    fn prepare_storage(&mut self, id: FileId, bytes: &Range<u64>) -> Result<(), Errno> {
        let ranges = core::slice::from_ref(bytes);
        let pages = pages_of(bytes);
        let stores = PageCount(pages.end - pages.start);
        self.check_change(id, ranges, stores, PageCount::ZERO)?;
        self.space.used_up(stores);
        let mut live = self.live_runs(id, ranges)?;
        live.retain(|run| run.is_hole && !mutants::allocate_live_holes());
        self.rescuing().rescue(id, &live)
    }

    /// Makes a hole, or allocates storage.
    pub(super) fn allocate_range(&mut self, request: &Allocate) -> Result<Attr, Errno> {
        let (base, id) = self.handles.regular(request.handle, OpenFlags::WRITE)?;
        let bytes = range_of(request.offset.0, request.length.0)?;
        let (size, _) = self.size_and_version(id)?;
        if request.mode == AllocateMode::PunchHole {
            self.prepare(id, Change::Punch, bytes.clone(), partial_pages(&bytes))?;
        } else {
            self.prepare_storage(id, &bytes)?;
        }
        let attr = self.base.request(&Allocate { handle: base, ..*request }, &[]);
        let after = attr.map_or(size, |attr| attr.size.0);
        let attr = self.note_attr(id, attr, |file| {
            file.resized(size, after);
            if request.mode == AllocateMode::PunchHole {
                file.punched(bytes, size)
            } else {
                file.stored(bytes.start.min(after)..bytes.end.min(after))
            }
        })?;
        Ok(self.shown(attr))
    }
}
