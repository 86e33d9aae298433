//! Connections: one request, then its reply.
//!
//! A server that is itself a client, as [`snapfs`](mod@crate::snapfs) is one of its base, sends its
//! requests through a [`Connection`]. It may lead to another process
//! ([`TransportConnection`](crate::TransportConnection)) or to a server in the same program
//! ([`LocalConnection`]).

use core::cell::RefCell;

use alloc::rc::Rc;
use alloc::vec::Vec;

use foundation::Errno;
use fsproto::HEADER_BYTES;

use crate::dispatch::{Dispatcher, SessionId};
use crate::server::FileServer;

/// Sends a request to a server and waits for its reply.
pub trait Connection {
    /// Sends a message: `header`, and the concatenation of `payload`. Writes the reply's payload to
    /// the front of `into`, and returns the reply's header and the payload's length in bytes, which
    /// is at most `into.len()`. EPROTO where the payload does not fit, ENOTCONN when the server is
    /// gone. On any other error nothing was sent.
    fn call(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> Result<([u8; HEADER_BYTES], usize), Errno>;
}

/// A connection to a server in the same program: for tests, for the simulation, and for a wrapper
/// in one process with its base.
pub struct LocalConnection<S: FileServer> {
    dispatcher: Rc<RefCell<Dispatcher<S>>>,
    session: SessionId,
}

impl<S: FileServer> LocalConnection<S> {
    /// Opens a session.
    pub fn new(dispatcher: Rc<RefCell<Dispatcher<S>>>) -> Self {
        let session = dispatcher.borrow_mut().open_session();
        Self { dispatcher, session }
    }

    /// Opens a direct session (F9).
    pub fn direct(dispatcher: Rc<RefCell<Dispatcher<S>>>) -> Self {
        let session = dispatcher.borrow_mut().open_direct_session();
        Self { dispatcher, session }
    }

    /// The server and its sessions.
    pub fn dispatcher(&self) -> &Rc<RefCell<Dispatcher<S>>> {
        &self.dispatcher
    }
}

impl<S: FileServer> Drop for LocalConnection<S> {
    fn drop(&mut self) {
        self.dispatcher.borrow_mut().close_session(self.session);
    }
}

fn concatenated(parts: &[&[u8]]) -> Result<Vec<u8>, Errno> {
    let mut whole = Vec::new();
    let length = parts.iter().map(|part| part.len()).sum();
    whole.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    Ok(whole)
}

impl<S: FileServer> Connection for LocalConnection<S> {
    fn call(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> Result<([u8; HEADER_BYTES], usize), Errno> {
        let mut dispatcher = self.dispatcher.borrow_mut();
        let joined;
        let payload = match payload {
            [] => &[],
            [only] => *only,
            parts => {
                joined = concatenated(parts)?;
                &joined[..]
            }
        };
        let reply = dispatcher.handle(self.session, header, payload);
        let total = reply.payload.len();
        let mut rest = into.get_mut(..total).ok_or(Errno::EPROTO)?;
        for segment in reply.payload.segments() {
            let (front, behind) = rest.split_at_mut(segment.len());
            front.copy_from_slice(segment);
            rest = behind;
        }
        Ok((reply.header, total))
    }
}
