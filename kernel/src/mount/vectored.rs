//! readv(2) and its like: one call is one snapshot, however many buffers it fills (R9).
//!
//! The buffers are filled in order, as a program sees it happen: whole pages of each are associated
//! with the snapshot at the byte where they come, and what lies between is copied out of the same
//! snapshot. So where buffers overlap, the later one wins, as always.

use foundation::counter::Counter;
use foundation::{ByteCount, Errno, PAGE_BYTES, PageCount, SnapshotOffset};
use foundation::{FileOffset, knob};
use fsproto::MAX_PAYLOAD;

use super::read::{self, Attempt, copy};
use super::remote_file::RemoteFile;
use super::taken::Taken;
use crate::file::{Io, UserBuffers};
use crate::mem::{Page, PageRange, Space, UserSlice};

const PAGE: u64 = PAGE_BYTES as u64;

/// Reads into several buffers, where that pays or where a copy would take several messages and thus
/// be of several instants.
pub(super) fn lazily(
    file: &RemoteFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
) -> Result<Attempt, Errno> {
    let min_pages = knob::MIN_LAZY_PAGES.get().max(1);
    let (length, pages) = extent(io.space, to);
    if pages < min_pages && length <= MAX_PAYLOAD as u64 {
        return Ok(Attempt::Refused(Counter::ReadsEagerSmall));
    }
    let misalignment = to.front().map_or(0, |front| front.addr().0 % PAGE) as u32;
    let inline_max = (min_pages * PAGE - 1).min(MAX_PAYLOAD as u64) as u32;
    let request = fsproto::Snapshot {
        handle: file.handle(),
        offset: FileOffset(offset),
        length: ByteCount(length),
        misalignment,
        inline_max,
    };
    let (reply, payload) = match file.mount().session().call(&request, &[]) {
        Ok(answer) => answer,
        Err(Errno::EINTR) => return Err(Errno::EINTR),
        Err(_) => return Ok(Attempt::Refused(Counter::ReadsEagerRefused)),
    };
    let taken = Taken::new(file, &request, &reply, &payload)?;
    let mut filling = Filling { file, io, to, taken: &taken, done: 0, associated: 0 };
    let ended = filling.fill();
    let (done, associated) = (filling.done, filling.associated);
    io.space
        .counters
        .add(if associated > 0 { Counter::ReadsLazy } else { Counter::ReadsEagerSmall }, 1);
    io.space.counters.add(Counter::PagesLazy, associated);
    io.space.counters.add(Counter::BytesReadEager, done - associated * PAGE);
    match ended {
        Err(error) if done == 0 || error == Errno::EINTR => Err(error),
        _ => Ok(Attempt::Read(done)),
    }
}

/// The deliberate break of R9: every buffer has an instant of its own.
pub(super) fn one_by_one(
    file: &RemoteFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
) -> Result<u64, Errno> {
    let mut done = 0;
    while let Some(front) = to.front() {
        let count = read::read(file, io, &mut UserBuffers::one(front), offset + done)?;
        to.skip(ByteCount(count));
        done += count;
        if count < front.len() as u64 {
            break;
        }
    }
    Ok(done)
}

/// How many bytes of the buffers can be written to, from the first on, and how many whole pages
/// these have.
fn extent(space: &Space, to: &UserBuffers) -> (u64, u64) {
    let (mut bytes, mut pages) = (0, 0);
    for &slice in to.slices() {
        let writable = space.writable_prefix(slice);
        bytes += writable as u64;
        pages += lazy_pages(space, slice.take(writable)).pages().0;
        if writable < slice.len() {
            break;
        }
    }
    (bytes, pages)
}

/// The pages of a buffer that can stand for bytes of a snapshot.
fn lazy_pages(space: &Space, slice: UserSlice) -> PageRange {
    let pages = slice.whole_pages();
    let pays = !pages.is_empty() && space.lazy_prefix(slice) == slice.len();
    if pays { pages } else { PageRange::new(Page(0), PageCount::ZERO) }
}

/// Buffers that are being filled.
struct Filling<'a> {
    file: &'a RemoteFile,
    io: &'a Io<'a>,
    to: &'a mut UserBuffers,
    taken: &'a Taken,
    /// Bytes that are in place.
    done: u64,
    /// Pages of them that were associated.
    associated: u64,
}

impl Filling<'_> {
    /// Goes on until all is there, or memory ends.
    fn fill(&mut self) -> Result<(), Errno> {
        while self.done < self.taken.length {
            let (apart, pages) = self.next();
            if self.copy(apart)? < apart || !self.associate(pages)? {
                break;
            }
        }
        Ok(())
    }

    /// What comes next: so many bytes that are copied, and then whole pages.
    fn next(&self) -> (u64, u64) {
        let mut apart = 0;
        for &slice in self.to.slices() {
            let left = self.taken.length - self.done - apart;
            let slice = slice.take(usize::try_from(left).unwrap_or(usize::MAX));
            let pages = lazy_pages(self.io.space, slice);
            if !pages.is_empty() && self.taken.snapshot.is_some() {
                return (apart + (pages.start.user_start().0 - slice.addr().0), pages.pages().0);
            }
            apart += slice.len() as u64;
        }
        (apart, 0)
    }

    /// Copies the next bytes, of the snapshot's own instant.
    fn copy(&mut self, bytes: u64) -> Result<u64, Errno> {
        let Self { taken, io, .. } = *self;
        let tail_at = taken.length - taken.tail().len() as u64;
        let from_reply = if self.done + bytes <= taken.head().len() as u64 {
            taken.head().get(self.done as usize..)
        } else {
            self.done.checked_sub(tail_at).and_then(|start| taken.tail().get(start as usize..))
        };
        let copied = match (from_reply.and_then(|part| part.get(..bytes as usize)), &taken.snapshot)
        {
            (Some(part), _) => self.to.put(io.space, part)? as u64,
            (None, Some(snapshot)) => {
                copy(self.file.mount(), snapshot.handle, io, self.to, self.done, bytes)?
            }
            (None, None) => return Err(Errno::EIO),
        };
        self.done += copied;
        Ok(copied)
    }

    /// Lets the next pages stand for the snapshot's bytes; says whether all of them do, or hold
    /// these at least.
    fn associate(&mut self, pages: u64) -> Result<bool, Errno> {
        let (Some(snapshot), Some(front), true) =
            (&self.taken.snapshot, self.to.front(), pages > 0)
        else {
            return Ok(true);
        };
        let bytes = pages * PAGE;
        let (count, at) = (PageCount(pages), SnapshotOffset(self.done));
        match self.io.space.associate(front.addr(), count, snapshot, at) {
            Ok(associated) => {
                let associated = associated.0;
                self.to.skip(ByteCount(associated * PAGE));
                self.done += associated * PAGE;
                self.associated += associated;
                if self.done == 0 { Err(Errno::EFAULT) } else { Ok(associated == pages) }
            }
            // No room for the association (Q4).
            Err(_) => {
                self.io.space.counters.add(Counter::ReadsEagerRegions, 1);
                Ok(self.copy(bytes)? == bytes)
            }
        }
    }
}
