//! Changes of a file's bytes: room first, then rescue, then the change, then the answer.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{
    Allocate, AllocateMode, Attr, Features, FileId, Handle, OpenFlags, SetAttr, Write, WriteFlags,
    Written,
};

use super::Snapfs;
use super::file::PAGE;
use crate::connection::Connection;
use crate::server::Clock;

/// Bytes of a file, at most (offsets are signed on Linux).
const MAX_SIZE: u64 = i64::MAX as u64;

/// How bytes are about to change; the breaks of single rules tell these apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Write,
    Truncate,
    OpenTruncate,
    Punch,
    Clone,
}

impl Kind {
    fn skips_rescue(self) -> bool {
        match self {
            Self::Write => active(Mutant::SkipRescue),
            Self::Truncate => active(Mutant::SkipTruncateRescue),
            Self::OpenTruncate => active(Mutant::SkipOpenTruncateRescue),
            Self::Punch | Self::Clone => false,
        }
    }
}

/// The pages that a range of bytes touches.
pub(super) fn pages_of(bytes: &Range<u64>) -> Range<u64> {
    if bytes.is_empty() { 0..0 } else { bytes.start / PAGE..bytes.end.div_ceil(PAGE) }
}

/// Pages of a range that are only partly in it: making a hole may have to store them anew.
fn partial_pages(bytes: &Range<u64>) -> u64 {
    u64::from(!bytes.start.is_multiple_of(PAGE)) + u64::from(!bytes.end.is_multiple_of(PAGE))
}

