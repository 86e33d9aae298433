//! Slots of the swap file: which are in use, and by how many references.
//!
//! Owns the table of slots, and the frames of slots whose write failed. Does not own the device,
//! nor what is in transit ([`swap`](super::swap)). It is below page tables and the frame cache,
//! both of which hold references to slots.
//!
//! A slot is one page of the swap file. A [`SwapSlot`] is one reference to a slot; a slot without
//! references is free. After a failed write, no slot is handed out until another one becomes free.
//!
//! Lock: `SLOTS`, inside those of address spaces, of the frame cache and of the swap area.
#![forbid(unsafe_code)]

mod table;

use super::{Frame, OutOfMemory, mutants};
use crate::sync::{Mutex, rank};
use alloc::{collections::BTreeMap, vec::Vec};
use core::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};
use foundation::knob;
use table::SlotTable;

struct Slots {
    table: SlotTable,
    /// Frames of slots whose write failed.
    kept: BTreeMap<u32, Frame>,
    /// The last write failed, and no slot has become free since.
    refused: bool,
}

static SLOTS: Mutex<Option<Slots>, rank::SwapSlots> = Mutex::new(None);
/// A chunk of slots may be ready to become a hole of the swap file.
static IDLE_CHUNK: AtomicBool = AtomicBool::new(false);

/// Makes `count` slots, all free. Fails where there are some already, or memory is short.
pub(super) fn open(count: u32) -> Result<(), OutOfMemory> {
    let table = SlotTable::new(count)?;
    let mut slots = SLOTS.lock();
    if slots.is_some() {
        return Err(OutOfMemory);
    }
    *slots = Some(Slots { table, kept: BTreeMap::new(), refused: false });
    Ok(())
}

/// Removes all slots, for the next test. None may be in use.
#[cfg(not(target_os = "none"))]
pub(super) fn close() {
    let slots = SLOTS.lock().take();
    let all_free = slots.is_none_or(|slots| slots.table.free() == slots.table.len());
    assert!(all_free, "pages are swapped out");
}

/// Slots in all, and slots free.
pub fn stats() -> (usize, usize) {
    SLOTS.lock().as_ref().map_or((0, 0), |slots| (slots.table.len(), slots.table.free()))
}

/// Whether pages can be written out now.
pub fn is_open() -> bool {
    SLOTS.lock().as_ref().is_some_and(|slots| slots.available() > 0)
}

impl Slots {
    /// How many more slots may be taken now.
    fn available(&self) -> usize {
        let used = self.table.len() - self.table.free();
        let limit = usize::try_from(knob::SWAP_PAGES.get()).unwrap_or(usize::MAX);
        if self.refused { 0 } else { limit.saturating_sub(used).min(self.table.free()) }
    }
}

/// A reference to a slot.
#[derive(Debug, PartialEq, Eq)]
pub struct SwapSlot(u32);

impl SwapSlot {
    /// The slot's number, from 0.
    pub fn number(&self) -> u32 {
        self.0
    }

    /// Another reference to a slot that somebody holds one to.
    pub(super) fn share(number: u32) -> Self {
        if let Some(slots) = SLOTS.lock().as_mut() {
            debug_assert!(slots.table.count(number) > 0, "a free slot is shared");
            slots.table.retain(number);
        }
        Self(number)
    }

    /// Transfers the reference to a page-table entry.
    pub(super) fn into_raw(self) -> u32 {
        let number = self.0;
        core::mem::forget(self);
        number
    }

    /// Takes the reference back from a page-table entry that owned it.
    pub(super) fn from_raw(number: u32) -> Self {
        Self(number)
    }
}

impl Drop for SwapSlot {
    fn drop(&mut self) {
        if !mutants::leak_swap_slot() {
            release(self.0..self.0 + 1);
        }
    }
}

