//! Snapshots: taking, reading and closing them.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{ByteCount, Errno, PageCount, SnapshotOffset};
use fsproto::{
    Attr, FileId, Handle, Hole, HolesListed, ListHoles, MAX_HOLES, MAX_PAYLOAD, OpenFlags,
    Snapshot, Snapshotted, Version,
};

use super::change::pages_of;
use super::file::PAGE;
use super::gather::read_parts;
use super::handles::Opened;
use super::rescue_map::{Epoch, Source};
use super::{Limits, Snapfs, mutants};
use crate::buffer::{push, put_holes, zeros};
use crate::connection::Connection;
use crate::server::{Clock, Payload};

/// The multiple of the required space that must be free for a snapshot of what was written. Such a
/// snapshot only saves work, so it must leave space for others' writes.
const WRITTEN_MARGIN: u64 = 2;

/// What is recorded of a snapshot.
#[derive(Clone, Debug)]
pub(super) struct SnapshotRecord {
    pub file: FileId,
    /// Its bytes, as offsets in the file.
    pub bytes: Range<u64>,
    pub epoch: Epoch,
    /// The file's attributes when it was taken; not known if the file was written just before.
    pub attr: Option<Attr>,
    /// The file's length and version when it was taken.
    pub at: (u64, Version),
}

impl SnapshotRecord {
    /// A part of it, as offsets in the file; short at the snapshot's end.
    #[inline]
    pub fn part(&self, offset: SnapshotOffset, length: ByteCount) -> Range<u64> {
        let begin = self.bytes.start.saturating_add(offset.0).min(self.bytes.end);
        begin..begin.saturating_add(length.0).min(self.bytes.end)
    }
}

/// Lengths in bytes of the fragments that the reply contains: the bytes at both ends that fill no
/// page of the reader's buffer.
struct Fragments {
    leading: u64,
    trailing: u64,
}

impl Fragments {
    /// As [`Snapshot`] specifies. No snapshot is needed if the leading fragment is everything.
    fn of(request: &Snapshot, length: u64) -> Self {
        let misalignment = u64::from(request.misalignment);
        let first_whole = misalignment.div_ceil(PAGE) * PAGE;
        let end = misalignment.saturating_add(length);
        let whole_end = end / PAGE * PAGE;
        let inline_max = u64::from(request.inline_max).min(MAX_PAYLOAD as u64);
        if whole_end <= first_whole || length <= inline_max {
            return Self { leading: length, trailing: 0 };
        }
        Self { leading: first_whole - misalignment, trailing: end - whole_end }
    }
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Takes a snapshot of an open file.
    #[inline]
    pub(super) fn take_snapshot(
        &mut self,
        request: &Snapshot,
    ) -> Result<(Snapshotted, Payload<'static>), Errno> {
        let (base, id) = self.handles.regular(request.handle, OpenFlags::READ)?;
        let (size, version) = self.size_and_version(id)?;
        let length = request.length.0.min(size.saturating_sub(request.offset.0));
        let mut reply = Snapshotted {
            length: ByteCount(length),
            file: id,
            version,
            holes_end: SnapshotOffset(length),
            ..Snapshotted::default()
        };
        if length == 0 {
            return Ok((reply, Payload::empty()));
        }
        let bytes = request.offset.0..request.offset.0 + length;
        let fragments = Fragments::of(request, length);
        (reply.leading_bytes, reply.trailing_bytes) =
            (fragments.leading as u32, fragments.trailing as u32);
        if fragments.leading == length {
            let payload = self.live_bytes(base, core::slice::from_ref(&bytes))?;
            self.read_by(request.handle, id);
            return Ok((reply, Payload::owned(payload)));
        }
        self.check_limits(id)?;
        self.rescuing().load_holes(id)?;
        self.check_reservation(id, &bytes, 1)?;
        let leading = bytes.start..bytes.start + fragments.leading;
        let mut payload =
            self.live_bytes(base, &[leading, bytes.end - fragments.trailing..bytes.end])?;
        let attr = self.files.get(id)?.attr.map(|attr| self.shown(attr));
        self.read_by(request.handle, id);
        let record =
            SnapshotRecord { file: id, bytes: bytes.clone(), epoch: 0, at: (size, version), attr };
        reply.handle = self.register(record)?;
        let holes = self.first_holes(id, &bytes, &mut reply)?;
        put_holes(&mut payload, &holes)?;
        Ok((reply, Payload::owned(payload)))
    }

