//! What a session has in flight: requests by their tags, whom each reply is for, and the handles
//! that are still to be closed.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use foundation::{Errno, SnapshotOffset};
use fsproto::{Field, Handle, Malformed, Op, Reader, Snapshotted, Tag, Walked, Written};

use super::direct;
use super::known::Known;
use super::tags::Tags;
use crate::file::socket::Message;
use crate::mem::{Fetch, fallible, swap::Transfer};
use crate::sync::{Mutex, WaitQueue, rank};

/// A request for which a thread waits. The answer is the whole reply, with its header.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub answer: Mutex<Option<Result<Message, Errno>>, rank::Reply>,
    pub queue: WaitQueue,
}

/// What a reply completes.
pub(super) enum Owner {
    Thread(Arc<Call>),
    Pages {
        fetch: Arc<Fetch>,
        tries: u32,
    },
    /// A fetch whose pages the base may have (F9).
    Direct(Arc<Fetch>),
    /// A fetch that needs the list of holes first.
    Holes {
        fetch: Arc<Fetch>,
        from: SnapshotOffset,
    },
    /// A transfer to or from the swap file.
    Swap(Transfer),
    /// The requester does not need the reply, or is dead.
    Nobody,
}

pub(super) struct InFlight {
    pub op: Op,
    pub owner: Owner,
    /// Whether it may change what is [known](Known) of files.
    pub changes: bool,
}

#[derive(Default)]
pub(super) struct Table {
    pub in_flight: Tags<InFlight>,
    /// What is known of files without asking.
    pub known: Known,
    /// The last call that ended, to be used again.
    pub spare_call: Option<Arc<Call>>,
    /// Handles whose `Close` could not be sent yet. Has space for all of `to_close`.
    pub unclosed: Vec<Handle>,
    /// Handles that are open, or may be opened by a request in flight, and those in `unclosed`.
    pub to_close: usize,
    pub gone: bool,
}

/// What is known of the handles that wait to be closed without the lock of the table.
#[derive(Debug, Default)]
pub(super) struct Closes {
    /// Whether requests carry them.
    pub carried: AtomicBool,
    /// Whether there are some: a hint.
    pub waiting: AtomicBool,
}

/// Whether a request of this kind can open a handle.
pub(super) fn opens(op: Op) -> bool {
    matches!(op, Op::Open | Op::Snapshot | Op::Reclaim | Op::Write)
}

/// The handle that a reply opened.
pub(super) fn opened(op: Op, mut reader: Reader<'_>) -> Result<Handle, Malformed> {
    Ok(match op {
        Op::Open => Walked::get(&mut reader)?.handle,
        Op::Snapshot | Op::Reclaim => Snapshotted::get(&mut reader)?.handle,
        Op::Write => Written::get(&mut reader)?.snapshot,
        _ => Handle::NONE,
    })
}

impl Table {
    /// Removes a request whose reply is there.
    #[inline]
    pub fn remove(&mut self, tag: Tag) -> Option<InFlight> {
        let request = self.in_flight.remove(tag)?;
        self.known.ended(request.changes);
        Some(request)
    }

    /// Removes a request that was not sent.
    pub fn withdraw(&mut self, tag: Tag) -> Option<InFlight> {
        let request = self.remove(tag)?;
        if opens(request.op) {
            self.forget_one();
        }
        Some(request)
    }

    /// A handle is closed, or was not opened.
    pub fn forget_one(&mut self) {
        self.to_close = self.to_close.saturating_sub(1);
        fallible::shrink(&mut self.unclosed, self.to_close);
    }
}

impl Owner {
    pub fn fail(self, error: Errno) {
        match self {
            Self::Thread(call) => {
                *call.answer.lock() = Some(Err(error));
                call.queue.wake_all();
            }
            Self::Pages { fetch, .. } | Self::Holes { fetch, .. } => fetch.complete(Err(error)),
            Self::Direct(fetch) => direct::complete(&fetch, Err(error)),
            Self::Swap(transfer) => transfer.complete(Err(error)),
            Self::Nobody => {}
        }
    }
}
