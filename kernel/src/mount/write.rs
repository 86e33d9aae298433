//! write(2) to a server's file: pages that are backed by the server's own snapshots are sent as
//! references, everything else as data.
//!
//! A message carries up to [`DATA_MAX`] bytes of data and any length of references, in the order of
//! the buffer; the buffers of a vector are concatenated. The snapshots are held until the reply, so
//! that a reference keeps its meaning while the program's memory changes. If the server refuses
//! references, everything is sent as data, and an error of that attempt is the one reported.
//!
//! Where it pays ([`after_write`]), the reply brings a snapshot of what was written, with which the
//! pages that still hold what was sent are associated (W8): see
//! [`SentPages`](crate::mem::SentPages).

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::counter::{self, Counter};
use foundation::{ByteCount, Errno, PageCount, knob};
use fsproto::{Features, Handle, MAX_PAYLOAD, MAX_PIECES, Piece, WriteFlags};

use super::mutants;
use super::server_file::ServerFile;
use super::write_body::{AfterWrite, SourcePiece, WriteBody};
use crate::file::mapped::Extent;
use crate::file::{Io, UserBuffers, WriteOutcome, WritePosition};
use crate::mem::{self, Pager, Snapshot, SnapshotSource, UserSlice, WritePiece, fallible};

/// Pieces in one message, at most.
const PIECES_MAX: usize = MAX_PIECES / 4;
/// Bytes of data in a message that has a list of pieces, at most.
const DATA_MAX: ByteCount = ByteCount((MAX_PAYLOAD - PIECES_MAX * Piece::BYTES) as u64);
/// Bytes of data in a message without references, at most.
const PLAIN_MAX: ByteCount = ByteCount(MAX_PAYLOAD as u64);

/// What one message wrote.
struct Sent {
    outcome: WriteOutcome,
    /// Whether the server wrote less than the message carried.
    is_short: bool,
}

