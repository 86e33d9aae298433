//! A swap file that completes transfers when the order says so, and may be full or fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use foundation::Errno;
use kernel::mem::swap::{self, SwapDevice, Transfer};
use kernel::mem::{Claim, Frame};

use crate::sched;

/// Slots of the file.
const SLOTS: u32 = 4096;

#[derive(Default)]
struct State {
    pages: BTreeMap<u32, Vec<u8>>,
    /// Transfers in flight, with their results.
    waiting: Vec<(Transfer, Result<Vec<Frame>, Errno>)>,
    is_full: bool,
    /// Number of reads that will fail, and of those that failed.
    failing: u32,
    failed: u64,
}

/// The file: pages by slot number.
#[derive(Default)]
struct SwapFile(Mutex<State>);

impl SwapFile {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl SwapDevice for SwapFile {
    fn write(&self, first: u32, frames: &[Frame], transfer: Transfer) {
        self.with(|state| {
            let answer = if state.is_full { Err(Errno::ENOSPC) } else { Ok(Vec::new()) };
            if answer.is_ok() {
                state
                    .pages
                    .extend((first..).zip(frames.iter().map(|frame| frame.bytes().to_vec())));
            }
            state.waiting.push((transfer, answer));
        });
    }

    fn read(&self, first: u32, pages: usize, transfer: Transfer) {
        self.with(|state| {
            let page = |slot| {
                let bytes = state.pages.get(&slot).cloned().unwrap_or_default();
                Frame::from_bytes(Claim::Kernel, &bytes).map_err(Errno::from)
            };
            let fails = state.failing > 0;
            state.failing -= u32::from(fails);
            let answer =
                if fails { Err(Errno::EIO) } else { (first..).take(pages).map(page).collect() };
            state.waiting.push((transfer, answer));
        });
    }

    fn punch(&self, slots: Range<usize>, transfer: Transfer) {
        self.with(|state| {
            state.pages.retain(|&slot, _| !slots.contains(&(slot as usize)));
            state.waiting.push((transfer, Ok(Vec::new())));
        });
    }
}

thread_local! {
    static FILE: RefCell<Option<Arc<SwapFile>>> = const { RefCell::new(None) };
}

fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    let file = FILE.with_borrow(Option::clone).expect("a run is under way");
    file.with(act)
}

/// Attaches a new file for a run.
pub fn begin() {
    let file = Arc::new(SwapFile::default());
    FILE.set(Some(file.clone()));
    swap::attach(file, SLOTS).expect("memory for slots");
}

/// Whether transfers are in flight.
pub fn is_busy() -> bool {
    FILE.with_borrow(Option::is_some) && with(|state| !state.waiting.is_empty())
}

/// Completes one transfer.
pub fn step() {
    let index = sched::choose(with(|state| state.waiting.len()));
    let (transfer, answer) = with(|state| {
        let (transfer, answer) = state.waiting.remove(index);
        state.failed += u64::from(matches!(transfer, Transfer::In(_)) && answer.is_err());
        (transfer, answer)
    });
    transfer.complete(answer);
}

/// The next `times` reads fail.
pub fn fail_reads(times: u32) {
    with(|state| state.failing = times);
}

/// Reads that failed so far.
pub fn failures() -> u64 {
    with(|state| state.failed)
}

/// Whether writes fail from now on.
pub fn set_full(is_full: bool) {
    with(|state| state.is_full = is_full);
}

/// After a run: asserts that all slots are free, and detaches the file.
pub fn end() {
    while is_busy() {
        step();
    }
    let (slots, free) = swap::stats();
    assert_eq!(slots - free, 0, "Q3: slots of the swap file that leaked");
    swap::detach();
    FILE.set(None);
}

/// Cleans up after a run that failed.
pub fn abandon() {
    while is_busy() {
        step();
    }
    FILE.set(None);
    swap::detach();
}
