//! read(2) of a server's file: lazily where it is possible and pays, else by copying, with the same
//! result.
//!
//! The lazy read of one buffer:
//! 1. Find how much of the buffer is writable (regions only; no page is touched).
//! 2. Send one [`fsproto::Snapshot`] request. The reply has the true length `n`, the snapshot's
//!    handle, the bytes of the fragments, and holes.
//! 3. Copy the leading fragment, associate the whole pages with the snapshot, copy the trailing
//!    fragment. Each of these looks at the address space again, which may have changed during the
//!    request: `n` becomes shorter where memory is no longer writable. A snapshot without
//!    associations is closed by the drop of its last reference.
//!
//! After a refusal for any reason, the copying read is used; it finds and reports the error if
//! there is one (R8).

use alloc::sync::Arc;

use foundation::counter::{self, Counter};
use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES, SnapshotOffset, knob};
use fsproto::MAX_PAYLOAD;

use super::copy::copy;
use super::server_file::ServerFile;
use super::snapshot_reply::SnapshotReply;
use super::vectored::Attempt;
use super::{mutants, sequential, vectored};
use crate::file::{Io, UserBuffers};
use crate::mem::{Snapshot, Space, UserSlice};

const PAGE: u64 = PAGE_BYTES as u64;

/// Reads from `offset` on. Returns the number of bytes, 0 at or past the end of the file.
pub fn read(
    file: &ServerFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
) -> Result<ByteCount, Errno> {
    let requested = to.remaining();
    match lazily(file, io, to, offset)? {
        Attempt::Read(count) => {
            // Short reads among lazy ones are in the same sequence.
            file.pattern.record(offset, requested, count);
            Ok(count)
        }
        Attempt::Refused(_) if mutants::no_fallback() => Err(Errno::EIO),
        Attempt::Refused(Counter::ReadsEagerSmall) => small(file, io, to, offset),
        Attempt::Refused(reason) => {
            io.space.counters.add(reason, 1);
            by_copy(file, io, to, offset)
        }
    }
}

/// A read that is too small to be lazy: from read-ahead data, or by copying.
fn small(
    file: &ServerFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
) -> Result<ByteCount, Errno> {
    let requested = to.remaining();
    let count = match sequential::read(file, io, to, offset)? {
        Some(count) => count,
        None => {
            io.space.counters.add(Counter::ReadsEagerSmall, 1);
            by_copy(file, io, to, offset)?
        }
    };
    file.pattern.record(offset, requested, count);
    Ok(count)
}

/// A snapshot of a range for mapping it: whole pages only. `None` where the range has no whole
/// page, the server refuses, or reads of this space are eager.
pub fn snapshot(
    file: &ServerFile,
    space: &Space,
    offset: FileOffset,
    length: ByteCount,
) -> Result<Option<Arc<Snapshot>>, Errno> {
    if reason_for_eager(file, space).is_some() {
        return Ok(None);
    }
    let request =
        fsproto::Snapshot { handle: file.handle, offset, length, misalignment: 0, inline_max: 0 };
    match file.ask(&request) {
        Ok((reply, payload)) => Ok(SnapshotReply::new(file, &request, &reply, &payload)?.snapshot),
        Err(Errno::EINTR) => Err(Errno::EINTR),
        Err(_) => Ok(None),
    }
}

/// The reason why this space cannot read this file lazily, if there is one.
pub(super) fn reason_for_eager(file: &ServerFile, space: &Space) -> Option<Counter> {
    if space.policy.is_server() && !mutants::lazy_server() {
        Some(Counter::ReadsEagerServer)
    } else if !space.policy.lazy() {
        Some(Counter::ReadsEagerOff)
    } else if !file.mount.is_lazy() {
        Some(Counter::ReadsEagerObject)
    } else if counter::GLOBAL.get(Counter::SnapshotsLive) >= knob::MAX_SNAPSHOTS.get()
        && !mutants::no_snapshot_limit()
    {
        Some(Counter::ReadsEagerRefused)
    } else {
        None
    }
}

