//! read(2) of a server's file: lazily where it pays and can be, by copying everywhere else, with
//! the same result.
//!
//! The lazy way, step by step:
//! 1. how much of the buffer can be written to (regions only; no page is touched);
//! 2. one [`fsproto::Snapshot`] request: the true length `n`, the snapshot's handle, the fragment
//!    bytes, holes;
//! 3. the head fragment is copied, the whole pages are associated with the snapshot, the tail
//!    fragment is copied. The address space is looked at anew by each of these, since the request
//!    took time: what is no longer writable cuts `n` short, and a snapshot that nothing stands for
//!    is closed by the drop of its last reference.
//!
//! A refusal for whatever reason leads to the copying read, which finds and reports the error if
//! there is one (R8).

use alloc::sync::Arc;

use foundation::counter::{self, Counter};
use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, PAGE_BYTES, PageCount, SnapshotOffset};
use foundation::{FileOffset, knob};
use fsproto::{Handle, MAX_PAYLOAD};

use super::remote_file::RemoteFile;
use super::taken::Taken;
use super::{Mount, ahead, vectored};
use crate::file::{Io, UserBuffers};
use crate::mem::{Snapshot, Space, UserAddr, UserSlice, make_room};

const PAGE: u64 = PAGE_BYTES as u64;

/// What became of an attempt to read lazily.
pub(super) enum Attempt {
    /// It was done: so many bytes.
    Read(u64),
    /// Not lazily, and why.
    Refused(Counter),
}

/// Reads from `offset` on. Returns the number of bytes, 0 at or past the end of the file.
pub fn read(
    file: &RemoteFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
) -> Result<u64, Errno> {
    match lazily(file, io, to, offset)? {
        Attempt::Read(count) => Ok(count),
        Attempt::Refused(_) if active(Mutant::NoFallback) => Err(Errno::EIO),
        Attempt::Refused(Counter::ReadsEagerSmall) => small(file, io, to, offset),
        Attempt::Refused(why) => {
            io.space.counters.add(why, 1);
            by_copy(file, io, to, offset)
        }
    }
}

/// A read that is too small to be lazy: from what was read ahead, or by copying.
fn small(file: &RemoteFile, io: &Io<'_>, to: &mut UserBuffers, offset: u64) -> Result<u64, Errno> {
    let asked = to.remaining().0;
    let count = match ahead::read(file, io, to, offset)? {
        Some(count) => count,
        None => {
            io.space.counters.add(Counter::ReadsEagerSmall, 1);
            by_copy(file, io, to, offset)?
        }
    };
    file.order().note(offset, asked, count);
    Ok(count)
}

/// A snapshot of a range for mapping it: whole pages only. `None` where there is no page of it, the
/// server has no snapshots to give, or the space is eager.
pub fn snapshot(
    file: &RemoteFile,
    space: &Space,
    offset: u64,
    length: u64,
) -> Result<Option<Arc<Snapshot>>, Errno> {
    if why_eager(file, space).is_some() {
        return Ok(None);
    }
    let request = fsproto::Snapshot {
        handle: file.handle(),
        offset: FileOffset(offset),
        length: ByteCount(length),
        misalignment: 0,
        inline_max: 0,
    };
    match file.mount().session().call(&request, &[]) {
        Ok((reply, payload)) => Ok(Taken::new(file, &request, &reply, &payload)?.snapshot),
        Err(Errno::EINTR) => Err(Errno::EINTR),
        Err(_) => Ok(None),
    }
}

/// Why this space cannot read this file lazily, if so.
fn why_eager(file: &RemoteFile, space: &Space) -> Option<Counter> {
    if space.policy.is_server() && !active(Mutant::LazyServer) {
        Some(Counter::ReadsEagerServer)
    } else if !space.policy.lazy() {
        Some(Counter::ReadsEagerOff)
    } else if !file.mount().is_lazy() {
        Some(Counter::ReadsEagerObject)
    } else if counter::GLOBAL.get(Counter::SnapshotsLive) >= knob::MAX_SNAPSHOTS.get()
        && !active(Mutant::NoSnapshotLimit)
    {
        Some(Counter::ReadsEagerRefused)
    } else {
        None
    }
}

