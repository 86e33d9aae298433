//! One direction of a pair of packet sockets: a queue, or the kernel's receiver.
//!
//! A small message is handed to a thread that [waits](crate::file::waiter). Every other message is
//! queued. A thread that was killed takes none.

use super::Message;
use super::message::MAX_COST;
use super::queued::{Copied, Plain, Queued, cost};
use crate::file::control::Control;
use crate::file::waiter::{Place, Waiting};
use crate::file::{Notifier, Ready, mutants};
use crate::mem::account::{Account, Kind};
use crate::mem::{LentPages, fallible};
use crate::sync::{self, Mutex, MutexGuard, Turn, rank};
use alloc::boxed::Box;
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
    /// Called instead for a server's message of a header and whole pages of its memory. False where
    /// the kernel does not take the pages as they are: then nothing has changed. Does not wait.
    fn pages(&self, _header: &[u8], _lent: LentPages<'_>) -> bool {
        false
    }
    /// Called once, when the other end is closed.
    fn closed(&self);
}

/// Whether a message on a connection that the kernel shares with a process is for the kernel. It is
/// shown the bytes of the message that are in no frame, or some from its beginning.
pub type IsOurs = fn(&[u8]) -> bool;

/// A message that is in its receiver's memory.
struct Handed {
    length: usize,
    turn: Option<Turn>,
}

/// What a receiver gets.
pub(in crate::file) enum Arrival {
    /// A message of so many bytes, which is where it was wanted.
    Handed(usize),
    /// A message from the queue. It has to be [`delivered`](Channel::delivered) or
    /// [put back](Channel::unreceive).
    Queued(Queued),
    /// There was none, and there will be none.
    End,
    /// None: the kernel is attached, and receives all.
    Kernels,
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
    /// One of the threads that wait, if one said where it wants the message.
    waiting: Waiting<Handed>,
    /// The kernel receives the messages for which the function returns true, and the process that
    /// has the end all others.
    pub(super) sharing: Option<(IsOurs, Arc<dyn Receiver>)>,
    /// The sending end is closed or shut down.
    pub(super) ended: bool,
    /// The receiving end is closed or shut down.
    pub(super) refused: bool,
    /// The sending end was closed before it had received all: ECONNRESET, once.
    pub(super) was_reset: bool,
}

impl State {
    /// Whether a sending process would wait with a message of this cost.
    fn is_full(&self, cost: usize) -> bool {
        let too_many = self.queue.len() >= MAX_MESSAGES && !mutants::free_messages();
        !self.queue.is_empty() && (too_many || self.queued_cost + cost > MAX_QUEUED)
    }

    /// Frees the memory that a burst of messages has used.
    #[inline]
    fn release_burst(&mut self) {
        if self.queue.capacity() > KEPT_MESSAGES && self.queue.is_empty() && self.delivering == 0 {
            self.queue = VecDeque::new();
        }
    }

    /// What there is to receive.
    fn next(&mut self) -> Option<Arrival> {
        let Some(queued) = self.queue.pop_front() else {
            return match () {
                () if self.receiver.is_some() => Some(Arrival::Kernels),
                () => (self.ended || self.refused).then_some(Arrival::End),
            };
        };
        self.queued_cost -= queued.cost();
        self.delivering += 1;
        Some(Arrival::Queued(queued))
    }

