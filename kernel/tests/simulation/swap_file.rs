//! A swap file that completes transfers when the order says so, may be full or fail, and may be
//! lost with transfers in flight: these fail later, when another file may be attached already.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use foundation::Errno;
use kernel::mem::swap::{self, SwapDevice, Transfer};
use kernel::mem::{Claim, Frame};

use crate::{ranks, sched};

/// Slots of the file.
const SLOTS: u32 = 4096;

/// The bytes of pages that are read; empty for another transfer.
type Pages = Vec<Vec<u8>>;

#[derive(Default)]
struct State {
    pages: BTreeMap<u32, Vec<u8>>,
    /// Transfers in flight, with their results.
    waiting: Vec<(Transfer, Result<Pages, Errno>)>,
    is_full: bool,
    /// Number of reads that will fail, and of those that failed.
    failing: u32,
    failed: u64,
    is_gone: bool,
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
            let answer = match (state.is_gone, state.is_full) {
                (true, _) => Err(Errno::EIO),
                (false, true) => Err(Errno::ENOSPC),
                (false, false) => Ok(Vec::new()),
            };
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
            let page = |slot| state.pages.get(&slot).cloned().unwrap_or_default();
            let fails = state.failing > 0 || state.is_gone;
            state.failing = state.failing.saturating_sub(u32::from(fails));
            let answer =
                if fails { Err(Errno::EIO) } else { Ok((first..).take(pages).map(page).collect()) };
            state.waiting.push((transfer, answer));
        });
    }

    fn punch(&self, slots: Range<usize>, transfer: Transfer) {
        self.with(|state| {
            state.pages.retain(|&slot, _| !slots.contains(&(slot as usize)));
            state.waiting.push((transfer, Ok(Vec::new())));
        });
    }

    fn is_gone(&self) -> bool {
        self.with(|state| state.is_gone)
    }
}

thread_local! {
    static FILE: RefCell<Option<Arc<SwapFile>>> = const { RefCell::new(None) };
    /// Transfers to and from files that were lost.
    static ORPHANS: RefCell<Vec<Transfer>> = const { RefCell::new(Vec::new()) };
    /// Whether the current file could not be attached yet, because pages are on their way to the
    /// one that was lost.
    static IS_DETACHED: Cell<bool> = const { Cell::new(false) };
    /// Files lost in this run.
    static LOSSES: Cell<u64> = const { Cell::new(0) };
}

fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    let file = FILE.with_borrow(Option::clone).expect("a run is under way");
    file.with(act)
}

/// Attaches a new file for a run.
pub fn begin() {
    let file = Arc::new(SwapFile::default());
    FILE.set(Some(file.clone()));
    IS_DETACHED.set(false);
    LOSSES.set(0);
    swap::attach(file, SLOTS).expect("memory for slots");
}

/// The file is lost, and another one takes its place. The pages that were in it are lost.
pub fn lose() {
    let failed = with(|state| {
        state.is_gone = true;
        let orphans = core::mem::take(&mut state.waiting);
        ORPHANS.with_borrow_mut(|all| all.extend(orphans.into_iter().map(|(orphan, _)| orphan)));
        state.failed
    });
    swap::notice_loss();
    FILE.set(Some(Arc::new(SwapFile::default())));
    // The numbers of failures only rise.
    with(|state| state.failed = failed);
    IS_DETACHED.set(true);
    LOSSES.set(LOSSES.get() + 1);
    attach_again();
}

/// Attaches the current file, if that is possible now.
fn attach_again() {
    let file = FILE.with_borrow(Option::clone);
    if let Some(file) = file.filter(|_| IS_DETACHED.get()) {
        match swap::attach(file, SLOTS) {
            Err(Errno::EBUSY) => {}
            result => {
                result.expect("memory for slots");
                IS_DETACHED.set(false);
            }
        }
    }
}

/// Whether pages of this run may be lost.
pub fn has_lost() -> bool {
    LOSSES.get() > 0
}

/// Whether transfers are in flight.
pub fn is_busy() -> bool {
    FILE.with_borrow(Option::is_some) && (with(|state| !state.waiting.is_empty()) || orphans() > 0)
}

fn orphans() -> usize {
    ORPHANS.with_borrow(Vec::len)
}

/// Completes one transfer.
pub fn step() {
    let index = sched::choose(with(|state| state.waiting.len()) + orphans());
    if let Some(orphan) = index.checked_sub(with(|state| state.waiting.len())) {
        ORPHANS.with_borrow_mut(|orphans| orphans.remove(orphan)).complete(Err(Errno::EIO));
        return attach_again();
    }
    let (transfer, answer) = with(|state| {
        let (transfer, answer) = state.waiting.remove(index);
        state.failed += u64::from(matches!(transfer, Transfer::In(_)) && answer.is_err());
        (transfer, answer)
    });
    ranks::swap_server_works(transfer.pages());
    let frame = |page: Vec<u8>| Frame::from_bytes(Claim::SwapServer, &page);
    let frames = answer.map(|pages| {
        let frames: Result<_, _> = pages.into_iter().map(frame).collect();
        frames.expect("F8: the swap server's reserve")
    });
    transfer.complete(frames);
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
    attach_again();
    let (slots, free) = swap::stats();
    assert_eq!(slots, SLOTS as usize, "a file is attached");
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
    swap::abandon();
}
