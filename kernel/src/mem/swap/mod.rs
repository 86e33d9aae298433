//! Swap: private pages of programs that lie in a temporary file of a file server, for want of
//! memory (Q3).
//!
//! Owns the swap file's slots, one page each, and what is on its way to and from them. Does not
//! own: which pages go ([`reclaim`](super::reclaim)), how they come back (`space::swapped`), the
//! messages ([`Store`], which `mount` implements).
//!
//! A page-table entry without a frame refers to a [`Slot`]; a slot with no reference is free.
//! Whoever writes or reads a slot holds a reference to it until that is done, so that a slot in
//! transit is never given to another page. While a write is under way its frames stay here
//! ([`resident`]); those of a write that failed stay as long as their slots: no page is ever lost.
//! Then, and where all slots are taken, nothing more is swapped until one becomes free.
//!
//! Locks: `AREA`, inside an address space's; under it, nothing but the heap and the locks of a
//! transfer. Messages are sent with no lock held.

mod slots;
mod transfer;

pub(super) use transfer::await_punch;
pub use transfer::{PageIn, PageOut, Transfer};

use super::{Frame, OutOfMemory};
use crate::sync::{Mutex, rank};
use alloc::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};
use foundation::knob;
use foundation::mutant::{self, Mutant};
use slots::Slots;

/// A file that keeps pages: byte 0 of slot `n` is byte `n` times the page size. None of these
/// waits; each transfer is completed once, from whatever context.
pub trait Store: Send + Sync {
    /// Writes pages from slot `first` on.
    fn write(&self, first: u32, frames: &[Frame], transfer: Transfer);
    /// Reads pages.
    fn read(&self, first: u32, pages: usize, transfer: Transfer);
    /// Lets the bytes of slots go.
    fn punch(&self, slots: Range<usize>, transfer: Transfer);
}

struct Area {
    store: Arc<dyn Store>,
    slots: Slots,
    /// On their way out.
    leaving: Vec<Arc<PageOut>>,
    /// On their way in, or there and not yet mapped by all who asked.
    coming: Vec<Weak<PageIn>>,
    /// Pages whose write failed.
    kept: BTreeMap<u32, Frame>,
    /// The last write failed, and no slot has become free since.
    refused: bool,
}

static AREA: Mutex<Option<Area>, rank::SwapArea> = Mutex::new(None);
/// A chunk of slots may be ready to become a hole.
static IDLE: AtomicBool = AtomicBool::new(false);

/// From now on pages can go to `slots` slots of a store. There is one for good: a second one is
/// refused.
pub fn attach(store: Arc<dyn Store>, slots: u32) -> Result<(), OutOfMemory> {
    let slots = Slots::new(slots)?;
    let mut area = AREA.lock();
    if area.is_some() {
        return Err(OutOfMemory);
    }
    *area = Some(Area {
        store,
        slots,
        leaving: Vec::new(),
        coming: Vec::new(),
        kept: BTreeMap::new(),
        refused: false,
    });
    Ok(())
}

/// Takes the store away again, for the next test. No page may be in it.
#[cfg(not(target_os = "none"))]
pub fn detach() {
    let area = AREA.lock().take();
    assert!(area.is_none_or(|area| area.slots.free() == area.slots.len()), "pages are swapped out");
}

/// Slots in all and slots free.
pub fn stats() -> (usize, usize) {
    AREA.lock().as_ref().map_or((0, 0), |area| (area.slots.len(), area.slots.free()))
}

/// Whether pages can be written out now.
pub fn is_open() -> bool {
    AREA.lock().as_ref().is_some_and(|area| area.room() > 0)
}

/// A reference to a slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.0
    }

    /// Another reference to a slot that somebody holds one to.
    pub(super) fn share(number: u32) -> Self {
        if let Some(area) = AREA.lock().as_mut() {
            area.slots.retain(number);
        }
        Self(number)
    }

    /// Gives the reference to a page-table entry.
    pub(super) fn into_raw(self) -> u32 {
        let number = self.0;
        core::mem::forget(self);
        number
    }

    /// Takes the reference back from a page-table entry, which gave it up.
    pub(super) fn from_raw(number: u32) -> Self {
        Self(number)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !mutant::active(Mutant::LeakSwapSlot) {
            drop(release(self.0..self.0 + 1));
        }
    }
}

/// Lets go of one reference to each of some slots. Gives back the frames that were kept for those
/// that are free now: to be dropped with no lock held.
fn release(slots: Range<u32>) -> Option<Vec<Frame>> {
    let mut area = AREA.lock();
    let area = area.as_mut()?;
    let mut frames = Vec::new();
    for slot in slots {
        if area.slots.release(slot) {
            area.refused = false;
            frames.extend(area.kept.remove(&slot));
            if area.slots.left_idle(slot) {
                IDLE.store(true, Ordering::Relaxed);
            }
        }
    }
    Some(frames)
}

