//! A file server on this machine, at the other end of a socket pair.

use alloc::sync::{Arc, Weak};

use foundation::Errno;
use fsproto::HEADER_BYTES;

use super::{Mount, MountedTree, Session, Transport, Trust};
use crate::file::FileSystem;
use crate::file::socket::{Endpoint, Message, Receiver, Sender};

impl Transport for Endpoint {
    fn send(&self, message: Message) -> Result<(), Errno> {
        Self::send(self, message)
    }

    fn hand_over(&self, header: &[u8; HEADER_BYTES], payload: &[&[u8]]) -> bool {
        Self::hand_over(self, header, payload)
    }
}

/// The incoming side of a connection. Weak, because the session owns the endpoint.
pub(super) struct Incoming(pub Weak<Session>);

impl Receiver for Incoming {
    fn message(&self, message: Message, sender: Sender) {
        if let Some(session) = self.0.upgrade() {
            session.message(message, sender);
        }
    }

    fn closed(&self) {
        if let Some(session) = self.0.upgrade() {
            session.closed();
        }
    }
}

/// Attaches the kernel to an end of a socket pair, opens a session with the server at the other
/// end, and returns its tree of names. Waits for the server's first reply.
pub fn connect(endpoint: Arc<Endpoint>, trust: Trust) -> Result<Arc<dyn FileSystem>, Errno> {
    Ok(Arc::new(MountedTree(Mount::with_trust(open_session(endpoint)?, trust)?)))
}

/// A session on an end of a socket pair.
fn open_session(endpoint: Arc<Endpoint>) -> Result<Arc<Session>, Errno> {
    let session = Arc::new(Session::new(endpoint.clone()));
    endpoint.attach(Arc::new(Incoming(Arc::downgrade(&session))))?;
    Ok(session)
}
