//! Snapshots: taking, reading and closing them.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, SnapshotOffset};
use fsproto::{
    Attr, FileId, GetAttr, Handle, Hole, HolesListed, ListHoles, MAX_HOLES, MAX_PAYLOAD, OpenFlags,
    Snapshot, Snapshotted, Version,
};

use super::change::pages_of;
use super::file::PAGE;
use super::rescue::{Era, Source};
use super::{MAX_SEGMENTS, MAX_SNAPSHOTS_PER_FILE, MAX_SNAPSHOTS_TOTAL, Open, Snapfs};
use crate::connection::Connection;
use crate::server::{Clock, Payload};

/// A snapshot of what was written is refused unless there is so many times the room that it may
/// need: what only saves a writer work is to leave room for what others write.
const WRITTEN_MARGIN: u64 = 2;

/// A snapshot.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub file: FileId,
    /// Its bytes, counted in the file.
    pub bytes: Range<u64>,
    pub era: Era,
    /// The file's attributes at its instant; of a snapshot that came with a write they are found
    /// out when somebody asks.
    pub attr: Option<Attr>,
    /// The file's length and version at its instant.
    pub at: (u64, Version),
}

impl Taken {
    /// A part of it, counted in the file; short at the end.
    pub fn part(&self, offset: u64, length: u64) -> Range<u64> {
        let begin = self.bytes.start.saturating_add(offset).min(self.bytes.end);
        begin..begin.saturating_add(length).min(self.bytes.end)
    }
}

/// What the reader gets at once: bytes at the front and at the end that fill no page of its buffer.
struct Fragments {
    header: u64,
    tail: u64,
}

impl Fragments {
    /// As [`Snapshot`] says; nothing is left to be snapshotted where `header` is everything.
    fn of(request: &Snapshot, length: u64) -> Self {
        let misalignment = u64::from(request.misalignment);
        let first_whole = misalignment.div_ceil(PAGE) * PAGE;
        let end = misalignment.saturating_add(length);
        let whole_end = end / PAGE * PAGE;
        let inline_max = u64::from(request.inline_max).min(MAX_PAYLOAD as u64);
        if whole_end <= first_whole || length <= inline_max {
            return Self { header: length, tail: 0 };
        }
        Self { header: first_whole - misalignment, tail: end - whole_end }
    }
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// A snapshot of an open file.
    pub(super) fn take_snapshot(
        &mut self,
        request: &Snapshot,
    ) -> Result<(Snapshotted, Payload<'static>), Errno> {
        let (base, id) = self.regular(request.handle, OpenFlags::READ)?;
        let attr = self.base_attr(id)?;
        let length = request.length.0.min(attr.size.0.saturating_sub(request.offset.0));
        let mut reply = Snapshotted {
            length: ByteCount(length),
            file: id,
            version: attr.version,
            holes_end: SnapshotOffset(length),
            ..Snapshotted::default()
        };
        if length == 0 {
            return Ok((reply, Payload::empty()));
        }
        let bytes = request.offset.0..request.offset.0 + length;
        let fragments = Fragments::of(request, length);
        (reply.leading_bytes, reply.trailing_bytes) =
            (fragments.header as u32, fragments.tail as u32);
        if fragments.header == length {
            let payload = self.live_bytes(base, &bytes)?;
            self.accessed(id);
            return Ok((reply, Payload::owned(payload)));
        }
        self.check_limits(id)?;
        self.load_holes(id)?;
        self.check_reservation(id, &bytes, 1)?;
        let mut payload = self.live_bytes(base, &(bytes.start..bytes.start + fragments.header))?;
        payload.extend(self.live_bytes(base, &(bytes.end - fragments.tail..bytes.end))?);
        let attr = self.shown(attr);
        self.accessed(id);
        reply.handle = self.register(Taken {
            file: id,
            bytes: bytes.clone(),
            era: 0,
            at: (attr.size.0, attr.version),
            attr: Some(attr),
        })?;
        let holes = self.list_holes(id, &bytes, &mut reply)?;
        payload.extend(holes.iter().flat_map(Hole::to_bytes));
        Ok((reply, Payload::owned(payload)))
    }

    /// A snapshot of what was just written (W8), or no handle where it is refused.
    pub(super) fn snapshot_of_written(&mut self, id: FileId, bytes: Range<u64>) -> Handle {
        let taken = self.check_limits(id).and_then(|()| {
            self.load_holes(id)?;
            self.check_reservation(id, &bytes, WRITTEN_MARGIN)?;
            let at = self.size_and_version(id)?;
            self.register(Taken { file: id, bytes, era: 0, attr: None, at })
        });
        taken.unwrap_or(Handle::NONE)
    }

