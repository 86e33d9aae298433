//! A swap file in the host's memory, which answers when and how it is told.

use crate::mem::{
    Claim, Frame,
    swap::{Store, Transfer},
};
use foundation::Errno;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAnswers {
    /// At once.
    Now,
    /// When [`RamStore::answer_next`] is called.
    Later,
    /// At once, writes with ENOSPC.
    Full,
    /// At once, everything with EIO.
    Broken,
}

struct State {
    answers: StoreAnswers,
    pages: BTreeMap<u32, Vec<u8>>,
    waiting: Vec<(Transfer, Result<Vec<Frame>, Errno>)>,
}

/// The file.
pub struct RamStore(Mutex<State>);

impl RamStore {
    /// An empty one that answers at once.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            answers: StoreAnswers::Now,
            pages: BTreeMap::new(),
            waiting: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how it answers from now on.
    pub fn set(&self, answers: StoreAnswers) {
        self.lock().answers = answers;
    }

    /// Pages that it keeps.
    pub fn pages(&self) -> usize {
        self.lock().pages.len()
    }

    /// Requests that wait for [`RamStore::answer_next`].
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Answers the request number `which` of those that wait (modulo their number); says whether
    /// there was one.
    pub fn answer_next(&self, which: usize) -> bool {
        let next = {
            let mut state = self.lock();
            let count = state.waiting.len().max(1);
            (!state.waiting.is_empty()).then(|| state.waiting.remove(which % count))
        };
        next.map(|(transfer, answer)| transfer.complete(answer)).is_some()
    }

    fn answer(&self, transfer: Transfer, answer: Result<Vec<Frame>, Errno>) {
        let mut state = self.lock();
        if state.answers == StoreAnswers::Later {
            return state.waiting.push((transfer, answer));
        }
        drop(state);
        transfer.complete(answer);
    }
}

impl Store for RamStore {
    fn write(&self, first: u32, frames: &[Frame], transfer: Transfer) {
        let mut state = self.lock();
        let answer = match state.answers {
            StoreAnswers::Full => Err(Errno::ENOSPC),
            StoreAnswers::Broken => Err(Errno::EIO),
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
            Frame::from_bytes(Claim::Server, &bytes).map_err(Errno::from)
        };
        let answer = if state.answers == StoreAnswers::Broken {
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
}
