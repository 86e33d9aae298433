//! Assembling requests and taking payloads from replies. Small payloads are inline behind the
//! header, large ones are in frames, so that pages can move without a copy.

use alloc::vec::Vec;

use foundation::{Errno, PAGE_BYTES};
use fsproto::HEADER_BYTES;

use crate::file::socket::Message;
use crate::mem::{Claim, Frame, fallible};

/// A message of a header and the concatenation of `parts`.
pub fn message(header: &[u8; HEADER_BYTES], parts: &[&[u8]]) -> Result<Message, Errno> {
    let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let mut inline = fallible::with_capacity(HEADER_BYTES + payload_bytes)?;
    inline.extend_from_slice(header);
    parts.iter().for_each(|part| inline.extend_from_slice(part));
    Ok(Message { inline: inline.into(), ..Message::default() })
}

/// A message of a header and whole pages.
pub fn pages_message(header: &[u8; HEADER_BYTES], pages: &[Frame]) -> Result<Message, Errno> {
    let frames = fallible::to_vec(pages)?;
    Ok(Message { frames, frames_bytes: pages.len() * PAGE_BYTES, ..message(header, &[])? })
}

/// The payload, part by part: the message's parts without the header, which is the beginning of
/// the first one.
pub fn parts(message: &Message) -> impl Iterator<Item = &[u8]> {
    let skipped = core::iter::once(HEADER_BYTES).chain(core::iter::repeat(0));
    message
        .parts()
        .zip(skipped)
        .map(|(part, skipped)| part.get(skipped..).unwrap_or_default())
        .filter(|part| !part.is_empty())
}

/// The payload as exactly `pages` whole pages; EIO for another length. Payloads that arrived in
/// frames are not copied.
pub fn into_frames(message: Message, pages: usize) -> Result<Vec<Frame>, Errno> {
    if message.len() != HEADER_BYTES + pages * PAGE_BYTES {
        return Err(Errno::EIO);
    }
    if message.inline.len() == HEADER_BYTES {
        return Ok(message.frames);
    }
    copy_to_frames(&message, pages)
}

/// The payload as `pages` pages at most, where a file may end in the last one: behind its end are
/// zeros. EIO for a longer payload.
pub fn into_frames_up_to(message: Message, pages: usize) -> Result<Vec<Frame>, Errno> {
    let bytes = message.len().checked_sub(HEADER_BYTES).ok_or(Errno::EIO)?;
    if bytes > pages * PAGE_BYTES {
        return Err(Errno::EIO);
    }
    if bytes % PAGE_BYTES == 0 {
        return into_frames(message, bytes / PAGE_BYTES);
    }
    copy_to_frames(&message, bytes.div_ceil(PAGE_BYTES))
}

/// Copies the payload to `pages` frames, with zeros behind it.
fn copy_to_frames(message: &Message, pages: usize) -> Result<Vec<Frame>, Errno> {
    let mut frames = fallible::with_capacity(pages)?;
    let mut page = fallible::with_capacity(PAGE_BYTES)?;
    for mut part in parts(message) {
        while !part.is_empty() {
            let (front, rest) = part.split_at(part.len().min(PAGE_BYTES - page.len()));
            page.extend_from_slice(front);
            part = rest;
            if page.len() == PAGE_BYTES {
                frames.push(Frame::from_bytes(Claim::Kernel, &page)?);
                page.clear();
            }
        }
    }
    if !page.is_empty() {
        page.resize(PAGE_BYTES, 0);
        frames.push(Frame::from_bytes(Claim::Kernel, &page)?);
    }
    Ok(frames)
}

/// The payload of a reply.
#[derive(Debug)]
pub struct Payload(pub(super) Message);

impl Payload {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len().saturating_sub(HEADER_BYTES)
    }

    /// Whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in order, in at most one part for each page and one inline part.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        parts(&self.0)
    }

    /// A copy of all bytes. ENOMEM where there is no memory for it.
    pub fn to_vec(&self) -> Result<Vec<u8>, Errno> {
        let mut bytes = fallible::with_capacity(self.len())?;
        self.parts().for_each(|part| bytes.extend_from_slice(part));
        Ok(bytes)
    }
}
