//! A file server on this machine, at the other end of a socket pair.

use alloc::sync::{Arc, Weak};

use foundation::Errno;

use super::{Carrier, Mount, MountedTree, Session, Trust};
use crate::file::FileSystem;
use crate::file::socket::{Endpoint, Message, Receiver, Sender};

impl Carrier for Endpoint {
    fn send(&self, message: Message) -> Result<(), Errno> {
        Self::send(self, message)
    }
}

/// The connection's incoming side. Weak: the endpoint must not keep alive the session that owns it.
struct Incoming(Weak<Session>);

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

/// Takes an end of a socket pair, opens a session with the server behind it, and gives its tree.
/// Waits for the server's first answer.
pub fn connect(endpoint: Arc<Endpoint>, trust: Trust) -> Result<Arc<dyn FileSystem>, Errno> {
    Ok(Arc::new(MountedTree(Mount::with_trust(open_session(endpoint)?, trust)?)))
}

/// A session on an end of a socket pair.
pub(super) fn open_session(endpoint: Arc<Endpoint>) -> Result<Arc<Session>, Errno> {
    let session = Arc::new(Session::new(endpoint.clone()));
    endpoint.attach(Arc::new(Incoming(Arc::downgrade(&session))))?;
    Ok(session)
}
