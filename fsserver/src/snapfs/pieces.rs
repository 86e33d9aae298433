//! Writes that refer to snapshots.

use alloc::vec::Vec;
use core::ops::Range;
use core::slice;

use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::{
    Allocate, AllocateMode, AttrMask, FileId, Handle, OpenFlags, Piece, SetAttr, Version, Write,
    WriteFlags, Written,
};

use super::change::{Change, pages_of, range_of};
use super::copy::Position;
use super::file::{File, PAGE};
use super::rescue_map::Source;
use super::snapshot::SnapshotRecord;
use super::{Snapfs, mutants};
use crate::buffer::push;
use crate::connection::Connection;
use crate::server::Clock;

/// Maximum number of steps of one write. A client that refers to many small ranges gets a short
/// count.
const MAX_STEPS: usize = 4096;

/// The bytes of a piece.
pub(super) enum PieceSource<'a> {
    /// Data of the message.
    Data(&'a [u8]),
    /// A reference: these bytes of the snapshot's file, as the snapshot keeps them.
    Snapshot { record: SnapshotRecord, bytes: Range<u64> },
}

/// A piece of a write, with its place in the target.
pub(super) struct PlacedPiece<'a> {
    pub bytes: Range<u64>,
    pub source: PieceSource<'a>,
}