    /// Takes a snapshot of what was just written (W8); [`Handle::NONE`] if it is refused.
    #[inline]
    pub(super) fn snapshot_of_written(&mut self, id: FileId, bytes: Range<u64>) -> Handle {
        let taken = self.check_limits(id).and_then(|()| {
            self.rescuing().load_holes(id)?;
            self.check_reservation(id, &bytes, WRITTEN_MARGIN)?;
            let at = self.size_and_version(id)?;
            self.register(SnapshotRecord { file: id, bytes, epoch: 0, attr: None, at })
        });
        taken.unwrap_or(Handle::NONE)
    }

    /// Reads ranges of the file as it is now.
    fn live_bytes(&mut self, base: Handle, ranges: &[Range<u64>]) -> Result<Vec<u8>, Errno> {
        let ranges = ranges.iter().filter(|range| !range.is_empty()).cloned();
        let length = ranges.clone().map(|range| range.end - range.start).sum::<u64>();
        let mut space = zeros(length as usize)?;
        read_parts(&mut self.base, base, ranges, &mut space)?;
        Ok(space)
    }

    /// EDQUOT past a limit (Q4).
    fn check_limits(&mut self, id: FileId) -> Result<(), Errno> {
        self.handles.prepare()?;
        if self.is_within_limits(id)? || mutants::no_snapshot_limit() {
            return Ok(());
        }
        // Where this fails, the map is as large as before, and the snapshot is refused.
        let _ = self.rescuing().make_space(id);
        if self.is_within_limits(id)? { Ok(()) } else { Err(Errno::EDQUOT) }
    }

    fn is_within_limits(&self, id: FileId) -> Result<bool, Errno> {
        let file = self.files.get(id)?;
        let Limits { snapshots_per_file, snapshots, files, entries_per_file, entries } =
            self.limits;
        Ok(self.handles.snapshots() < snapshots
            && (file.snapshots > 0 || self.files.with_snapshots() < files)
            && file.snapshots < snapshots_per_file
            && file.map.holdings().entries < entries_per_file
            && self.space.entries() < entries
            && self.space.intervals() < self.limits.intervals())
    }

    /// ENOSPC unless the base has `margin` times the space that the snapshot may need (Q1). EDQUOT
    /// where a page has too many versions.
    fn check_reservation(
        &mut self,
        id: FileId,
        bytes: &Range<u64>,
        margin: u64,
    ) -> Result<(), Errno> {
        if mutants::no_reservation() {
            return Ok(());
        }
        let file = self.files.get(id)?;
        let holes = file.holes.as_ref().ok_or(Errno::EIO)?;
        if !file.map.has_space(pages_of(bytes)) {
            return Err(Errno::EDQUOT);
        }
        let more = file.map.would_reserve(pages_of(bytes), holes);
        let with_margin = |pages: PageCount| PageCount(pages.0.saturating_mul(margin));
        // Also where there is nothing more: the bound may be higher than what was checked.
        match self.space.check(&mut self.base, with_margin(more)) {
            Err(Errno::ENOSPC) => {}
            checked => return checked,
        }
        // The exact number is determined only where it decides. The bound is one on top of what is
        // reserved so far, which is counted now, too.
        self.files.tighten(&mut self.space);
        let file = self.files.get(id)?;
        let holes = file.holes.as_ref().ok_or(Errno::EIO)?;
        let exactly = file.map.would_reserve_exactly(pages_of(bytes), holes);
        if exactly.is_zero() {
            return Ok(());
        }
        self.space.check(&mut self.base, with_margin(exactly))
    }

    /// Records a snapshot in the current epoch and assigns its handle. The space that it may need
    /// has been checked.
    fn register(&mut self, record: SnapshotRecord) -> Result<Handle, Errno> {
        let (id, pages) = (record.file, pages_of(&record.bytes));
        let (epoch, [before, after]) = self.files.add_snapshot(id, pages.clone())?;
        self.space.map_changed(before, after);
        if mutants::eager_rescue() {
            let live = self.files.get(id)?.live(pages)?;
            self.rescuing().rescue(id, &live)?;
        }
        Ok(self.handles.insert(Opened::Snapshot(SnapshotRecord { epoch, ..record })))
    }

