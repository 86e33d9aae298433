//! bind(2), listen(2), connect(2) and accept(2).

use super::listener::Listener;
use super::names::{self, Key};
use super::object::{Link, Peer, Socket, SocketKind, Target};
use super::options::Direction;
use crate::file::control::Name;
use crate::file::timeout::{self, Deadline};
use crate::file::{FileObject, Io};
use crate::mem::account::Account;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::Errno;

impl Socket {
    /// Whether it has a name.
    pub fn is_bound(&self) -> bool {
        self.label.name.get().is_some()
    }

    /// Gives it an abstract name, or the name of a node whose file it then keeps. EINVAL where it
    /// has a name, EADDRINUSE where another socket has this one.
    pub fn bind(
        self: &Arc<Self>,
        name: Name,
        node: Option<(Key, Arc<dyn FileObject>)>,
    ) -> Result<(), Errno> {
        let (key, file) =
            node.map_or((Key::Abstract(name, self.kind()), None), |(key, file)| (key, Some(file)));
        names::enter(key, self)?;
        self.take_name(name, key, file)
    }

    /// Gives it an abstract name that nobody has, unless it has one.
    pub fn bind_automatically(self: &Arc<Self>) -> Result<(), Errno> {
        if self.is_bound() {
            return Ok(());
        }
        let name = names::enter_automatic(self)?;
        self.take_name(name, Key::Abstract(name, self.kind()), None)
    }

    /// Notes the entry in the table of names; removes that where the socket has one already.
    fn take_name(
        &self,
        name: Name,
        key: Key,
        file: Option<Arc<dyn FileObject>>,
    ) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.bound.is_some() || self.is_bound() {
            drop(state);
            names::leave(key);
            return Err(Errno::EINVAL);
        }
        state.bound = Some((key, file));
        self.label.name.call_once(|| name);
        Ok(())
    }

    /// Makes it listen, on behalf of the process `pid`. EOPNOTSUPP for datagrams, EINVAL without a
    /// name or with a connection.
    pub fn listen(&self, backlog: u32, pid: u32) -> Result<(), Errno> {
        if self.kind() == SocketKind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.is_bound() || self.link.get().is_some() {
            return Err(Errno::EINVAL);
        }
        let listener = self.state.lock().listener.get_or_insert_default().clone();
        self.label.carried.listens.store(true, Ordering::Relaxed);
        self.label.set_process(pid);
        listener.set_backlog(backlog);
        Ok(())
    }

    /// Connects it with the socket of a name, on behalf of the process `pid`.
    pub fn connect(self: &Arc<Self>, io: &Io<'_>, to: Arc<Self>, pid: u32) -> Result<(), Errno> {
        if self.kind() != to.kind() {
            return Err(Errno::EPROTOTYPE);
        }
        if self.label.wants_credentials.load(Ordering::Relaxed) {
            self.bind_automatically()?;
        }
        if self.kind() == SocketKind::Datagram {
            if !self.may_send_to(&to) {
                return Err(Errno::EPERM);
            }
            self.state.lock().target = Target::of(&to);
            return Ok(());
        }
        if self.link.get().is_some() {
            return Err(Errno::EISCONN);
        }
        if self.is_listening() {
            return Err(Errno::EINVAL);
        }
        let listener = to.state.lock().listener.clone().ok_or(Errno::ECONNREFUSED)?;
        let theirs = Peer::of(&to.label);
        // The socket is not kept open while this one waits.
        drop(to);
        self.label.set_process(pid);
        let link = self.enter_backlog(io, &listener, theirs)?;
        let state = self.state.lock();
        let is_first = self.link.get().is_none();
        if is_first {
            self.link.call_once(|| link);
        }
        drop(state);
        if is_first { Ok(()) } else { Err(Errno::EISCONN) }
    }

    /// Waits until a listener has space for a connection. Returns this end of it.
    fn enter_backlog(
        &self,
        io: &Io<'_>,
        listener: &Arc<Listener>,
        theirs: Peer,
    ) -> Result<Link, Errno> {
        let mut own = None;
        let mut attempt = || {
            let make = || {
                let accepted = Self::accepted(self.kind(), &theirs, io.account())?;
                let peer = Peer { label: accepted.label.clone(), pid: theirs.pid };
                let (link, back) = Link::pair(self.kind(), Peer::of(&self.label), peer);
                accepted.link.call_once(|| back);
                own = Some(link);
                Ok(Arc::new(accepted))
            };
            listener.push(make)
        };
        let deadline = Deadline::after(self.timeout_ns(Direction::Send));
        let (changed, deadline) = (listener.changed(), deadline.as_ref());
        match timeout::wait(changed, io.nonblocking, deadline, &mut attempt)? {
            Some(pushed) => pushed?,
            None => return Err(Errno::EAGAIN),
        }
        own.ok_or(Errno::ECONNREFUSED)
    }

    /// The listening side's end of a new connection: it has the name of the listening socket.
    fn accepted(kind: SocketKind, listening: &Peer, account: &Arc<Account>) -> Result<Self, Errno> {
        let socket = Self::without_link(kind, account)?;
        if let Some(name) = listening.label.name.get() {
            socket.label.name.call_once(|| *name);
        }
        socket.label.set_process(listening.pid);
        Ok(socket)
    }

    /// Dissolves the connection of a datagram socket.
    pub fn disconnect(&self) {
        let target = self.state.lock().target.take();
        drop(target);
    }

    /// The next connection. Waits for it, at most as long as the limit for receiving. EINVAL where
    /// the socket does not listen.
    pub fn accept(&self, io: &Io<'_>) -> Result<Arc<Self>, Errno> {
        if self.kind() == SocketKind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let listener = self.state.lock().listener.clone().ok_or(Errno::EINVAL)?;
        let deadline = Deadline::after(self.timeout_ns(Direction::Receive));
        let pop = || listener.pop();
        match timeout::wait(listener.changed(), io.nonblocking, deadline.as_ref(), pop)? {
            // Only one who waits learns that the socket is shut down.
            Some(Err(Errno::EINVAL)) if io.nonblocking => Err(Errno::EAGAIN),
            accepted => accepted.unwrap_or(Err(Errno::EAGAIN)),
        }
    }

    /// Whether a datagram socket receives from this one.
    pub(super) fn may_send_to(&self, to: &Self) -> bool {
        let state = to.state.lock();
        let target = state.target.as_ref();
        target.is_none_or(|target| Arc::ptr_eq(&target.label, &self.label))
    }
}
