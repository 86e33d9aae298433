//! Writes that refer to snapshots.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{
    Allocate, AllocateMode, AttrMask, FileId, Handle, OpenFlags, Piece, SetAttr, Version, Write,
    WriteFlags, Written,
};

use super::Snapfs;
use super::change::{Kind, pages_of, range_of};
use super::file::PAGE;
use super::rescue::Source;
use super::snapshot::Taken;
use crate::connection::Connection;
use crate::server::Clock;

/// Where a part of a write has its bytes from.
pub(super) enum From<'a> {
    /// From the message.
    Data(&'a [u8]),
    /// From these bytes, counted in the snapshot's file.
    Snapshot { taken: Taken, bytes: Range<u64> },
}

/// A part of a write.
pub(super) struct Part<'a> {
    /// Where in the target it goes.
    pub bytes: Range<u64>,
    pub from: From<'a>,
}

/// What has to be done for a range of the target.
enum Step<'a> {
    /// Its bytes are there already (W2).
    Elide,
    /// These are stored.
    Store(&'a [u8]),
    /// The file of a snapshot, from this byte on, is copied.
    CopyFile(FileId, u64),
    /// The store of a file, from this byte on, is copied.
    CopyStore(FileId, u64),
    /// A hole is made.
    Punch,
}

/// The deliberate break of W3: copies a page at a time, from the front.
fn page_by_page(steps: Vec<(Range<u64>, Step<'_>)>) -> Vec<(Range<u64>, Step<'_>)> {
    let cut = |(bytes, step): (Range<u64>, _)| match step {
        Step::CopyFile(file, from) => {
            let at = move |byte: u64| {
                (
                    byte..(byte + PAGE).min(bytes.end),
                    Step::CopyFile(file, from + (byte - bytes.start)),
                )
            };
            bytes.clone().step_by(PAGE as usize).map(at).collect()
        }
        step => alloc::vec![(bytes, step)],
    };
    steps.into_iter().flat_map(cut).collect()
}

impl<C: Connection, K: Clock> Snapfs<C, K> {
    /// A write as the protocol has it. EINVAL where a piece reaches past the end of its snapshot.
    pub(super) fn write_pieces(
        &mut self,
        request: &Write,
        data: &[u8],
        pieces: &[Piece],
    ) -> Result<Written, Errno> {
        let (base, id) = self.regular(request.handle, OpenFlags::WRITE)?;
        let (size, _) = self.size_and_version(id)?;
        let offset =
            if request.flags.contains(WriteFlags::APPEND) { size } else { request.offset.0 };
        let mut parts = Vec::new();
        let (mut at, mut rest) = (offset, data);
        for piece in pieces {
            let bytes = range_of(at, piece.length.0)?;
            at = bytes.end;
            let from = if piece.snapshot == Handle::NONE {
                let (front, behind) =
                    rest.split_at_checked(piece.length.to_usize()).ok_or(Errno::EPROTO)?;
                rest = behind;
                From::Data(front)
            } else {
                let taken = self.taken(piece.snapshot).ok_or(Errno::EBADF)?;
                let from = taken.part(piece.offset.0, piece.length.0);
                if from.end - from.start != piece.length.0 {
                    return Err(Errno::EINVAL);
                }
                From::Snapshot { taken, bytes: from }
            };
            parts.push(Part { bytes, from });
        }
        self.write_parts((base, id), offset..at, &parts)
    }

    /// Writes parts that follow each other and make up `bytes`. Short where the base fails in the
    /// middle.
    pub(super) fn write_parts(
        &mut self,
        target: (Handle, FileId),
        bytes: Range<u64>,
        parts: &[Part<'_>],
    ) -> Result<Written, Errno> {
        let (base, id) = target;
        if bytes.is_empty() {
            let (size, version) = self.size_and_version(id)?;
            return Ok(Written {
                length: ByteCount(0),
                offset: FileOffset(bytes.start),
                size: ByteCount(size),
                version,
                snapshot: Handle::NONE,
            });
        }
        let early = if active(Mutant::ForwardCopy) {
            Some(page_by_page(self.steps(parts, &[])?))
        } else {
            None
        };
        let elided = self.make_ready(id, parts)?;
        // Only now: what was in the file when `make_ready` looked may be in the store by now.
        let steps = early.map_or_else(|| self.steps(parts, &elided), Ok)?;
        let (length, failed) = self.carry_out(base, id, &steps);
        if failed.is_some() {
            // How the file looks after all this, the base knows.
            self.file(id)?.forget();
        }
        if let (0, Some(error)) = (length, failed) {
            return Err(error);
        }
        let (size, version) = self.size_and_version(id)?;
        Ok(Written {
            length: ByteCount(length),
            offset: FileOffset(bytes.start),
            size: ByteCount(size),
            version,
            snapshot: Handle::NONE,
        })
    }

    /// Finds out what is written back to where it came from and is there still; all the rest is
    /// rescued, room permitting.
    fn make_ready(&mut self, id: FileId, parts: &[Part<'_>]) -> Result<Vec<Range<u64>>, Errno> {
        let (mut elided, mut changed, mut stores) = (Vec::new(), Vec::new(), 0);
        let mut change = |bytes: Range<u64>, is_hole: bool| {
            let pages = pages_of(&bytes);
            // Making a hole may have to store the pages at its ends.
            stores += if is_hole { 2 } else { pages.end - pages.start };
            changed.push(bytes);
        };
        for part in parts.iter().filter(|part| !part.bytes.is_empty()) {
            let From::Snapshot { taken, bytes } = &part.from else {
                change(part.bytes.clone(), false);
                continue;
            };
            let same_place = taken.file == id
                && (bytes.start == part.bytes.start || active(Mutant::ElideAppend));
            for (run, source) in self.sources_of(taken, bytes)? {
                let at = part.bytes.start + (run.start - bytes.start);
                let target = at..at + (run.end - run.start);
                let unchanged = source.is_live() || active(Mutant::ElideWithoutAsking);
                if same_place && unchanged {
                    elided.push(target)
                } else {
                    change(target, source.is_hole())
                }
            }
        }
        let stores = if active(Mutant::FreeReferences) { 0 } else { stores };
        self.prepare_all(id, Kind::Write, &changed, stores)?;
        Ok(elided)
    }

    /// What there is to do, in order and without gaps.
    fn steps<'a>(
        &self,
        parts: &[Part<'a>],
        elided: &[Range<u64>],
    ) -> Result<Vec<(Range<u64>, Step<'a>)>, Errno> {
        let mut steps = Vec::new();
        let mut elided = elided.iter().peekable();
        for part in parts.iter().filter(|part| !part.bytes.is_empty()) {
            let (taken, from) = match &part.from {
                From::Data(data) => {
                    steps.push((part.bytes.clone(), Step::Store(data)));
                    continue;
                }
                From::Snapshot { taken, bytes } => (taken, bytes),
            };
            let mut at = part.bytes.start;
            while at < part.bytes.end {
                if let Some(range) = elided.next_if(|range| range.start == at) {
                    steps.push((range.clone(), Step::Elide));
                    at = range.end;
                    continue;
                }
                let end =
                    elided.peek().map_or(part.bytes.end, |range| range.start.min(part.bytes.end));
                let source = from.start + (at - part.bytes.start);
                for (run, place) in self.sources_of(taken, &(source..source + (end - at)))? {
                    let to = at..at + (run.end - run.start);
                    at = to.end;
                    let step = match place {
                        Source::Live => Step::CopyFile(taken.file, run.start),
                        Source::Store(slot) => {
                            Step::CopyStore(taken.file, slot * PAGE + run.start % PAGE)
                        }
                        Source::Hole | Source::LiveHole => Step::Punch,
                    };
                    steps.push((to, step));
                }
            }
        }
        debug_assert!(steps.windows(2).all(|pair| matches!(pair, [a, b] if a.0.end == b.0.start)));
        Ok(steps)
    }

    /// Does it; tells how many bytes were done, and what went wrong then.
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
                if untouched && !active(Mutant::SilentElide) && !active(Mutant::ElideAppend) =>
            {
                match self.touch(base, bytes) {
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

    /// Takes note of what a step has made of the file, which has this length and version since, if
    /// it was touched.
    fn note_step(
        &mut self,
        id: FileId,
        bytes: &Range<u64>,
        step: &Step<'_>,
        now: Option<(u64, Version)>,
    ) {
        let (Some(file), Some((size, version))) = (self.files.get_mut(&id), now) else { return };
        if let Some((before, _)) = file.bytes {
            file.resized(before, size.max(before));
        }
        match step {
            Step::Elide => {}
            Step::Punch => file.punched(bytes.clone(), size),
            Step::Store(_) | Step::CopyFile(..) | Step::CopyStore(..) => file.stored(bytes.clone()),
        }
        file.attr = None;
        file.bytes = Some((size, version));
    }

    /// Tells the file's length and version then, where that is not as it was.
    fn carry_out_one(
        &mut self,
        base: Handle,
        id: FileId,
        bytes: &Range<u64>,
        step: &Step<'_>,
    ) -> Result<Option<(u64, Version)>, Errno> {
        let length = bytes.end - bytes.start;
        let written = match step {
            Step::Elide => {
                self.traffic.elided += length;
                return Ok(None);
            }
            Step::Store(data) => {
                let request = Write {
                    handle: base,
                    offset: FileOffset(bytes.start),
                    flags: WriteFlags::empty(),
                    data_bytes: data.len() as u32,
                };
                let written = self.base.request(&request, &[data])?;
                if written.length == ByteCount(length) { written } else { return Err(Errno::EIO) }
            }
            Step::CopyFile(source, from) => {
                self.cloned.add(*source);
                self.cloned.add(id);
                let source = self.file(*source)?.base_handle()?;
                let written = self.copy_on_base((source, *from), (base, bytes.start), length)?;
                self.traffic.cloned += length;
                written
            }
            Step::CopyStore(source, _) if *source == id && active(Mutant::RestoreSkipped) => {
                return Ok(None);
            }
            Step::CopyStore(source, from) => {
                self.cloned.add(id);
                let store = self.file(*source)?.store.ok_or(Errno::EIO)?;
                let written = self.copy_on_base((store, *from), (base, bytes.start), length)?;
                self.traffic.cloned += length;
                written
            }
            Step::Punch => return self.punch_and_extend(base, id, bytes).map(Some),
        };
        Ok(Some((written.size.0, written.version)))
    }

    /// Makes a hole, also past the end. Tells the file's length and version then.
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

    /// An elided write is a write all the same: times and version move (W7). A part of the file is
    /// copied to where it is.
    fn touch(&mut self, base: Handle, bytes: &Range<u64>) -> Result<(u64, Version), Errno> {
        let page = bytes.start.next_multiple_of(PAGE);
        let part =
            if page + PAGE <= bytes.end { page..page + PAGE } else { bytes.start..bytes.start + 1 };
        let written =
            self.copy_on_base((base, part.start), (base, part.start), part.end - part.start)?;
        Ok((written.size.0, written.version))
    }
}