/// Drops one reference to each of some slots, and the frames kept for those that become free.
fn release(numbers: Range<u32>) {
    // Frames are dropped after the lock.
    let mut frames = Vec::new();
    let mut slots = SLOTS.lock();
    let Some(slots) = slots.as_mut() else { return };
    for number in numbers {
        if slots.table.release(number) {
            slots.refused = false;
            frames.extend(slots.kept.remove(&number));
            if slots.table.left_idle(number) {
                IDLE_CHUNK.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Consecutive slots, with a reference to each.
#[derive(Debug)]
pub struct SlotRow {
    numbers: Range<u32>,
}

impl SlotRow {
    /// Up to `max` free slots; `None` where there are none, or the last write failed.
    pub(super) fn take(max: usize) -> Option<Self> {
        let mut slots = SLOTS.lock();
        let slots = slots.as_mut()?;
        let max = max.min(slots.available());
        if max == 0 {
            return None;
        }
        let numbers = slots.table.take(max)?;
        debug_assert!(!numbers.is_empty() && numbers.len() <= max);
        debug_assert!(numbers.clone().all(|number| !slots.kept.contains_key(&number)));
        Some(Self { numbers })
    }

    /// More references to slots that others hold too.
    pub(super) fn share(numbers: Range<u32>) -> Self {
        if let Some(slots) = SLOTS.lock().as_mut() {
            numbers.clone().for_each(|number| slots.table.retain(number));
        }
        Self { numbers }
    }

    /// The numbers of the slots.
    pub(super) fn numbers(&self) -> Range<u32> {
        self.numbers.clone()
    }

    /// The number of the first slot.
    pub(super) fn first(&self) -> u32 {
        self.numbers.start
    }

    /// How many slots.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of the slot at an index.
    pub(super) fn get(&self, index: usize) -> Option<u32> {
        self.numbers.clone().nth(index)
    }

    /// The index of a slot in the row.
    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        self.numbers.contains(&number).then(|| (number - self.numbers.start) as usize)
    }

    /// Keeps the first `len` slots and releases the rest.
    pub(super) fn truncate(&mut self, len: usize) {
        let end = self.numbers.end.min(self.numbers.start + len as u32);
        release(end..self.numbers.end);
        self.numbers.end = end;
    }
}

impl Drop for SlotRow {
    fn drop(&mut self) {
        release(self.numbers.clone());
    }
}

/// References to a slot.
pub(super) fn references(number: u32) -> u32 {
    SLOTS.lock().as_ref().map_or(0, |slots| slots.table.count(number))
}

/// A write to a row failed: keeps the frames of those slots that something besides the row refers
/// to.
pub(super) fn keep(row: &SlotRow, frames: &[Frame]) {
    debug_assert_eq!(row.len(), frames.len());
    let mut slots = SLOTS.lock();
    let Some(slots) = slots.as_mut() else { return };
    slots.refused = true;
    for (number, frame) in row.numbers().zip(frames) {
        // One reference is the row's own.
        if slots.table.count(number) > 1 {
            slots.kept.insert(number, frame.clone());
        }
    }
}

/// The frame of a slot whose write failed.
pub(super) fn kept_frame(number: u32) -> Option<Frame> {
    SLOTS.lock().as_ref().and_then(|slots| slots.kept.get(&number).cloned())
}

/// Calls `look` for each frame whose write failed.
pub(super) fn for_each_kept_frame(look: impl FnMut(&Frame)) {
    if let Some(slots) = SLOTS.lock().as_ref() {
        slots.kept.values().for_each(look);
    }
}

/// Whether a chunk may have become ready to be punched since the last call. Costs one load where
/// none has.
#[inline]
pub(super) fn take_idle_mark() -> bool {
    IDLE_CHUNK.load(Ordering::Relaxed) && IDLE_CHUNK.swap(false, Ordering::Relaxed)
}

/// A chunk that can become a hole: its number, and its slots. It hands out no slot until
/// [`punched`].
pub(super) fn next_to_punch() -> Option<(usize, Range<usize>)> {
    SLOTS.lock().as_mut().and_then(|slots| slots.table.next_to_punch())
}

/// The request to punch a chunk was answered.
pub(super) fn punched(chunk: usize) {
    if let Some(slots) = SLOTS.lock().as_mut() {
        slots.table.punched(chunk);
    }
}

/// Chunks that are being punched.
pub(super) fn punching() -> usize {
    SLOTS.lock().as_ref().map_or(0, |slots| slots.table.punching())
}
