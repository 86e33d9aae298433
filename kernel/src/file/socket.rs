//! Pairs of connected local sockets: streams, and packets with borders kept (`SOCK_SEQPACKET`).
//!
//! A packet is a [`Message`]: bytes, and frames for what is large. One end of a pair of packets can
//! be taken by the kernel ([`Endpoint::attach`]): what is written to the other end is then handed
//! to the receiver at once, in the writer's context. This is how file servers speak with `mount`.
//!
//! F8: every message says whether its sender is marked as a server. A pair can be inherited, passed
//! on and shared, so "the peer's mark" is the mark of whoever really sends, told with each message;
//! `mount` grants laziness only as long as all messages come from marked processes.
//!
//! Lock: `Pipe::state` of one direction; never held while copying with faults, delivering or
//! waking.

use super::buffers::store;
use super::pipe::{FIONREAD, Ring, nameless_stat, next_inode};
use super::{
    FileObject, FileType, Io, IoCaller, Notifier, Ready, Stat, UserBuffers, WriteOutcome,
    WritePosition, mutants,
};
use crate::mem::{Claim, FaultError, Frame, PAGE_BYTES, Page, PageRange};
use crate::sync::{Mutex, rank};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, FileOffset, PageCount};

/// A packet: `inline`, then the first `frames_bytes` bytes of `frames`.
#[derive(Debug, Default)]
pub struct Message {
    /// Bytes in front.
    pub inline: Vec<u8>,
    /// Pages behind them.
    pub frames: Vec<Frame>,
    /// Bytes of the frames that count.
    pub frames_bytes: usize,
}

impl Message {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.inline.len() + self.frames_bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same once more; frames are shared.
    fn try_clone(&self) -> Result<Self, Errno> {
        let (mut inline, mut frames) = (Vec::new(), Vec::new());
        inline.try_reserve_exact(self.inline.len()).map_err(|_| Errno::ENOMEM)?;
        frames.try_reserve_exact(self.frames.len()).map_err(|_| Errno::ENOMEM)?;
        inline.extend_from_slice(&self.inline);
        frames.extend(self.frames.iter().cloned());
        Ok(Self { inline, frames, frames_bytes: self.frames_bytes })
    }
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A process without the mark of a server.
    Ordinary,
    /// A process marked as a server (F8).
    Server,
}

/// The kernel's own end of a pair of packets.
pub trait Receiver: Send + Sync {
    /// A message was written to the other end. Runs in the sender's context with no lock held, and
    /// does not wait.
    fn message(&self, message: Message, sender: Sender);
    /// The other end is gone. Called once.
    fn closed(&self);
}

/// Bytes of one packet, at most. A whole message of the file protocol fits.
pub const MAX_MESSAGE: usize = 512 * 1024;
/// Bytes that wait in one direction before a process that sends has to wait too. The kernel's own
/// messages are bounded by its requests in flight.
const MAX_QUEUED: usize = 2 * MAX_MESSAGE;
/// Messages that an empty queue keeps room for.
const KEPT_MESSAGES: usize = 16;
/// Up to here a packet lies in the kernel's heap as a whole; beyond, in frames.
const MAX_INLINE: usize = PAGE_BYTES;

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    queued_bytes: usize,
    receiver: Option<Arc<dyn Receiver>>,
    /// Nothing more will come: the sending end is gone or shut down.
    ended: bool,
    /// Nothing is taken any more: the receiving end is gone or shut down.
    refused: bool,
}

/// One direction.
#[derive(Default)]
struct Channel {
    state: Mutex<State, rank::Socket>,
    changed: Notifier,
}

impl Channel {
    /// No more messages will be sent.
    fn end(&self) {
        let mut state = self.state.lock();
        let already = core::mem::replace(&mut state.ended, true);
        let receiver = if already { None } else { state.receiver.take() };
        drop(state);
        if let Some(receiver) = receiver {
            receiver.closed();
        }
        self.changed.notify();
    }

