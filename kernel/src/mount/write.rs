//! write(2) to a server's file: what still stands for bytes of the server's own snapshots travels
//! as references, everything else as bytes.
//!
//! A message carries up to [`DATA_MAX`] bytes and any length of references, in the order of the
//! buffer; a vector's buffers are one behind the other. The snapshots are held until the reply, so
//! that what a reference means cannot change, however the program's memory does. Where the server
//! refuses references, the bytes travel, and its refusal of these is the error that counts.
//!
//! Where it pays ([`makes_clean`]), the reply brings a snapshot of what was written, and the pages
//! that are still as they were sent come to stand for it (W8): see [`Gathered`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::counter::{self, Counter};
use foundation::knob;
use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, FileOffset, SnapshotOffset};
use fsproto::{Features, Handle, MAX_PAYLOAD, MAX_PIECES, Piece, WriteFlags};

use super::parcel::{Parcel, Part};
use super::remote_file::RemoteFile;
use crate::file::{Io, UserBuffers, WriteOutcome, WritePosition};
use crate::mem::{Pager, Run, Snapshot, Source, UserSlice};

/// Pieces of one message, at most.
const PIECES_MAX: usize = MAX_PIECES / 4;
/// Bytes of one message beside its list of pieces.
const DATA_MAX: u64 = (MAX_PAYLOAD - PIECES_MAX * Piece::BYTES) as u64;