    /// Who receives a message that begins so, if it is the kernel.
    #[inline]
    fn kernels(&self, bytes: &[u8]) -> Option<&Arc<dyn Receiver>> {
        let shared = self.sharing.as_ref().filter(|(is_ours, _)| is_ours(bytes));
        shared.map(|(_, receiver)| receiver).or(self.receiver.as_ref())
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
        let sharing = state.sharing.take().map(|(_, receiver)| receiver);
        drop(state);
        for receiver in receiver.into_iter().chain(sharing) {
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
        let sharing = state.sharing.take();
        drop(state);
        drop(dropped);
        if let Some((_, receiver)) = sharing {
            receiver.closed();
        }
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
        self.send_with(message, &mut None, sender, account)
    }

    /// The same with control data, of which none are left. (The kernel takes none: it drops them.)
    pub(in crate::file) fn send_with(
        &self,
        message: &mut Message,
        control: &mut Option<Box<Control>>,
        sender: Sender,
        account: Option<&Arc<Account>>,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.refused || state.ended {
            return Err(Refusal::Closed);
        }
        if let Some(receiver) = state.kernels(&message.inline).cloned() {
            drop(state);
            sync::return_turn();
            receiver.message(core::mem::take(message), sender);
            return Ok(());
        }
        let cost = cost(message);
        if account.is_some() && state.is_full(cost) {
            return Err(Refusal::Full);
        }
        state.release_burst();
        let places = state.delivering + 1;
        if fallible::reserve(&mut state.queue, places).is_err() {
            return Err(Refusal::NoMemory);
        }
        if account.is_some_and(|account| account.add(Kind::Messages, cost).is_err()) {
            return Err(Refusal::NoMemory);
        }
        state.queued_cost += cost;
        let (payer, turn) = (account.cloned(), sync::pass_turn());
        let plain = Plain { message: core::mem::take(message), payer, turn };
        state.queue.push_back(Queued::new(plain, control.take()));
        drop(state);
        self.changed.notify_of(Ready::READ);
        Ok(())
    }

    /// Passes a server's small message to the kernel, or hands it over. False where neither is
    /// possible now.
    pub(super) fn pass(&self, bytes: &[u8]) -> bool {
        let state = self.state.lock();
        let is_open = !state.refused && !state.ended;
        let Some(receiver) = state.kernels(bytes).filter(|_| is_open).cloned() else {
            return self.hand_to_waiter(state, bytes, &[]);
        };
        drop(state);
        let Ok(message) = Message::small(bytes) else { return false };
        sync::return_turn();
        receiver.message(message, Sender::Server);
        true
    }

    /// Passes a server's message of a header and whole pages to the kernel. False where that is
    /// impossible now.
    pub(super) fn pass_pages(&self, header: &[u8], lent: LentPages<'_>) -> bool {
        let state = self.state.lock();
        let is_open = !state.refused && !state.ended;
        let Some(receiver) = state.kernels(header).filter(|_| is_open).cloned() else {
            return false;
        };
        drop(state);
        sync::return_turn();
        receiver.pages(header, lent)
    }

    /// Copies a message to where a thread waits for it, and wakes that thread. False where none
    /// does, or it cannot be copied without waiting: then it has to be [sent](Self::send).
    pub(in crate::file) fn hand_over(&self, first: &[u8], rest: &[&[u8]]) -> bool {
        self.hand_to_waiter(self.state.lock(), first, rest)
    }

    #[inline]
    fn hand_to_waiter(
        &self,
        mut guard: MutexGuard<'_, State>,
        first: &[u8],
        rest: &[&[u8]],
    ) -> bool {
        let state = &mut *guard;
        let is_next = state.queue.is_empty() || mutants::overtake();
        let is_open = !state.refused && !state.ended && state.kernels(first).is_none();
        let was_handed = is_next
            && is_open
            && state.waiting.hand(|space, mut to| {
                let length = first.len() + rest.iter().map(|part| part.len()).sum::<usize>();
                if length == 0 || length > to.len() {
                    return None;
                }
                for part in core::iter::once(&first).chain(rest) {
                    if !space.copy_out_mapped(to, part) {
                        return None;
                    }
                    to = to.skip(part.len());
                }
                Some(Handed { length, turn: sync::pass_turn() })
            });
        if !was_handed {
            return false;
        }
        state.release_burst();
        drop(guard);
        self.changed.notify_of(Ready::READ);
        true
    }

    /// A copy of the next message, which stays in the queue; `None` after the last one.
    pub(super) fn peek(&self, nonblocking: bool) -> Result<Option<Copied>, Errno> {
        let look = || {
            let state = self.state.lock();
            match state.queue.front() {
                Some(queued) => Some(queued.try_clone().map(Some)),
                None => (state.ended || state.refused).then_some(Ok(None)),
            }
        };
        if nonblocking { look().unwrap_or(Err(Errno::EAGAIN)) } else { self.changed.wait(look)? }
    }

    /// The next message. A thread that has to wait gets it at `place`, if it is small.
    pub(in crate::file) fn receive(
        &self,
        nonblocking: bool,
        place: Option<Place<'_>>,
    ) -> Result<Arrival, Errno> {
        if nonblocking {
            return self.state.lock().next().map(arrived).ok_or(Errno::EAGAIN);
        }
        let (mut waits, mut looked) = (false, false);
        let mut look = || {
            let mut state = self.state.lock();
            if waits && state.waiting.has_got() {
                return state.waiting.leave().map(handed);
            }
            if looked && sync::is_killed() {
                return None;
            }
            looked = true;
            let next = state.next();
            if next.is_some() {
                if waits {
                    state.waiting.leave();
                }
            } else if !waits && let Some(place) = place {
                waits = state.waiting.begin(place);
            }
            next.map(arrived)
        };
        match self.changed.wait(&mut look) {
            Err(_) if waits => self.end_wait(),
            result => Ok(result?),
        }
    }

    /// A signal has ended the wait: what was handed over before it came is received.
    pub(in crate::file) fn end_wait(&self) -> Result<Arrival, Errno> {
        let left = self.state.lock().waiting.leave();
        left.filter(|_| !mutants::drop_handed()).map(handed).ok_or(Errno::EINTR)
    }

    /// As [`receive`](Self::receive) begins to wait.
    #[cfg(test)]
    pub(in crate::file) fn begin_wait(&self, place: Place<'_>) {
        let mut state = self.state.lock();
        state.waiting = Waiting::default();
        state.waiting.begin(place);
    }

    /// Whether there are messages, and whether receiving has ended.
    pub(super) fn look(&self) -> (bool, bool) {
        let state = self.state.lock();
        (!state.queue.is_empty(), state.refused)
    }

    /// Whether poll(2) reports that a message can be sent.
    pub(super) fn accepts(&self) -> bool {
        let state = self.state.lock();
        state.has_space() || state.refused
    }

    /// Bytes of the next message; 0 where there is none.
    pub(super) fn next_bytes(&self) -> usize {
        self.state.lock().queue.front().map_or(0, |queued| queued.message().len())
    }

    /// Bytes of all messages.
    pub(super) fn all_bytes(&self) -> usize {
        self.state.lock().queue.iter().map(|queued| queued.message().len()).sum()
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
        state.queued_cost += queued.cost();
        state.queue.push_front(queued);
        drop(state);
        self.changed.notify_of(Ready::READ);
    }
}

/// A message was taken from the queue: its receiver works for its sender.
fn arrived(mut arrival: Arrival) -> Arrival {
    if let Arrival::Queued(queued) = &mut arrival
        && let Some(turn) = queued.take_turn()
    {
        sync::take_turn(turn);
    }
    arrival
}

/// The same for a message that was handed over.
fn handed(handed: Handed) -> Arrival {
    if let Some(turn) = handed.turn {
        sync::take_turn(turn);
    }
    Arrival::Handed(handed.length)
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