    /// No more messages will be taken.
    fn refuse(&self) {
        let mut state = self.state.lock();
        state.refused = true;
        let dropped = core::mem::take(&mut state.queue);
        state.queued_bytes = 0;
        drop(state);
        drop(dropped);
        self.changed.notify();
    }

    /// Hands a message over, or queues it if `room` allows; gives it back where there is no room.
    fn send(&self, message: Message, sender: Sender, room: usize) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.refused || state.ended {
            return Err(Refusal::Gone);
        }
        if let Some(receiver) = state.receiver.clone() {
            drop(state);
            receiver.message(message, sender);
            return Ok(());
        }
        if state.queued_bytes > 0 && state.queued_bytes + message.len() > room {
            return Err(Refusal::Full(message));
        }
        if state.queue.try_reserve(1).is_err() {
            return Err(Refusal::NoMemory);
        }
        state.queued_bytes += message.len();
        state.queue.push_back(message);
        drop(state);
        self.changed.notify();
        Ok(())
    }

    /// A copy of the next message, which stays; `None` where there will be none.
    fn peek(&self, nonblocking: bool) -> Result<Option<Message>, Errno> {
        let look = || {
            let state = self.state.lock();
            match state.queue.front() {
                Some(message) => Some(message.try_clone().map(Some)),
                None => (state.ended || state.refused).then_some(Ok(None)),
            }
        };
        if nonblocking { look().unwrap_or(Err(Errno::EAGAIN)) } else { self.changed.wait(look)? }
    }

    /// The next message; `None` where there will be none.
    fn receive(&self, nonblocking: bool) -> Result<Option<Message>, Errno> {
        let look = || {
            let mut state = self.state.lock();
            match state.queue.pop_front() {
                Some(message) => {
                    state.queued_bytes -= message.len();
                    // What a burst took is given back when it is over.
                    if state.queue.is_empty() && state.queue.capacity() > KEPT_MESSAGES {
                        state.queue = VecDeque::new();
                    }
                    Some(Some(message))
                }
                None => (state.ended || state.refused).then_some(None),
            }
        };
        if nonblocking { look().ok_or(Errno::EAGAIN) } else { Ok(self.changed.wait(look)?) }
    }

    /// Puts a message back that could not be delivered (F4).
    fn unreceive(&self, message: Message) {
        let mut state = self.state.lock();
        state.queued_bytes += message.len();
        state.queue.push_front(message);
    }
}

enum Refusal {
    Gone,
    NoMemory,
    Full(Message),
}

/// One end of a pair that keeps message borders.
pub struct Endpoint {
    incoming: Arc<Channel>,
    outgoing: Arc<Channel>,
    inode: u64,
}

/// A connected pair of packets' ends.
pub fn packet_pair() -> (Arc<Endpoint>, Arc<Endpoint>) {
    let (there, back) = (Arc::<Channel>::default(), Arc::<Channel>::default());
    let one = Endpoint { incoming: back.clone(), outgoing: there.clone(), inode: next_inode() };
    let other = Endpoint { incoming: there, outgoing: back, inode: next_inode() };
    (Arc::new(one), Arc::new(other))
}

impl Endpoint {
    /// Takes this end for the kernel: what is or will be written to the other end goes to
    /// `receiver`. EBUSY where that has happened before.
    pub fn attach(&self, receiver: Arc<dyn Receiver>) -> Result<(), Errno> {
        let mut state = self.incoming.state.lock();
        if state.receiver.is_some() {
            return Err(Errno::EBUSY);
        }
        if state.ended {
            return Err(Errno::ENOTCONN);
        }
        // Whoever sends before the kernel listens speaks out of turn: a server answers requests,
        // and there were none.
        let early = core::mem::take(&mut state.queue);
        state.queued_bytes = 0;
        state.receiver = Some(receiver);
        drop(state);
        drop(early);
        Ok(())
    }

