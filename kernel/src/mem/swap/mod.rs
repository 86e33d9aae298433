//! Swap: private pages of programs that are kept in a temporary file of a file server (Q3).
//!
//! Owns the device and the transfers to and from it. Does not own the slots
//! ([`slot`]), which pages are evicted ([`reclaim`](super::reclaim)), how they are
//! mapped again (`space::swapped`), or the messages ([`SwapDevice`], which `mount` implements).
//!
//! Whoever writes or reads a slot holds a reference to it until the transfer has completed, so a
//! slot in transit is never given to another page. The frames of a write stay here until it has
//! completed ([`resident`]). The frames of a write that failed stay as long as their slots: no page
//! is lost. Until a slot becomes free, nothing more is swapped then.
//!
//! Locks: `AREA`, inside an address space's; inside it the heap, the slots and the transfers.
//! Messages are sent with no lock of `mem` held.
#![forbid(unsafe_code)]

mod batch;
mod transfer;

pub(super) use batch::{Owners, PageOutBatch};
pub(super) use transfer::await_punch;
pub use transfer::{PageIn, PageOut, Transfer};

pub use super::slot::{is_open, stats};

use super::{
    Frame, OutOfMemory,
    slot::{self, SlotRow},
};
use crate::sync::{Mutex, rank};
use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::ops::Range;

/// A file that keeps pages: slot `n` is at byte `n` times the page size. No method waits. Each
/// transfer is completed once, from any context.
pub trait SwapDevice: Send + Sync {
    /// Writes frames to consecutive slots from `first` on.
    fn write(&self, first: u32, frames: &[Frame], transfer: Transfer);
    /// Reads `pages` pages from slot `first` on.
    fn read(&self, first: u32, pages: usize, transfer: Transfer);
    /// Releases the disk space of slots.
    fn punch(&self, slots: Range<usize>, transfer: Transfer);
}

struct Area {
    device: Arc<dyn SwapDevice>,
    /// Writes under way.
    leaving: Vec<Arc<PageOut>>,
    /// Reads under way, and those whose pages are not yet mapped by all who asked.
    coming: Vec<Weak<PageIn>>,
}

static AREA: Mutex<Option<Area>, rank::SwapArea> = Mutex::new(None);

/// From now on pages can be swapped to `slots` slots of a device. Fails where there is a device
/// already; it is never detached.
pub fn attach(device: Arc<dyn SwapDevice>, slots: u32) -> Result<(), OutOfMemory> {
    let mut area = AREA.lock();
    if area.is_some() {
        return Err(OutOfMemory);
    }
    slot::open(slots)?;
    *area = Some(Area { device, leaving: Vec::new(), coming: Vec::new() });
    Ok(())
}

/// Detaches the device, for the next test. No page may be swapped out.
#[cfg(not(target_os = "none"))]
pub fn detach() {
    drop(AREA.lock().take());
    slot::close();
}

impl Area {
    fn resident(&self, number: u32) -> Option<Frame> {
        self.leaving.iter().find_map(|out| out.frame(number)).or_else(|| slot::kept_frame(number))
    }
}

/// The frame of a slot whose bytes are still in memory.
pub(super) fn resident(number: u32) -> Option<Frame> {
    AREA.lock().as_ref().and_then(|area| area.resident(number))
}

/// The page-in that brings a slot, which is a new one where none is under way. `around` are the
/// slots to be read along with it, itself included. The caller starts it with [`PageIn::start`]
/// once it holds no lock. `None` where memory is short.
pub(super) fn page_in(number: u32, around: Range<u32>) -> Option<Arc<PageIn>> {
    debug_assert!(around.contains(&number));
    let mut area = AREA.lock();
    let area = area.as_mut()?;
    area.coming.retain(|coming| coming.strong_count() > 0);
    let usable =
        |coming: &Arc<PageIn>| coming.row.index_of(number).is_some() && !coming.has_failed();
    if let Some(coming) = area.coming.iter().filter_map(Weak::upgrade).find(usable) {
        return Some(coming);
    }
    // Only slots whose bytes are in the file.
    let stored = |number: &u32| area.resident(*number).is_none();
    let start = (around.start..number).rev().take_while(stored).last().unwrap_or(number);
    let end =
        (number + 1..around.end).take_while(stored).last().map_or(number + 1, |last| last + 1);
    area.coming.try_reserve(1).ok()?;
    let coming = Arc::new(PageIn::new(SlotRow::share(start..end)));
    debug_assert!(coming.row.index_of(number).is_some() && !coming.has_arrived());
    area.coming.push(Arc::downgrade(&coming));
    Some(coming)
}

/// Begins to write frames to the slots of a row, one to each.
pub(super) fn write(row: SlotRow, frames: Vec<Frame>) -> Option<Arc<PageOut>> {
    debug_assert!(!frames.is_empty());
    debug_assert_eq!(row.len(), frames.len());
    let out = Arc::new(PageOut::new(row, frames));
    let (device, first, frames) = {
        let mut area = AREA.lock();
        let area = area.as_mut()?;
        area.leaving.push(out.clone());
        (area.device.clone(), out.first, out.copies())
    };
    device.write(first, &frames, Transfer::Out(out.clone()));
    Some(out)
}

/// Calls `look` for each frame that no address space maps any more but that is still in memory: of
/// writes under way, and of those that failed.
pub(super) fn for_each_frame(look: &mut impl FnMut(&Frame)) {
    if let Some(area) = AREA.lock().as_ref() {
        area.leaving.iter().for_each(|out| out.for_each_frame(look));
        slot::for_each_kept_frame(look);
    }
}

/// Makes holes of chunks that are not in use any more. Called often, with no lock of `mem` held.
pub(super) fn punch_idle_chunks() {
    if !slot::take_idle_mark() {
        return;
    }
    while let Some(device) = AREA.lock().as_ref().map(|area| area.device.clone())
        && let Some((chunk, slots)) = slot::next_to_punch()
    {
        device.punch(slots, Transfer::Punch(chunk));
    }
}