    /// Bytes of the file as it is.
    fn live_bytes(&mut self, base: Handle, bytes: &Range<u64>) -> Result<Vec<u8>, Errno> {
        let mut space = Vec::new();
        let length = (bytes.end - bytes.start) as usize;
        space.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
        space.resize(length, 0);
        self.base.read_exact(base, bytes.start, &mut space)?;
        Ok(space)
    }

    /// EDQUOT past a bound (Q4).
    fn check_limits(&mut self, id: FileId) -> Result<(), Errno> {
        let total = self.snapshots;
        let file = self.file(id)?;
        let within = total < MAX_SNAPSHOTS_TOTAL
            && file.snapshots < MAX_SNAPSHOTS_PER_FILE
            && file.map.segments() < MAX_SEGMENTS;
        if within || active(Mutant::NoSnapshotLimit) { Ok(()) } else { Err(Errno::EDQUOT) }
    }

    /// ENOSPC unless the base has room for the worst that may come (Q1), `margin` times over.
    fn check_reservation(
        &mut self,
        id: FileId,
        bytes: &Range<u64>,
        margin: u64,
    ) -> Result<(), Errno> {
        if active(Mutant::NoReservation) {
            return Ok(());
        }
        let file = self.file(id)?;
        let holes = file.holes.as_ref().ok_or(Errno::EIO)?;
        let more = file.map.would_reserve(pages_of(bytes), holes);
        if more > 0 { self.check_room(more.saturating_mul(margin)) } else { Ok(()) }
    }

    /// Makes the record, of the era that is now; there is room for all that it may need.
    fn register(&mut self, taken: Taken) -> Result<Handle, Errno> {
        let (id, bytes) = (taken.file, taken.bytes.clone());
        let file = self.files.get_mut(&id).ok_or(Errno::EIO)?;
        if core::mem::take(&mut file.era_is_over) {
            file.era += 1;
        }
        let before = (file.map.reserved(), file.map.stored());
        file.map.add_snapshot(pages_of(&bytes), file.holes.as_ref().ok_or(Errno::EIO)?);
        file.snapshots += 1;
        let era = file.era;
        self.snapshots += 1;
        self.account(id, before);
        if active(Mutant::EagerRescue) {
            let live = self.file(id)?.map.live(pages_of(&bytes));
            self.rescue_all(id, live)?;
        }
        Ok(self.give_handle(Open::Snapshot(Taken { era, ..taken })))
    }

    /// The holes of the file within a range, counted from its start, as many as a reply holds.
    fn list_holes(
        &mut self,
        id: FileId,
        bytes: &Range<u64>,
        reply: &mut Snapshotted,
    ) -> Result<Vec<Hole>, Errno> {
        let holes = self.file(id)?.holes.as_ref().ok_or(Errno::EIO)?;
        let runs = holes.runs(pages_of(bytes)).filter(|(_, is_hole)| *is_hole).map(|(run, _)| run);
        let (list, end) = holes_within(runs, bytes);
        reply.holes = list.len() as u32;
        reply.holes_end = SnapshotOffset(end - bytes.start);
        Ok(list)
    }

    pub(super) fn taken(&self, handle: Handle) -> Option<Taken> {
        match self.handles.get(&handle) {
            Some(Open::Snapshot(taken)) => Some(taken.clone()),
            _ => None,
        }
    }

    /// Where a snapshot's bytes are; the runs cover the range.
    pub(super) fn sources_of(
        &self,
        taken: &Taken,
        bytes: &Range<u64>,
    ) -> Result<Vec<(Range<u64>, Source)>, Errno> {
        let file = self.files.get(&taken.file).ok_or(Errno::EIO)?;
        let runs = file.map.sources(pages_of(bytes), taken.era);
        let mut at = bytes.start;
        let cut = runs.into_iter().map(|(run, source)| {
            let begin = (run.start * PAGE).max(bytes.start);
            // A source is told for the run's first page; what is cut off in front of it lies within
            // that page.
            (begin..(run.end * PAGE).min(bytes.end), source)
        });
        let cut: Vec<_> = cut.collect();
        for (run, _) in &cut {
            if run.start != at {
                return Err(Errno::EIO);
            }
            at = run.end;
        }
        if at == bytes.end { Ok(cut) } else { Err(Errno::EIO) }
    }

