//! How a socket sends and receives, with control data.

use super::object::{Label, Link, Socket, SocketKind, Target};
use super::options::Direction;
use super::transfer::{self, Received};
use crate::file::control::{CarriedFile, Control, Credentials, MAX_FILES, Name, Passage};
use crate::file::ring::{Attach, Writing};
use crate::file::timeout::Deadline;
use crate::file::{FileObject, Io, Notifier, OpenFile, Ready, UserBuffers, downcast_ref};
use crate::mem::fallible;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno};

/// What is sent beside bytes.
#[derive(Default)]
pub struct Parcel {
    /// The receiver, where the call names it.
    pub to: Option<Arc<Socket>>,
    /// Open files.
    pub files: Vec<Arc<OpenFile>>,
    /// Credentials that the sender states.
    pub credentials: Option<Credentials>,
}

/// Flags of a receiving call.
#[derive(Clone, Copy, Default)]
pub struct Receive {
    /// `MSG_PEEK`: what is received stays.
    pub stays: bool,
    /// `MSG_WAITALL`: of a stream, all that was asked for.
    pub all: bool,
}

impl Socket {
    /// Sends bytes or a message. Waits for space.
    pub fn send(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        parcel: Parcel,
    ) -> Result<ByteCount, Errno> {
        match self.link.get() {
            None if self.kind() == SocketKind::Stream && parcel.to.is_some() => {
                Err(Errno::EOPNOTSUPP)
            }
            None => Err(Errno::ENOTCONN),
            Some(Link::Stream(..)) if parcel.to.is_some() => Err(Errno::EISCONN),
            Some(Link::Stream(stream, peer)) => {
                let control = self.control(io, parcel, &peer.label)?;
                let attach = control.map_or(Attach::Nothing, Attach::Begin);
                let deadline = self.deadline(io, Direction::Send);
                stream.transmit(io, from, &mut Writing { attach, deadline })
            }
            Some(Link::Packets(endpoint, peer)) => {
                let control = self.control(io, parcel, &peer.label)?;
                endpoint.transmit(io, from, control, self.deadline(io, Direction::Send))
            }
            Some(Link::Datagrams(_)) => self.send_datagram(io, from, parcel),
        }
    }

    fn send_datagram(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        mut parcel: Parcel,
    ) -> Result<ByteCount, Errno> {
        let target = self.target(parcel.to.take())?;
        if self.state.lock().sends_no_more {
            return Err(Errno::EPIPE);
        }
        let control = self.control(io, parcel, &target.label)?;
        let deadline = self.deadline(io, Direction::Send);
        let sent = transfer::transmit(&target.channel, io, from, control, deadline);
        match sent {
            Err(Errno::EPIPE) if target.socket.strong_count() == 0 => {
                self.forget(&target);
                Err(Errno::ECONNREFUSED)
            }
            sent => sent,
        }
    }

    /// Where a datagram goes. ENOTCONN without a receiver, ECONNREFUSED where it is closed, EPERM
    /// where it receives from another socket only.
    fn target(&self, to: Option<Arc<Self>>) -> Result<Target, Errno> {
        let socket = match to {
            Some(socket) => socket,
            None => {
                let target = self.state.lock().target.clone().ok_or(Errno::ENOTCONN)?;
                let Some(socket) = target.socket.upgrade() else {
                    self.forget(&target);
                    return Err(Errno::ECONNREFUSED);
                };
                socket
            }
        };
        let target = Target::of(&socket).ok_or(Errno::EPROTOTYPE)?;
        if self.may_send_to(&socket) { Ok(target) } else { Err(Errno::EPERM) }
    }

    /// Dissolves the connection with a socket that is closed.
    fn forget(&self, target: &Target) {
        let mut state = self.state.lock();
        let gone = state.target.take_if(|other| Arc::ptr_eq(&other.label, &target.label));
        drop(state);
        drop(gone);
    }