/// Slots in a row, with a reference to each.
#[derive(Debug)]
pub struct SlotRow {
    slots: Range<u32>,
}

impl SlotRow {
    /// Up to `max` free slots.
    pub(super) fn take(max: usize) -> Option<Self> {
        let mut area = AREA.lock();
        let area = area.as_mut()?;
        let max = max.min(area.room());
        if max == 0 {
            return None;
        }
        Some(Self { slots: area.slots.take(max)? })
    }

    /// References to slots that others hold too.
    fn share(area: &mut Area, slots: Range<u32>) -> Self {
        slots.clone().for_each(|slot| area.slots.retain(slot));
        Self { slots }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The number of one of them.
    pub(super) fn get(&self, index: usize) -> Option<u32> {
        self.slots.clone().nth(index)
    }

    /// The index of a slot in the row.
    pub(super) fn index_of(&self, slot: u32) -> Option<usize> {
        self.slots.contains(&slot).then(|| (slot - self.slots.start) as usize)
    }

    /// Keeps the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        let end = self.slots.end.min(self.slots.start + len as u32);
        drop(release(end..self.slots.end));
        self.slots.end = end;
    }
}

impl Drop for SlotRow {
    fn drop(&mut self) {
        drop(release(self.slots.clone()));
    }
}

impl Area {
    /// How many more slots may be taken now.
    fn room(&self) -> usize {
        let used = self.slots.len() - self.slots.free();
        let allowed =
            usize::try_from(knob::SWAP_PAGES.get()).unwrap_or(usize::MAX).saturating_sub(used);
        if self.refused { 0 } else { allowed.min(self.slots.free()) }
    }

    fn resident(&self, slot: u32) -> Option<Frame> {
        self.leaving
            .iter()
            .find_map(|out| out.frame(slot))
            .or_else(|| self.kept.get(&slot).cloned())
    }
}

/// The frame of a slot whose bytes are still in memory.
pub(super) fn resident(slot: u32) -> Option<Frame> {
    AREA.lock().as_ref().and_then(|area| area.resident(slot))
}

/// The page-in that brings a slot, begun now if there is none; `around` (which holds it) are the
/// slots that are wanted along with it. The caller starts it with [`PageIn::start`] once it holds
/// no lock.
pub(super) fn page_in(slot: u32, around: Range<u32>) -> Option<Arc<PageIn>> {
    let mut area = AREA.lock();
    let area = area.as_mut()?;
    area.coming.retain(|coming| coming.strong_count() > 0);
    let usable =
        |coming: &Arc<PageIn>| coming.slots.index_of(slot).is_some() && !coming.has_failed();
    if let Some(coming) = area.coming.iter().filter_map(Weak::upgrade).find(usable) {
        return Some(coming);
    }
    // Nobody's bytes but those that are in the file as a whole.
    let stored = |number: &u32| area.resident(*number).is_none();
    let start = (around.start..slot).rev().take_while(stored).last().unwrap_or(slot);
    let end = (slot + 1..around.end).take_while(stored).last().map_or(slot + 1, |last| last + 1);
    area.coming.try_reserve(1).ok()?;
    let coming = Arc::new(PageIn::new(SlotRow::share(area, start..end)));
    area.coming.push(Arc::downgrade(&coming));
    Some(coming)
}

/// Begins to write frames to the slots of a row; as many as there are frames must be there.
pub(super) fn write(row: SlotRow, frames: Vec<Frame>) -> Option<Arc<PageOut>> {
    let out = Arc::new(PageOut::new(row, frames));
    let (store, first, frames) = {
        let mut area = AREA.lock();
        let area = area.as_mut()?;
        area.leaving.push(out.clone());
        (area.store.clone(), out.first, out.copies())
    };
    store.write(first, &frames, Transfer::Out(out.clone()));
    Some(out)
}

/// Calls `look` for each frame that has gone from its space but is still in memory: on its way out,
/// or kept since it could not be written.
pub(super) fn for_each_frame(look: &mut impl FnMut(&Frame)) {
    if let Some(area) = AREA.lock().as_ref() {
        area.leaving.iter().for_each(|out| out.for_each_frame(look));
        area.kept.values().for_each(look);
    }
}

/// Makes holes of what is not in use any more. Called often, with no lock of `mem` held.
pub(super) fn tidy() {
    if !IDLE.load(Ordering::Relaxed) || !IDLE.swap(false, Ordering::Relaxed) {
        return;
    }
    loop {
        let next = AREA
            .lock()
            .as_mut()
            .and_then(|area| area.slots.next_to_punch().map(|found| (area.store.clone(), found)));
        let Some((store, (number, slots))) = next else { return };
        store.punch(slots, Transfer::Punch(number));
    }
}
