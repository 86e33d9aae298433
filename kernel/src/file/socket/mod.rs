//! Socket pairs: streams of bytes ([`Stream`]), and packets (`SOCK_SEQPACKET`, [`Endpoint`]).
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
mod endpoint;
mod message;
mod stream;

#[cfg(test)]
pub(super) use channel::{Arrival, Channel};
pub use channel::{IsOurs, Receiver, Sender};
pub use endpoint::{Endpoint, Received, packet_pair};
pub use message::{MAX_MESSAGE, Message};
pub(super) use message::{copied_frame, leading_pages, map_pages};
pub use stream::{Stream, stream_pair};

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

/// The only ioctl of sockets: `FIONREAD`, the number of bytes that can be read.
fn report_readable(
    caller: &dyn IoCaller,
    request: u32,
    argument: u64,
    bytes: usize,
) -> Result<u64, Errno> {
    if request == FIONREAD {
        store(caller.space(), argument, &(bytes as u32).to_le_bytes())
    } else {
        Err(Errno::ENOTTY)
    }
}