    /// The control data of a message to a socket, if it needs any.
    fn control(
        &self,
        io: &Io<'_>,
        parcel: Parcel,
        to: &Label,
    ) -> Result<Option<Box<Control>>, Errno> {
        let wants = |label: &Label| label.wants_credentials.load(Ordering::Relaxed);
        let pid = io.caller.map_or(0, |caller| caller.pid());
        let own = (wants(&self.label) || wants(to)).then(|| Credentials::of_process(pid));
        let credentials = parcel.credentials.or(own);
        let name = self.label.name.get().filter(|_| self.kind() == SocketKind::Datagram).copied();
        if name.is_none() && credentials.is_none() && parcel.files.is_empty() {
            return Ok(None);
        }
        if parcel.files.len() > MAX_FILES {
            return Err(Errno::EINVAL);
        }
        let mut files = fallible::with_capacity(parcel.files.len())?;
        for file in parcel.files {
            let socket = downcast_ref::<Self>(file.object());
            let begin = |socket: &Self| Passage::begin(&socket.label.carried, &to.carried);
            files.push(CarriedFile { passage: socket.map(begin).transpose()?, file });
        }
        Ok(Some(Box::new(Control::new(name, credentials, files, io.account())?)))
    }

    /// Receives bytes or a message. Waits for it.
    pub fn receive(
        &self,
        io: &Io<'_>,
        to: &mut UserBuffers,
        how: Receive,
    ) -> Result<Received, Errno> {
        let ready = || self.poll().intersects(Ready::READ);
        let limited = |changed: &Notifier, receive: &mut dyn FnMut(&Io<'_>) -> _| {
            self.limited(io, changed, ready, receive)
        };
        match self.link.get() {
            None if self.kind() == SocketKind::Stream => Err(Errno::EINVAL),
            None => Err(Errno::ENOTCONN),
            Some(Link::Stream(stream, _)) => {
                let [changed, _] = stream.notifiers();
                if how.stays {
                    return limited(changed, &mut |io| stream.peek(io, to));
                }
                let mut all = limited(changed, &mut |io| stream.receive(io, to))?;
                while how.all && all.control.is_none() && !to.remaining().is_zero() {
                    match limited(changed, &mut |io| stream.receive(io, to)) {
                        Ok(more) if !more.copied.is_zero() => {
                            all.copied += more.copied;
                            all.length += more.length;
                            all.control = more.control;
                        }
                        _ => break,
                    }
                }
                Ok(all)
            }
            Some(Link::Packets(endpoint, _)) => {
                // Before what the other end sent, other than with a stream.
                if endpoint.take_reset() {
                    return Err(Errno::ECONNRESET);
                }
                let [channel, _] = endpoint.channels();
                limited(&channel.changed, &mut |io| match how.stays {
                    true => endpoint.peek(io, to),
                    false => endpoint.receive(io, to),
                })
            }
            Some(Link::Datagrams(channel)) => {
                limited(&channel.changed, &mut |io| match how.stays {
                    true => transfer::peek(channel, io, to),
                    false => transfer::receive(channel, io, to),
                })
            }
        }
    }

    /// The name of the socket that sent what was received.
    pub fn sender(&self, received: &Received) -> Option<Name> {
        match self.peer() {
            Some(peer) => peer.label.name.get().copied(),
            None => received.control.as_ref().and_then(|control| control.sender),
        }
    }

    /// Up to when a call waits in a direction; `None` without a limit.
    fn deadline(&self, io: &Io<'_>, direction: Direction) -> Option<Deadline> {
        if io.nonblocking { None } else { Deadline::after(self.timeout_ns(direction)) }
    }

    /// Receives, and waits at most as long as the limit says. `receive` takes nothing where it
    /// returns EAGAIN.
    fn limited<T>(
        &self,
        io: &Io<'_>,
        changed: &Notifier,
        ready: impl Fn() -> bool,
        mut receive: impl FnMut(&Io<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Some(deadline) = self.deadline(io, Direction::Receive) else { return receive(io) };
        let io = Io { nonblocking: true, ..*io };
        loop {
            match receive(&io) {
                Err(Errno::EAGAIN) if !deadline.is_over() => {}
                result => return result,
            }
            changed.wait(|| (ready() || deadline.is_over()).then_some(()))?;
        }
    }
}
