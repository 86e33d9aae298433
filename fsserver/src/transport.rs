//! Transports: what carries messages, and the loop of a server that serves one client.

use alloc::vec::Vec;

use foundation::Errno;
use fsproto::{HEADER_BYTES, Header, HeaderFlags, MAX_PAYLOAD, is_direct};

use crate::buffer::Inbox;
use crate::connection::Connection;
use crate::dispatch::Dispatcher;
use crate::reply::Reply;
use crate::server::{FileServer, Replenish};
use crate::session::ClientLimits;

/// One end of a connection that preserves message boundaries.
pub trait Transport {
    /// Waits for a message and returns the length of its payload in bytes; `None` once the other
    /// end is gone, and only then: a message that cannot be delivered for want of memory is waited
    /// for. What does not fit into `payload` is dropped; the returned length is then greater than
    /// that of `payload`.
    fn receive(&mut self, header: &mut [u8; HEADER_BYTES], payload: &mut [u8]) -> Option<usize>;

    /// The same into an [`Inbox`], which a transport that moves pages can fill without a copy. A
    /// payload that is too long shows as a length above [`MAX_PAYLOAD`].
    fn receive_whole(&mut self, inbox: &mut Inbox) -> Option<usize> {
        let (header, payload) = inbox.space().split_first_chunk_mut()?;
        self.receive(header, payload.get_mut(..MAX_PAYLOAD)?)
    }

    /// Sends a message. ENOTCONN once the other end is gone. On another error the message was not
    /// sent for want of memory, and the connection stands; a message without payload does not fail
    /// so.
    fn send(&mut self, header: &[u8; HEADER_BYTES], payload: &[&[u8]]) -> Result<(), Errno>;

    /// Sends a message as [`send`](Self::send) does, and waits for the next one as
    /// [`receive`](Self::receive) does: what a client does for each request. On an error nothing
    /// was sent. A transport may do both at once.
    fn call(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        reply: &mut [u8; HEADER_BYTES],
        into: &mut [u8],
    ) -> Result<Option<usize>, Errno> {
        self.send(header, payload)?;
        Ok(self.receive(reply, into))
    }

    /// The same with [`receive_whole`](Self::receive_whole): what a server does after each request.
    fn send_then_receive(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        inbox: &mut Inbox,
    ) -> Result<Option<usize>, Errno> {
        self.send(header, payload)?;
        Ok(self.receive_whole(inbox))
    }
}

/// Serves one client until it is gone, and on the same connection a direct session of the client's
/// own client (F9), if that opens one. ENOMEM without memory for the inbox.
pub fn serve(
    server: impl FileServer,
    replenish: Replenish,
    limits: ClientLimits,
    mut transport: impl Transport,
) -> Result<(), Errno> {
    let dispatcher = Dispatcher::new(server).replenished_by(replenish);
    let mut dispatcher = dispatcher.limited_to(limits);
    let own = dispatcher.open_sole_session();
    let direct = dispatcher.open_direct_session();
    let mut inbox = Inbox::new()?;
    let mut received = transport.receive_whole(&mut inbox);
    while let Some(length) = received {
        // A message that did not fit does not have the length in its header, and is refused for
        // that.
        let (header, payload) = inbox.message(length);
        let session = if is_direct(header) { direct } else { own };
        let reply = dispatcher.handle(session, header, payload);
        let header = reply.header;
        let next = match send_reply(&mut transport, &reply, &mut inbox) {
            Err(error) if error != Errno::ENOTCONN => {
                // Only the payload is too much: the client learns that instead.
                let refusal = dispatcher.unsent(session, &header, error);
                transport.send_then_receive(&refusal, &[], &mut inbox)
            }
            next => next,
        };
        let Ok(next) = next else { break };
        received = next;
    }
    dispatcher.close_session(own);
    Ok(())
}

/// Sends a reply, and waits for the next request.
fn send_reply(
    transport: &mut impl Transport,
    reply: &Reply<'_>,
    inbox: &mut Inbox,
) -> Result<Option<usize>, Errno> {
    if reply.payload.is_empty() {
        return transport.send_then_receive(&reply.header, &[], inbox);
    }
    if let Some(segment) = reply.payload.only() {
        return transport.send_then_receive(&reply.header, &[segment], inbox);
    }
    let mut segments = Vec::new();
    let count = reply.payload.segments().count();
    segments.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    segments.extend(reply.payload.segments());
    transport.send_then_receive(&reply.header, &segments, inbox)
}

/// Maximum number of messages that answer no request and are skipped while waiting for a reply.
const MAX_STRAY: usize = 16;

