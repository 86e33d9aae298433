//! Pairs of connected local sockets: streams, and packets with borders kept (`SOCK_SEQPACKET`).
//!
//! A packet is a [`Message`]: bytes, and frames for what is large. One end of a pair of packets can be taken by the kernel ([`Endpoint::attach`]): what
//! is written to the other end is then handed to the receiver at once, in the writer's context. This is how file servers speak with `mount`.
//!
//! F8: every message says whether its sender is marked as a server. A pair can be inherited, passed on and shared, so "the peer's mark" is the mark of
//! whoever really sends, told with each message; `mount` grants laziness only as long as all messages come from marked processes.
//!
//! Lock: `Pipe::state` of one direction; never held while copying with faults, delivering or waking.

use crate::mem::Frame;
use alloc::sync::Arc;
use alloc::vec::Vec;
use fsproto::Errno;

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
    /// A message was written to the other end. Runs in the sender's context with no lock held, and does not wait.
    fn message(&self, message: Message, sender: Sender);
    /// The other end is gone. Called once.
    fn closed(&self);
}
