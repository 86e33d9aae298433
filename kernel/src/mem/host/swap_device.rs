//! A swap device in the host's memory. The test decides when and how it replies.
#![forbid(unsafe_code)]

use crate::mem::{
    Claim, Frame,
    swap::{self, SwapDevice, Transfer},
};
use foundation::Errno;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How the device replies to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapAnswers {
    /// At once, with success.
    Now,
    /// When [`RamSwap::answer_next`] is called.
    Later,
    /// At once, writes with ENOSPC.
    Full,
    /// At once, everything with EIO.
    Broken,
    /// As `Broken`, and for ever.
    Gone,
}

struct State {
    answers: SwapAnswers,
    pages: BTreeMap<u32, Vec<u8>>,
    waiting: Vec<(Transfer, Result<Vec<Frame>, Errno>)>,
}

/// The device.
pub struct RamSwap(Mutex<State>);

impl RamSwap {
    /// An empty device that replies at once.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            answers: SwapAnswers::Now,
            pages: BTreeMap::new(),
            waiting: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how the device replies from now on.
    pub fn set(&self, answers: SwapAnswers) {
        self.lock().answers = answers;
    }

    /// Number of pages on the device.
    pub fn pages(&self) -> usize {
        self.lock().pages.len()
    }

    /// Number of requests that wait for [`RamSwap::answer_next`].
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Replies to request number `which` (modulo their number) of those that wait. Returns whether
    /// there was one.
    pub fn answer_next(&self, which: usize) -> bool {
        let next = {
            let mut state = self.lock();
            let count = state.waiting.len().max(1);
            (!state.waiting.is_empty()).then(|| state.waiting.remove(which % count))
        };
        next.map(|(transfer, answer)| transfer.complete(answer)).is_some()
    }

    /// The device is lost, but the requests that wait have not failed yet.
    pub fn leave(&self) {
        self.set(SwapAnswers::Gone);
        swap::notice_loss();
    }

    /// The device is lost: all requests that wait fail, as all later ones do.
    pub fn lose(&self) {
        self.set(SwapAnswers::Gone);
        let waiting = core::mem::take(&mut self.lock().waiting);
        waiting.into_iter().for_each(|(transfer, _)| transfer.complete(Err(Errno::EIO)));
        swap::notice_loss();
    }

    fn answer(&self, transfer: Transfer, answer: Result<Vec<Frame>, Errno>) {
        let mut state = self.lock();
        if state.answers == SwapAnswers::Later {
            return state.waiting.push((transfer, answer));
        }
        drop(state);
        transfer.complete(answer);
    }
}

impl SwapDevice for RamSwap {
    fn write(&self, first: u32, frames: &[Frame], transfer: Transfer) {
        let mut state = self.lock();
        let answer = match state.answers {
            SwapAnswers::Full => Err(Errno::ENOSPC),
            SwapAnswers::Broken | SwapAnswers::Gone => Err(Errno::EIO),
            _ => {
                state
                    .pages
                    .extend((first..).zip(frames.iter().map(|frame| frame.bytes().to_vec())));
                Ok(Vec::new())
            }
        };
        drop(state);
        self.answer(transfer, answer);
    }

    fn read(&self, first: u32, pages: usize, transfer: Transfer) {
        let state = self.lock();
        let page = |slot| {
            let bytes = state.pages.get(&slot).cloned().unwrap_or_default();
            Frame::from_bytes(Claim::Kernel, &bytes).map_err(Errno::from)
        };
        let answer = if matches!(state.answers, SwapAnswers::Broken | SwapAnswers::Gone) {
            Err(Errno::EIO)
        } else {
            (first..).take(pages).map(page).collect()
        };
        drop(state);
        self.answer(transfer, answer);
    }

    fn punch(&self, slots: Range<usize>, transfer: Transfer) {
        self.lock().pages.retain(|&slot, _| !slots.contains(&(slot as usize)));
        self.answer(transfer, Ok(Vec::new()));
    }

    fn is_gone(&self) -> bool {
        self.lock().answers == SwapAnswers::Gone
    }
}
