//! The payload of a write: bytes, references to snapshots, and what is held until the server has
//! answered.

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, PAGE_BYTES, SnapshotOffset};
use fsproto::{Hole, MAX_HOLES, Piece};

use crate::file::{Io, UserBuffers};
use crate::mem::{FaultError, Gathered, PageRange, Run, Snapshot, Space, UserSlice};

const PAGE: u64 = PAGE_BYTES as u64;

/// Bytes of a program's memory, and what they stand for.
pub struct Part {
    /// Where they are.
    pub from: UserSlice,
    /// What they are; as many bytes.
    pub run: Run,
}

/// A message's worth of a write.
#[derive(Default)]
pub struct Parcel {
    /// Whether pages are to be clean after the write.
    makes_clean: bool,
    /// Bytes that travel as such.
    pub data: Vec<u8>,
    /// The list of pieces; empty where everything is data.
    pub pieces: Vec<u8>,
    /// The whole pages in it, and the snapshots that pieces refer to.
    gathered: Vec<Gathered>,
    /// Which byte of what is written the first byte of each of these is.
    places: Vec<u64>,
}

impl Parcel {
    /// An empty one.
    pub fn new(makes_clean: bool) -> Self {
        Self { makes_clean, ..Self::default() }
    }

    /// Whether it holds pages that can become clean.
    pub fn has_own_pages(&self) -> bool {
        self.gathered.iter().any(|part| matches!(part, Gathered::Own { .. }))
    }

    /// Pages that travelled as references, of the first `bytes` bytes.
    pub fn pages_referenced(&self, bytes: u64) -> u64 {
        let referenced = self.gathered.iter().zip(&self.places).map(|(part, place)| match part {
            Gathered::Same { pages, .. } => {
                pages.pages().0.min(bytes.saturating_sub(*place) / PAGE)
            }
            Gathered::Own { .. } => 0,
        });
        referenced.sum()
    }

    /// The holes of a snapshot of the first `bytes` bytes of it, as far as they are known, and up
    /// to which byte they are. What travelled as bytes is none, and references have those of their
    /// snapshots.
    pub fn holes(&self, bytes: u64) -> (Vec<Hole>, u64) {
        let mut holes: Vec<Hole> = Vec::new();
        for (part, &start) in self.gathered.iter().zip(&self.places) {
            let Gathered::Same { pages, snapshot, offset } = part else { continue };
            let length = (pages.pages().0 * PAGE).min(bytes.saturating_sub(start));
            let Some(found) = snapshot.holes_within(*offset, ByteCount(length)) else {
                return (holes, start.min(bytes));
            };
            if holes.len() + found.len() > MAX_HOLES || holes.try_reserve(found.len()).is_err() {
                return (holes, start.min(bytes));
            }
            holes.extend(
                found.iter().map(|hole| Hole { offset: hole.offset - offset.0 + start, ..*hole }),
            );
        }
        (holes, bytes)
    }

    /// The server has written it, and made a snapshot of that: says how many pages became clean.
    pub fn clean(&mut self, space: &Space, snapshot: &Arc<Snapshot>) -> u64 {
        if active(Mutant::LateProtect)
            && self.gathered.iter_mut().any(|part| part.protect_late(space).is_err())
        {
            return 0;
        }
        // What lies in one buffer has one distance between its address and its place.
        let (mut rest, mut places, mut cleaned) =
            (self.gathered.as_slice(), self.places.as_slice(), 0);
        while let (Some(first), Some(&place)) = (rest.first(), places.first()) {
            let distance =
                |part: &Gathered, place: u64| part.pages().start.user_start().0.wrapping_sub(place);
            let wanted = distance(first, place);
            let count = rest
                .iter()
                .zip(places)
                .take_while(|(part, place)| distance(part, **place) == wanted)
                .count();
            let (buffer, behind) = rest.split_at(count);
            cleaned += space.clean_written(buffer, snapshot, SnapshotOffset(place)).0;
            (rest, places) = (behind, places.get(count..).unwrap_or_default());
        }
        cleaned
    }

    fn gather(&mut self, part: Gathered, place: u64) {
        self.gathered.push(part);
        self.places.push(place);
    }

