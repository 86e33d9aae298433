//! Packets, and how they move between a program's memory and the kernel.

use crate::file::{Io, UserBuffers};
use crate::mem::{self, Claim, FaultError, Frame, PAGE_BYTES, Page, PageRange, fallible};
use alloc::boxed::Box;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, PageCount};

/// Bytes of one packet, at most. A whole message of the file protocol fits.
pub const MAX_MESSAGE: usize = 512 * 1024;
/// Packets up to this length are inline as a whole.
const MAX_INLINE: usize = PAGE_BYTES;

/// Bytes of memory that an empty message takes in a queue: its entry, with the space by which the
/// queue grows ahead, and what the heap rounds up.
const OVERHEAD: usize = 256;

/// What the largest message costs.
pub(super) const MAX_COST: usize =
    OVERHEAD + MAX_INLINE + (MAX_MESSAGE / PAGE_BYTES + 1) * (PAGE_BYTES + size_of::<Frame>());

/// A packet: `inline`, followed by the first `frames_bytes` bytes of `frames`.
#[derive(Debug, Default)]
pub struct Message {
    /// The first bytes.
    pub inline: Box<[u8]>,
    /// Pages with the bytes that follow.
    pub frames: Vec<Frame>,
    /// Bytes of the packet in the frames; the rest of the last frame is not part of it.
    pub frames_bytes: usize,
}

impl Message {
    /// A message of a few bytes.
    pub(super) fn small(bytes: &[u8]) -> Result<Self, Errno> {
        let mut inline = fallible::with_capacity(bytes.len())?;
        inline.extend_from_slice(bytes);
        Ok(Self { inline: inline.into(), ..Self::default() })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.inline.len() + self.frames_bytes
    }

    /// Bytes of memory that it takes in a queue.
    pub(super) fn cost(&self) -> usize {
        OVERHEAD + self.inline.len() + self.frames.len() * (PAGE_BYTES + size_of::<Frame>())
    }

    /// Whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy that shares the frames.
    pub(super) fn try_clone(&self) -> Result<Self, Errno> {
        let (mut inline, mut frames) = (Vec::new(), Vec::new());
        fallible::reserve_exact(&mut inline, self.inline.len())?;
        fallible::reserve_exact(&mut frames, self.frames.len())?;
        inline.extend_from_slice(&self.inline);
        frames.extend(self.frames.iter().cloned());
        Ok(Self { inline: inline.into(), frames, frames_bytes: self.frames_bytes })
    }

    /// The bytes in order: the inline ones, then those of each frame.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let in_frames = self.frames.iter().enumerate().map(|(index, frame)| {
            let length = self.frames_bytes.saturating_sub(index * PAGE_BYTES).min(PAGE_BYTES);
            frame.bytes().get(..length).unwrap_or_default()
        });
        core::iter::once(&*self.inline).chain(in_frames).filter(|part| !part.is_empty())
    }
}

/// Makes a message of a program's bytes. A first buffer of at most a page, such as a protocol
/// header, becomes the inline part; large contents that follow it are placed in frames, so that
/// they begin at a page boundary.
pub(super) fn assemble(io: &Io<'_>, from: &mut UserBuffers) -> Result<Message, Errno> {
    let total = usize::try_from(from.remaining().0)
        .ok()
        .filter(|&total| total <= MAX_MESSAGE)
        .ok_or(Errno::EMSGSIZE)?;
    let front = from.front().map_or(0, |slice| slice.len());
    let inline_bytes = match total {
        0..=MAX_INLINE => total,
        _ if front <= MAX_INLINE => front,
        _ => 0,
    };
    let mut inline = fallible::filled(0, inline_bytes)?;
    take_all(io, from, &mut inline)?;
    let frames_bytes = total - inline_bytes;
    let mut frames = fallible::with_capacity(frames_bytes.div_ceil(PAGE_BYTES))?;
    let claim = io.space.policy.claim();
    if frames_bytes > 0 {
        mem::make_room_beside(frames_bytes.div_ceil(PAGE_BYTES), claim)?;
    }
    while frames.len() * PAGE_BYTES < frames_bytes {
        let left = frames_bytes - frames.len() * PAGE_BYTES;
        let pages = leading_pages(from, left / PAGE_BYTES);
        if pages.is_empty() {
            frames.push(copied_frame(io, from, left.min(PAGE_BYTES), claim)?);
        } else {
            io.space.lend_into(pages, &mut frames)?;
            from.skip(pages.pages().bytes());
        }
    }
    Ok(Message { inline: inline.into(), frames, frames_bytes })
}

