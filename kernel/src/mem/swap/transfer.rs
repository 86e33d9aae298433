//! Transfers of pages to and from the swap file.

use super::AREA;
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
    Out(Arc<PageOut>),
    /// Pages to be read.
    In(Arc<PageIn>),
    /// A chunk of slots, by the number of its first one, to become a hole.
    Punch(u32),
}

impl Transfer {
    /// How many pages are moved.
    pub fn pages(&self) -> usize {
        match self {
            Self::Out(out) => out.pages.lock().as_ref().map_or(0, |(_, frames)| frames.len()),
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

/// A write of pages.
#[derive(Debug)]
pub struct PageOut {
    /// `None` once the write has completed.
    pages: Mutex<Option<(SlotRow, Vec<Frame>)>, rank::SwapTransfer>,
    queue: WaitQueue,
}

impl PageOut {
    pub(super) fn new(row: SlotRow, frames: Vec<Frame>) -> Self {
        Self { pages: Mutex::new(Some((row, frames))), queue: WaitQueue::new() }
    }

    pub(super) fn copies(&self) -> Vec<Frame> {
        self.pages.lock().as_ref().map(|(_, frames)| frames.clone()).unwrap_or_default()
    }

    pub(super) fn frame(&self, number: u32) -> Option<Frame> {
        let pages = self.pages.lock();
        let (row, frames) = pages.as_ref()?;
        frames.get(row.index_of(number)?).cloned()
    }

    pub(super) fn for_each_frame(&self, look: &mut impl FnMut(&Frame)) {
        self.pages.lock().iter().flat_map(|(_, frames)| frames).for_each(look);
    }

    fn complete(&self, result: Result<(), Errno>) {
        // The row and the frames are dropped after the lock.
        let done = {
            let mut area = AREA.lock();
            let done = self.pages.lock().take();
            debug_assert!(done.is_some(), "a write completes once");
            area.leaving.retain(|out| !core::ptr::eq(&**out, self));
            // Under the area's lock: at any time the frames are found either here or there.
            if let (Err(_), Some((row, frames))) = (result, &done) {
                slot::keep(row, frames);
            }
            done
        };
        match result {
            Ok(()) => {
                let pages = done.as_ref().map_or(0, |(_, frames)| frames.len());
                counter::count(Counter::PagesSwappedOut, pages as u64);
            }
            Err(error) => log::warn!("swap: pages could not be written: {}", error.text()),
        }
        drop(done);
        self.queue.wake_all();
    }

    /// Waits until the write has completed or failed.
    pub fn wait(&self) -> Result<(), Interrupted> {
        self.queue
            .wait_for_server(Interrupt::Killable, || self.pages.lock().is_none().then_some(()))
    }
}

#[derive(Debug)]
enum State {
    Pending,
    /// The frames that arrived; `None` for those already taken.
    Arrived(Vec<Option<Frame>>),
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
    pub(super) fn new(row: SlotRow) -> Self {
        Self {
            row,
            started: AtomicBool::new(false),
            state: Mutex::new(State::Pending),
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
        *self.state.lock() = match result {
            Ok(frames) if frames.len() == self.row.len() => {
                counter::count(Counter::PagesSwappedIn, frames.len() as u64);
                State::Arrived(frames.into_iter().map(Some).collect())
            }
            _ => State::Failed,
        };
        self.queue.wake_all();
    }

    /// Waits for the reply. Returns whether the pages arrived.
    pub(in crate::mem) fn wait(&self) -> Result<bool, Interrupted> {
        self.queue.wait_for_server(Interrupt::Killable, || match *self.state.lock() {
            State::Pending => None,
            State::Arrived(_) => Some(true),
            State::Failed => Some(false),
        })
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.state.lock(), State::Failed)
    }

    /// Whether the pages have arrived.
    pub(in crate::mem) fn has_arrived(&self) -> bool {
        matches!(*self.state.lock(), State::Arrived(_))
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
            let State::Arrived(frames) = &*self.state.lock() else { return None };
            return frames.get(index)?.clone();
        }
        // One reference is the page-table entry's, one is the row's.
        let is_sole = slot::references(number) <= 2;
        let State::Arrived(frames) = &mut *self.state.lock() else { return None };
        let frame = frames.get_mut(index)?;
        if is_sole { frame.take() } else { frame.clone() }
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