/// Whether a read is copied because reads like it were touched. One message brings it, so it has
/// one instant (R1). Into a buffer that does not begin at a page, laziness pays only for more: it
/// needs the fragments, and composes each page.
fn is_copied(space: &Space, bytes: u64, misalignment: u64) -> bool {
    let short = match knob::COPY_TOUCHED.get() * PAGE {
        0 => 0,
        _ if misalignment > 0 => MAX_PAYLOAD as u64,
        bytes => bytes.min(MAX_PAYLOAD as u64),
    };
    bytes <= short && space.copies_short_reads()
}

fn lazily(
    file: &ServerFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
) -> Result<Attempt, Errno> {
    if let Some(reason) = reason_for_eager(file, io.space) {
        return Ok(Attempt::Refused(reason));
    }
    let Some(buffer) = to.only() else {
        if mutants::vector_per_buffer() {
            return mutants::read_each_buffer(file, io, to, offset).map(Attempt::Read);
        }
        // Buffers of the kernel come here as well: they have no pages.
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
    if mutants::early_fault() && writable == 0 {
        return Err(Errno::EFAULT);
    }
    if is_small(writable) || io.caller.is_some() && is_copied(io.space, writable, misalignment) {
        return Ok(Attempt::Refused(Counter::ReadsEagerSmall));
    }
    let request = fsproto::Snapshot {
        handle: file.handle,
        offset,
        length: ByteCount(writable),
        misalignment: misalignment as u32,
        inline_max: (min_pages * PAGE - 1).min(MAX_PAYLOAD as u64) as u32,
    };
    let (reply, payload) = match file.ask(&request) {
        Ok(reply) => reply,
        Err(Errno::EINTR) => return Err(Errno::EINTR),
        Err(_) => return Ok(Attempt::Refused(Counter::ReadsEagerRefused)),
    };
    let mut reply = SnapshotReply::new(file, &request, &reply, &payload)?;
    mutants::live_fragments(file, offset, &mut reply)?;
    let read = fill(file, io, to, buffer, &reply)?;
    mutants::zero_past_end(io, to, buffer, read);
    Ok(Attempt::Read(read))
}

/// Fills a buffer from a snapshot. Returns the number of bytes filled from the front; an error only
/// for none.
fn fill(
    file: &ServerFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    buffer: UserSlice,
    reply: &SnapshotReply,
) -> Result<ByteCount, Errno> {
    let leading = reply.leading();
    let copied = if leading.is_empty() { 0 } else { to.put(io.space, leading)? };
    let mut done = ByteCount::of_len(copied);
    if copied < leading.len() {
        return Ok(done);
    }
    let Some(snapshot) = &reply.snapshot else {
        io.space.counters.add(Counter::ReadsEagerSmall, 1);
        io.space.counters.add(Counter::BytesReadEager, done.0);
        return Ok(done);
    };
    let pages = reply.pages();
    let first = buffer.addr().checked_add(done).ok_or(Errno::EFAULT)?;
    let associated = match io.space.associate(first, pages, snapshot, SnapshotOffset(done.0)) {
        Ok(associated) => associated,
        // No memory for the association (Q4): copy, from the same snapshot.
        Err(_) => {
            io.space.counters.add(Counter::ReadsEagerRegions, 1);
            let copied = copy(file, snapshot.handle, io, to, done.0, pages.bytes())?;
            done += copied;
            return Ok(if copied < pages.bytes() { done } else { done + trailing(io, to, reply) });
        }
    };
    io.space.counters.add(Counter::ReadsLazy, 1);
    io.space.counters.add(Counter::PagesLazy, associated.0);
    done += associated.bytes();
    to.skip(associated.bytes());
    if associated < pages {
        return if done.is_zero() { Err(Errno::EFAULT) } else { Ok(done) };
    }
    Ok(done + trailing(io, to, reply))
}

/// Copies the trailing fragment. Returns the number of bytes; an error makes the read short, as the
/// pages are already in place.
fn trailing(io: &Io<'_>, to: &mut UserBuffers, reply: &SnapshotReply) -> ByteCount {
    ByteCount::of_len(to.put(io.space, reply.trailing()).unwrap_or(0))
}

/// Reads by copying from the live file.
fn by_copy(
    file: &ServerFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
) -> Result<ByteCount, Errno> {
    let length = to.remaining();
    copy(file, file.handle, io, to, offset.0, length)
}