fn lazily(
    file: &RemoteFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
) -> Result<Attempt, Errno> {
    if let Some(why) = why_eager(file, io.space) {
        return Ok(Attempt::Refused(why));
    }
    let Some(buffer) = to.only() else {
        if active(Mutant::VectorPerBuffer) {
            return vectored::one_by_one(file, io, to, offset).map(Attempt::Read);
        }
        // What the kernel reads for itself has no pages at all.
        return vectored::lazily(file, io, to, offset);
    };
    let misalignment = buffer.addr().0 % PAGE;
    let min_pages = knob::MIN_LAZY_PAGES.get().max(1);
    let is_small =
        |bytes: u64| bytes.saturating_sub((PAGE - misalignment) % PAGE) / PAGE < min_pages;
    if is_small(buffer.len() as u64) {
        return Ok(Attempt::Refused(Counter::ReadsEagerSmall));
    }
    let writable = io.space.writable_prefix(buffer) as u64;
    if (io.space.lazy_prefix(buffer) as u64) < writable {
        return Ok(Attempt::Refused(Counter::ReadsEagerRegions));
    }
    if active(Mutant::EarlyFault) && writable == 0 {
        return Err(Errno::EFAULT);
    }
    if is_small(writable) {
        return Ok(Attempt::Refused(Counter::ReadsEagerSmall));
    }
    let request = fsproto::Snapshot {
        handle: file.handle(),
        offset: FileOffset(offset),
        length: ByteCount(writable),
        misalignment: misalignment as u32,
        inline_max: (min_pages * PAGE - 1).min(MAX_PAYLOAD as u64) as u32,
    };
    let (reply, payload) = match file.mount().session().call(&request, &[]) {
        Ok(answer) => answer,
        Err(Errno::EINTR) => return Err(Errno::EINTR),
        Err(_) => return Ok(Attempt::Refused(Counter::ReadsEagerRefused)),
    };
    let mut taken = Taken::new(file, &request, &reply, &payload)?;
    if active(Mutant::LiveFragments) {
        taken.reread_fragments(file, offset)?;
    }
    let read = place(file, io, to, buffer, &taken)?;
    if active(Mutant::ZeroPastEnd) {
        let past_end = (PAGE - (buffer.addr().0 + read) % PAGE) % PAGE;
        to.put(io.space, &[0; PAGE_BYTES][..past_end as usize]).ok();
    }
    Ok(Attempt::Read(read))
}

/// Puts what was taken where the program wants it. Returns the number of bytes that are there, from
/// the front; an error only for none.
fn place(
    file: &RemoteFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    buffer: UserSlice,
    taken: &Taken,
) -> Result<u64, Errno> {
    let head = taken.head();
    let mut done = if head.is_empty() { 0 } else { to.put(io.space, head)? as u64 };
    if done < head.len() as u64 {
        return Ok(done);
    }
    let Some(snapshot) = &taken.snapshot else {
        io.space.counters.add(Counter::ReadsEagerSmall, 1);
        io.space.counters.add(Counter::BytesReadEager, done);
        return Ok(done);
    };
    let pages = taken.pages();
    let first = UserAddr(buffer.addr().0 + done);
    let at = SnapshotOffset(done);
    let associated = match io.space.associate(first, PageCount(pages), snapshot, at) {
        Ok(associated) => associated.0,
        // No room for the association (Q4): the bytes themselves, of the same snapshot.
        Err(_) => {
            io.space.counters.add(Counter::ReadsEagerRegions, 1);
            let length = pages * PAGE;
            let copied = copy(file.mount(), snapshot.handle, io, to, done, length)?;
            if copied < length {
                return Ok(done + copied);
            }
            done += copied;
            return Ok(done + to.put(io.space, taken.tail()).unwrap_or(0) as u64);
        }
    };
    io.space.counters.add(Counter::ReadsLazy, 1);
    io.space.counters.add(Counter::PagesLazy, associated);
    done += associated * PAGE;
    to.skip(ByteCount(associated * PAGE));
    if associated < pages {
        return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
    }
    // The pages are there already: a tail that cannot be copied makes the count short.
    Ok(done + to.put(io.space, taken.tail()).unwrap_or(0) as u64)
}

/// The traditional read.
fn by_copy(
    file: &RemoteFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
) -> Result<u64, Errno> {
    let length = to.remaining().0;
    copy(file.mount(), file.handle(), io, to, offset, length)
}

/// Frames that a copying read leaves to programs: one more message, and as much again for what they
/// do next.
const MARGIN_FRAMES: usize = 2 * MAX_PAYLOAD / PAGE_BYTES;

/// Copies up to `length` bytes of an open file or a snapshot, message by message. Short at its end,
/// at the end of what can be written to, and where an error comes after the first bytes.
pub(super) fn copy(
    of: &Mount,
    handle: Handle,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
    length: u64,
) -> Result<u64, Errno> {
    let mut done = 0;
    while done < length {
        // A read must not be what takes the last frames: a program that gets a short count has to
        // be able to go on.
        if done > 0
            && !io.space.policy.is_server()
            && !make_room(MARGIN_FRAMES, io.space.policy.claim())?
        {
            break;
        }
        let wanted = (length - done).min(MAX_PAYLOAD as u64);
        match copy_message(of, handle, io, to, offset + done, wanted as u32) {
            Ok(copied) => {
                done += copied;
                if copied < wanted {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    io.space.counters.add(Counter::BytesReadEager, done);
    Ok(done)
}

fn copy_message(
    of: &Mount,
    handle: Handle,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
    length: u32,
) -> Result<u64, Errno> {
    let (_, payload) = of.session().call(&fsproto::Read { handle, offset, length }, &[])?;
    if payload.len() > length as usize {
        return Err(Errno::EIO);
    }
    let mut copied = 0;
    for part in payload.parts() {
        match to.put(io.space, part) {
            Ok(count) => {
                copied += count as u64;
                if count < part.len() {
                    break;
                }
            }
            Err(error) if copied == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(copied)
}
