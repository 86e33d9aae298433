//! Sockets of the family `AF_UNIX` ([`Socket`]): streams of bytes, datagrams, and packets of a
//! connection (`SOCK_SEQPACKET`), which pass through an [`Endpoint`].
//!
//! A packet is a [`Message`]: inline bytes, and frames for large contents. The kernel can attach to
//! one end of a pair of packet sockets ([`Endpoint::attach`]): packets that are written to the
//! other end are then passed to its receiver at once, in the writer's context. File servers are
//! connected to `mount` in this way.
//!
//! The kernel can also share an end with the process that has it ([`Endpoint::share`]): then only
//! the messages that are marked as the kernel's are passed to its receiver. A wrapper's connection
//! with its base also carries the kernel's direct session (F9) in this way.
//!
//! F8: every message is passed with its sender's mark as a server. A socket can be inherited and
//! shared, so the mark is that of the process that really sends; `mount` reads lazily only as long
//! as all messages come from marked processes.
//!
//! A thread that waits for a packet gets a small one straight from its sender, in the memory where
//! it wants it; other packets are queued.
//!
//! Lock: `Channel::state`, one for each direction of a pair of packet sockets. It is not held while
//! copying with faults, delivering to a receiver or waking.

mod channel;
mod connect;
mod endpoint;
mod listener;
mod message;
mod names;
mod object;
mod options;
mod queued;
mod stream;
mod transfer;
mod transport;

#[cfg(test)]
pub(super) use channel::{Arrival, Channel};
pub use channel::{IsOurs, Receiver, Sender};
pub use endpoint::{Endpoint, packet_pair};
pub use message::{MAX_MESSAGE, Message};
pub(super) use message::{copied_frame, leading_pages, map_pages};
pub use names::{Key, Node, find};
pub use object::{Label, Peer, Socket, SocketKind};
pub use options::{Direction, Options};
pub use transfer::Received;
pub use transport::{Parcel, Receive};

use super::IoCaller;
use super::buffers::store;
use super::pipe::FIONREAD;
use foundation::Errno;

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
    /// Whether it ends receiving.
    fn reading(self) -> bool {
        self != Self::Writing
    }
    /// Whether it ends sending.
    fn writing(self) -> bool {
        self != Self::Reading
    }
}

/// The request for the bytes that were sent and not received (`SIOCOUTQ`).
const OUTQ: u32 = linux_raw_sys::ioctl::TIOCOUTQ;

/// The ioctls of sockets: the bytes that can be read, and those that the other end has not read.
fn report_queued(
    caller: &dyn IoCaller,
    request: u32,
    argument: u64,
    [readable, unread]: [usize; 2],
) -> Result<u64, Errno> {
    let bytes = match request {
        FIONREAD => readable,
        OUTQ => unread,
        _ => return Err(Errno::ENOTTY),
    };
    store(caller.space(), argument, &(bytes as u32).to_le_bytes())
}