/// A connection over a transport, with one request in flight.
#[derive(Debug)]
pub struct TransportConnection<P>(pub P);

impl<P: Transport> Connection for TransportConnection<P> {
    fn call(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> Result<([u8; HEADER_BYTES], usize), Errno> {
        let tag = Header::decode(header).map_err(|_| Errno::EINVAL)?.0.tag;
        let mut reply = [0; HEADER_BYTES];
        let mut received = self.0.call(header, payload, &mut reply, into)?;
        for _ in 0..MAX_STRAY {
            let length = received.ok_or(Errno::ENOTCONN)?;
            // Late or repeated replies to earlier requests are skipped.
            let answers = Header::decode(&reply).is_ok_and(|(decoded, _)| {
                decoded.tag == tag && decoded.flags.contains(HeaderFlags::REPLY)
            });
            if answers {
                return if length <= into.len() { Ok((reply, length)) } else { Err(Errno::EPROTO) };
            }
            received = self.0.receive(&mut reply, into);
        }
        Err(Errno::EPROTO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Base;
    use alloc::collections::VecDeque;
    use alloc::vec;
    use fsproto::{Features, GetStatFs, Hello, Operation, StatFs, Tag, Welcome};

    /// A peer that answers from a script, whatever it is asked.
    #[derive(Default)]
    struct Script(VecDeque<([u8; HEADER_BYTES], Vec<u8>)>);

    impl Transport for Script {
        fn receive(
            &mut self,
            header: &mut [u8; HEADER_BYTES],
            payload: &mut [u8],
        ) -> Option<usize> {
            let (next, bytes) = self.0.pop_front()?;
            *header = next;
            payload.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            Some(bytes.len())
        }

        fn send(&mut self, _head: &[u8; HEADER_BYTES], _payload: &[&[u8]]) -> Result<(), Errno> {
            Ok(())
        }
    }

    fn info(blocks: u64, tag: u32) -> ([u8; HEADER_BYTES], Vec<u8>) {
        (GetStatFs::reply(Tag(tag), &StatFs { blocks, ..StatFs::default() }, 0), Vec::new())
    }

    fn connected(replies: Vec<([u8; HEADER_BYTES], Vec<u8>)>) -> Base<TransportConnection<Script>> {
        let welcome = Hello::reply(Tag(1), &Welcome { version: 1, ..Welcome::default() }, 0);
        let script = core::iter::once((welcome, Vec::new())).chain(replies).collect();
        Base::connect(TransportConnection(Script(script)), Features::empty()).unwrap()
    }

    #[test]
    fn x5_replies_late_twice_garbled_or_never() {
        let mut base = connected(vec![
            info(1, 2),
            info(1, 2),
            ([0xFF; HEADER_BYTES], vec![1; 50]),
            info(2, 3),
            info(9, 5),
        ]);
        let mut ask = || base.request(&GetStatFs {}, &[]).map(|info| info.blocks);
        assert_eq!(ask(), Ok(1));
        assert_eq!(ask(), Ok(2));
        // A reply to a request that was not sent yet is skipped; then the peer is gone.
        assert_eq!(ask(), Err(Errno::ENOTCONN));
    }

    #[test]
    fn x5_a_flood_of_replies_is_an_error_of_one_request() {
        let flood = |count: usize| core::iter::repeat_n(info(9, 99), count);
        let replies = flood(MAX_STRAY - 1).chain([info(1, 2)]).chain(flood(MAX_STRAY));
        // The reply that came too late answers no later request.
        let mut base = connected(replies.chain([info(2, 3), info(3, 4)]).collect());
        let mut ask = || base.request(&GetStatFs {}, &[]).map(|info| info.blocks);
        assert_eq!([ask(), ask(), ask()], [Ok(1), Err(Errno::EPROTO), Ok(3)]);
    }

    #[test]
    fn x5_replies_that_do_not_fit_the_request() {
        let other = Hello::reply(Tag(2), &Welcome::default(), 0);
        let with_payload = GetStatFs::reply(Tag(3), &StatFs::default(), 4);
        let lying = GetStatFs::reply(Tag(4), &StatFs::default(), 4);
        let mut base = connected(vec![
            (other, vec![]),
            (with_payload, vec![0; 4]),
            (lying, vec![]),
            info(7, 5),
        ]);
        for _ in 0..3 {
            assert_eq!(base.request(&GetStatFs {}, &[]), Err(Errno::EPROTO));
        }
        assert_eq!(base.request(&GetStatFs {}, &[]).map(|info| info.blocks), Ok(7));
    }
}
