//! Sockets of the family `AF_UNIX`, as descriptors refer to them.
//!
//! A socket has a [`Label`], by which others know it, and at most one [`Link`]: what its bytes pass
//! through. A datagram socket has it from the beginning, others get it by connect(2), accept(2) or
//! socketpair(2), once. Before that they may get a name, and listen.
//!
//! Lock: `Socket::state`, never held while waiting, or while another socket is changed.

use super::channel::Channel;
use super::endpoint::{Endpoint, packet_pair};
use super::listener::Listener;
use super::names::{self, Key};
use super::options::{Direction, Options};
use super::stream::Stream;
use super::transport::{Parcel, Receive};
use super::{ShutDown, report_queued};
use crate::file::control::{Carried, Credentials, Name};
use crate::file::pipe::{nameless_stat, next_inode};
use crate::file::ring::Writing;
use crate::file::{
    FileObject, FileType, Io, IoCaller, Notifier, Ready, Stat, UserBuffers, WriteOutcome,
    WritePosition,
};
use crate::mem::account::{Account, Charge, Kind};
use crate::sync::{Mutex, Once, rank};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use foundation::{ByteCount, Errno, FileOffset};

/// What a socket preserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SocketKind {
    /// `SOCK_STREAM`: bytes in order.
    Stream = 1,
    /// `SOCK_DGRAM`: messages, from anybody.
    Datagram = 2,
    /// `SOCK_SEQPACKET`: messages of a connection.
    Packet = 5,
}

/// What others know of a socket.
#[derive(Default)]
pub struct Label {
    /// Its name, once it is bound.
    pub name: Once<Name>,
    /// `SO_PASSCRED`.
    pub wants_credentials: AtomicBool,
    /// How it takes part in passing sockets.
    pub carried: Arc<Carried>,
    /// The process that made it connect or listen; 0 before.
    pid: AtomicU32,
}

impl Label {
    /// Notes the process that makes it connect or listen.
    pub(super) fn set_process(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }
}

/// The other end of a connection.
pub struct Peer {
    /// What is known of it.
    pub label: Arc<Label>,
    /// Its process when the connection was made.
    pub pid: u32,
}

impl Peer {
    /// A socket as the peer of another one.
    pub(super) fn of(label: &Arc<Label>) -> Self {
        Self { label: label.clone(), pid: label.pid.load(Ordering::Relaxed) }
    }
}

/// What the bytes of a socket pass through.
pub(super) enum Link {
    Stream(Stream, Peer),
    Packets(Arc<Endpoint>, Peer),
    /// The channel whose messages it receives, whoever sends them.
    Datagrams(Arc<Channel>),
}

/// Where datagrams are sent.
#[derive(Clone)]
pub(super) struct Target {
    pub channel: Arc<Channel>,
    pub label: Arc<Label>,
    /// Whether it is still there. It is not kept open.
    pub socket: Weak<Socket>,
}

/// What reports changes of a socket that is watched, as it was at the first time.
enum Watch {
    Link,
    Listener(Arc<Listener>),
    /// It had neither.
    EveryChange,
}

/// What changes in the life of a socket.
#[derive(Default)]
pub(super) struct State {
    /// Its entry in the table of names, and the node's file.
    pub bound: Option<(Key, Option<Arc<dyn FileObject>>)>,
    pub listener: Option<Arc<Listener>>,
    /// Where a datagram socket sends, and from where alone it receives.
    pub target: Option<Target>,
    /// Shut down for writing; of a datagram socket, or one without a connection.
    pub sends_no_more: bool,
}

/// What descriptors of sockets refer to, by its kind and its state.
pub struct Socket {
    kind: SocketKind,
    inode: u64,
    pub(super) label: Arc<Label>,
    pub(super) link: Once<Link>,
    pub(super) state: Mutex<State, rank::SocketState>,
    /// What setsockopt(2) sets.
    pub options: Options,
    watch: Once<Watch>,
    _charge: Charge,
}

/// Bytes that a socket takes, its open file apart: itself, its label, and half of a connection.
const BYTES: usize = 1024;

impl Socket {
    /// A socket without a name or a peer. `account` pays for it.
    pub fn new(kind: SocketKind, account: &Arc<Account>) -> Result<Arc<Self>, Errno> {
        let socket = Self::without_link(kind, account)?;
        if kind == SocketKind::Datagram {
            socket.link.call_once(|| Link::Datagrams(Arc::default()));
        }
        Ok(Arc::new(socket))
    }

    /// The same, of a kind that has no link yet.
    pub(super) fn without_link(kind: SocketKind, account: &Arc<Account>) -> Result<Self, Errno> {
        let charge = Charge::take(account, Kind::Files, BYTES)?;
        Ok(Self {
            kind,
            inode: next_inode(),
            label: Arc::default(),
            link: Once::new(),
            state: Mutex::default(),
            options: Options::default(),
            watch: Once::new(),
            _charge: charge,
        })
    }

