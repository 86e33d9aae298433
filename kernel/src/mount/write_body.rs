//! The body of a write request: data, references to snapshots, and what has to be held until the
//! server has replied.

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::{ByteCount, Errno, PAGE_BYTES, PageCount, SnapshotOffset};
use fsproto::{Hole, MAX_HOLES, Piece};

use super::mutants;
use crate::file::{Io, UserBuffers};
use crate::mem::{
    FaultError, OutOfMemory, PageRange, SentPages, Snapshot, Space, UserSlice, WritePiece, fallible,
};

const PAGE: u64 = PAGE_BYTES as u64;

/// A range of a program's memory, and the piece of the write that it becomes.
pub struct SourcePiece {
    /// The range.
    pub from: UserSlice,
    /// The piece, of the same length.
    pub run: WritePiece,
}

/// What happens to the program's own pages after the server has written them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterWrite {
    /// They become backed by the snapshot of the write's result (W8).
    Associate,
    /// They stay private.
    #[default]
    Keep,
}

/// The body of one write message.
#[derive(Default)]
pub struct WriteBody {
    after_write: AfterWrite,
    /// The bytes of the data pieces.
    pub data: Vec<u8>,
    /// The encoded list of pieces; empty where everything is data.
    pub pieces: Vec<u8>,
    /// The whole pages in the body, and the snapshots to which pieces refer.
    sent_pages: Vec<SentPages>,
    /// For each of these, the position of its first byte in what is written, which is its offset in
    /// the snapshot of the result.
    places: Vec<SnapshotOffset>,
}

impl WriteBody {
    /// An empty body.
    pub fn new(after_write: AfterWrite) -> Self {
        Self { after_write, ..Self::default() }
    }

    /// Whether the body holds pages that can be associated after the write.
    pub fn has_data_pages(&self) -> bool {
        self.sent_pages.iter().any(|pages| matches!(pages, SentPages::Data { .. }))
    }

    /// The number of pages sent as references, within the first `bytes` bytes.
    pub fn pages_referenced(&self, bytes: ByteCount) -> PageCount {
        let end = SnapshotOffset::ZERO + bytes;
        let referenced =
            self.sent_pages.iter().zip(&self.places).map(|(pages, place)| match pages {
                SentPages::Reference { pages, .. } => {
                    pages.pages().min(end.saturating_since(*place).whole_pages())
                }
                SentPages::Data { .. } => PageCount::ZERO,
            });
        referenced.sum()
    }

    /// The known holes in a snapshot of the first `bytes` bytes, and the byte up to which the list
    /// is complete. Data has no holes, and references have those of their snapshots.
    pub fn holes(&self, bytes: ByteCount) -> (Vec<Hole>, SnapshotOffset) {
        let end = SnapshotOffset::ZERO + bytes;
        let mut holes: Vec<Hole> = Vec::new();
        for (pages, &start) in self.sent_pages.iter().zip(&self.places) {
            let SentPages::Reference { pages, snapshot, offset } = pages else { continue };
            let length = pages.pages().bytes().min(end.saturating_since(start));
            let Some(found) = snapshot.holes_within(*offset, length) else {
                return (holes, start.min(end));
            };
            if holes.len() + found.len() > MAX_HOLES
                || fallible::reserve(&mut holes, found.len()).is_err()
            {
                return (holes, start.min(end));
            }
            let moved = |hole: &Hole| Hole { offset: hole.offset - offset.0 + start.0, ..*hole };
            holes.extend(found.iter().map(moved));
        }
        (holes, end)
    }

    /// After the write: associates the pages that still hold what was sent with the snapshot of the
    /// result. Returns how many.
    pub fn associate(&mut self, space: &Space, snapshot: &Arc<Snapshot>) -> PageCount {
        if mutants::late_protect(&mut self.sent_pages, space) {
            return PageCount::ZERO;
        }
        // Pages of one buffer have the same distance between address and place.
        let (mut rest, mut places) = (self.sent_pages.as_slice(), self.places.as_slice());
        let mut associated = PageCount::ZERO;
        while let (Some(first), Some(&place)) = (rest.first(), places.first()) {
            let distance = |pages: &SentPages, place: SnapshotOffset| {
                pages.pages().start.user_start().0.wrapping_sub(place.0)
            };
            let expected = distance(first, place);
            let count = rest
                .iter()
                .zip(places)
                .take_while(|(pages, place)| distance(pages, **place) == expected)
                .count();
            let (buffer, behind) = rest.split_at(count);
            associated += space.associate_written(buffer, snapshot, place);
            (rest, places) = (behind, places.get(count..).unwrap_or_default());
        }
        associated
    }

    fn hold(&mut self, pages: SentPages, place: SnapshotOffset) -> Result<(), OutOfMemory> {
        fallible::reserve(&mut self.sent_pages, 1)?;
        fallible::push(&mut self.places, place)?;
        self.sent_pages.push(pages);
        Ok(())
    }

