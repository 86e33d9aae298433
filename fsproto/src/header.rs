//! The part of the header that all messages share.

use crate::codec::{Field, Reader, Writer, flags_field, record};
use crate::{HEADER_BYTES, Handle, MAX_PAYLOAD, Malformed, Tag};
use foundation::Errno;

bitflags::bitflags! {
    /// A message's direction.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HeaderFlags: u16 {
        /// A reply, to the request with the same tag.
        const REPLY = 1 << 0;
        /// A request of the server to its client ([`Recall`](crate::Recall),
        /// [`Invalidate`](crate::Invalidate)), or the reply to one.
        const FROM_SERVER = 1 << 1;
        /// A message of the direct session between a wrapper's client and the wrapper's base, which
        /// shares the wrapper's connection. The reply to such a request is marked, too.
        const DIRECT = 1 << 2;
    }
}
flags_field!(HeaderFlags, u16);

record! {
    /// The first 16 bytes of a message. The operation's own fields follow. The last bytes of a
    /// request may hold handles to close ([`add_closes`]); the rest of the header is zero.
    Header {
        /// Length of the payload that follows the header, in bytes.
        payload_bytes: u32,
        /// Identifies the request in flight.
        tag: Tag,
        /// The operation's number: an [`Op`](crate::Op).
        op: u16,
        /// Direction of the message.
        flags: HeaderFlags,
        /// 0 in a request. In a reply 0, or an [`Errno`]; then the operation's fields are absent.
        status: u16,
        /// Number of handles in the last bytes of a request, at most [`MAX_CLOSES`]; needs
        /// [`Features::CLOSES`](crate::Features::CLOSES). 0 in a reply.
        closes: u16,
    }
}

/// Where the flags are in a message, and the bit in there that marks a direct one.
const FLAGS_AT: usize = 10;

/// Where the number of handles to close is in a message.
const CLOSES_AT: usize = 14;

/// Handles that one request can close besides, at most; fewer where its own fields leave less space
/// ([`Operation::CLOSES`](crate::Operation::CLOSES)).
pub const MAX_CLOSES: usize = 8;

/// Puts handles to close into the last bytes of an encoded request. The server closes them before
/// it does what the request says, as if a [`Close`](crate::Close) of each had come first, and sends
/// no reply for them. There are at most as many as the
/// [operation has space for](crate::Operation::CLOSES).
pub fn add_closes(header: &mut [u8; HEADER_BYTES], handles: &[Handle]) {
    debug_assert!(handles.len() <= MAX_CLOSES);
    let count = handles.len().min(MAX_CLOSES);
    header[CLOSES_AT] = count as u8;
    let places = header.rchunks_exact_mut(Handle::BYTES);
    places.zip(handles).for_each(|(place, handle)| place.copy_from_slice(&handle.0.to_le_bytes()));
}

/// The handles that an encoded request closes besides.
#[inline]
pub fn closes(header: &[u8; HEADER_BYTES]) -> impl Iterator<Item = Handle> {
    let count = usize::from(header[CLOSES_AT]).min(MAX_CLOSES);
    let places = header.rchunks_exact(Handle::BYTES).take(count);
    places.filter_map(|place| place.first_chunk()).map(|place| Handle(u64::from_le_bytes(*place)))
}

/// Marks an encoded header as one of a direct session.
pub fn mark_direct(header: &mut [u8; HEADER_BYTES]) {
    header[FLAGS_AT] |= HeaderFlags::DIRECT.bits() as u8;
}

/// Whether an encoded header is marked as one of a direct session; it need not be valid otherwise.
pub fn is_direct(header: &[u8; HEADER_BYTES]) -> bool {
    header[FLAGS_AT] & HeaderFlags::DIRECT.bits() as u8 != 0
}

impl Header {
    /// Decodes the common part of a header and checks it against the limits. The reader that is
    /// returned is positioned at the operation's own fields.
    #[inline]
    pub fn decode(header: &[u8; HEADER_BYTES]) -> Result<(Self, Reader<'_>), Malformed> {
        let mut reader = Reader::new(header);
        let decoded = Self::get(&mut reader)?;
        let within = decoded.payload_bytes as usize <= MAX_PAYLOAD
            && decoded.status <= 4095
            && usize::from(decoded.closes) <= MAX_CLOSES
            && (decoded.closes == 0 || !decoded.flags.contains(HeaderFlags::REPLY));
        if within { Ok((decoded, reader)) } else { Err(Malformed) }
    }

    /// The reply's status as a result.
    #[inline]
    pub fn result(&self) -> Result<(), Errno> {
        match self.status {
            0 => Ok(()),
            status => Err(Errno(status)),
        }
    }

    /// Encodes a whole header: the common part, followed by an operation's fields.
    #[inline]
    pub fn encode(&self, fields: &impl Field) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let mut writer = Writer::new(&mut header);
        // Cannot fail: every operation's fields are asserted to fit when they are defined.
        let fits = self.put(&mut writer).and_then(|()| fields.put(&mut writer));
        debug_assert!(fits.is_ok());
        header
    }
}