    /// Two sockets that are connected by the process `pid`.
    pub fn pair(
        kind: SocketKind,
        pid: u32,
        account: &Arc<Account>,
    ) -> Result<(Arc<Self>, Arc<Self>), Errno> {
        let (one, other) = (Self::new(kind, account)?, Self::new(kind, account)?);
        one.label.set_process(pid);
        other.label.set_process(pid);
        if kind == SocketKind::Datagram {
            one.state.lock().target = Target::of(&other);
            other.state.lock().target = Target::of(&one);
        } else {
            let (link, back) = Link::pair(kind, Peer::of(&one.label), Peer::of(&other.label));
            one.link.call_once(|| link);
            other.link.call_once(|| back);
        }
        Ok((one, other))
    }

    /// How it delivers: as bytes, datagrams or records.
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// What others know of it.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The file server's view of a connected packet socket.
    #[inline]
    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        match self.link.get() {
            Some(Link::Packets(endpoint, _)) => Some(endpoint),
            _ => None,
        }
    }

    /// Its peer; `None` without one.
    pub(super) fn peer(&self) -> Option<&Peer> {
        match self.link.get() {
            Some(Link::Stream(_, peer) | Link::Packets(_, peer)) => Some(peer),
            _ => None,
        }
    }

    /// The name of the socket to which it is connected; `None` inside for one without a name.
    /// ENOTCONN without a connection.
    pub fn peer_name(&self) -> Result<Option<Name>, Errno> {
        if let Some(peer) = self.peer() {
            return Ok(peer.label.name.get().copied());
        }
        let state = self.state.lock();
        let target = state.target.as_ref().ok_or(Errno::ENOTCONN)?;
        Ok(target.label.name.get().copied())
    }

    /// The process of the peer, as it was when the two were connected (`SO_PEERCRED`).
    pub fn peer_credentials(&self) -> Option<Credentials> {
        let pid = match self.peer() {
            Some(peer) => peer.pid,
            None => {
                let label = &self.label;
                let is_pair = self.state.lock().target.is_some();
                let pid = label.pid.load(Ordering::Relaxed);
                if is_pair || self.is_listening() { pid } else { 0 }
            }
        };
        (pid != 0).then(|| Credentials::of_process(pid))
    }

    /// Whether it listens.
    pub fn is_listening(&self) -> bool {
        self.state.lock().listener.is_some()
    }

    /// Takes the error that `SO_ERROR` reports.
    pub fn take_error(&self) -> Option<Errno> {
        let was_reset = match self.link.get() {
            Some(Link::Stream(stream, _)) => stream.take_reset(),
            Some(Link::Packets(endpoint, _)) => endpoint.take_reset(),
            _ => false,
        };
        was_reset.then_some(Errno::ECONNRESET)
    }

    /// The other end gets ECONNRESET.
    pub(super) fn reset(&self) {
        match self.link.get() {
            Some(Link::Stream(stream, _)) => stream.reset(),
            Some(Link::Packets(endpoint, _)) => endpoint.reset(),
            _ => {}
        }
    }

    /// shutdown(2).
    pub fn shut_down(&self, how: ShutDown) {
        let mut state = self.state.lock();
        state.sends_no_more |= how.writing();
        let listener = state.listener.clone().filter(|_| how.reading());
        drop(state);
        if let Some(listener) = listener {
            listener.refuse();
        }
        match self.link.get() {
            Some(Link::Stream(stream, _)) => stream.shut_down(how),
            Some(Link::Packets(endpoint, _)) => endpoint.shut_down(how),
            Some(Link::Datagrams(channel)) if how.reading() => channel.refuse(),
            _ => {}
        }
    }

    fn poll_unconnected(&self) -> Ready {
        let listener = self.state.lock().listener.clone();
        let Some(listener) = listener else { return Ready::WRITE | Ready::HANG_UP };
        let (has_connection, is_closed) = listener.look();
        let mut ready = Ready::empty();
        ready.set(Ready::READ, has_connection || is_closed);
        ready.set(Ready::READ_END, is_closed);
        ready
    }

    fn poll_datagrams(&self, channel: &Channel) -> Ready {
        let state = self.state.lock();
        let (target, sends_no_more) = (state.target.clone(), state.sends_no_more);
        drop(state);
        let (has_messages, refused) = channel.look();
        let mut ready = Ready::empty();
        ready.set(Ready::READ, has_messages || refused);
        ready.set(Ready::READ_END, refused);
        ready.set(Ready::HANG_UP, refused && sends_no_more);
        ready.set(Ready::WRITE, target.is_none_or(|target| target.channel.accepts()));
        ready
    }
}

