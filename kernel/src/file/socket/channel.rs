//! One direction of a pair of packet sockets: a queue, or the kernel's receiver.

use super::Message;
use crate::file::Notifier;
use crate::sync::{Mutex, rank};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use foundation::Errno;

/// Messages for which an empty queue keeps its memory.
const KEPT_MESSAGES: usize = 16;

/// The sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A process that is not marked as a server.
    Ordinary,
    /// A process marked as a server (F8).
    Server,
}

/// The kernel's end of a pair of packet sockets.
pub trait Receiver: Send + Sync {
    /// Called for each message written to the other end, in the sender's context, with no lock
    /// held. Does not wait.
    fn message(&self, message: Message, sender: Sender);
    /// Called once, when the other end is closed.
    fn closed(&self);
}

#[derive(Default)]
pub(super) struct State {
    pub(super) queue: VecDeque<Message>,
    pub(super) queued_bytes: usize,
    pub(super) receiver: Option<Arc<dyn Receiver>>,
    /// The sending end is closed or shut down.
    pub(super) ended: bool,
    /// The receiving end is closed or shut down.
    pub(super) refused: bool,
}

/// One direction of a pair.
#[derive(Default)]
pub(super) struct Channel {
    pub(super) state: Mutex<State, rank::Socket>,
    pub(super) changed: Notifier,
}

impl Channel {
    /// Ends sending: messages in the queue can still be received.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        let already = core::mem::replace(&mut state.ended, true);
        let receiver = if already { None } else { state.receiver.take() };
        drop(state);
        if let Some(receiver) = receiver {
            receiver.closed();
        }
        self.changed.notify();
    }

    /// Ends receiving: drops the messages in the queue.
    pub(super) fn refuse(&self) {
        let mut state = self.state.lock();
        state.refused = true;
        let dropped = core::mem::take(&mut state.queue);
        state.queued_bytes = 0;
        drop(state);
        drop(dropped);
        self.changed.notify();
    }

    /// Passes a message to the receiver, or queues it if at most `max_queued` bytes are then
    /// queued.
    pub(super) fn send(
        &self,
        message: Message,
        sender: Sender,
        max_queued: usize,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.refused || state.ended {
            return Err(Refusal::Closed);
        }
        if let Some(receiver) = state.receiver.clone() {
            drop(state);
            receiver.message(message, sender);
            return Ok(());
        }
        if state.queued_bytes > 0 && state.queued_bytes + message.len() > max_queued {
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

    /// A copy of the next message, which stays in the queue; `None` after the last one.
    pub(super) fn peek(&self, nonblocking: bool) -> Result<Option<Message>, Errno> {
        let look = || {
            let state = self.state.lock();
            match state.queue.front() {
                Some(message) => Some(message.try_clone().map(Some)),
                None => (state.ended || state.refused).then_some(Ok(None)),
            }
        };
        if nonblocking { look().unwrap_or(Err(Errno::EAGAIN)) } else { self.changed.wait(look)? }
    }

    /// The next message; `None` after the last one.
    pub(super) fn receive(&self, nonblocking: bool) -> Result<Option<Message>, Errno> {
        let look = || {
            let mut state = self.state.lock();
            match state.queue.pop_front() {
                Some(message) => {
                    state.queued_bytes -= message.len();
                    // Frees the memory that a burst of messages has used.
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

    /// Puts back a message that could not be delivered (F4).
    pub(super) fn unreceive(&self, message: Message) {
        let mut state = self.state.lock();
        state.queued_bytes += message.len();
        state.queue.push_front(message);
    }
}

/// Why a message was not sent.
pub(super) enum Refusal {
    /// One of the ends is closed or shut down.
    Closed,
    /// No memory for the queue.
    NoMemory,
    /// The queue is full; the message, to be sent later.
    Full(Message),
}
