//! One direction of a pair of packet sockets: a queue, or the kernel's receiver.

use super::Message;
use super::message::MAX_COST;
use crate::file::{Notifier, mutants};
use crate::mem::account::{Account, Kind};
use crate::mem::fallible;
use crate::sync::{self, Mutex, Turn, rank};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use foundation::Errno;

/// Messages for which an empty queue keeps its memory.
const KEPT_MESSAGES: usize = 4;
/// Messages queued in one direction before a sending process waits. Linux's limit of bytes holds
/// 278 empty messages.
pub(super) const MAX_MESSAGES: usize = 1024;
/// Bytes queued in one direction, overhead included, before a sending process waits: the largest
/// message can be queued while another one is received.
const MAX_QUEUED: usize = 2 * MAX_COST;

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

/// A message in a queue, for which an account pays what it costs.
pub(in crate::file) struct Queued {
    pub(in crate::file) message: Message,
    /// `None` for the kernel's own, which are limited by its requests in flight.
    payer: Option<Arc<Account>>,
    /// The share at whose expense a server that receives it works.
    turn: Option<Turn>,
}

/// Moves through several hands: one more word, and each move is a call.
const _: () = assert!(size_of::<Queued>() <= 64);

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(payer) = &self.payer {
            payer.subtract(Kind::Messages, cost(&self.message));
        }
    }
}

/// Bytes of memory that a message takes in a queue.
fn cost(message: &Message) -> usize {
    if mutants::free_messages() { message.len() } else { message.cost() }
}

#[derive(Default)]
pub(super) struct State {
    /// Has space for those that are being delivered, too.
    pub(super) queue: VecDeque<Queued>,
    /// Messages that were taken from the queue and may have to be put back.
    delivering: usize,
    /// What the messages in the queue cost.
    pub(super) queued_cost: usize,
    pub(super) receiver: Option<Arc<dyn Receiver>>,
    /// The sending end is closed or shut down.
    pub(super) ended: bool,
    /// The receiving end is closed or shut down.
    pub(super) refused: bool,
}

impl State {
    /// Whether a sending process would wait with a message of this cost.
    fn is_full(&self, cost: usize) -> bool {
        let too_many = self.queue.len() >= MAX_MESSAGES && !mutants::free_messages();
        !self.queue.is_empty() && (too_many || self.queued_cost + cost > MAX_QUEUED)
    }

    /// Whether poll(2) reports that a message can be sent.
    pub(super) fn has_space(&self) -> bool {
        !self.is_full(MAX_QUEUED / 2)
    }
}

/// One direction of a pair.
#[derive(Default)]
pub(in crate::file) struct Channel {
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
    pub(in crate::file) fn refuse(&self) {
        let mut state = self.state.lock();
        state.refused = true;
        let dropped = core::mem::take(&mut state.queue);
        state.queued_cost = 0;
        drop(state);
        drop(dropped);
        self.changed.notify();
    }

    /// Passes a message to the receiver, or queues it: leaves an empty one. A process pays for what
    /// is queued, and there is a limit; the kernel has no account.
    pub(in crate::file) fn send(
        &self,
        message: &mut Message,
        sender: Sender,
        account: Option<&Arc<Account>>,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.refused || state.ended {
            return Err(Refusal::Closed);
        }
        if let Some(receiver) = state.receiver.clone() {
            drop(state);
            sync::return_turn();
            receiver.message(core::mem::take(message), sender);
            return Ok(());
        }
        let cost = cost(message);
        if account.is_some() && state.is_full(cost) {
            return Err(Refusal::Full);
        }
        // Frees the memory that a burst of messages has used.
        if state.queue.capacity() > KEPT_MESSAGES && state.queue.is_empty() && state.delivering == 0
        {
            state.queue = VecDeque::new();
        }
        let places = state.delivering + 1;
        if fallible::reserve(&mut state.queue, places).is_err() {
            return Err(Refusal::NoMemory);
        }
        if account.is_some_and(|account| account.add(Kind::Messages, cost).is_err()) {
            return Err(Refusal::NoMemory);
        }
        state.queued_cost += cost;
        let (payer, turn) = (account.cloned(), sync::pass_turn());
        state.queue.push_back(Queued { message: core::mem::take(message), payer, turn });
        drop(state);
        self.changed.notify();
        Ok(())
    }

    /// A copy of the next message, which stays in the queue; `None` after the last one.
    pub(super) fn peek(&self, nonblocking: bool) -> Result<Option<Message>, Errno> {
        let look = || {
            let state = self.state.lock();
            match state.queue.front() {
                Some(queued) => Some(queued.message.try_clone().map(Some)),
                None => (state.ended || state.refused).then_some(Ok(None)),
            }
        };
        if nonblocking { look().unwrap_or(Err(Errno::EAGAIN)) } else { self.changed.wait(look)? }
    }

    /// The next message; `None` after the last one. It has to be [`delivered`](Self::delivered) or
    /// [put back](Self::unreceive).
    pub(in crate::file) fn receive(&self, nonblocking: bool) -> Result<Option<Queued>, Errno> {
        let mut received = None;
        let mut look = || {
            let mut state = self.state.lock();
            if state.queue.is_empty() {
                return (state.ended || state.refused).then_some(());
            }
            received = state.queue.pop_front();
            state.queued_cost -= received.as_ref().map_or(0, |queued| cost(&queued.message));
            state.delivering += 1;
            Some(())
        };
        if nonblocking {
            look().ok_or(Errno::EAGAIN)?
        } else {
            self.changed.wait(look)?
        }
        if let Some(turn) = received.as_mut().and_then(|queued: &mut Queued| queued.turn.take()) {
            sync::take_turn(turn);
        }
        Ok(received)
    }

    /// A message that was taken need not be put back.
    pub(in crate::file) fn delivered(&self) {
        self.state.lock().delivering -= 1;
    }

    /// Puts back a message that could not be delivered (F4). There is a place for it, and its turn
    /// is the receiver's already.
    pub(in crate::file) fn unreceive(&self, queued: Queued) {
        let mut state = self.state.lock();
        state.delivering -= 1;
        if state.refused {
            // Nobody can receive it.
            drop(state);
            return drop(queued);
        }
        debug_assert!(state.queue.len() < state.queue.capacity());
        state.queued_cost += cost(&queued.message);
        state.queue.push_front(queued);
        drop(state);
        self.changed.notify();
    }
}

/// Why a message was not sent.
pub(in crate::file) enum Refusal {
    /// One of the ends is closed or shut down.
    Closed,
    /// No memory for the queue.
    NoMemory,
    /// The queue is full.
    Full,
}
