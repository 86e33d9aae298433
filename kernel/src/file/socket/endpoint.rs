//! Packet sockets.

use super::channel::{Channel, IsOurs, Receiver, Refusal, Sender};
use super::message::Message;
use super::transfer::{self, Received};
use super::{ShutDown, report_queued};
use crate::file::control::Control;
use crate::file::pipe::{nameless_stat, next_inode};
use crate::file::timeout::Deadline;
use crate::file::{
    FileObject, FileType, Io, IoCaller, Notifier, Ready, Stat, UserBuffers, WriteOutcome,
    WritePosition, mutants,
};
use crate::mem::{LentPages, UserSlice};
use alloc::boxed::Box;
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset};

/// Messages up to this length are handed over: a header of the file protocol, and a name.
const SMALL: usize = 192;

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

    /// The other end gets ECONNRESET once it has received all.
    pub(super) fn reset(&self) {
        self.outgoing.state.lock().was_reset = true;
        self.outgoing.changed.notify();
    }

    /// Takes the report that the other end was reset.
    pub(super) fn take_reset(&self) -> bool {
        core::mem::take(&mut self.incoming.state.lock().was_reset)
    }

    /// Whether the kernel is attached.
    fn is_attached(&self) -> bool {
        self.incoming.state.lock().receiver.is_some()
    }

    /// Receives one message. The part that does not fit is dropped. EBUSY where the kernel is
    /// attached.
    pub fn receive(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<Received, Errno> {
        transfer::receive(&self.incoming, io, to)
    }

    /// Copies the next message, which stays in the queue.
    pub fn peek(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<Received, Errno> {
        if self.is_attached() {
            return Err(Errno::EBUSY);
        }
        transfer::peek(&self.incoming, io, to)
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

    /// Sends the rest of `from` as one message, with control data. Waits while the queue is full.
    pub fn transmit(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        control: Option<Box<Control>>,
        deadline: Option<Deadline>,
    ) -> Result<ByteCount, Errno> {
        if self.is_attached() && !mutants::open_transport() {
            return Err(Errno::EBUSY);
        }
        transfer::transmit(&self.outgoing, io, from, control, deadline)
    }

    /// The channel whose messages it receives, and that to which it sends.
    pub(super) fn channels(&self) -> [&Arc<Channel>; 2] {
        [&self.incoming, &self.outgoing]
    }
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
        Ok(WriteOutcome::without_position(self.transmit(io, from, None, None)?))
    }
    fn poll(&self) -> Ready {
        let incoming = self.incoming.state.lock();
        let receives_no_more = incoming.ended || incoming.refused;
        let mut ready = Ready::empty();
        ready.set(Ready::READ, !incoming.queue.is_empty() || receives_no_more);
        ready.set(Ready::READ_END, receives_no_more);
        ready.set(Ready::ERROR, incoming.was_reset);
        drop(incoming);
        let outgoing = self.outgoing.state.lock();
        let sends_no_more = outgoing.refused || outgoing.ended;
        ready.set(Ready::HANG_UP, receives_no_more && sends_no_more);
        ready.set(Ready::WRITE, outgoing.has_space() || outgoing.refused);
        ready
    }
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        visit(&self.incoming.changed, Ready::INPUT);
        visit(&self.outgoing.changed, Ready::OUTPUT);
    }
    fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        report_queued(
            caller,
            request,
            argument,
            [self.incoming.all_bytes(), self.outgoing.all_bytes()],
        )
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !self.incoming.state.lock().queue.is_empty() {
            self.outgoing.state.lock().was_reset = true;
        }
        self.outgoing.end();
        self.incoming.refuse();
    }
}
