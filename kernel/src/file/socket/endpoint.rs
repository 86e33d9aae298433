//! Packet sockets.

use super::channel::{Arrival, Channel, IsOurs, Receiver, Refusal, Sender};
use super::message::{Message, assemble, deliver};
use super::{ShutDown, report_readable};
use crate::file::pipe::{nameless_stat, next_inode};
use crate::file::{
    FileObject, FileType, Io, IoCaller, Notifier, Ready, Stat, UserBuffers, WriteOutcome,
    WritePosition, mutants,
};
use crate::mem::{LentPages, UserSlice};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

/// Messages up to this length are handed over: a header of the file protocol, and a name.
const SMALL: usize = 192;

/// Linux's number: no memory for a message. The file protocol does not use it.
const ENOBUFS: Errno = Errno(105);

/// One end of a pair of packet sockets.
pub struct Endpoint {
    incoming: Arc<Channel>,
    outgoing: Arc<Channel>,
    inode: u64,
}

/// A connected pair of packet sockets.
pub fn packet_pair() -> (Arc<Endpoint>, Arc<Endpoint>) {
    let (there, back) = (Arc::<Channel>::default(), Arc::<Channel>::default());
    let one = Endpoint { incoming: back.clone(), outgoing: there.clone(), inode: next_inode() };
    let other = Endpoint { incoming: there, outgoing: back, inode: next_inode() };
    (Arc::new(one), Arc::new(other))
}

impl Endpoint {
    /// Attaches the kernel: messages written to the other end are passed to `receiver`. EBUSY where
    /// the kernel is attached already, ENOTCONN where the other end is closed.
    pub fn attach(&self, receiver: Arc<dyn Receiver>) -> Result<(), Errno> {
        let mut state = self.incoming.state.lock();
        if state.receiver.is_some() {
            return Err(Errno::EBUSY);
        }
        if state.ended {
            return Err(Errno::ENOTCONN);
        }
        // Drops messages sent before: a server only replies to requests, and there were none.
        let early = core::mem::take(&mut state.queue);
        state.queued_cost = 0;
        state.receiver = Some(receiver);
        drop(state);
        drop(early);
        Ok(())
    }

    /// The messages that were sent to this end and not received, and what they cost in bytes.
    pub fn queued(&self) -> (usize, usize) {
        let state = self.incoming.state.lock();
        (state.queue.len(), state.queued_cost)
    }

    /// Detaches the kernel, and drops the receiver.
    pub fn detach(&self) {
        let receiver = self.incoming.state.lock().receiver.take();
        drop(receiver);
    }

    /// Lets the kernel share this end with the process that has it: messages written to the other
    /// end for which `is_ours` returns true are passed to `receiver`, all others to the process.
    /// EBUSY where the kernel shares it already, ENOTCONN where the other end is closed.
    pub fn share(&self, is_ours: IsOurs, receiver: Arc<dyn Receiver>) -> Result<(), Errno> {
        let mut state = self.incoming.state.lock();
        if state.receiver.is_some() || state.sharing.is_some() {
            return Err(Errno::EBUSY);
        }
        if state.ended || state.refused {
            return Err(Errno::ENOTCONN);
        }
        state.sharing = Some((is_ours, receiver));
        Ok(())
    }

    /// Ends sharing, and drops the receiver.
    pub fn unshare(&self) {
        let sharing = self.incoming.state.lock().sharing.take();
        drop(sharing);
    }

    /// Sends from the kernel: never waits, and ignores the limit of the queue. EPIPE where the
    /// other end is closed.
    pub fn send(&self, mut message: Message) -> Result<(), Errno> {
        match self.outgoing.send(&mut message, Sender::Server, None) {
            Ok(()) => Ok(()),
            Err(Refusal::NoMemory) => Err(Errno::ENOMEM),
            Err(Refusal::Closed | Refusal::Full) => Err(Errno::EPIPE),
        }
    }

    /// Sends a small message from the kernel to a thread that waits for it. False where none does:
    /// then it has to be [sent](Self::send).
    pub fn hand_over(&self, first: &[u8], rest: &[&[u8]]) -> bool {
        self.outgoing.hand_over(first, rest)
    }

    /// shutdown(2).
    pub fn shut_down(&self, how: ShutDown) {
        if how.reading() {
            self.incoming.refuse();
        }
        if how.writing() {
            self.outgoing.end();
        }
    }

    /// Whether the kernel is attached.
    fn is_attached(&self) -> bool {
        self.incoming.state.lock().receiver.is_some()
    }

