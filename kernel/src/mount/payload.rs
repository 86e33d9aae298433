//! Payloads in and out of messages: small ones inline behind the head, large ones in frames, so
//! that pages can move without being copied.

use alloc::vec::Vec;

use foundation::{Errno, PAGE_BYTES};
use fsproto::HEADER_BYTES;

use crate::file::socket::Message;
use crate::mem::{Claim, Frame};

/// A message of a head and the concatenation of `parts`.
pub fn message(head: &[u8; HEADER_BYTES], parts: &[&[u8]]) -> Result<Message, Errno> {
    let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let mut inline = Vec::new();
    inline.try_reserve_exact(HEADER_BYTES + payload_bytes).map_err(|_| Errno::ENOMEM)?;
    inline.extend_from_slice(head);
    parts.iter().for_each(|part| inline.extend_from_slice(part));
    Ok(Message { inline, frames: Vec::new(), frames_bytes: 0 })
}

/// A message of a head and whole pages.
pub fn pages_message(head: &[u8; HEADER_BYTES], pages: &[Frame]) -> Result<Message, Errno> {
    let mut frames = Vec::new();
    frames.try_reserve_exact(pages.len()).map_err(|_| Errno::ENOMEM)?;
    frames.extend_from_slice(pages);
    Ok(Message { frames, frames_bytes: pages.len() * PAGE_BYTES, ..message(head, &[])? })
}

/// The payload's bytes, part by part: the message's without the head, which stands in front of its
/// first part.
pub fn parts(message: &Message) -> impl Iterator<Item = &[u8]> {
    let skipped = core::iter::once(HEADER_BYTES).chain(core::iter::repeat(0));
    message
        .parts()
        .zip(skipped)
        .map(|(part, skipped)| part.get(skipped..).unwrap_or_default())
        .filter(|part| !part.is_empty())
}

/// The payload as exactly `pages` whole pages: EIO where it has another length. Frames that came as
/// such are moved.
pub fn into_frames(message: Message, pages: usize) -> Result<Vec<Frame>, Errno> {
    if message.len() != HEADER_BYTES + pages * PAGE_BYTES {
        return Err(Errno::EIO);
    }
    if message.inline.len() == HEADER_BYTES {
        return Ok(message.frames);
    }
    let mut frames = Vec::new();
    frames.try_reserve_exact(pages).map_err(|_| Errno::ENOMEM)?;
    let mut page = Vec::new();
    page.try_reserve_exact(PAGE_BYTES).map_err(|_| Errno::ENOMEM)?;
    for mut part in parts(&message) {
        while !part.is_empty() {
            let (front, rest) = part.split_at(part.len().min(PAGE_BYTES - page.len()));
            page.extend_from_slice(front);
            part = rest;
            if page.len() == PAGE_BYTES {
                frames.push(Frame::from_bytes(Claim::Server, &page)?);
                page.clear();
            }
        }
    }
    Ok(frames)
}
