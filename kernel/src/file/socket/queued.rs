//! A message in a queue, and who pays for it.

use super::Message;
use crate::file::control::Control;
use crate::file::mutants;
use crate::mem::account::{Account, Kind};
use crate::sync::Turn;
use alloc::boxed::Box;
use alloc::sync::Arc;
use foundation::Errno;

/// A message, for which an account pays what it costs.
pub(super) struct Plain {
    pub message: Message,
    /// `None` for the kernel's own, which are limited by its requests in flight.
    pub payer: Option<Arc<Account>>,
    /// The share that pays with that of a server that receives it.
    pub turn: Option<Turn>,
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let Some(payer) = &self.payer {
            payer.subtract(Kind::Messages, cost(&self.message));
        }
    }
}

/// A message with control data.
pub(super) struct Controlled {
    plain: Plain,
    control: Option<Box<Control>>,
}

/// A message in a queue.
pub(in crate::file) struct Queued(Content);

/// A message that stays in its queue, as it is received.
pub(super) type Copied = (Message, Option<Box<Control>>);

/// Few messages have control data, so these are apart.
enum Content {
    Plain(Plain),
    Controlled(Box<Controlled>),
}

/// Moves through several hands: one more word, and each move is a call.
const _: () = assert!(size_of::<Queued>() <= 64);

impl Queued {
    /// A message and its control data.
    #[inline]
    pub(super) fn new(plain: Plain, control: Option<Box<Control>>) -> Self {
        Self(match control {
            None => Content::Plain(plain),
            control => Content::Controlled(Box::new(Controlled { plain, control })),
        })
    }

    #[inline]
    fn plain(&self) -> &Plain {
        match &self.0 {
            Content::Plain(plain) => plain,
            Content::Controlled(both) => &both.plain,
        }
    }

    /// What was sent, without what is known of the sender.
    #[inline]
    pub(in crate::file) fn message(&self) -> &Message {
        &self.plain().message
    }

    /// What it costs in a queue.
    #[inline]
    pub(super) fn cost(&self) -> usize {
        cost(self.message())
    }

    /// Takes the share that pays with the receiver's.
    #[inline]
    pub(super) fn take_turn(&mut self) -> Option<Turn> {
        match &mut self.0 {
            Content::Plain(plain) => plain.turn.take(),
            Content::Controlled(both) => both.plain.turn.take(),
        }
    }

    /// A copy of the message, which shares the frames, and of its control data.
    pub(super) fn try_clone(&self) -> Result<Copied, Errno> {
        let control = match &self.0 {
            Content::Plain(_) => None,
            Content::Controlled(both) => both.control.as_deref(),
        };
        let control = control.map(Control::try_clone).transpose()?;
        Ok((self.message().try_clone()?, control.map(Box::new)))
    }

    /// Takes the control data.
    #[inline]
    pub(super) fn take_control(&mut self) -> Option<Box<Control>> {
        match &mut self.0 {
            Content::Plain(_) => None,
            Content::Controlled(both) => both.control.take(),
        }
    }
}

/// Bytes of memory that a message takes in a queue.
pub(super) fn cost(message: &Message) -> usize {
    if mutants::free_messages() { message.len() } else { message.cost() }
}
