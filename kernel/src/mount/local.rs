//! A file server on this machine, at the other end of a socket pair; and its base (F9), at the
//! other end of the server's own pair.

use alloc::sync::{Arc, Weak};

use foundation::Errno;
use fsproto::{HEADER_BYTES, is_direct, mark_direct};

use super::{Mount, MountedTree, Session, Transport, Trust, mutants};
use crate::file::FileSystem;
use crate::file::socket::{Endpoint, Message, Receiver, Sender};
use crate::mem::LentPages;

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

    fn pages(&self, header: &[u8], lent: LentPages<'_>) -> bool {
        let session = header.try_into().ok().and_then(|header| Some((header, self.0.upgrade()?)));
        session.is_some_and(|(header, session)| session.pages(header, lent))
    }

    fn closed(&self) {
        if let Some(session) = self.0.upgrade() {
            session.closed();
        }
    }
}

/// Attaches the kernel to an end of a socket pair, opens a session with the server at the other
/// end, and returns its tree of names. `base` is the server's own end of its connection with its
/// base, if page-ins may go there (F9). Waits for the first replies.
pub fn connect(
    endpoint: Arc<Endpoint>,
    base: Option<Arc<Endpoint>>,
    trust: Trust,
) -> Result<Arc<dyn FileSystem>, Errno> {
    let direct = match base {
        // An untrusted server does not decide whom the kernel believes (X3).
        Some(base) if trust == Trust::Trusted || mutants::direct_untrusted() => {
            Some(open_direct(&base)?)
        }
        _ => None,
    };
    let session = open_session(endpoint, direct)?;
    Ok(Arc::new(MountedTree(Mount::with_trust(session, trust)?)))
}

/// A session on an end of a socket pair.
fn open_session(
    endpoint: Arc<Endpoint>,
    direct: Option<Arc<Session>>,
) -> Result<Arc<Session>, Errno> {
    let session = Arc::new(Session::with_direct(endpoint.clone(), direct));
    endpoint.attach(Arc::new(Incoming(Arc::downgrade(&session))))?;
    Ok(session)
}

/// The outgoing side: the wrapper's end of its connection with the base. It belongs to the wrapper,
/// and ends with it.
struct SharedEndpoint(Weak<Endpoint>);

impl Transport for SharedEndpoint {
    fn send(&self, mut message: Message) -> Result<(), Errno> {
        let endpoint = self.0.upgrade().ok_or(Errno::EIO)?;
        if let Some(header) = message.inline.first_chunk_mut() {
            mark_direct(header);
        }
        endpoint.send(message)
    }

    fn hand_over(&self, header: &[u8; HEADER_BYTES], payload: &[&[u8]]) -> bool {
        let mut header = *header;
        mark_direct(&mut header);
        self.0.upgrade().is_some_and(|endpoint| endpoint.hand_over(&header, payload))
    }
}

impl Drop for SharedEndpoint {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0.upgrade() {
            endpoint.unshare();
        }
    }
}

/// Whether a message of the base is one of the direct session.
fn is_ours(bytes: &[u8]) -> bool {
    bytes.first_chunk::<HEADER_BYTES>().is_some_and(is_direct)
}

/// A direct session on the wrapper's end of its connection with the base. EBUSY where there is one
/// already, ENOTCONN where the base is gone.
fn open_direct(endpoint: &Arc<Endpoint>) -> Result<Arc<Session>, Errno> {
    let session = Arc::new(Session::new(Arc::new(SharedEndpoint(Arc::downgrade(endpoint)))));
    endpoint.share(is_ours, Arc::new(Incoming(Arc::downgrade(&session))))?;
    Ok(session)
}
