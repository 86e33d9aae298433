//! Small sequential reads: answered from a read-ahead snapshot, which is taken when it pays.

use foundation::counter::Counter;
use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES, PageCount, SnapshotOffset, knob};

use super::read_ahead::Window;
use super::server_file::ServerFile;
use super::snapshot_reply::SnapshotReply;
use crate::file::{Io, UserBuffers};
use crate::mem::{FaultError, page_of};

const PAGE: u64 = PAGE_BYTES as u64;

/// Pages fetched at once at the front of a window; further behind, as many as faults fetch.
const FRONT_PAGES: u64 = 16;

/// Answers a small read from the window of an open file, or takes a new one. `None` where the read
/// has to be sent to the server.
pub(super) fn read(
    file: &ServerFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
) -> Result<Option<ByteCount>, Errno> {
    let length = to.remaining();
    if !file.mount.is_sole() || length.is_zero() {
        return Ok(None);
    }
    let mut window = None;
    if file.pattern.has_window() {
        window = file.mount.read_ahead().find(file.id, file.handle);
        if window.is_none() {
            file.pattern.back_off();
        }
    }
    if window.as_ref().is_none_or(|window| window.answers(offset, length).is_none()) {
        if !file.pattern.is_sequential(offset) {
            return Ok(None);
        }
        window = take(file, offset)?;
    }
    let Some((window, count)) =
        window.and_then(|window| window.answers(offset, length).map(|count| (window, count)))
    else {
        return Ok(None);
    };
    let mapped = coalesce(file, &window, io, to, offset, count);
    let rest = copy(&window, io, to, offset + mapped, count - mapped)?;
    let done = rest.or((!mapped.is_zero()).then_some(ByteCount::ZERO)).map(|rest| rest + mapped);
    io.space.counters.add(Counter::ReadsAhead, u64::from(done.is_some()));
    io.space.counters.add(Counter::BytesReadAhead, done.unwrap_or_default().0);
    Ok(done)
}

/// Takes a snapshot of the bytes from `offset` on, and keeps it.
fn take(file: &ServerFile, offset: FileOffset) -> Result<Option<Window>, Errno> {
    let read_ahead = file.mount.read_ahead();
    let max = ByteCount(knob::READ_AHEAD.get() / PAGE * PAGE);
    let start = FileOffset(offset.0 / PAGE * PAGE);
    let before = read_ahead.change_count(file.id).filter(|_| !max.is_zero());
    let Some(before) = before else { return Ok(None) };
    let request = fsproto::Snapshot {
        handle: file.handle,
        offset: start,
        length: max,
        misalignment: 0,
        inline_max: 0,
    };
    let reply = match file.ask(&request) {
        Ok((reply, payload)) => SnapshotReply::new(file, &request, &reply, &payload)?,
        Err(Errno::EINTR) => return Err(Errno::EINTR),
        Err(_) => {
            file.pattern.back_off();
            return Ok(None);
        }
    };
    let Some(snapshot) = reply.snapshot.clone() else { return Ok(None) };
    let to_end = snapshot.len < max;
    let window = Window { to_end, snapshot, start, trailing: reply.trailing().into() };
    if read_ahead.keep(file.id, file.handle, before, &window) {
        file.pattern.set_window();
    } else {
        file.pattern.back_off();
        // The snapshot was taken during this call, so it answers this read.
    }
    Ok(Some(window))
}

/// Associates the whole pages of a small read with the window's snapshot, if its buffer begins at a
/// page where that of the read before ended: so many of them end as one association (R11). Returns
/// the number of bytes; 0 where the read has to be copied.
#[inline]
fn coalesce(
    file: &ServerFile,
    window: &Window,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
    count: ByteCount,
) -> ByteCount {
    let least = knob::COALESCE_PAGES.get();
    if least == 0 || count.0 / PAGE < least {
        return ByteCount::ZERO;
    }
    let Some(buffer) = to.only().filter(|buffer| buffer.addr().is_page_aligned()) else {
        return ByteCount::ZERO;
    };
    let at = offset - window.start;
    let pages = PageCount(count.0.min(window.snapshot.len.0.saturating_sub(at.0)) / PAGE);
    let whole = buffer.take(pages.bytes().to_usize());
    if pages.0 < least
        || !file.pattern.coalesces(buffer, || io.space.was_touched_before(buffer.addr()))
        || io.space.lazy_prefix(whole) < whole.len()
    {
        return ByteCount::ZERO;
    }
    // Without memory for it (Q4), the read copies.
    let associated =
        io.space.associate(whole.addr(), pages, &window.snapshot, SnapshotOffset(at.0));
    let pages = associated.unwrap_or_default();
    io.space.counters.add(Counter::PagesLazy, pages.0);
    to.skip(pages.bytes());
    pages.bytes()
}

/// Copies from a window. `None` where a page cannot be fetched before the first byte was copied:
/// the read has to be sent to the server.
fn copy(
    window: &Window,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: FileOffset,
    count: ByteCount,
) -> Result<Option<ByteCount>, Errno> {
    let whole = window.snapshot.len.0 / PAGE * PAGE;
    let mut done = ByteCount::ZERO;
    while done < count {
        let at = (offset + done - window.start).0;
        let (page, within) = (at / PAGE * PAGE, (at % PAGE) as usize);
        let frame;
        let bytes = if page < whole {
            let is_front = page < FRONT_PAGES * PAGE;
            let max = if is_front { FRONT_PAGES } else { knob::FAULT_AROUND_MAX.get().max(1) };
            let pages = PageCount(max.min((whole - page) / PAGE));
            let claim = io.space.policy.claim();
            let at = SnapshotOffset(page);
            frame = match page_of(&window.snapshot, at, pages, &io.space.counters, claim) {
                Ok(frame) => frame,
                Err(FaultError::Killed) => return Err(Errno::EINTR),
                Err(_) => return Ok((!done.is_zero()).then_some(done)),
            };
            &frame.bytes()[..]
        } else {
            &window.trailing[..]
        };
        let part = bytes.get(within..).unwrap_or_default();
        let part = part.get(..part.len().min((count - done).to_usize())).unwrap_or_default();
        let put = match to.put(io.space, part) {
            Err(error) if done.is_zero() => return Err(error),
            put => put.unwrap_or(0),
        };
        done += ByteCount::of_len(put);
        if part.is_empty() || put < part.len() {
            break;
        }
    }
    Ok(Some(done))
}
