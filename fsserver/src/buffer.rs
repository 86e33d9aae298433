//! Page-aligned memory, without `unsafe`.

use alloc::vec::Vec;

use foundation::{Errno, PAGE_BYTES};
use fsproto::{HEADER_BYTES, Hole, MAX_PAYLOAD};

/// A page-aligned page.
#[repr(C, align(4096))]
pub(crate) struct Page(pub [u8; PAGE_BYTES]);

/// The page of zeros that all holes are read from.
pub(crate) static ZEROS: Page = Page([0; PAGE_BYTES]);

/// Zero bytes. ENOMEM without memory for them.
pub(crate) fn zeros(length: usize) -> Result<Vec<u8>, Errno> {
    let mut space = Vec::new();
    space.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    space.resize(length, 0);
    Ok(space)
}

/// Appends an item to a list whose length a client determines. ENOMEM without memory for it.
#[inline]
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), Errno> {
    list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    list.push(item);
    Ok(())
}

/// Appends a list of holes to a payload.
pub(crate) fn put_holes(payload: &mut Vec<u8>, holes: &[Hole]) -> Result<(), Errno> {
    payload.try_reserve(holes.len() * Hole::BYTES).map_err(|_| Errno::ENOMEM)?;
    holes.iter().for_each(|hole| payload.extend_from_slice(&hole.to_bytes()));
    Ok(())
}

/// Page-aligned bytes, which a transport can move by page.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    space: Vec<u8>,
    begin: usize,
    length: usize,
}

impl AlignedBuffer {
    /// A buffer of `length` zero bytes. ENOMEM without memory for it.
    pub fn new(length: usize) -> Result<Self, Errno> {
        let space = zeros(length.checked_add(PAGE_BYTES).ok_or(Errno::ENOMEM)?)?;
        // At most PAGE_BYTES - 1; the allocation never moves, since it never grows.
        let begin = space.as_ptr().align_offset(PAGE_BYTES);
        if begin >= PAGE_BYTES { Err(Errno::ENOMEM) } else { Ok(Self { space, begin, length }) }
    }

    /// The contents so far.
    pub fn bytes(&self) -> &[u8] {
        self.space.get(self.begin..self.begin + self.length).unwrap_or_default()
    }

    /// The page with an index, if there is one. On the hot path of every read.
    #[inline]
    pub(crate) fn page(&self, index: usize) -> Option<&[u8; PAGE_BYTES]> {
        self.space.get(self.begin + index * PAGE_BYTES..)?.first_chunk()
    }

    /// The same, for writing.
    #[inline]
    pub(crate) fn page_mut(&mut self, index: usize) -> Option<&mut [u8; PAGE_BYTES]> {
        self.space.get_mut(self.begin + index * PAGE_BYTES..)?.first_chunk_mut()
    }

    /// The bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.space.get_mut(self.begin..self.begin + self.length).unwrap_or_default()
    }
}

/// Space for a message of maximum length: a header, directly followed by the page-aligned payload,
/// and one byte more that shows when a payload is too long.
#[derive(Debug)]
pub struct Inbox(AlignedBuffer);

/// Offset of the header in the buffer.
const HEAD_AT: usize = PAGE_BYTES - HEADER_BYTES;

impl Inbox {
    /// An empty inbox. ENOMEM without memory for it.
    pub fn new() -> Result<Self, Errno> {
        AlignedBuffer::new(PAGE_BYTES + MAX_PAYLOAD + 1).map(Self)
    }

    /// The space that a message is received into, from its first byte on.
    pub fn space(&mut self) -> &mut [u8] {
        self.0.bytes_mut().get_mut(HEAD_AT..).unwrap_or_default()
    }

    /// The header and the payload of a message whose payload has `payload_bytes` bytes; an empty
    /// payload if it was too long.
    pub fn message(&self, payload_bytes: usize) -> (&[u8; HEADER_BYTES], &[u8]) {
        let whole = self.0.bytes().get(HEAD_AT..).and_then(<[u8]>::split_first_chunk);
        let (header, payload) = whole.unwrap_or((&[0; HEADER_BYTES], &[]));
        (
            header,
            payload
                .get(..payload_bytes)
                .filter(|payload| payload.len() <= MAX_PAYLOAD)
                .unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_page_aligned() {
        for length in [0, 1, 4096, 10_000] {
            let mut buffer = AlignedBuffer::new(length).unwrap();
            assert_eq!(buffer.bytes().len(), length);
            assert!(buffer.bytes_mut().as_ptr().addr().is_multiple_of(PAGE_BYTES));
        }
    }

    #[test]
    fn payload_is_page_aligned() {
        let mut inbox = Inbox::new().unwrap();
        let space = inbox.space();
        assert_eq!(space.len(), HEADER_BYTES + MAX_PAYLOAD + 1);
        (space[0], space[HEADER_BYTES], space[HEADER_BYTES + 1]) = (1, 2, 3);
        let (header, payload) = inbox.message(2);
        assert_eq!((header[0], payload), (1, &[2, 3][..]));
        assert!(payload.as_ptr().addr().is_multiple_of(PAGE_BYTES));
        assert_eq!(inbox.message(MAX_PAYLOAD).1.len(), MAX_PAYLOAD);
        assert!(inbox.message(MAX_PAYLOAD + 1).1.is_empty(), "too long");
    }
}
