//! Transfers of pages to and from the swap file.

use super::{AREA, PageOut};
use crate::mem::{
    Frame, mutants,
    slot::{self, SlotRow},
};
use crate::sync::{Interrupt, Interrupted, Mutex, WaitQueue, rank};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};
use foundation::Errno;
use foundation::counter::{self, Counter};

/// A request to a [`SwapDevice`](super::SwapDevice), to be completed once.
#[derive(Debug)]
pub enum Transfer {
    /// Pages to be written.
    Out(PageOut),
    /// Pages to be read.
    In(Arc<PageIn>),
    /// A chunk of slots, by the number of its first one, to become a hole.
    Punch(u32),
}

impl Transfer {
    /// How many pages are moved.
    pub fn pages(&self) -> usize {
        match self {
            Self::Out(out) => out.pages(),
            Self::In(coming) => coming.row.len(),
            Self::Punch(_) => 0,
        }
    }

    /// Reports the result: the frames that were read, or an empty list. Called with no lock held.
    pub fn complete(self, result: Result<Vec<Frame>, Errno>) {
        match self {
            Self::Out(out) => out.complete(result.map(drop)),
            Self::In(coming) => coming.complete(result),
            // A hole that could not be made only wastes disk space.
            Self::Punch(chunk) => {
                slot::punched(chunk);
                PUNCHED.wake_all();
            }
        }
    }
}

static PUNCHED: WaitQueue = WaitQueue::new();

#[derive(Debug)]
enum State {
    /// With the frames that were taken for what is read.
    Pending(Vec<Frame>),
    /// The frames that arrived, and a bit for each that was moved out.
    Arrived(Vec<Frame>, u64),
    Failed,
}

/// A read of pages. It holds its slots, and the frames that arrived, until all who wait for it have
/// looked.
#[derive(Debug)]
pub struct PageIn {
    pub(in crate::mem) row: SlotRow,
    started: AtomicBool,
    state: Mutex<State, rank::SwapTransfer>,
    queue: WaitQueue,
}

impl PageIn {
    pub(super) fn new(row: SlotRow, paid: Vec<Frame>) -> Self {
        debug_assert!(row.len() <= u64::BITS as usize);
        Self {
            row,
            started: AtomicBool::new(false),
            state: Mutex::new(State::Pending(paid)),
            queue: WaitQueue::new(),
        }
    }

    /// Sends the request, unless that was done already.
    pub(in crate::mem) fn start(self: &Arc<Self>) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let place = AREA.lock().place_of(self.row.first());
        match place {
            Some((device, first)) => device.read(first, self.row.len(), Transfer::In(self.clone())),
            None => self.complete(Err(Errno::EIO)),
        }
    }

    fn complete(&self, result: Result<Vec<Frame>, Errno>) {
        debug_assert!(!self.has_arrived(), "a read completes once");
        let state = match result {
            Ok(frames) if frames.len() == self.row.len() => {
                counter::count(Counter::PagesSwappedIn, frames.len() as u64);
                State::Arrived(frames, 0)
            }
            _ => State::Failed,
        };
        // The frames that were taken for it are dropped after the lock.
        let _paid = core::mem::replace(&mut *self.state.lock(), state);
        self.queue.wake_all();
    }

    /// Waits for the reply. Returns whether the pages arrived.
    pub(in crate::mem) fn wait(&self) -> Result<bool, Interrupted> {
        self.queue.wait_for_server(Interrupt::Killable, || match *self.state.lock() {
            State::Pending(_) => None,
            State::Arrived(..) => Some(true),
            State::Failed => Some(false),
        })
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.state.lock(), State::Failed)
    }

    pub(super) fn for_each_frame(&self, look: &mut impl FnMut(&Frame)) {
        if let State::Pending(frames) | State::Arrived(frames, _) = &*self.state.lock() {
            frames.iter().for_each(look);
        }
    }

    /// Whether the pages have arrived.
    pub(in crate::mem) fn has_arrived(&self) -> bool {
        matches!(*self.state.lock(), State::Arrived(..))
    }

    /// Marks the read as failed, because a frame that arrived was lost: the slots have to be read
    /// again.
    pub(in crate::mem) fn invalidate(&self) {
        *self.state.lock() = State::Failed;
    }

    /// The frame of a slot: moved out where only one page refers to the slot, otherwise shared.
    pub(in crate::mem) fn take(&self, number: u32) -> Option<Frame> {
        let index = self.row.index_of(number)?;
        if let Some(index) = mutants::wrong_swap_index(index, self.row.len()) {
            let State::Arrived(frames, _) = &*self.state.lock() else { return None };
            return frames.get(index).cloned();
        }
        // One reference is the page-table entry's, one is the row's.
        let is_sole = slot::references(number) <= 2;
        let State::Arrived(frames, moved) = &mut *self.state.lock() else { return None };
        let frame = frames.get_mut(index).filter(|_| *moved >> index & 1 == 0)?;
        if !is_sole {
            return Some(frame.clone());
        }
        *moved |= 1 << index;
        Some(core::mem::replace(frame, Frame::zero_page()))
    }
}

/// Waits until a chunk has become a hole, where one is being punched. Returns whether one has.
pub(in crate::mem) fn await_punch() -> Result<bool, Interrupted> {
    let before = slot::punching();
    if before == 0 {
        return Ok(false);
    }
    PUNCHED.wait_for_server(Interrupt::Killable, || (slot::punching() < before).then_some(true))
}