/// The range of a change; EFBIG where it ends past what a file can hold.
pub(super) fn range_of(offset: u64, length: u64) -> Result<Range<u64>, Errno> {
    let end = offset.checked_add(length).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
    Ok(offset..end)
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Makes ready for a change of `bytes`, for which the base may need room for `stores` pages.
    /// Nothing that a snapshot needs is in the file then. On an error the change must not be made;
    /// nothing has changed yet.
    pub(super) fn prepare(
        &mut self,
        id: FileId,
        kind: Kind,
        bytes: Range<u64>,
        stores: u64,
    ) -> Result<(), Errno> {
        self.prepare_all(id, kind, core::slice::from_ref(&bytes), stores)
    }

    /// The same for several ranges, in order and apart from each other.
    pub(super) fn prepare_all(
        &mut self,
        id: FileId,
        kind: Kind,
        ranges: &[Range<u64>],
        stores: u64,
    ) -> Result<(), Errno> {
        let (size, _) = self.size_and_version(id)?;
        let map = &self.file(id)?.map;
        let mut live: Vec<(Range<u64>, bool)> = Vec::new();
        for bytes in ranges {
            // What lies past the end is in no snapshot (C7). But a last page that is a hole becomes
            // data as a whole when anything behind the end is stored to it: the snapshots that know
            // it as a hole have to be told (which copies nothing).
            let end = size.next_multiple_of(PAGE);
            let pages = pages_of(&(bytes.start.min(end)..bytes.end.min(end)));
            // Two ranges may meet in one page.
            let counted = live.last().map_or(0, |(run, _)| run.end);
            let found = map.live(pages.start.max(counted)..pages.end);
            live.extend(found.into_iter().filter(|(_, is_hole)| *is_hole || bytes.start < size));
        }
        let covered: u64 =
            live.iter().filter(|(_, is_hole)| !is_hole).map(|(run, _)| run.end - run.start).sum();
        // What is rescued is paid for from what was reserved for it, be it by the copy or by the
        // change of a page that is shared by then. Where the base neither shares nor tells its
        // holes it may be both: the copy of a hole, and the page that is stored in its place.
        let knows = self.base.features().intersects(Features::CLONE | Features::SPARSE);
        let paid = if knows { covered } else { 0 };
        if self.reserved > 0
            && let Err(error) = self.check_room(stores.saturating_sub(paid))
        {
            // It looks closely only where that decides.
            let there = self.pages_there(id, ranges)?.saturating_sub(covered);
            self.check_room(stores.saturating_sub(paid + there)).map_err(|_| error)?;
        }
        self.used_up(stores.saturating_sub(paid).saturating_add(covered));
        if kind.skips_rescue() {
            return Ok(());
        }
        self.rescue_all(id, live)
    }

    /// Pages of some ranges that the base has for this file alone, so that a change needs no
    /// others. None, where it may share them with another file, or does not tell which of them are
    /// holes.
    fn pages_there(&mut self, id: FileId, ranges: &[Range<u64>]) -> Result<u64, Errno> {
        if self.cloned.is_of(id) || !self.base.features().contains(Features::SPARSE) {
            return Ok(0);
        }
        self.load_holes(id)?;
        let (size, _) = self.size_and_version(id)?;
        let holes = self.file(id)?.holes.as_ref().ok_or(Errno::EIO)?;
        let (mut there, mut counted) = (0, 0);
        for bytes in ranges {
            let pages = pages_of(bytes);
            let pages = pages.start.max(counted)..pages.end.min(size.div_ceil(PAGE));
            counted = counted.max(pages.end);
            if !pages.is_empty() {
                there += holes.data_pages(pages);
            }
        }
        Ok(there)
    }

    /// Carries a write of plain data out.
    pub(super) fn write_data(&mut self, request: &Write, data: &[u8]) -> Result<Written, Errno> {
        let (base, id) = self.regular(request.handle, OpenFlags::WRITE)?;
        let (size, version) = self.size_and_version(id)?;
        let offset =
            if request.flags.contains(WriteFlags::APPEND) { size } else { request.offset.0 };
        let bytes = range_of(offset, data.len() as u64)?;
        if data.is_empty() {
            return Ok(Written {
                length: ByteCount(0),
                offset: FileOffset(offset),
                size: ByteCount(size),
                version,
                snapshot: Handle::NONE,
            });
        }
        let pages = pages_of(&bytes);
        let stores = pages.end - pages.start;
        if !active(Mutant::RescueAfterChange) {
            self.prepare(id, Kind::Write, bytes.clone(), stores)?;
        }
        let request = Write {
            handle: base,
            offset: FileOffset(offset),
            flags: WriteFlags::empty(),
            data_bytes: data.len() as u32,
        };
        let written = self.base.request(&request, &[data]);
        let written = self.note_write(id, bytes.clone(), written)?;
        if active(Mutant::RescueAfterChange) {
            self.prepare(id, Kind::Write, bytes, stores)?;
        }
        Ok(written)
    }

    /// Takes note of what the base says to a write of `bytes`.
    pub(super) fn note_write(
        &mut self,
        id: FileId,
        bytes: Range<u64>,
        written: Result<Written, Errno>,
    ) -> Result<Written, Errno> {
        let before = self.file(id)?.bytes;
        let file = self.file(id)?;
        match written {
            Ok(written)
                if written.length <= ByteCount(bytes.end - bytes.start)
                    && written.offset == FileOffset(bytes.start) =>
            {
                if let Some((size, _)) = before {
                    file.resized(size, written.size.max(ByteCount(size)).0);
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

    /// Gives a file another length; tells the base's attributes.
    pub(super) fn resize(
        &mut self,
        id: FileId,
        kind: Kind,
        request: &SetAttr,
    ) -> Result<Attr, Errno> {
        if request.size > ByteCount(MAX_SIZE) {
            return Err(Errno::EFBIG);
        }
        let (size, _) = self.size_and_version(id)?;
        if request.size < ByteCount(size) {
            let bytes = request.size.0..size;
            self.prepare(id, kind, bytes.clone(), partial_pages(&(bytes.start..0)))?;
        }
        let attr = self.base.request(request, &[]);
        self.note_attr(id, attr, |file| file.resized(size, request.size.0))
    }

    /// Takes note of what the base says to a change that answers with attributes.
    fn note_attr(
        &mut self,
        id: FileId,
        attr: Result<Attr, Errno>,
        note: impl FnOnce(&mut super::File),
    ) -> Result<Attr, Errno> {
        let file = self.file(id)?;
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

    /// Makes a hole, or fills holes.
    pub(super) fn allocate_range(&mut self, request: &Allocate) -> Result<Attr, Errno> {
        let (base, id) = self.regular(request.handle, OpenFlags::WRITE)?;
        let bytes = range_of(request.offset.0, request.length.0)?;
        let (size, _) = self.size_and_version(id)?;
        if request.mode == AllocateMode::PunchHole {
            self.prepare(id, Kind::Punch, bytes.clone(), partial_pages(&bytes))?;
        } else {
            let pages = pages_of(&bytes);
            if self.reserved > 0 {
                self.check_room(pages.end - pages.start)?;
            }
            self.used_up(pages.end - pages.start);
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
