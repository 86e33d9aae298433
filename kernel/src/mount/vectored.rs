//! readv(2): one call takes one snapshot, however many buffers it fills (R9).
//!
//! The buffers are filled in order. Whole pages of each are associated with the snapshot at the
//! matching byte; the bytes between them are copied from the same snapshot. Where buffers overlap,
//! the later one wins, as with copying.

use foundation::counter::Counter;
use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES, PageCount, SnapshotOffset, knob};
use fsproto::MAX_PAYLOAD;

use super::copy::copy;
use super::server_file::ServerFile;
use super::snapshot_reply::SnapshotReply;
use crate::file::{Io, UserBuffers};
use crate::mem::{Page, PageRange, Space, UserSlice};

const PAGE: u64 = PAGE_BYTES as u64;

/// The result of an attempt to read lazily.
pub(super) enum Attempt {
    /// The read is done: bytes read.
    Read(ByteCount),
    /// The read has to be copied; the counter of the reason.
    Refused(Counter),
}

/// Reads into several buffers, where that pays, or where a copy would take several messages and
/// thus mix several instants.
pub(super) fn lazily(
    file: &ServerFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
) -> Result<Attempt, Errno> {
    let min_pages = knob::MIN_LAZY_PAGES.get().max(1);
    let (length, pages) = writable_extent(io.space, to);
    if pages < PageCount(min_pages) && length <= ByteCount::of_len(MAX_PAYLOAD) {
        return Ok(Attempt::Refused(Counter::ReadsEagerSmall));
    }
    let request = fsproto::Snapshot {
        handle: file.handle,
        offset,
        length,
        misalignment: to.front().map_or(0, |front| front.addr().0 % PAGE) as u32,
        inline_max: (min_pages * PAGE - 1).min(MAX_PAYLOAD as u64) as u32,
    };
    let (reply, payload) = match file.ask(&request) {
        Ok(reply) => reply,
        Err(Errno::EINTR) => return Err(Errno::EINTR),
        Err(_) => return Ok(Attempt::Refused(Counter::ReadsEagerRefused)),
    };
    let reply = SnapshotReply::new(file, &request, &reply, &payload)?;
    let (done, associated) = (ByteCount::ZERO, PageCount::ZERO);
    let mut filling = Filling { file, io, to, reply: &reply, done, associated };
    let result = filling.fill();
    let (done, associated) = (filling.done, filling.associated);
    let counters = &io.space.counters;
    let is_lazy = !associated.is_zero();
    counters.add(if is_lazy { Counter::ReadsLazy } else { Counter::ReadsEagerSmall }, 1);
    counters.add(Counter::PagesLazy, associated.0);
    counters.add(Counter::BytesReadEager, (done - associated.bytes()).0);
    match result {
        Err(error) if done.is_zero() || error == Errno::EINTR => Err(error),
        _ => Ok(Attempt::Read(done)),
    }
}

/// How many bytes of the buffers are writable, counted from the first, and how many whole pages
/// they contain.
fn writable_extent(space: &Space, to: &UserBuffers) -> (ByteCount, PageCount) {
    let (mut bytes, mut pages) = (ByteCount::ZERO, PageCount::ZERO);
    for &slice in to.slices() {
        let writable = space.writable_prefix(slice);
        bytes += ByteCount::of_len(writable);
        pages += lazy_pages(space, slice.take(writable)).pages();
        if writable < slice.len() {
            break;
        }
    }
    (bytes, pages)
}

/// The pages of a buffer that can be associated with a snapshot.
fn lazy_pages(space: &Space, slice: UserSlice) -> PageRange {
    let pages = slice.whole_pages();
    let is_lazy = !pages.is_empty() && space.lazy_prefix(slice) == slice.len();
    if is_lazy { pages } else { PageRange::new(Page(0), PageCount::ZERO) }
}

/// Buffers that are being filled.
struct Filling<'a> {
    file: &'a ServerFile,
    io: &'a Io<'a>,
    to: &'a mut UserBuffers,
    reply: &'a SnapshotReply,
    /// Bytes filled so far.
    done: ByteCount,
    /// Pages among them that were associated.
    associated: PageCount,
}

impl Filling<'_> {
    /// Continues until all bytes are in place, or memory ends.
    fn fill(&mut self) -> Result<(), Errno> {
        while self.done < self.reply.length {
            let (unaligned, pages) = self.next();
            if self.copy(unaligned)? < unaligned || !self.associate(pages)? {
                break;
            }
        }
        Ok(())
    }

    /// The next step: bytes to copy, then whole pages.
    fn next(&self) -> (ByteCount, PageCount) {
        let mut unaligned = ByteCount::ZERO;
        for &slice in self.to.slices() {
            let left = self.reply.length - self.done - unaligned;
            let slice = slice.take(left.to_usize());
            let pages = lazy_pages(self.io.space, slice);
            if !pages.is_empty() && self.reply.snapshot.is_some() {
                let before = pages.start.user_start().0 - slice.addr().0;
                return (unaligned + ByteCount(before), pages.pages());
            }
            unaligned += ByteCount::of_len(slice.len());
        }
        (unaligned, PageCount::ZERO)
    }

    /// Copies the next bytes from the reply or the snapshot. Returns how many.
    fn copy(&mut self, bytes: ByteCount) -> Result<ByteCount, Errno> {
        let Self { reply, io, done, .. } = *self;
        let (leading, trailing) = (reply.leading(), reply.trailing());
        let trailing_at = reply.length - ByteCount::of_len(trailing.len());
        let from_reply = if done + bytes <= ByteCount::of_len(leading.len()) {
            leading.get(done.to_usize()..)
        } else if done >= trailing_at {
            trailing.get((done - trailing_at).to_usize()..)
        } else {
            None
        };
        let from_reply = from_reply.and_then(|part| part.get(..bytes.to_usize()));
        let copied = match (from_reply, &reply.snapshot) {
            (Some(part), _) => ByteCount::of_len(self.to.put(io.space, part)?),
            (None, Some(snapshot)) => copy(self.file, snapshot.handle, io, self.to, done.0, bytes)?,
            (None, None) => return Err(Errno::EIO),
        };
        self.done += copied;
        Ok(copied)
    }

    /// Associates the next pages with the snapshot, or copies them where there is no memory for the
    /// association (Q4). Returns whether all of them are filled.
    fn associate(&mut self, pages: PageCount) -> Result<bool, Errno> {
        let (Some(snapshot), Some(front), false) =
            (&self.reply.snapshot, self.to.front(), pages.is_zero())
        else {
            return Ok(true);
        };
        let at = SnapshotOffset(self.done.0);
        let Ok(associated) = self.io.space.associate(front.addr(), pages, snapshot, at) else {
            self.io.space.counters.add(Counter::ReadsEagerRegions, 1);
            return Ok(self.copy(pages.bytes())? == pages.bytes());
        };
        self.to.skip(associated.bytes());
        self.done += associated.bytes();
        self.associated += associated;
        if self.done.is_zero() { Err(Errno::EFAULT) } else { Ok(associated == pages) }
    }
}
