//! Messages over a carrier, and the loop of a server that serves one.

use alloc::vec::Vec;

use fsproto::{Errno, HEAD_BYTES, MAX_PAYLOAD};

use crate::buffer::AlignedBuffer;
use crate::client::Client;
use crate::dispatch::Dispatcher;
use crate::server::FileServer;

/// One end of a connection that keeps messages apart.
pub trait Port {
    /// Waits for a message and tells the length of its payload; nothing once the other end is gone for good. What does not fit into
    /// `payload` is dropped, and the length told is then greater than that of `payload`.
    fn receive(&mut self, head: &mut [u8; HEAD_BYTES], payload: &mut [u8]) -> Option<usize>;

    /// Sends a message. ENOTCONN once the other end is gone.
    fn send(&mut self, head: &[u8; HEAD_BYTES], payload: &[&[u8]]) -> Result<(), Errno>;
}

/// Serves one client until it is gone. Fails only where there is no memory to begin with.
pub fn serve(server: impl FileServer, mut port: impl Port) -> Result<(), Errno> {
    let mut dispatcher = Dispatcher::new(server);
    let session = dispatcher.open_session();
    let mut space = AlignedBuffer::new(MAX_PAYLOAD)?;
    let mut head = [0; HEAD_BYTES];
    while let Some(length) = port.receive(&mut head, space.bytes_mut()) {
        // What did not fit has not the length that its head tells, and is refused for that.
        let payload = space.bytes().get(..length).unwrap_or_default();
        let reply = dispatcher.handle(session, &head, payload);
        let segments: Vec<&[u8]> = reply.payload.segments().collect();
        if port.send(&reply.head, &segments).is_err() {
            break;
        }
    }
    dispatcher.close_session(session);
    Ok(())
}

/// A client over a port, with one request in flight.
#[derive(Debug)]
pub struct PortClient<P>(pub P);

impl<P: Port> Client for PortClient<P> {
    fn call(&mut self, head: &[u8; HEAD_BYTES], payload: &[&[u8]], into: &mut [u8]) -> Result<([u8; HEAD_BYTES], usize), Errno> {
        self.0.send(head, payload)?;
        let mut reply = [0; HEAD_BYTES];
        match self.0.receive(&mut reply, into).ok_or(Errno::ENOTCONN)? {
            length if length <= into.len() => Ok((reply, length)),
            _ => Err(Errno::EPROTO),
        }
    }
}
