//! The part of the head that all messages share.

use crate::codec::{Field, Reader, Writer, flags_field, record};
use crate::{HEAD_BYTES, MAX_PAYLOAD, Malformed, Tag};
use foundation::Errno;

bitflags::bitflags! {
    /// Which way a message goes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HeadFlags: u16 {
        /// It answers the request of the same tag.
        const REPLY = 1 << 0;
        /// A request of the server to its client ([`Recall`](crate::Recall),
        /// [`Invalidate`](crate::Invalidate)) or its reply.
        const FROM_SERVER = 1 << 1;
    }
}
flags_field!(HeadFlags, u16);

record! {
    /// The first 16 bytes of a message.
    Head {
        /// Bytes of payload that follow the head.
        payload_bytes: u32,
        /// The request in flight.
        tag: Tag,
        /// The operation's number.
        op: u16,
        /// Direction.
        flags: HeadFlags,
        /// In a reply: 0, or an [`Errno`]; then the fields of the operation are absent.
        status: u16,
        /// Zero.
        reserved: u16,
    }
}

impl Head {
    /// Takes the common part off a message's head and checks it against the limits.
    pub fn decode(head: &[u8; HEAD_BYTES]) -> Result<(Self, Reader<'_>), Malformed> {
        let mut reader = Reader::new(head);
        let decoded = Self::get(&mut reader)?;
        let within = decoded.payload_bytes as usize <= MAX_PAYLOAD
            && decoded.status <= 4095
            && decoded.reserved == 0;
        if within { Ok((decoded, reader)) } else { Err(Malformed) }
    }

    /// The reply's status as a result.
    pub fn result(&self) -> Result<(), Errno> {
        match self.status {
            0 => Ok(()),
            status => Err(Errno(status)),
        }
    }

    /// Makes a whole head of the common part and an operation's fields.
    pub fn encode(&self, fields: &impl Field) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        let mut writer = Writer::new(&mut head);
        // Cannot fail: every operation's fields are asserted to fit when they are defined.
        let fits = self.put(&mut writer).and_then(|()| fields.put(&mut writer));
        debug_assert!(fits.is_ok());
        head
    }
}
