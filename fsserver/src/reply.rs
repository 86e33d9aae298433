//! Replies of a dispatcher: encoded headers and their payloads.

use foundation::Errno;
use fsproto::{
    HEADER_BYTES, Handle, Header, MAX_PAYLOAD, Op, Open, Operation, Snapshot, Tag, Walked, Write,
    error_reply,
};

use crate::server::{Payload, Walk};

/// A reply, ready to be sent.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The encoded header.
    pub header: [u8; HEADER_BYTES],
    /// The payload, whose length the header states.
    pub payload: Payload<'a>,
}

/// One without payload.
pub(crate) fn plain<'a, O: Operation>(tag: Tag, reply: &O::Reply) -> Reply<'a> {
    Reply { header: O::reply(tag, reply, 0), payload: Payload::empty() }
}

/// One with a payload of at most [`MAX_PAYLOAD`] bytes.
pub(crate) fn with_payload<'a, O: Operation>(
    tag: Tag,
    reply: &O::Reply,
    payload: Payload<'a>,
) -> Reply<'a> {
    if payload.len() > MAX_PAYLOAD {
        // A bug of the server, reported to the client as a failure.
        return refuse(O::OP as u16, tag, Errno::EIO);
    }
    Reply { header: O::reply(tag, reply, payload.len()), payload }
}

/// The one to a request on a path.
pub(crate) fn walked<'a, O: Operation<Reply = Walked>>(tag: Tag, walk: Walk) -> Reply<'a> {
    with_payload::<O>(tag, &walk.reply, Payload::owned(walk.target))
}

/// One that reports an error.
pub(crate) fn refuse<'a>(op: u16, tag: Tag, error: Errno) -> Reply<'a> {
    Reply { header: error_reply(op, tag, error), payload: Payload::empty() }
}

/// The handle that a reply brings to the client, if any.
pub(crate) fn opened_by(reply: &[u8; HEADER_BYTES]) -> Option<Handle> {
    let (header, mut fields) = Header::decode(reply).ok()?;
    let handle = match Op::from_number(header.op)? {
        _ if header.status != 0 => return None,
        Op::Open => Open::decode_reply(&mut fields).ok()?.handle,
        Op::Snapshot => Snapshot::decode_reply(&mut fields).ok()?.handle,
        Op::Write => Write::decode_reply(&mut fields).ok()?.snapshot,
        _ => return None,
    };
    Some(handle)
}

/// The bytes of the tag in a header that does not decode, so that a client that waits gets a reply.
pub(crate) fn tag_of(header: &[u8; HEADER_BYTES]) -> Tag {
    Tag(u32::from_le_bytes([header[4], header[5], header[6], header[7]]))
}

/// The bytes of the number of the operation, in the same way.
pub(crate) fn op_of(header: &[u8; HEADER_BYTES]) -> u16 {
    u16::from_le_bytes([header[8], header[9]])
}