    /// Packs parts, with up to `data_max` bytes as such, and as far as memory reaches. Says how
    /// many bytes that are.
    pub fn pack_parts(
        &mut self,
        io: &Io<'_>,
        parts: Vec<Part>,
        data_max: u64,
    ) -> Result<u64, Errno> {
        let (mut done, mut own) = (0, 0);
        for Part { from, run } in parts {
            let bytes = run.bytes().0;
            let packed = match run {
                Run::Clean { snapshot, offset, bytes } => {
                    self.list_own(core::mem::take(&mut own));
                    self.pieces.extend_from_slice(
                        &Piece { snapshot: snapshot.handle, offset, length: bytes }.to_bytes(),
                    );
                    self.gather(
                        Gathered::Same { pages: from.whole_pages(), snapshot, offset },
                        done,
                    );
                    bytes.0
                }
                Run::Own { .. } => {
                    let packed =
                        match self.pack_own(io, from, done, data_max - self.data.len() as u64) {
                            Err(error) if done == 0 || error == Errno::EINTR => return Err(error),
                            packed => packed.unwrap_or(0),
                        };
                    own += packed;
                    packed
                }
            };
            done += packed;
            if packed < bytes {
                break;
            }
        }
        self.list_own(own);
        Ok(done)
    }

    /// Lists the next bytes as such.
    fn list_own(&mut self, bytes: u64) {
        if bytes > 0 {
            self.pieces.extend_from_slice(
                &Piece { length: ByteCount(bytes), ..Piece::default() }.to_bytes(),
            );
        }
    }

    /// Packs up to `max` bytes of buffers, all as such. Says how many, an error only for none.
    pub fn pack_slices(
        &mut self,
        io: &Io<'_>,
        slices: &[UserSlice],
        max: u64,
    ) -> Result<u64, Errno> {
        let mut done = 0;
        for &slice in slices.iter().filter(|slice| !slice.is_empty()) {
            let packed = match self.pack_own(io, slice, done, max - done) {
                Err(error) if done == 0 || error == Errno::EINTR => return Err(error),
                packed => packed.unwrap_or(0),
            };
            done += packed;
            if packed < slice.len() as u64 {
                break;
            }
        }
        Ok(done)
    }

    /// Packs up to `max` bytes of the program's own, which are to be written from byte `place` on;
    /// a page goes as a whole where that is possible. Says how many, an error only for none.
    fn pack_own(
        &mut self,
        io: &Io<'_>,
        slice: UserSlice,
        place: u64,
        max: u64,
    ) -> Result<u64, Errno> {
        let cut = if slice.len() as u64 > max {
            (slice.addr().0 + max) / PAGE * PAGE
        } else {
            slice.addr().0 + slice.len() as u64
        };
        let slice = if cut > slice.addr().0 {
            slice.take((cut - slice.addr().0) as usize)
        } else {
            slice.take(max as usize)
        };
        let pages = slice.whole_pages();
        if !self.makes_clean || pages.is_empty() {
            return self.pack_buffers(io, &mut UserBuffers::one(slice), max);
        }
        let head = slice.take((pages.start.user_start().0 - slice.addr().0) as usize);
        let rest = slice.skip(head.len());
        let mut done = if head.is_empty() {
            0
        } else {
            self.pack_buffers(io, &mut UserBuffers::one(head), max)?
        };
        if done < head.len() as u64 {
            return Ok(done);
        }
        let tail = match self.pack_pages(io, pages, place + done) {
            Ok(()) => rest.skip(pages.pages().bytes().to_usize()),
            Err(FaultError::Killed) => return Err(Errno::EINTR),
            // Not all of them are there: those in front are copied.
            Err(_) => rest,
        };
        done += (rest.len() - tail.len()) as u64;
        match self.pack_buffers(io, &mut UserBuffers::one(tail), max) {
            Err(error) if done == 0 || error == Errno::EINTR => Err(error),
            packed => Ok(done + packed.unwrap_or(0)),
        }
    }

    /// Write-protects whole pages, and takes their bytes from the frames that they have then (W8).
    fn pack_pages(&mut self, io: &Io<'_>, pages: PageRange, place: u64) -> Result<(), FaultError> {
        let frames = io.space.lend(pages)?;
        self.data
            .try_reserve_exact(frames.len() * PAGE_BYTES)
            .map_err(|_| FaultError::OutOfMemory)?;
        frames.iter().for_each(|frame| self.data.extend_from_slice(frame.bytes()));
        self.gather(Gathered::Own { first: pages.start, frames }, place);
        Ok(())
    }

    /// Copies the next bytes, `max` at most, and says how many; an error only for none.
    pub fn pack_buffers(
        &mut self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        max: u64,
    ) -> Result<u64, Errno> {
        let wanted = from.remaining().0.min(max) as usize;
        let start = self.data.len();
        self.data.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
        self.data.resize(start + wanted, 0);
        let taken = if wanted == 0 {
            Ok(0)
        } else {
            from.take(io.space, self.data.get_mut(start..).unwrap_or_default())
        };
        self.data.truncate(start + *taken.as_ref().unwrap_or(&0));
        taken.map(|taken| taken as u64)
    }
}