    /// Receives one message. The part that does not fit is dropped. EBUSY where the kernel is
    /// attached.
    pub fn receive(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<Received, Errno> {
        let place = to.front().map(|front| (io.space, front));
        let queued = match self.incoming.receive(io.nonblocking, place)? {
            Arrival::Kernels => return Err(Errno::EBUSY),
            Arrival::End => return Ok(Received::default()),
            Arrival::Handed(length) => {
                let length = ByteCount::of_len(length);
                return Ok(Received { copied: length, length });
            }
            Arrival::Queued(queued) => queued,
        };
        self.incoming.changed.notify_of(Ready::WRITE);
        match deliver(io, &queued.message, to) {
            Ok(copied) => {
                self.incoming.delivered();
                Ok(Received { copied, length: ByteCount::of_len(queued.message.len()) })
            }
            Err(error) => {
                self.incoming.unreceive(queued);
                Err(error)
            }
        }
    }

    /// Copies the next message, which stays in the queue.
    pub fn peek(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<Received, Errno> {
        if self.is_attached() {
            return Err(Errno::EBUSY);
        }
        let Some(message) = self.incoming.peek(io.nonblocking)? else {
            return Ok(Received::default());
        };
        Ok(Received {
            copied: deliver(io, &message, to)?,
            length: ByteCount::of_len(message.len()),
        })
    }

    /// Sends a server's small message to the kernel, or to a thread that waits for it. False where
    /// that is impossible, for whatever reason: then [`transmit`](Self::transmit) sends it or says
    /// why.
    #[inline]
    pub fn try_hand_over(&self, io: &Io<'_>, from: UserSlice) -> bool {
        let mut small = [0; SMALL];
        let Some(small) = small.get_mut(..from.len()) else { return false };
        !self.is_attached() && io.space.copy_in(from, small).is_ok() && self.outgoing.pass(small)
    }

    /// Sends a server's message of a small header and whole pages to the kernel, which takes the
    /// pages as they are, copy-on-write (A8). False where that is impossible, likewise.
    #[inline]
    pub fn try_hand_pages(&self, io: &Io<'_>, header: UserSlice, pages: &[UserSlice]) -> bool {
        let mut small = [0; SMALL];
        let Some(small) = small.get_mut(..header.len()) else { return false };
        let Some(lent) = LentPages::new(io.space, pages) else { return false };
        !self.is_attached()
            && io.space.copy_in(header, small).is_ok()
            && self.outgoing.pass_pages(small, lent)
    }

    /// Sends the rest of `from` as one message. Waits while the queue is full.
    pub fn transmit(&self, io: &Io<'_>, from: &mut UserBuffers) -> Result<ByteCount, Errno> {
        if self.is_attached() && !mutants::open_transport() {
            return Err(Errno::EBUSY);
        }
        let sender = if io.caller.is_some_and(|caller| caller.is_server()) {
            Sender::Server
        } else {
            Sender::Ordinary
        };
        // A server gets the plain reason: it may have to retry.
        let shortage = if sender == Sender::Server { Errno::ENOMEM } else { ENOBUFS };
        let mut message = assemble(io, from)
            .map_err(|error| if error == Errno::ENOMEM { shortage } else { error })?;
        let length = ByteCount::of_len(message.len());
        let account = Some(io.account());
        let mut attempt = || match self.outgoing.send(&mut message, sender, account) {
            Ok(()) => Some(Ok(())),
            Err(Refusal::Closed) => Some(Err(Errno::EPIPE)),
            Err(Refusal::NoMemory) => Some(Err(shortage)),
            Err(Refusal::Full) => None,
        };
        let sent = if io.nonblocking {
            attempt().unwrap_or(Err(Errno::EAGAIN))
        } else {
            self.outgoing.changed.wait(attempt)?
        };
        sent.map(|()| length)
    }
}

/// The result of [`Endpoint::receive`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Bytes delivered.
    pub copied: ByteCount,
    /// Length of the message.
    pub length: ByteCount,
}

impl FileObject for Endpoint {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Socket, self.inode))
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        Ok(self.receive(io, to)?.copied)
    }
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        Ok(WriteOutcome::without_position(self.transmit(io, from)?))
    }
    fn poll(&self) -> Ready {
        let mut ready = Ready::empty();
        let incoming = self.incoming.state.lock();
        ready.set(Ready::READ, !incoming.queue.is_empty() || incoming.ended);
        ready.set(Ready::HANG_UP | Ready::READ_END, incoming.ended);
        drop(incoming);
        let outgoing = self.outgoing.state.lock();
        ready.set(Ready::WRITE, outgoing.has_space() || outgoing.refused);
        ready
    }
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.incoming.changed, Ready::INPUT);
        visit(&self.outgoing.changed, Ready::OUTPUT);
    }
    fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        let bytes =
            self.incoming.state.lock().queue.iter().map(|queued| queued.message.len()).sum();
        report_readable(caller, request, argument, bytes)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.outgoing.end();
        self.incoming.refuse();
    }
}