    /// Bytes of a snapshot, put together in `space`, from its start on; holes are told apart, and
    /// not filled in.
    fn gather(
        &mut self,
        taken: &Taken,
        bytes: &Range<u64>,
    ) -> Result<Vec<(Range<u64>, Source)>, Errno> {
        let file = self.files.get(&taken.file).ok_or(Errno::EIO)?;
        let base = file.base_handle()?;
        let unchecked = active(Mutant::NoRescueRecheck);
        let before = self.sources_of(taken, bytes)?;
        for (run, source) in &before {
            if *source == Source::Live || (unchecked && !source.is_hole()) {
                let count = (run.end - run.start) as usize;
                let at = (run.start - bytes.start) as usize;
                let space = self.space.bytes_mut().get_mut(at..at + count).ok_or(Errno::EIO)?;
                self.base.read_exact(base, run.start, space)?;
            }
        }
        if unchecked {
            return Ok(before);
        }
        // Only now it is known what was rescued before those answers were given (C11).
        let after = self.sources_of(taken, bytes)?;
        let store = self.files.get(&taken.file).and_then(|file| file.store);
        for (run, source) in &after {
            if let Source::Store(slot) = *source {
                let count = (run.end - run.start) as usize;
                let at = (run.start - bytes.start) as usize;
                let space = self.space.bytes_mut().get_mut(at..at + count).ok_or(Errno::EIO)?;
                self.base.read_exact(
                    store.ok_or(Errno::EIO)?,
                    slot * PAGE + run.start % PAGE,
                    space,
                )?;
            }
        }
        Ok(after)
    }

    /// A part of a snapshot (F1).
    pub(super) fn read_snapshot(
        &mut self,
        handle: Handle,
        offset: u64,
        length: u32,
    ) -> Result<Payload<'_>, Errno> {
        let taken = self.taken(handle).ok_or(Errno::EBADF)?;
        let bytes = taken.part(offset, length.into());
        if active(Mutant::TimesAtPageIn) {
            self.accessed(taken.file);
        }
        if active(Mutant::RightsAtPageIn) {
            let handle = self.file(taken.file)?.base_handle()?;
            if self.base.request(&GetAttr { handle }, &[])?.mode & 0o400 == 0 {
                return Err(Errno::EACCES);
            }
        }
        let runs = self.gather(&taken, &bytes)?;
        if !bytes.start.is_multiple_of(PAGE) {
            // Holes lie across the pages of the reply: fill them in, so that it stays in whole
            // pages.
            for (run, _) in runs.iter().filter(|(_, source)| source.is_hole()) {
                let within = (run.start - bytes.start) as usize..(run.end - bytes.start) as usize;
                self.space.bytes_mut().get_mut(within).ok_or(Errno::EIO)?.fill(0);
            }
        }
        let mut payload = Payload::empty();
        let space = self.space.bytes();
        let mut rest = 0..0;
        for (run, source) in &runs {
            let within = (run.start - bytes.start) as usize..(run.end - bytes.start) as usize;
            if source.is_hole() && bytes.start.is_multiple_of(PAGE) {
                payload.push(space.get(rest).unwrap_or_default());
                payload.push_zeros(within.len());
                rest = within.end..within.end;
            } else {
                rest.end = within.end;
            }
        }
        payload.push(space.get(rest).unwrap_or_default());
        Ok(payload)
    }

    /// The holes of a snapshot.
    pub(super) fn snapshot_extents(
        &mut self,
        taken: &Taken,
        request: &ListHoles,
    ) -> Result<(HolesListed, Vec<Hole>), Errno> {
        let bytes = taken.part(request.offset, request.length.0);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for (run, source) in self.sources_of(taken, &bytes)? {
            let pages = pages_of(&run);
            match joined.last_mut().filter(|last| last.end == pages.start) {
                _ if !source.is_hole() => {}
                Some(last) => last.end = pages.end,
                None => joined.push(pages),
            }
        }
        let (mut list, end) = holes_within(joined.into_iter(), &bytes);
        list.iter_mut().for_each(|hole| hole.offset += bytes.start - taken.bytes.start);
        let complete = end == bytes.end;
        let holes_end = if complete {
            request.offset.saturating_add(request.length.0)
        } else {
            end - taken.bytes.start
        };
        Ok((HolesListed { holes_end }, list))
    }

    /// A snapshot is given back: what was rescued for it alone is freed (C10).
    pub(super) fn close_snapshot(&mut self, taken: &Taken) {
        self.snapshots -= 1;
        let Some(file) = self.files.get_mut(&taken.file) else { return };
        file.snapshots -= 1;
        let before = (file.map.reserved(), file.map.stored());
        let freed = file.map.remove_snapshot(pages_of(&taken.bytes), taken.era);
        self.account(taken.file, before);
        if !freed.is_empty() {
            self.free(taken.file, &freed);
        }
        self.release(taken.file, None);
    }
}

/// Runs of pages as holes, cut to `bytes` and counted from its start, and the byte of the file up
/// to which they are all.
fn holes_within(runs: impl Iterator<Item = Range<u64>>, bytes: &Range<u64>) -> (Vec<Hole>, u64) {
    let mut list = Vec::new();
    for run in runs {
        let begin = (run.start * PAGE).max(bytes.start);
        let end = (run.end * PAGE).min(bytes.end);
        if list.len() == MAX_HOLES {
            return (list, begin);
        }
        list.push(Hole { offset: begin - bytes.start, length: ByteCount(end - begin) });
    }
    (list, bytes.end)
}