/// What is done for a range of the target.
pub(super) enum Step<'a> {
    /// Nothing: its bytes are there already (W2).
    Elide,
    /// Data are written.
    Write(&'a [u8]),
    /// Bytes are copied from a file, from this byte on.
    CopyFile(FileId, u64),
    /// Bytes are copied from the rescue file of a file, from this byte on.
    CopyRescued(FileId, u64),
    /// A hole is made.
    Punch,
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// Writes pieces. EINVAL where one reaches beyond the end of its snapshot.
    pub(super) fn write_pieces(
        &mut self,
        request: &Write,
        data: &[u8],
        pieces: &[Piece],
    ) -> Result<Written, Errno> {
        let (base, id) = self.handles.regular(request.handle, OpenFlags::WRITE)?;
        let (size, _) = self.size_and_version(id)?;
        let offset = match request.flags.contains(WriteFlags::APPEND) {
            true => size,
            false => request.offset.0,
        };
        let mut placed = Vec::new();
        placed.try_reserve_exact(pieces.len()).map_err(|_| Errno::ENOMEM)?;
        let (mut at, mut rest) = (offset, data);
        for piece in pieces {
            let bytes = range_of(at, piece.length.0)?;
            at = bytes.end;
            let source = if piece.snapshot == Handle::NONE {
                let (front, behind) =
                    rest.split_at_checked(piece.length.to_usize()).ok_or(Errno::EPROTO)?;
                rest = behind;
                PieceSource::Data(front)
            } else {
                let record = self.handles.snapshot(piece.snapshot).ok_or(Errno::EBADF)?;
                let from = record.part(piece.offset, piece.length);
                if from.end - from.start != piece.length.0 {
                    return Err(Errno::EINVAL);
                }
                PieceSource::Snapshot { record, bytes: from }
            };
            placed.push(PlacedPiece { bytes, source });
        }
        self.write_placed((base, id), offset..at, placed)
    }

    /// Writes adjacent pieces that make up `bytes`. Short where the base fails after some bytes.
    pub(super) fn write_placed(
        &mut self,
        target: (Handle, FileId),
        bytes: Range<u64>,
        pieces: Vec<PlacedPiece<'_>>,
    ) -> Result<Written, Errno> {
        let (base, id) = target;
        let (bytes, pieces) = self.bounded(bytes, pieces)?;
        let pieces = &pieces[..];
        let mut length = ByteCount::ZERO;
        if !bytes.is_empty() {
            let steps = self.ready_steps(id, pieces)?;
            let (done, failed) = self.carry_out(base, id, &steps);
            if failed.is_some() {
                // Only the base knows the file's state now.
                self.files.get_mut(id)?.forget();
            }
            if let (0, Some(error)) = (done, failed) {
                return Err(error);
            }
            length = ByteCount(done);
        }
        let (size, version) = self.size_and_version(id)?;
        let (offset, size) = (FileOffset(bytes.start), ByteCount(size));
        Ok(Written { length, offset, size, version, snapshot: Handle::NONE })
    }

    /// As much of the pieces, from the front, as takes at most [`MAX_STEPS`] steps.
    fn bounded<'a>(
        &self,
        bytes: Range<u64>,
        pieces: Vec<PlacedPiece<'a>>,
    ) -> Result<(Range<u64>, Vec<PlacedPiece<'a>>), Errno> {
        // Mostly the maps are so small that their runs need not be counted.
        let most = |piece: &PlacedPiece<'_>| match &piece.source {
            PieceSource::Data(_) => 1,
            PieceSource::Snapshot { record, .. } => {
                let file = self.files.get(record.file);
                file.map_or(1, File::most_runs)
            }
        };
        if pieces.iter().map(most).fold(0, usize::saturating_add) <= MAX_STEPS {
            return Ok((bytes, pieces));
        }
        let (mut bytes, mut pieces) = (bytes, pieces);
        let mut steps = 0;
        for index in 0..pieces.len() {
            let Some(piece) = pieces.get_mut(index) else { break };
            let PieceSource::Snapshot { record, bytes: from } = &mut piece.source else {
                steps += 1;
                continue;
            };
            let sources = self.sources_of(record, from)?;
            steps += sources.len();
            // Within the snapshot of the first piece, at least one step is always possible.
            let excess = steps
                .saturating_sub(MAX_STEPS)
                .min(sources.len().saturating_sub(usize::from(index == 0)));
            let Some((last, _)) =
                sources.len().checked_sub(excess + 1).and_then(|at| sources.get(at))
            else {
                pieces.truncate(index);
                break;
            };
            if excess > 0 {
                from.end = last.end;
                piece.bytes.end = piece.bytes.start + (from.end - from.start);
                pieces.truncate(index + 1);
                break;
            }
        }
        bytes.end = pieces.last().map_or(bytes.start, |piece| piece.bytes.end);
        Ok((bytes, pieces))
    }

    /// Prepares the write, then plans it. Not the other way round: bytes that were in the file
    /// before may be in the rescue file afterwards.
    fn ready_steps<'a>(
        &mut self,
        id: FileId,
        pieces: &[PlacedPiece<'a>],
    ) -> Result<Vec<(Range<u64>, Step<'a>)>, Errno> {
        if mutants::forward_copy() {
            let early = mutants::page_by_page(self.steps(pieces, &[])?);
            return self.prepare_pieces(id, pieces).map(|_| early);
        }
        let elided = self.prepare_pieces(id, pieces)?;
        self.steps(pieces, &elided)
    }

    /// Finds the ranges that are written back to where they came from and are unchanged there, and
    /// returns them. Prepares the change of all others.
    fn prepare_pieces(
        &mut self,
        id: FileId,
        pieces: &[PlacedPiece<'_>],
    ) -> Result<Vec<Range<u64>>, Errno> {
        let (mut elided, mut changed, mut stores) = (Vec::new(), Vec::new(), 0);
        let mut change = |bytes: Range<u64>, is_hole: bool| {
            let pages = pages_of(&bytes);
            // Making a hole may have to store the pages at its ends.
            stores += if is_hole { 2 } else { pages.end - pages.start };
            push(&mut changed, bytes)
        };
        for piece in pieces.iter().filter(|piece| !piece.bytes.is_empty()) {
            let PieceSource::Snapshot { record, bytes } = &piece.source else {
                change(piece.bytes.clone(), false)?;
                continue;
            };
            let same_place =
                record.file == id && (bytes.start == piece.bytes.start || mutants::elide_append());
            for (run, source) in self.sources_of(record, bytes)? {
                let at = piece.bytes.start + (run.start - bytes.start);
                let target = at..at + (run.end - run.start);
                let unchanged = source.is_live() || mutants::elide_without_asking();
                if same_place && unchanged {
                    push(&mut elided, target)?
                } else {
                    change(target, source.is_hole())?
                }
            }
        }
        let stores = if mutants::free_references() { 0 } else { stores };
        self.prepare_all(id, Change::Write, &changed, PageCount(stores))?;
        Ok(elided)
    }

    /// Plans the write: steps in order and without gaps.
    fn steps<'a>(
        &self,
        pieces: &[PlacedPiece<'a>],
        elided: &[Range<u64>],
    ) -> Result<Vec<(Range<u64>, Step<'a>)>, Errno> {
        let mut steps = Vec::new();
        let mut elided = elided.iter().peekable();
        for piece in pieces.iter().filter(|piece| !piece.bytes.is_empty()) {
            let (record, from) = match &piece.source {
                PieceSource::Data(data) => {
                    push(&mut steps, (piece.bytes.clone(), Step::Write(data)))?;
                    continue;
                }
                PieceSource::Snapshot { record, bytes } => (record, bytes),
            };
            let mut at = piece.bytes.start;
            while at < piece.bytes.end {
                if let Some(range) = elided.next_if(|range| range.start == at) {
                    push(&mut steps, (range.clone(), Step::Elide))?;
                    at = range.end;
                    continue;
                }
                let end =
                    elided.peek().map_or(piece.bytes.end, |range| range.start.min(piece.bytes.end));
                let source = from.start + (at - piece.bytes.start);
                for (run, place) in self.sources_of(record, &(source..source + (end - at)))? {
                    let to = at..at + (run.end - run.start);
                    at = to.end;
                    let step = match place {
                        Source::Live => Step::CopyFile(record.file, run.start),
                        Source::Rescued(slot) => {
                            Step::CopyRescued(record.file, slot * PAGE + run.start % PAGE)
                        }
                        Source::Hole | Source::LiveHole => Step::Punch,
                    };
                    push(&mut steps, (to, step))?;
                }
            }
        }
        debug_assert!(steps.windows(2).all(|pair| matches!(pair, [a, b] if a.0.end == b.0.start)));
        Ok(steps)
    }

    /// Carries out the steps. Returns how many bytes were done, and the error that ended it, if
    /// any.
    fn carry_out(
        &mut self,
        base: Handle,
        id: FileId,
        steps: &[(Range<u64>, Step<'_>)],
    ) -> (u64, Option<Errno>) {
        let mut done = 0;
        let mut untouched = true;
        for (bytes, step) in steps {
            untouched &= matches!(step, Step::Elide);
            match self.carry_out_one(base, id, bytes, step) {
                Ok(now) => self.note_step(id, bytes, step, now),
                Err(error) => return (done, Some(error)),
            }
            done += bytes.end - bytes.start;
        }
        match steps.first() {
            Some((bytes, step))
                if untouched && !mutants::silent_elide() && !mutants::elide_append() =>
            {
                match self.touch(base, id, bytes) {
                    Ok(now) => {
                        self.note_step(id, bytes, step, Some(now));
                        (done, None)
                    }
                    Err(error) => (0, Some(error)),
                }
            }
            _ => (done, None),
        }
    }

    /// Records the result of a step. `now` is the file's length and version, if the step changed
    /// it.
    fn note_step(
        &mut self,
        id: FileId,
        bytes: &Range<u64>,
        step: &Step<'_>,
        now: Option<(u64, Version)>,
    ) {
        let (Ok(file), Some((size, version))) = (self.files.get_mut(id), now) else { return };
        if let Some((before, _)) = file.bytes {
            // A gap between the end and what a step stores is a hole.
            let end = if matches!(step, Step::Punch) { size } else { bytes.start };
            file.resized(before, end.max(before));
        }
        match step {
            Step::Elide => {}
            Step::Punch => file.punched(bytes.clone(), size),
            Step::Write(_) | Step::CopyFile(..) | Step::CopyRescued(..) => {
                file.stored(bytes.clone())
            }
        }
        file.attr = None;
        file.bytes = Some((size, version));
    }

    /// Carries out one step. Returns the file's new length and version, if the step changed it.
    fn carry_out_one(
        &mut self,
        base: Handle,
        id: FileId,
        bytes: &Range<u64>,
        step: &Step<'_>,
    ) -> Result<Option<(u64, Version)>, Errno> {
        let length = ByteCount(bytes.end - bytes.start);
        let to = Position { handle: base, offset: FileOffset(bytes.start) };
        let written = match step {
            Step::Elide => {
                self.traffic.elided += length;
                return Ok(None);
            }
            Step::Write(data) => {
                let request = Write {
                    handle: base,
                    offset: to.offset,
                    flags: WriteFlags::empty(),
                    data_bytes: data.len() as u32,
                };
                let written = self.base.request(&request, &[data])?;
                if written.length == length { written } else { return Err(Errno::EIO) }
            }
            Step::CopyFile(source, offset) => {
                self.copier.note_sharing(*source);
                self.copier.note_sharing(id);
                let handle = self.files.get(*source)?.base_handle()?;
                self.copy_counted(Position { handle, offset: FileOffset(*offset) }, to, length)?
            }
            Step::CopyRescued(source, _) if *source == id && mutants::restore_skipped() => {
                return Ok(None);
            }
            Step::CopyRescued(source, offset) => {
                self.copier.note_sharing(id);
                let rescue_file = self.files.get(*source)?.rescue_file.as_ref();
                let handle = rescue_file.ok_or(Errno::EIO)?.handle();
                self.copy_counted(Position { handle, offset: FileOffset(*offset) }, to, length)?
            }
            Step::Punch => return self.punch_and_extend(base, id, bytes).map(Some),
        };
        Ok(Some((written.size.0, written.version)))
    }

    /// Copies a range on the base and counts its bytes.
    fn copy_counted(
        &mut self,
        from: Position,
        to: Position,
        length: ByteCount,
    ) -> Result<Written, Errno> {
        let written = self.copy_on_base(from, to, length)?;
        self.traffic.cloned += length;
        Ok(written)
    }

    /// Makes a hole, extending the file if needed. Returns the file's new length and version.
    fn punch_and_extend(
        &mut self,
        base: Handle,
        id: FileId,
        bytes: &Range<u64>,
    ) -> Result<(u64, Version), Errno> {
        let (offset, length) = (bytes.start, bytes.end - bytes.start);
        let mut attr = self.base.request(
            &Allocate {
                handle: base,
                offset: FileOffset(offset),
                length: ByteCount(length),
                mode: AllocateMode::PunchHole,
            },
            &[],
        )?;
        if attr.id != id {
            return Err(Errno::EPROTO);
        }
        if attr.size < ByteCount(bytes.end) {
            let request = SetAttr {
                handle: base,
                mask: AttrMask::SIZE,
                size: ByteCount(bytes.end),
                ..SetAttr::default()
            };
            attr = self.base.request(&request, &[])?;
        }
        Ok((attr.size.0, attr.version))
    }

    /// Changes times and version of an elided write, which is a write all the same (W7): copies a
    /// part of the file onto itself. A part of a page that is shared takes a page.
    fn touch(
        &mut self,
        base: Handle,
        id: FileId,
        bytes: &Range<u64>,
    ) -> Result<(u64, Version), Errno> {
        let page = bytes.start.next_multiple_of(PAGE);
        let mut part = page..page + PAGE;
        if part.end > bytes.end {
            part = bytes.start..bytes.start + 1;
            self.check_change(id, slice::from_ref(&part), PageCount(1), PageCount::ZERO)?;
            self.space.used_up(PageCount(1));
        }
        let place = Position { handle: base, offset: FileOffset(part.start) };
        let written = self.copy_on_base(place, place, ByteCount(part.end - part.start))?;
        Ok((written.size.0, written.version))
    }
}