/// Writes as much of `from` as possible. An error only where nothing was written.
pub fn write(
    file: &ServerFile,
    io: &Io<'_>,
    from: &mut UserBuffers,
    at: WritePosition,
) -> Result<WriteOutcome, Errno> {
    let min_pages = PageCount(knob::MIN_CLEAN_PAGES.get().max(1));
    let is_large = from.slices().iter().any(|slice| slice.whole_pages().pages() >= min_pages);
    let mut done = WriteOutcome::default();
    let mut at = at;
    while !from.remaining().is_zero() {
        match write_message(file, io, from, at, is_large) {
            Ok(Sent { outcome, is_short }) => {
                done = WriteOutcome { bytes: done.bytes + outcome.bytes, end: outcome.end };
                if is_short || outcome.bytes.is_zero() {
                    break;
                }
                // The next message of an append may not follow this one in the file, if others
                // append as well: the server chooses its position again.
                if at != WritePosition::End {
                    at = WritePosition::At(outcome.end);
                }
            }
            Err(error) if done.bytes.is_zero() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Writes what one message carries.
fn write_message(
    file: &ServerFile,
    io: &Io<'_>,
    from: &mut UserBuffers,
    at: WritePosition,
    is_large: bool,
) -> Result<Sent, Errno> {
    // Data is gathered first, and then copied to the message.
    let data_pages = from.remaining().min(PLAIN_MAX).covering_pages();
    mem::make_room_beside(2 * data_pages.to_usize(), io.space.policy.claim())?;
    if let Some(pieces) = references(file, io, from)? {
        let mut body = WriteBody::new(after_write());
        let sent = body.add_pieces(io, pieces, DATA_MAX)?;
        match send(file, io, at, &mut body, sent) {
            Err(Errno::EINTR) => return Err(Errno::EINTR),
            Err(_) => {}
            Ok(outcome) => {
                from.skip(outcome.bytes);
                return Ok(Sent { outcome, is_short: outcome.bytes < sent });
            }
        }
    }
    let slices = from.slices();
    if slices.is_empty() {
        // Bytes of the kernel.
        let mut body = WriteBody::default();
        let sent = body.copy(io, from, PLAIN_MAX)?;
        let outcome = send(file, io, at, &mut body, sent)?;
        return Ok(Sent { outcome, is_short: outcome.bytes < sent });
    }
    let is_refilled =
        |slice: &UserSlice| !slice.whole_pages().is_empty() && io.space.was_cleaned(*slice);
    let pays = is_large && supports_references(file, io) && !slices.iter().any(is_refilled);
    let mut body = WriteBody::new(if pays { after_write() } else { AfterWrite::Keep });
    let sent = body.add_slices(io, slices, PLAIN_MAX)?;
    let outcome = send(file, io, at, &mut body, sent)?;
    from.skip(outcome.bytes);
    Ok(Sent { outcome, is_short: outcome.bytes < sent })
}

/// Whether writes to this server may refer to snapshots, and this program may use them.
fn supports_references(file: &ServerFile, io: &Io<'_>) -> bool {
    file.mount.features().contains(Features::WRITE_REFERENCES)
        && file.mount.is_lazy()
        && io.space.policy.lazy()
}

/// Whether pages are associated after the write (W8), which needs one more snapshot. It pays for a
/// buffer that is kept and changed in places, which shows by references in it or by its size; not
/// for one that is filled anew before each write (`Space::was_cleaned`), as its pages would be
/// copied every time.
fn after_write() -> AfterWrite {
    if counter::GLOBAL.get(Counter::SnapshotsLive) < knob::MAX_SNAPSHOTS.get() {
        AfterWrite::Associate
    } else {
        AfterWrite::Keep
    }
}

/// The pieces of the next message, if some of them can be references to snapshots of this server
/// (W5); `None` where everything is data.
fn references(
    file: &ServerFile,
    io: &Io<'_>,
    from: &UserBuffers,
) -> Result<Option<Vec<SourcePiece>>, Errno> {
    if !supports_references(file, io) || mutants::vector_by_bytes() && from.only().is_none() {
        return Ok(None);
    }
    let is_known =
        |snapshot: &Snapshot| file.mount.is_pager_of(snapshot) || mutants::foreign_reference();
    let is_usable =
        |snapshot: &Snapshot| is_known(snapshot) && !mutants::copy_by_bytes(file, snapshot);
    let mut pieces = PieceList::default();
    for &slice in from.slices().iter().filter(|slice| !slice.is_empty()) {
        let is_complete = if slice.whole_pages().is_empty() {
            pieces.add(slice, [WritePiece::Data { bytes: slice.bytes() }])?
        } else {
            pieces.add(slice, io.space.pieces(slice, PIECES_MAX - pieces.count, is_usable))?
        };
        if !is_complete || pieces.count == PIECES_MAX {
            break;
        }
    }
    let has_reference =
        pieces.list.iter().any(|piece| matches!(piece.run, WritePiece::Reference { .. }));
    Ok(has_reference.then_some(pieces.list))
}

/// The pieces of a message in the making.
#[derive(Default)]
struct PieceList {
    list: Vec<SourcePiece>,
    /// Pieces on the wire: adjacent data is one, whichever buffers it comes from.
    count: usize,
}

impl PieceList {
    /// Adds the pieces of a buffer. Returns whether they cover all of it.
    fn add(
        &mut self,
        slice: UserSlice,
        runs: impl IntoIterator<Item = WritePiece>,
    ) -> Result<bool, Errno> {
        let mut rest = slice;
        for run in runs {
            let is_data = |run: &WritePiece| matches!(run, WritePiece::Data { .. });
            let continues =
                is_data(&run) && self.list.last().is_some_and(|last| is_data(&last.run));
            self.count += usize::from(!continues);
            fallible::reserve(&mut self.list, 1)?;
            let from = rest.take(run.bytes().to_usize());
            rest = rest.skip(from.len());
            self.list.push(SourcePiece { from, run });
        }
        Ok(rest.is_empty())
    }
}

/// Sends a body of `bytes` bytes, and associates pages with the result.
fn send(
    file: &ServerFile,
    io: &Io<'_>,
    at: WritePosition,
    body: &mut WriteBody,
    bytes: ByteCount,
) -> Result<WriteOutcome, Errno> {
    let mut flags = if at == WritePosition::End { WriteFlags::APPEND } else { WriteFlags::empty() };
    flags.set(WriteFlags::SNAPSHOT, body.has_data_pages());
    let request = fsproto::Write {
        handle: file.handle,
        offset: at.offset(),
        flags,
        data_bytes: body.data.len() as u32,
    };
    let extent = match at {
        WritePosition::At(start) => Extent::Bytes(start, bytes),
        WritePosition::End => Extent::Append(bytes),
    };
    // All that is sent has been gathered: no program's memory is touched from here on.
    let send = || file.mount.send_change(file.id, &request, &[&body.data, &body.pieces]);
    let (reply, _) = file.change(extent, send)?;
    let (length, start) = (reply.length, reply.offset);
    // Created before the checks: from here on, dropping it closes the handle.
    let snapshot = (reply.snapshot != Handle::NONE).then(|| {
        let source = SnapshotSource::File {
            mount: file.mount.id(),
            file: file.id.0,
            version: reply.version.0,
            offset: start,
        };
        let pager: Arc<dyn Pager> = file.mount.session().clone();
        let (holes, holes_end) = body.holes(length);
        Snapshot::new(pager, reply.snapshot, length, source, holes, holes_end)
    });
    let is_valid = length <= bytes && (at == WritePosition::End || start == at.offset());
    let end = start.checked_add(length).filter(|_| is_valid).ok_or(Errno::EIO)?;
    let counters = &io.space.counters;
    counters.add(Counter::PagesReferenced, body.pages_referenced(length).0);
    counters.add(Counter::BytesWritten, body.data.len() as u64);
    if let Some(snapshot) = snapshot {
        counters.add(Counter::PagesCleaned, body.associate(io.space, &snapshot).0);
        mutants::leak_result_snapshot(snapshot);
    }
    Ok(WriteOutcome { bytes: length, end })
}