/// Writes all of `from` that can be written. An error counts only where nothing was written before
/// it.
pub fn write(
    file: &RemoteFile,
    io: &Io<'_>,
    from: &mut UserBuffers,
    at: WritePosition,
) -> Result<WriteOutcome, Errno> {
    let large = from
        .slices()
        .iter()
        .any(|slice| slice.whole_pages().pages().0 >= knob::MIN_CLEAN_PAGES.get().max(1));
    let mut done = WriteOutcome::default();
    let mut at = at;
    while from.remaining().0 > 0 {
        match write_message(file, io, from, at, large) {
            Ok((written, is_short)) => {
                done = WriteOutcome { bytes: done.bytes + written.bytes, end: written.end };
                if is_short || written.bytes.is_zero() {
                    break;
                }
                // What follows an append follows it in the file only if nobody else appends: the
                // server decides again.
                if at != WritePosition::End {
                    at = WritePosition::At(written.end);
                }
            }
            Err(error) if done.bytes.is_zero() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Writes what one message carries; says what became of it, and whether that is less than was sent.
fn write_message(
    file: &RemoteFile,
    io: &Io<'_>,
    from: &mut UserBuffers,
    at: WritePosition,
    large: bool,
) -> Result<(WriteOutcome, bool), Errno> {
    if let Some(parts) = references(file, io, from)? {
        let mut parcel = Parcel::new(makes_clean(file, io, true));
        let sent = parcel.pack_parts(io, parts, DATA_MAX)?;
        match send(file, io, at, &mut parcel, sent) {
            Err(Errno::EINTR) => return Err(Errno::EINTR),
            Err(_) => {}
            Ok(written) => {
                from.skip(written.bytes);
                return Ok((written, written.bytes.0 < sent));
            }
        }
    }
    let slices = from.slices();
    if slices.is_empty() {
        // The kernel's own bytes.
        let mut parcel = Parcel::default();
        let sent = parcel.pack_buffers(io, from, MAX_PAYLOAD as u64)?;
        let written = send(file, io, at, &mut parcel, sent)?;
        return Ok((written, written.bytes.0 < sent));
    }
    let is_filled_anew = || {
        slices.iter().any(|slice| !slice.whole_pages().is_empty() && io.space.was_cleaned(*slice))
    };
    let mut parcel = Parcel::new(large && makes_clean(file, io, false) && !is_filled_anew());
    let sent = parcel.pack_slices(io, slices, MAX_PAYLOAD as u64)?;
    let written = send(file, io, at, &mut parcel, sent)?;
    from.skip(written.bytes);
    Ok((written, written.bytes.0 < sent))
}

/// Whether the server knows snapshots as part of a write, and the program may have them.
fn refers(file: &RemoteFile, io: &Io<'_>) -> bool {
    let mount = file.mount();
    mount.features().contains(Features::WRITE_REFERENCES)
        && mount.is_lazy()
        && io.space.policy.lazy()
}

/// Whether pages that a message carries are to become clean (W8). It pays where a buffer is kept
/// and changed here and there, which some of its pages being references shows, or its mere size;
/// but one that is filled anew for each write (`Space::was_cleaned`) would only be copied each
/// time.
fn makes_clean(file: &RemoteFile, io: &Io<'_>, has_references: bool) -> bool {
    let within = counter::GLOBAL.get(Counter::SnapshotsLive) < knob::MAX_SNAPSHOTS.get();
    within && (has_references || refers(file, io))
}

/// What the next bytes stand for, if some of them can travel as references to this very server
/// (W5); `None` where all travel as bytes.
fn references(
    file: &RemoteFile,
    io: &Io<'_>,
    from: &UserBuffers,
) -> Result<Option<Vec<Part>>, Errno> {
    if !refers(file, io) || active(Mutant::VectorByBytes) && from.only().is_none() {
        return Ok(None);
    }
    let elsewhere = |snapshot: &Snapshot| !matches!(snapshot.source, Source::File { file: id, .. } if id == file.id().0);
    let mine = |snapshot: &Snapshot| {
        (file.mount().is_pager_of(snapshot) || active(Mutant::ForeignReference))
            && !(active(Mutant::CopyByBytes) && elsewhere(snapshot))
    };
    let mut parts = Parts::default();
    for &slice in from.slices().iter().filter(|slice| !slice.is_empty()) {
        let is_whole = if slice.whole_pages().is_empty() {
            parts.add(slice, [Run::Own { bytes: slice.bytes() }])?
        } else {
            parts.add(slice, io.space.runs(slice, PIECES_MAX - parts.pieces, mine))?
        };
        if !is_whole || parts.pieces == PIECES_MAX {
            break;
        }
    }
    Ok(parts.list.iter().any(|part| matches!(part.run, Run::Clean { .. })).then_some(parts.list))
}

/// The parts of a message, and how many pieces they are: bytes that travel as such are one, from
/// however many buffers they come.
#[derive(Default)]
struct Parts {
    list: Vec<Part>,
    pieces: usize,
}

impl Parts {
    /// Adds what a buffer stands for, run by run; says whether that is all of it.
    fn add(
        &mut self,
        slice: UserSlice,
        runs: impl IntoIterator<Item = Run>,
    ) -> Result<bool, Errno> {
        let mut rest = slice;
        for run in runs {
            let is_own = |run: &Run| matches!(run, Run::Own { .. });
            let goes_on = is_own(&run) && self.list.last().is_some_and(|last| is_own(&last.run));
            self.pieces += usize::from(!goes_on);
            self.list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let from = rest.take(run.bytes().to_usize());
            rest = rest.skip(from.len());
            self.list.push(Part { from, run });
        }
        Ok(rest.is_empty())
    }
}

fn send(
    file: &RemoteFile,
    io: &Io<'_>,
    at: WritePosition,
    parcel: &mut Parcel,
    bytes: u64,
) -> Result<WriteOutcome, Errno> {
    let (offset, mut flags) = match at {
        WritePosition::At(offset) => (offset.0, WriteFlags::empty()),
        WritePosition::End => (0, WriteFlags::APPEND),
    };
    flags.set(WriteFlags::SNAPSHOT, parcel.has_own_pages());
    let request = fsproto::Write {
        handle: file.handle(),
        offset: FileOffset(offset),
        flags,
        data_bytes: parcel.data.len() as u32,
    };
    let (reply, _) = file.mount().change(file.id(), &request, &[&parcel.data, &parcel.pieces])?;
    // Owned before anything is refused: from here on, dropping it closes the handle.
    let snapshot = (reply.snapshot != Handle::NONE).then(|| {
        let source = Source::File {
            mount: file.mount().id(),
            file: file.id().0,
            version: reply.version.0,
            offset: reply.offset,
        };
        let pager: Arc<dyn Pager> = file.mount().session().clone();
        let (holes, holes_end) = parcel.holes(reply.length.0);
        let (length, holes_end) = (reply.length, SnapshotOffset(holes_end));
        Snapshot::new(pager, reply.snapshot, length, source, holes, holes_end)
    });
    let believable = reply.length <= ByteCount(bytes)
        && (at == WritePosition::End || reply.offset == FileOffset(offset));
    let end = reply.offset.checked_add(reply.length).filter(|_| believable).ok_or(Errno::EIO)?;
    let counters = &io.space.counters;
    counters.add(Counter::PagesReferenced, parcel.pages_referenced(reply.length.0));
    counters.add(Counter::BytesWritten, parcel.data.len() as u64);
    if let Some(snapshot) = snapshot {
        counters.add(Counter::PagesCleaned, parcel.clean(io.space, &snapshot));
        if active(Mutant::LeakResultSnapshot) {
            core::mem::forget(snapshot);
        }
    }
    Ok(WriteOutcome { bytes: reply.length, end })
}