impl Target {
    /// A datagram socket as a target; `None` for another kind.
    pub fn of(socket: &Arc<Socket>) -> Option<Self> {
        let Some(Link::Datagrams(channel)) = socket.link.get() else { return None };
        let (label, socket) = (socket.label.clone(), Arc::downgrade(socket));
        Some(Self { channel: channel.clone(), label, socket })
    }
}

impl Link {
    /// The links of two connected sockets: that of `one`, and that of `other`.
    pub fn pair(kind: SocketKind, one: Peer, other: Peer) -> (Self, Self) {
        if kind == SocketKind::Stream {
            let (stream, back) = Stream::pair();
            (Self::Stream(stream, other), Self::Stream(back, one))
        } else {
            let (endpoint, back) = packet_pair();
            (Self::Packets(endpoint, other), Self::Packets(back, one))
        }
    }
}

impl FileObject for Socket {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat { mode: 0o777, ..nameless_stat(FileType::Socket, self.inode) })
    }
    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, _at: FileOffset) -> Result<ByteCount, Errno> {
        if let Some(Link::Stream(stream, _)) = self.link.get()
            && !self.options.has_timeout()
        {
            return Ok(stream.receive(io, to)?.copied);
        }
        Ok(self.receive(io, to, Receive::default())?.copied)
    }
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        _at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let sent = match self.link.get() {
            Some(Link::Stream(stream, peer)) if self.sends_plainly(&peer.label) => {
                stream.transmit(io, from, &mut Writing::plain())
            }
            Some(Link::Packets(endpoint, peer)) if self.sends_plainly(&peer.label) => {
                endpoint.transmit(io, from, None, None)
            }
            _ => self.send(io, from, Parcel::default()),
        };
        Ok(WriteOutcome::without_position(sent?))
    }
    fn poll(&self) -> Ready {
        match self.link.get() {
            None => self.poll_unconnected(),
            Some(Link::Stream(stream, _)) => stream.poll(),
            Some(Link::Packets(endpoint, _)) => endpoint.poll(),
            Some(Link::Datagrams(channel)) => self.poll_datagrams(channel),
        }
    }
    fn notifiers(&self, visit: &mut dyn FnMut(&Notifier, Ready)) {
        match self.watch() {
            Watch::EveryChange => return visit(Notifier::of_every_change(), Ready::all()),
            Watch::Listener(listener) => return visit(listener.changed(), Ready::INPUT),
            Watch::Link => {}
        }
        match self.link.get() {
            Some(Link::Stream(stream, _)) => {
                let [incoming, outgoing] = stream.notifiers();
                visit(incoming, Ready::INPUT);
                visit(outgoing, Ready::OUTPUT);
            }
            Some(Link::Packets(endpoint, _)) => endpoint.notifiers(visit),
            Some(Link::Datagrams(channel)) => {
                visit(&channel.changed, Ready::INPUT);
                // The receiver, whose queue may be full, can change.
                visit(Notifier::of_every_change(), Ready::OUTPUT);
            }
            None => {}
        }
    }
    fn ioctl(&self, caller: &dyn IoCaller, request: u32, argument: u64) -> Result<u64, Errno> {
        match self.link.get() {
            None if self.is_listening() => Err(Errno::EINVAL),
            None => report_queued(caller, request, argument, [0, 0]),
            Some(Link::Stream(stream, _)) => stream.ioctl(caller, request, argument),
            Some(Link::Packets(endpoint, _)) => endpoint.ioctl(caller, request, argument),
            Some(Link::Datagrams(channel)) => {
                let target = self.state.lock().target.clone();
                let unread = target.map_or(0, |target| target.channel.all_bytes());
                let bytes = [channel.next_bytes(), unread];
                report_queued(caller, request, argument, bytes)
            }
        }
    }
}

impl Socket {
    /// Whether what it sends needs neither control data nor a time limit.
    #[inline]
    fn sends_plainly(&self, peer: &Label) -> bool {
        let wants = |label: &Label| label.wants_credentials.load(Ordering::Relaxed);
        !wants(&self.label) && !wants(peer) && !self.options.has_timeout()
    }

    /// What reports its changes: the same from the first time on.
    fn watch(&self) -> &Watch {
        let listener = self.state.lock().listener.clone();
        self.watch.call_once(|| match (self.link.get(), listener) {
            (Some(_), _) => Watch::Link,
            (None, Some(listener)) => Watch::Listener(listener),
            (None, None) => Watch::EveryChange,
        })
    }

    /// How long a call in this direction waits at most, in nanoseconds; 0 for no limit.
    pub fn timeout_ns(&self, direction: Direction) -> u64 {
        self.options.timeout_ns(direction)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let state = core::mem::take(&mut *self.state.lock());
        if let Some((key, file)) = state.bound {
            names::leave(key);
            drop(file);
        }
        if let Some(listener) = state.listener {
            listener.close();
        }
        if let Some(Link::Datagrams(channel)) = self.link.get() {
            channel.refuse();
        }
    }
}
