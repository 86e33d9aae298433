//! The connections to a listening socket that it has not accepted.

use super::object::Socket;
use crate::file::Notifier;
use crate::mem::fallible;
use crate::sync::{Mutex, rank};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::Errno;

/// Connections that wait at one socket, at most (`net.core.somaxconn`).
const MAX_BACKLOG: usize = 4096;
#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Socket>>,
    /// Connections beyond which others wait: one more than this is queued.
    backlog: usize,
    /// The socket is closed, or shut down for reading.
    is_closed: bool,
}

/// What makes a socket listen.
#[derive(Default)]
pub struct Listener {
    state: Mutex<State, rank::Backlog>,
    changed: Notifier,
}

impl Listener {
    /// What reports changes of the queue.
    pub fn changed(&self) -> &Notifier {
        &self.changed
    }

    /// Sets how many connections may wait.
    pub fn set_backlog(&self, backlog: u32) {
        self.state.lock().backlog = (backlog as usize).min(MAX_BACKLOG);
        self.changed.notify();
    }

    /// Queues a connection's other end. ECONNREFUSED where the socket is closed; `None` where the
    /// queue is full.
    pub fn push(
        &self,
        make: impl FnOnce() -> Result<Arc<Socket>, Errno>,
    ) -> Option<Result<(), Errno>> {
        if !self.has_space()? {
            return Some(Err(Errno::ECONNREFUSED));
        }
        let socket = match make() {
            Ok(socket) => socket,
            Err(error) => return Some(Err(error)),
        };
        let mut state = self.state.lock();
        let pushed = match () {
            () if state.is_closed => Err((socket, Errno::ECONNREFUSED)),
            () if fallible::reserve(&mut state.queue, 1).is_err() => Err((socket, Errno::ENOMEM)),
            () => {
                socket.label().carried.is_pending.store(true, Ordering::Relaxed);
                state.queue.push_back(socket);
                Ok(())
            }
        };
        drop(state);
        self.changed.notify();
        // Dropped after unlocking.
        Some(pushed.map_err(|(_, error)| error))
    }

    /// Whether a connection can be queued; `None` where the queue is full, false where the socket
    /// is closed.
    fn has_space(&self) -> Option<bool> {
        let state = self.state.lock();
        (state.is_closed || state.queue.len() <= state.backlog).then_some(!state.is_closed)
    }

    /// The oldest connection. EINVAL where the socket is shut down; `None` where there is none.
    pub fn pop(&self) -> Option<Result<Arc<Socket>, Errno>> {
        let mut state = self.state.lock();
        let Some(socket) = state.queue.pop_front() else {
            return state.is_closed.then_some(Err(Errno::EINVAL));
        };
        if state.queue.is_empty() {
            state.queue = VecDeque::new();
        }
        drop(state);
        self.changed.notify();
        socket.label().carried.is_pending.store(false, Ordering::Relaxed);
        Some(Ok(socket))
    }

    /// Whether a connection waits, and whether none will come.
    pub fn look(&self) -> (bool, bool) {
        let state = self.state.lock();
        (!state.queue.is_empty(), state.is_closed)
    }

    /// Refuses connections from now on, and drops those that wait.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let dropped = core::mem::take(&mut state.queue);
        drop(state);
        for socket in &dropped {
            socket.reset();
        }
        drop(dropped);
        self.changed.notify();
    }

    /// Refuses connections from now on (shutdown(2)).
    pub fn refuse(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify();
    }
}