/// The whole pages at the front of a program's buffers, at most `max`: they can be moved without a
/// copy.
pub(in crate::file) fn leading_pages(buffers: &UserBuffers, max: usize) -> PageRange {
    let front = buffers.front().filter(|front| front.addr().is_page_aligned());
    let pages = front.map_or(0, |front| (front.len() / PAGE_BYTES).min(max));
    PageRange::new(front.map_or(Page(0), |front| front.addr().page()), PageCount::of_len(pages))
}

/// A frame with the next `length` bytes, followed by zeros.
#[inline]
pub(in crate::file) fn copied_frame(
    io: &Io<'_>,
    from: &mut UserBuffers,
    length: usize,
    claim: Claim,
) -> Result<Frame, Errno> {
    let Some(front) = from.front().filter(|front| front.len() >= length) else {
        return gathered_frame(io, from, length, claim);
    };
    let frame = io.space.copy_frame(front.take(length))?;
    from.skip(ByteCount::of_len(length));
    Ok(frame)
}

/// As [`copied_frame`], of bytes that are in several buffers.
#[inline(never)]
fn gathered_frame(
    io: &Io<'_>,
    from: &mut UserBuffers,
    length: usize,
    claim: Claim,
) -> Result<Frame, Errno> {
    let mut frame = Frame::zeroed_for(claim)?;
    let page = frame.bytes_mut().ok_or(Errno::ENOMEM)?;
    take_all(io, from, page.get_mut(..length).unwrap_or_default())?;
    Ok(frame)
}

/// Fills `into` from a program's buffers; EFAULT where memory ends before.
fn take_all(io: &Io<'_>, from: &mut UserBuffers, into: &mut [u8]) -> Result<(), Errno> {
    let taken = from.take(io.space, into)?;
    if taken == into.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Delivers a message to a program's buffers: as much as fits, or EFAULT. Frames whose bytes belong
/// into whole pages of private memory are mapped there, copy-on-write; everything else is copied.
pub(super) fn deliver(
    io: &Io<'_>,
    message: &Message,
    to: &mut UserBuffers,
) -> Result<ByteCount, Errno> {
    let mut copied = put_all(io, &message.inline, to)?;
    let mut frames = message.frames.as_slice();
    let mut left = message.frames_bytes;
    while let Some(frame) = frames.first()
        && !to.remaining().is_zero()
    {
        let pages = leading_pages(to, left / PAGE_BYTES);
        let mapped = if pages.is_empty() { 0 } else { map_pages(io, pages, frames)? };
        if mapped == 0 {
            let part = frame.bytes().get(..left.min(PAGE_BYTES)).unwrap_or_default();
            copied += put_all(io, part, to)?;
            left -= part.len();
            frames = frames.get(1..).unwrap_or_default();
        } else {
            let bytes = mapped * PAGE_BYTES;
            to.skip(ByteCount::of_len(bytes));
            copied += ByteCount::of_len(bytes);
            left -= bytes;
            frames = frames.get(mapped..).unwrap_or_default();
        }
    }
    Ok(copied)
}

/// Replaces a program's pages by frames. Returns how many; 0 where that memory cannot be replaced.
pub(in crate::file) fn map_pages(
    io: &Io<'_>,
    pages: PageRange,
    frames: &[Frame],
) -> Result<usize, Errno> {
    let lent = frames.iter().take(pages.pages().to_usize()).cloned();
    match io.space.accept(pages.start, lent) {
        Ok(mapped) => Ok(mapped.to_usize()),
        Err(FaultError::Segv) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Copies as many bytes as fit; EFAULT where memory ends before.
fn put_all(io: &Io<'_>, bytes: &[u8], to: &mut UserBuffers) -> Result<ByteCount, Errno> {
    let wanted = ByteCount::of_len(bytes.len()).min(to.remaining());
    if wanted.is_zero() {
        return Ok(ByteCount::ZERO);
    }
    let count = ByteCount::of_len(to.put(io.space, bytes)?);
    if count < wanted { Err(Errno::EFAULT) } else { Ok(count) }
}
