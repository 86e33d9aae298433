//! The transport of stream sockets.

use super::transfer::Received;
use super::{ShutDown, report_queued};
use crate::file::ring::{Ring, Taken, Writing};
use crate::file::{Io, IoCaller, Notifier, Ready, UserBuffers};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno};

/// One end of a pair of streams: two pipes, one for each direction.
pub(in crate::file) struct Stream {
    incoming: Arc<Ring>,
    outgoing: Arc<Ring>,
}

impl Stream {
    /// A connected pair.
    pub fn pair() -> (Self, Self) {
        let (there, back) = (Ring::new(), Ring::new());
        let one = Self { incoming: back.clone(), outgoing: there.clone() };
        (one, Self { incoming: there, outgoing: back })
    }

    /// Receives bytes, and the control data of the first one.
    #[inline]
    pub fn receive(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<Received, Errno> {
        let mut taken = Taken::default();
        let count = self.incoming.receive(io, to, &mut taken)?;
        if count.is_zero() && !to.remaining().is_zero() && self.incoming.take_reset() {
            return Err(Errno::ECONNRESET);
        }
        Ok(Received::bytes(count, taken.control))
    }

    /// Copies bytes that stay in the stream.
    pub fn peek(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<Received, Errno> {
        let mut taken = Taken::default();
        let count = self.incoming.peek(io, to, &mut taken)?;
        Ok(Received::bytes(count, taken.control))
    }

    /// Sends bytes, with what is attached to them.
    #[inline]
    pub fn transmit(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        writing: &mut Writing,
    ) -> Result<ByteCount, Errno> {
        self.outgoing.transmit(io, from, writing)
    }

    /// shutdown(2).
    pub fn shut_down(&self, how: ShutDown) {
        if how.reading() {
            self.incoming.close_reader();
        }
        if how.writing() {
            self.outgoing.close_writer();
        }
    }

    /// What reports that bytes have come, and that there is space for bytes.
    pub fn notifiers(&self) -> [&Notifier; 2] {
        [&self.incoming.changed, &self.outgoing.changed]
    }

    /// What can be done without waiting.
    pub fn poll(&self) -> Ready {
        let (incoming, outgoing) = (self.incoming.poll_reader(), self.outgoing.poll_writer());
        let is_closed = |(reader, writer)| reader || writer;
        let receives_no_more = is_closed(self.incoming.closed());
        let sends_no_more = is_closed(self.outgoing.closed());
        let mut ready = (incoming | outgoing) & (Ready::READ | Ready::WRITE);
        if receives_no_more {
            ready |= Ready::READ | Ready::READ_END;
        }
        ready.set(Ready::HANG_UP, receives_no_more && sends_no_more);
        ready.set(Ready::ERROR, self.incoming.was_reset());
        ready
    }

    /// The other end gets ECONNRESET once it has received all.
    pub fn reset(&self) {
        self.outgoing.reset();
    }

    /// Takes the report that the other end was reset.
    pub fn take_reset(&self) -> bool {
        self.incoming.take_reset()
    }

    /// ioctl(2).
    pub fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        let bytes = [self.incoming.len(), self.outgoing.len()];
        report_queued(caller, request, argument, bytes)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.incoming.len() > 0 {
            self.outgoing.reset();
        }
        self.shut_down(ShutDown::Both);
    }
}