    /// Gives this end back, and with it the reference to the receiver.
    pub fn detach(&self) {
        let receiver = self.incoming.state.lock().receiver.take();
        drop(receiver);
    }

    /// Sends from the kernel: never waits, and is not bounded by the queue's length. EPIPE where
    /// the other end is gone.
    pub fn send(&self, message: Message) -> Result<(), Errno> {
        match self.outgoing.send(message, Sender::Server, usize::MAX) {
            Ok(()) => Ok(()),
            Err(Refusal::NoMemory) => Err(Errno::ENOMEM),
            Err(Refusal::Gone | Refusal::Full(_)) => Err(Errno::EPIPE),
        }
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

    /// Whether the kernel has taken this end.
    fn taken(&self) -> bool {
        self.incoming.state.lock().receiver.is_some()
    }

    /// Receives one message. What does not fit is lost, as with any packet; the whole length is
    /// told.
    pub fn receive(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<Received, Errno> {
        if self.taken() {
            return Err(Errno::EBUSY);
        }
        let Some(message) = self.incoming.receive(io.nonblocking)? else {
            return Ok(Received::default());
        };
        self.incoming.changed.notify();
        match deliver(io, &message, to) {
            Ok(copied) => Ok(Received { copied, length: ByteCount::of_len(message.len()) }),
            Err(error) => {
                self.incoming.unreceive(message);
                Err(error)
            }
        }
    }

    /// Receives one message, which stays to be received again.
    pub fn peek(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<Received, Errno> {
        if self.taken() {
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

    /// Sends all that is left of `from` as one message.
    pub fn transmit(&self, io: &Io<'_>, from: &mut UserBuffers) -> Result<ByteCount, Errno> {
        if self.taken() && !mutants::open_transport() {
            return Err(Errno::EBUSY);
        }
        let sender = if io.caller.is_some_and(|caller| caller.is_server()) {
            Sender::Server
        } else {
            Sender::Ordinary
        };
        let message = gather(io, from, sender)?;
        let length = ByteCount::of_len(message.len());
        let mut unsent = Some(message);
        let mut attempt = || match self.outgoing.send(unsent.take()?, sender, MAX_QUEUED) {
            Ok(()) => Some(Ok(())),
            Err(Refusal::Gone) => Some(Err(Errno::EPIPE)),
            Err(Refusal::NoMemory) => Some(Err(Errno::ENOMEM)),
            Err(Refusal::Full(message)) => {
                unsent = Some(message);
                None
            }
        };
        let sent = if io.nonblocking {
            attempt().unwrap_or(Err(Errno::EAGAIN))
        } else {
            self.outgoing.changed.wait(attempt)?
        };
        sent.map(|()| length)
    }
}

/// What [`Endpoint::receive`] did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Bytes that fitted.
    pub copied: ByteCount,
    /// Bytes that the message had.
    pub length: ByteCount,
}

/// Which directions shutdown(2) ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutDown {
    /// `SHUT_RD`.
    Reading,
    /// `SHUT_WR`.
    Writing,
    /// `SHUT_RDWR`.
    Both,
}

impl ShutDown {
    fn reading(self) -> bool {
        self != Self::Writing
    }
    fn writing(self) -> bool {
        self != Self::Reading
    }
}

/// Makes a message of a program's bytes. A first part of at most a page stays in front, as a head;
/// what follows it goes into frames if it is large, so that a payload begins on a page border.
fn gather(io: &Io<'_>, from: &mut UserBuffers, sender: Sender) -> Result<Message, Errno> {
    let total = usize::try_from(from.remaining().0)
        .ok()
        .filter(|&total| total <= MAX_MESSAGE)
        .ok_or(Errno::EMSGSIZE)?;
    let front = from.front().map_or(0, |slice| slice.len());
    let inline_bytes = match total {
        0..=MAX_INLINE => total,
        _ if front <= MAX_INLINE => front,
        _ => 0,
    };
    let mut inline = Vec::new();
    inline.try_reserve_exact(inline_bytes).map_err(|_| Errno::ENOMEM)?;
    inline.resize(inline_bytes, 0);
    take_all(io, from, &mut inline)?;
    let frames_bytes = total - inline_bytes;
    let mut frames = Vec::new();
    frames.try_reserve_exact(frames_bytes.div_ceil(PAGE_BYTES)).map_err(|_| Errno::ENOMEM)?;
    let claim = if sender == Sender::Server { Claim::Server } else { Claim::Program };
    while frames.len() * PAGE_BYTES < frames_bytes {
        let left = frames_bytes - frames.len() * PAGE_BYTES;
        let pages = whole_pages_in_front(from, left / PAGE_BYTES);
        if pages.is_empty() {
            frames.push(copied_page(io, from, left.min(PAGE_BYTES), claim)?);
        } else {
            frames.extend(io.space.lend(pages)?);
            from.skip(pages.pages().bytes());
        }
    }
    Ok(Message { inline, frames, frames_bytes })
}

/// The pages, `max` at most, that the next bytes of a program's buffer consist of: they can change
/// hands without being copied.
fn whole_pages_in_front(buffers: &UserBuffers, max: usize) -> PageRange {
    let front = buffers.front().filter(|front| front.addr().is_page_aligned());
    let pages = front.map_or(0, |front| (front.len() / PAGE_BYTES).min(max));
    PageRange::new(front.map_or(Page(0), |front| front.addr().page()), PageCount::of_len(pages))
}

/// A frame with the next `length` bytes, and zeros behind them.
fn copied_page(
    io: &Io<'_>,
    from: &mut UserBuffers,
    length: usize,
    claim: Claim,
) -> Result<Frame, Errno> {
    if let Some(front) = from.front().filter(|front| front.len() >= length) {
        let frame = io.space.copy_frame(front.take(length))?;
        from.skip(ByteCount::of_len(length));
        return Ok(frame);
    }
    let mut frame = Frame::zeroed_for(claim)?;
    let page = frame.bytes_mut().ok_or(Errno::ENOMEM)?;
    take_all(io, from, page.get_mut(..length).unwrap_or_default())?;
    Ok(frame)
}

fn take_all(io: &Io<'_>, from: &mut UserBuffers, into: &mut [u8]) -> Result<(), Errno> {
    let taken = from.take(io.space, into)?;
    if taken == into.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Gives a message to where a program wants it: all that there is room for, or EFAULT. Whole pages
/// that come to whole pages of private memory are mapped there, copy-on-write; everything else is
/// copied.
fn deliver(io: &Io<'_>, message: &Message, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
    let mut copied = put_all(io, &message.inline, to)?;
    let mut frames = message.frames.as_slice();
    let mut left = message.frames_bytes;
    while let Some(frame) = frames.first()
        && !to.remaining().is_zero()
    {
        let pages = whole_pages_in_front(to, left / PAGE_BYTES);
        let mapped = if pages.is_empty() { 0 } else { map_pages(io, pages, frames)? };
        if mapped == 0 {
            let part = frame.bytes().get(..left.min(PAGE_BYTES)).unwrap_or_default();
            copied += put_all(io, part, to)?;
            left -= part.len();
            frames = frames.get(1..).unwrap_or_default();
        } else {
            let bytes = mapped * PAGE_BYTES;
            to.skip(ByteCount::of_len(bytes));
            copied += ByteCount::of_len(bytes);
            left -= bytes;
            frames = frames.get(mapped..).unwrap_or_default();
        }
    }
    Ok(copied)
}

/// Maps frames in the place of a program's pages; says how many, 0 where the memory there cannot be
/// replaced.
fn map_pages(io: &Io<'_>, pages: PageRange, frames: &[Frame]) -> Result<usize, Errno> {
    let mut lent = Vec::new();
    let count = frames.len().min(pages.pages().to_usize());
    lent.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    lent.extend(frames.iter().take(count).cloned());
    match io.space.accept(pages.start, lent) {
        Ok(mapped) => Ok(mapped.to_usize()),
        Err(FaultError::Segv) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Copies bytes as far as there is room; EFAULT where memory ends before.
fn put_all(io: &Io<'_>, bytes: &[u8], to: &mut UserBuffers) -> Result<ByteCount, Errno> {
    let wanted = ByteCount::of_len(bytes.len()).min(to.remaining());
    if wanted.is_zero() {
        return Ok(ByteCount::ZERO);
    }
    let count = ByteCount::of_len(to.put(io.space, bytes)?);
    if count < wanted { Err(Errno::EFAULT) } else { Ok(count) }
}

impl Message {
    /// The bytes, part by part.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let in_frames = self.frames.iter().enumerate().map(|(index, frame)| {
            let length = self.frames_bytes.saturating_sub(index * PAGE_BYTES).min(PAGE_BYTES);
            frame.bytes().get(..length).unwrap_or_default()
        });
        core::iter::once(self.inline.as_slice()).chain(in_frames).filter(|part| !part.is_empty())
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
        Ok(WriteOutcome::without_position(self.transmit(io, from)?))
    }
    fn poll(&self) -> Ready {
        let mut ready = Ready::empty();
        let incoming = self.incoming.state.lock();
        ready.set(Ready::READ, !incoming.queue.is_empty() || incoming.ended);
        ready.set(Ready::HANG_UP, incoming.ended);
        drop(incoming);
        let outgoing = self.outgoing.state.lock();
        ready.set(Ready::WRITE, outgoing.queued_bytes < MAX_QUEUED / 2 || outgoing.refused);
        ready
    }
    fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        let bytes = self.incoming.state.lock().queued_bytes;
        tell_readable(caller, request, argument, bytes)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.outgoing.end();
        self.incoming.refuse();
    }
}

/// One end of a stream of bytes in both directions.
pub struct Stream {
    incoming: Arc<Ring>,
    outgoing: Arc<Ring>,
    inode: u64,
}

/// A connected pair of streams' ends.
pub fn stream_pair() -> (Arc<Stream>, Arc<Stream>) {
    let (there, back) = (Ring::new(), Ring::new());
    let one = Stream { incoming: back.clone(), outgoing: there.clone(), inode: next_inode() };
    let other = Stream { incoming: there, outgoing: back, inode: next_inode() };
    (Arc::new(one), Arc::new(other))
}

/// The one device request of sockets: how many bytes can be read.
fn tell_readable(
    caller: &dyn IoCaller,
    request: u32,
    argument: u64,
    bytes: usize,
) -> Result<u64, Errno> {
    if request == FIONREAD {
        store(caller.space(), argument, &(bytes as u32).to_le_bytes())
    } else {
        Err(Errno::ENOTTY)
    }
}

impl Stream {
    /// Reads what stays to be read again.
    pub fn peek(&self, io: &Io<'_>, to: &mut UserBuffers) -> Result<ByteCount, Errno> {
        self.incoming.peek(io, to)
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
}

impl FileObject for Stream {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(nameless_stat(FileType::Socket, self.inode))
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        self.incoming.read(io, to)
    }
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        Ok(WriteOutcome::without_position(self.outgoing.write(io, from)?))
    }
    fn poll(&self) -> Ready {
        let (incoming, outgoing) = (self.incoming.poll_reader(), self.outgoing.poll_writer());
        let hung_up = if incoming.contains(Ready::HANG_UP) { Ready::READ } else { Ready::empty() };
        incoming | (outgoing - Ready::ERROR) | hung_up
    }
    fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        tell_readable(caller, request, argument, self.incoming.len())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shut_down(ShutDown::Both);
    }
}
