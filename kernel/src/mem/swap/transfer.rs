//! Pages on their way to and from the swap file.

use super::{AREA, Area, SlotRow};
use crate::mem::Frame;
use crate::sync::{Interrupt, Interrupted, Mutex, WaitQueue, rank};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};
use foundation::counter::{self, Counter};
use foundation::{
    Errno,
    mutant::{self, Mutant},
};

/// What a [`Store`](super::Store) was asked for, to be completed once.
#[derive(Debug)]
pub enum Transfer {
    /// Pages were to be written.
    Out(Arc<PageOut>),
    /// Pages were to be read.
    In(Arc<PageIn>),
    /// A chunk of slots was to become a hole.
    Punch(usize),
}

impl Transfer {
    /// Pages that are moved.
    pub fn pages(&self) -> usize {
        match self {
            Self::Out(out) => out.pages.lock().as_ref().map_or(0, |(_, frames)| frames.len()),
            Self::In(coming) => coming.slots.len(),
            Self::Punch(_) => 0,
        }
    }

    /// The answer: for `In`, the frames; else none. Called with no lock held.
    pub fn complete(self, answer: Result<Vec<Frame>, Errno>) {
        match self {
            Self::Out(out) => out.complete(answer.map(drop)),
            Self::In(coming) => coming.complete(answer),
            // A hole that could not be made takes room, and nothing else.
            Self::Punch(number) => {
                if let Some(area) = AREA.lock().as_mut() {
                    area.slots.punched(number);
                }
                PUNCHED.wake_all();
            }
        }
    }
}

static PUNCHED: WaitQueue = WaitQueue::new();

/// Pages that are being written.
#[derive(Debug)]
pub struct PageOut {
    pub(super) first: u32,
    /// Until it is done.
    pages: Mutex<Option<(SlotRow, Vec<Frame>)>, rank::SwapTransfer>,
    queue: WaitQueue,
}

impl PageOut {
    pub(super) fn new(row: SlotRow, frames: Vec<Frame>) -> Self {
        Self {
            first: row.slots.start,
            pages: Mutex::new(Some((row, frames))),
            queue: WaitQueue::new(),
        }
    }

    pub(super) fn copies(&self) -> Vec<Frame> {
        self.pages.lock().as_ref().map(|(_, frames)| frames.clone()).unwrap_or_default()
    }

    pub(super) fn frame(&self, slot: u32) -> Option<Frame> {
        let pages = self.pages.lock();
        let (row, frames) = pages.as_ref()?;
        frames.get(row.index_of(slot)?).cloned()
    }

    pub(super) fn for_each_frame(&self, look: &mut impl FnMut(&Frame)) {
        self.pages.lock().iter().flat_map(|(_, frames)| frames).for_each(look);
    }

    fn complete(&self, answer: Result<(), Errno>) {
        // What goes with its last reference must not go under the lock.
        let done = {
            let mut area = AREA.lock();
            let Some(area) = area.as_mut() else { return };
            let done = self.pages.lock().take();
            area.leaving.retain(|out| !core::ptr::eq(&**out, self));
            if answer.is_err() {
                keep(area, &done);
            }
            done
        };
        if let Err(error) = answer {
            log::warn!("swap: pages could not be written: {}", error.text());
        }
        if let Some((_, frames)) = &done {
            counter::count(
                Counter::PagesSwappedOut,
                if answer.is_ok() { frames.len() as u64 } else { 0 },
            );
        }
        drop(done);
        self.queue.wake_all();
    }

    /// Waits until they are written, or cannot be.
    pub fn wait(&self) -> Result<(), Interrupted> {
        self.queue
            .wait_for_server(Interrupt::Killable, || self.pages.lock().is_none().then_some(()))
    }
}

/// A write failed: its frames stay, for whoever still has a slot of it.
fn keep(area: &mut Area, done: &Option<(SlotRow, Vec<Frame>)>) {
    area.refused = true;
    let Some((row, frames)) = done else { return };
    for (slot, frame) in row.slots.clone().zip(frames) {
        // One reference is the row's own.
        if area.slots.count(slot) > 1 {
            area.kept.insert(slot, frame.clone());
        }
    }
}

#[derive(Debug)]
enum State {
    Pending,
    /// Frames that nobody took yet.
    Here(Vec<Option<Frame>>),
    Failed,
}

/// Pages that are being read. It holds its slots, and what came, until all who wait for it have
/// looked.
#[derive(Debug)]
pub struct PageIn {
    pub(in crate::mem) slots: SlotRow,
    started: AtomicBool,
    state: Mutex<State, rank::SwapTransfer>,
    queue: WaitQueue,
}

impl PageIn {
    pub(super) fn new(slots: SlotRow) -> Self {
        Self {
            slots,
            started: AtomicBool::new(false),
            state: Mutex::new(State::Pending),
            queue: WaitQueue::new(),
        }
    }

    /// Sends the request, if nobody did.
    pub(in crate::mem) fn start(self: &Arc<Self>) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = AREA.lock().as_ref().map(|area| area.store.clone());
        match store {
            Some(store) => {
                store.read(self.slots.slots.start, self.slots.len(), Transfer::In(self.clone()))
            }
            None => self.complete(Err(Errno::EIO)),
        }
    }

    fn complete(&self, answer: Result<Vec<Frame>, Errno>) {
        *self.state.lock() = match answer {
            Ok(frames) if frames.len() == self.slots.len() => {
                counter::count(Counter::PagesSwappedIn, frames.len() as u64);
                State::Here(frames.into_iter().map(Some).collect())
            }
            _ => State::Failed,
        };
        self.queue.wake_all();
    }

    /// Waits for the answer; says whether it is one.
    pub(in crate::mem) fn wait(&self) -> Result<bool, Interrupted> {
        self.queue.wait_for_server(Interrupt::Killable, || match *self.state.lock() {
            State::Pending => None,
            State::Here(_) => Some(true),
            State::Failed => Some(false),
        })
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.state.lock(), State::Failed)
    }

    /// Whether the answer is there.
    pub(in crate::mem) fn is_here(&self) -> bool {
        matches!(*self.state.lock(), State::Here(_))
    }

    /// Something that came was lost: it has to be read again.
    pub(in crate::mem) fn spoil(&self) {
        *self.state.lock() = State::Failed;
    }

    /// The frame of a slot that came: itself for the only page that refers to it, else a reference.
    pub(in crate::mem) fn take(&self, slot: u32) -> Option<Frame> {
        let index = self.slots.index_of(slot)?;
        let index = if mutant::active(Mutant::SwapWrongSlot) {
            (index + 1) % self.slots.len()
        } else {
            index
        };
        // One reference is the entry's, one is ours.
        let sole = AREA.lock().as_ref().is_some_and(|area| area.slots.count(slot) <= 2);
        let State::Here(frames) = &mut *self.state.lock() else { return None };
        let frame = frames.get_mut(index)?;
        if sole && !mutant::active(Mutant::SwapWrongSlot) { frame.take() } else { frame.clone() }
    }
}

/// Waits until some chunk has become a hole, where one is becoming it now.
pub(in crate::mem) fn await_punch() -> Result<bool, Interrupted> {
    let punching = || AREA.lock().as_ref().map_or(0, |area| area.slots.punching());
    let before = punching();
    if before == 0 {
        return Ok(false);
    }
    PUNCHED.wait_for_server(Interrupt::Killable, || (punching() < before).then_some(true))
}