    /// The first holes of a range of the file, as many as a reply holds. Their offsets count from
    /// the start of the range.
    fn first_holes(
        &mut self,
        id: FileId,
        bytes: &Range<u64>,
        reply: &mut Snapshotted,
    ) -> Result<Vec<Hole>, Errno> {
        let holes = self.files.get(id)?.holes.as_ref().ok_or(Errno::EIO)?;
        let (list, end) = holes_within(holes.within(pages_of(bytes)), bytes);
        reply.holes = list.len() as u32;
        reply.holes_end = SnapshotOffset(end - bytes.start);
        Ok(list)
    }

    /// Where a snapshot finds its bytes: runs that cover the range.
    #[inline]
    pub(super) fn sources_of(
        &self,
        record: &SnapshotRecord,
        bytes: &Range<u64>,
    ) -> Result<Vec<(Range<u64>, Source)>, Errno> {
        let file = self.files.get(record.file)?;
        let mut runs = file.map.sources(pages_of(bytes), record.epoch, file.holes.as_ref())?;
        let mut at = bytes.start;
        for (run, _) in &mut runs {
            // The source is that of the run's first page; the bytes truncated here are in that
            // page.
            *run = (run.start * PAGE).max(bytes.start)..(run.end * PAGE).min(bytes.end);
            if run.start != at {
                return Err(Errno::EIO);
            }
            at = run.end;
        }
        if at == bytes.end { Ok(runs) } else { Err(Errno::EIO) }
    }

    /// Lists the holes of a snapshot.
    #[inline]
    pub(super) fn snapshot_holes(
        &mut self,
        record: &SnapshotRecord,
        request: &ListHoles,
    ) -> Result<(HolesListed, Vec<Hole>), Errno> {
        let bytes = record.part(SnapshotOffset(request.offset), request.length);
        self.rescuing().load_holes(record.file)?;
        let mut joined: Vec<Range<u64>> = Vec::new();
        for (run, source) in self.sources_of(record, &bytes)? {
            let pages = pages_of(&run);
            match joined.last_mut().filter(|last| last.end == pages.start) {
                _ if !source.is_hole() => {}
                Some(last) => last.end = pages.end,
                None => push(&mut joined, pages)?,
            }
        }
        let (mut list, end) = holes_within(joined.into_iter(), &bytes);
        list.iter_mut().for_each(|hole| hole.offset += bytes.start - record.bytes.start);
        let complete = end == bytes.end;
        let holes_end = if complete {
            request.offset.saturating_add(request.length.0)
        } else {
            end - record.bytes.start
        };
        Ok((HolesListed { holes_end }, list))
    }

    /// Removes a closed snapshot: frees what was rescued for it alone (C10).
    #[inline]
    pub(super) fn close_snapshot(&mut self, record: &SnapshotRecord) {
        let id = record.file;
        let removed = self.files.remove_snapshot(id, pages_of(&record.bytes), record.epoch);
        let Ok((freed, [before, after])) = removed else { return };
        self.space.map_changed(before, after);
        if after.stored < before.stored {
            self.rescuing().free(id, &freed);
        }
        self.release(id, None);
    }
}

/// The parts of runs of pages that lie in `bytes`, as holes with offsets from the start of `bytes`;
/// and the byte of the file up to which the list is complete.
fn holes_within(runs: impl Iterator<Item = Range<u64>>, bytes: &Range<u64>) -> (Vec<Hole>, u64) {
    let mut list = Vec::new();
    for run in runs {
        let begin = (run.start * PAGE).max(bytes.start);
        let end = (run.end * PAGE).min(bytes.end);
        if list.len() == MAX_HOLES {
            return (list, begin);
        }
        if list.is_empty() {
            list.reserve_exact(MAX_HOLES);
        }
        list.push(Hole { offset: begin - bytes.start, length: ByteCount(end - begin) });
    }
    (list, bytes.end)
}