    /// Adds pieces, with up to `max_data` bytes of data, as far as memory is readable. Returns the
    /// number of bytes added; an error only for none.
    pub fn add_pieces(
        &mut self,
        io: &Io<'_>,
        pieces: Vec<SourcePiece>,
        max_data: ByteCount,
    ) -> Result<ByteCount, Errno> {
        let (mut done, mut data) = (ByteCount::ZERO, ByteCount::ZERO);
        for SourcePiece { from, run } in pieces {
            let bytes = run.bytes();
            let place = SnapshotOffset::ZERO + done;
            let added = match run {
                WritePiece::Reference { snapshot, offset, bytes } => {
                    self.list_data(core::mem::take(&mut data))?;
                    let handle = snapshot.handle;
                    let piece = Piece { snapshot: handle, offset, length: bytes };
                    fallible::extend(&mut self.pieces, &piece.to_bytes())?;
                    let pages = from.whole_pages();
                    self.hold(SentPages::Reference { pages, snapshot, offset }, place)?;
                    bytes
                }
                WritePiece::Data { .. } => {
                    let left = max_data - ByteCount::of_len(self.data.len());
                    let added = match self.add_data(io, from, place, left) {
                        Err(error) if done.is_zero() || error == Errno::EINTR => return Err(error),
                        added => added.unwrap_or_default(),
                    };
                    data += added;
                    added
                }
            };
            done += added;
            if added < bytes {
                break;
            }
        }
        self.list_data(data)?;
        Ok(done)
    }

    /// Lists the next `bytes` bytes of data as a piece.
    fn list_data(&mut self, bytes: ByteCount) -> Result<(), OutOfMemory> {
        if bytes.is_zero() {
            return Ok(());
        }
        let piece = Piece { length: bytes, ..Piece::default() };
        fallible::extend(&mut self.pieces, &piece.to_bytes())
    }

    /// Adds up to `max` bytes of buffers as data. Returns how many; an error only for none.
    pub fn add_slices(
        &mut self,
        io: &Io<'_>,
        slices: &[UserSlice],
        max: ByteCount,
    ) -> Result<ByteCount, Errno> {
        let mut done = ByteCount::ZERO;
        for &slice in slices.iter().filter(|slice| !slice.is_empty()) {
            let added = match self.add_data(io, slice, SnapshotOffset::ZERO + done, max - done) {
                Err(error) if done.is_zero() || error == Errno::EINTR => return Err(error),
                added => added.unwrap_or_default(),
            };
            done += added;
            if added < slice.bytes() {
                break;
            }
        }
        Ok(done)
    }

    /// Adds up to `max` bytes of a range as data, to be written at `place`. Whole pages are held if
    /// they are to be associated. Returns how many; an error only for none.
    fn add_data(
        &mut self,
        io: &Io<'_>,
        slice: UserSlice,
        place: SnapshotOffset,
        max: ByteCount,
    ) -> Result<ByteCount, Errno> {
        let slice = truncate_to_page(slice, max);
        let pages = slice.whole_pages();
        if self.after_write == AfterWrite::Keep || pages.is_empty() {
            return self.copy(io, &mut UserBuffers::one(slice), max);
        }
        let leading = slice.take((pages.start.user_start().0 - slice.addr().0) as usize);
        let rest = slice.skip(leading.len());
        let mut done = if leading.is_empty() {
            ByteCount::ZERO
        } else {
            self.copy(io, &mut UserBuffers::one(leading), max)?
        };
        if done < leading.bytes() {
            return Ok(done);
        }
        let trailing = match self.add_pages(io, pages, place + done) {
            Ok(()) => rest.skip(pages.pages().bytes().to_usize()),
            Err(FaultError::Killed) => return Err(Errno::EINTR),
            // Some page is not readable: those before it are copied.
            Err(_) => rest,
        };
        done += rest.bytes() - trailing.bytes();
        match self.copy(io, &mut UserBuffers::one(trailing), max) {
            Err(error) if done.is_zero() || error == Errno::EINTR => Err(error),
            added => Ok(done + added.unwrap_or_default()),
        }
    }

    /// Write-protects whole pages, then takes their bytes from the frames that they have now (W8).
    fn add_pages(
        &mut self,
        io: &Io<'_>,
        pages: PageRange,
        place: SnapshotOffset,
    ) -> Result<(), FaultError> {
        let frames = io.space.lend(pages)?;
        fallible::reserve_exact(&mut self.data, frames.len() * PAGE_BYTES)?;
        frames.iter().for_each(|frame| self.data.extend_from_slice(frame.bytes()));
        Ok(self.hold(SentPages::Data { first: pages.start, frames }, place)?)
    }

    /// Copies up to `max` bytes to the data. Returns how many; an error only for none.
    pub fn copy(
        &mut self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        max: ByteCount,
    ) -> Result<ByteCount, Errno> {
        let wanted = from.remaining().min(max).to_usize();
        let start = self.data.len();
        fallible::reserve_exact(&mut self.data, wanted)?;
        self.data.resize(start + wanted, 0);
        let taken = if wanted == 0 {
            Ok(0)
        } else {
            from.take(io.space, self.data.get_mut(start..).unwrap_or_default())
        };
        self.data.truncate(start + *taken.as_ref().unwrap_or(&0));
        taken.map(ByteCount::of_len)
    }
}

/// The first `max` bytes of a range, less where that is needed to end at a page boundary.
fn truncate_to_page(slice: UserSlice, max: ByteCount) -> UserSlice {
    if slice.bytes() <= max {
        return slice;
    }
    let start = slice.addr().0;
    let end = (start + max.0) / PAGE * PAGE;
    if end > start { slice.take((end - start) as usize) } else { slice.take(max.to_usize()) }
}
