//! Slots of the swap file: which are in use, and by how many references.
//!
//! Owns the table of slots, and the frames of slots whose write failed. Does not own the device,
//! nor what is in transit ([`swap`](super::swap)). It is below page tables and the frame cache,
//! both of which hold references to slots.
//!
//! A slot is one page of the swap file. A [`SwapSlot`] is one reference to a slot; a slot without
//! references is free. After a failed write, no slot is handed out until another one becomes free.
//!
//! When the device is lost, its table stays until another device is attached: frames on their way
//! to it still come back. Then only the number of references to lost slots is left, and the new
//! table's numbers begin behind theirs, so that an entry of a page table that refers to a lost slot
//! is never taken for one that refers to a new one ([`lost`]).
//!
//! Lock: `SLOTS`, inside those of address spaces, of the frame cache and of the swap area.
#![forbid(unsafe_code)]

mod kept;
mod lost;
mod table;

use super::{Frame, mutants};
use crate::sync::{Mutex, rank};
use core::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};
use foundation::{Errno, knob};
use kept::Kept;
use lost::Lost;
use table::SlotTable;

/// Pages of one write, at most: those of one message.
pub const WRITE_PAGES: usize = 64;
/// Writes under way at once, at most: enough for the disk not to wait for the next one.
pub const WRITES: usize = 4;

/// Chunks that are punched at once, at most. The end of a large program leaves hundreds, for which
/// a connection has not enough requests, let alone for pages that are swapped out meanwhile.
pub const PUNCHES: usize = 8;

struct Slots {
    /// The number of the table's first slot.
    first: u32,
    table: SlotTable,
    /// The device is gone.
    lost: bool,
    /// Rows that were taken and are not dropped: their frames may have to be kept.
    taken_rows: usize,
    /// Frames of slots whose write failed.
    kept: Kept,
    /// The last write failed, and no slot has become free since.
    refused: bool,
}

struct State {
    /// Those of the last device that was attached.
    slots: Option<Slots>,
    /// Those of all devices before it.
    lost: Lost,
}

static SLOTS: Mutex<State, rank::SwapSlots> = Mutex::new(State { slots: None, lost: Lost::NONE });
/// A chunk of slots may be ready to become a hole of the swap file.
static IDLE_CHUNK: AtomicBool = AtomicBool::new(false);

/// Makes `count` slots, all free. EBUSY where there are some already, or frames are on their way to
/// a device that was lost; ENOSPC where there are no numbers left, because somebody refers to slots
/// that were lost.
pub(super) fn open(count: u32) -> Result<(), Errno> {
    drop(retire()?);
    let (table, kept) = (SlotTable::new(count)?, Kept::new()?);
    let mut state = SLOTS.lock();
    if state.slots.is_some() {
        return Err(Errno::EBUSY);
    }
    let first = if mutants::reuse_slot_numbers() { 0 } else { state.lost.end() };
    first.checked_add(count).ok_or(Errno::ENOSPC)?;
    state.slots = Some(Slots { first, table, lost: false, taken_rows: 0, kept, refused: false });
    Ok(())
}

/// Removes the table of a lost device, if there is one. Returns it, to be dropped after the lock.
fn retire() -> Result<Option<Slots>, Errno> {
    let State { slots, lost } = &mut *SLOTS.lock();
    let Some(old) = slots else { return Ok(None) };
    if !old.lost || old.taken_rows > 0 {
        return Err(Errno::EBUSY);
    }
    lost.absorb(old)?;
    Ok(slots.take())
}

/// The device is gone. Returns how many slots were in use.
pub(super) fn lose() -> usize {
    SLOTS.lock().slots.as_mut().map_or(0, |slots| {
        slots.lost = true;
        slots.table.len() - slots.table.free()
    })
}

/// Removes all slots, for the next test. None may be in use.
#[cfg(not(target_os = "none"))]
pub(super) fn close() {
    let mut state = SLOTS.lock();
    let State { slots, lost } = &mut *state;
    let absorbed = slots.as_mut().map_or(Ok(()), |slots| lost.absorb(slots));
    let (old, all_free) = (slots.take(), lost.is_empty());
    drop(state);
    drop(old);
    assert!(absorbed.is_ok() && all_free, "pages are swapped out");
}

/// Forgets all slots, for the next test after one that failed and may have left some in use.
#[cfg(not(target_os = "none"))]
pub(super) fn abandon() {
    let none = State { slots: None, lost: Lost::NONE };
    let old = core::mem::replace(&mut *SLOTS.lock(), none);
    drop(old);
}

/// Slots in all, and slots free.
pub fn stats() -> (usize, usize) {
    let state = SLOTS.lock();
    let attached = state.slots.as_ref().filter(|slots| !slots.lost);
    attached.map_or((0, 0), |slots| (slots.table.len(), slots.table.free()))
}

/// Whether pages can be written out now.
pub fn is_open() -> bool {
    SLOTS.lock().slots.as_ref().is_some_and(|slots| slots.available() > 0)
}

/// Where the device keeps a slot: the number of its page. `None` where that device is lost.
pub(super) fn place_of(number: u32) -> Option<u32> {
    let state = SLOTS.lock();
    state.slots.as_ref().filter(|slots| !slots.lost)?.index(number)
}

impl Slots {
    /// How many more slots may be taken now.
    fn available(&self) -> usize {
        let used = self.table.len() - self.table.free();
        let limit = usize::try_from(knob::SWAP_PAGES.get()).unwrap_or(usize::MAX);
        // Each write under way may fail, and another one.
        let could_be_kept = (self.taken_rows + 1) * WRITE_PAGES <= self.kept.spare();
        if self.refused || self.lost || !could_be_kept {
            0
        } else {
            limit.saturating_sub(used).min(self.table.free())
        }
    }

    /// The index in the table of a slot; `None` for those of devices before.
    fn index(&self, number: u32) -> Option<u32> {
        number.checked_sub(self.first).filter(|&index| (index as usize) < self.table.len())
    }

    /// The number after the last one.
    fn end(&self) -> u32 {
        self.first + self.table.len() as u32
    }

    /// Drops a reference. Returns the frame of a slot that nobody refers to any more.
    fn release(&mut self, index: u32) -> Option<Frame> {
        if !self.table.release(index) {
            return None;
        }
        self.refused = false;
        if self.table.left_idle(index) {
            IDLE_CHUNK.store(true, Ordering::Relaxed);
        }
        self.kept.remove(self.first + index)
    }
}

impl State {
    fn retain(&mut self, number: u32) {
        let slots = self.slots.as_mut().and_then(|slots| Some((slots.index(number)?, slots)));
        match slots {
            Some((index, slots)) => {
                debug_assert!(slots.table.count(index) > 0, "a free slot is shared");
                slots.table.retain(index);
            }
            None => self.lost.retain(number),
        }
    }

    fn release(&mut self, number: u32) -> Option<Frame> {
        let slots = self.slots.as_mut().and_then(|slots| Some((slots.index(number)?, slots)));
        match slots {
            Some((index, slots)) => slots.release(index),
            None => self.lost.release(number),
        }
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
        SLOTS.lock().retain(number);
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
    let mut state = SLOTS.lock();
    numbers.for_each(|number| drop(state.release(number)));
}

/// Consecutive slots, with a reference to each.
#[derive(Debug)]
pub struct SlotRow {
    numbers: Range<u32>,
    origin: Origin,
}

/// How a row came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Its slots were free.
    Taken,
    /// Others refer to its slots, too.
    Shared,
}

impl SlotRow {
    /// Up to `max` free slots; `None` where there are none, or the last write failed.
    pub(super) fn take(max: usize) -> Option<Self> {
        let mut state = SLOTS.lock();
        let slots = state.slots.as_mut()?;
        let max = max.min(slots.available());
        if max == 0 {
            return None;
        }
        let indexes = slots.table.take(max)?;
        let numbers = slots.first + indexes.start..slots.first + indexes.end;
        debug_assert!(!numbers.is_empty() && numbers.len() <= max);
        debug_assert!(numbers.clone().all(|number| slots.kept.get(number).is_none()));
        slots.taken_rows += 1;
        Some(Self { numbers, origin: Origin::Taken })
    }

    /// More references to slots that others hold too.
    pub(super) fn share(numbers: Range<u32>) -> Self {
        let mut state = SLOTS.lock();
        numbers.clone().for_each(|number| state.retain(number));
        Self { numbers, origin: Origin::Shared }
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
        // After the release: until then the table must stay, because it has the counts.
        if self.origin == Origin::Taken
            && let Some(slots) = SLOTS.lock().slots.as_mut()
        {
            slots.taken_rows -= 1;
        }
    }
}

/// References to a slot; the most that there can be where its device is lost.
pub(super) fn references(number: u32) -> u32 {
    let state = SLOTS.lock();
    let slots = state.slots.as_ref();
    slots.and_then(|slots| Some(slots.table.count(slots.index(number)?))).unwrap_or(u32::MAX)
}

/// A write to a row failed: keeps the frames of those slots that something besides the row refers
/// to. After an error of the device, nothing more is written until a slot becomes free.
pub(super) fn keep(row: &SlotRow, frames: &[Frame], error: Errno) {
    debug_assert_eq!((row.len(), row.origin), (frames.len(), Origin::Taken));
    let mut state = SLOTS.lock();
    let Some(slots) = state.slots.as_mut() else { return };
    slots.refused |= error != Errno::ENOMEM;
    for (number, frame) in row.numbers().zip(frames) {
        // One reference is the row's own.
        if slots.index(number).is_some_and(|index| slots.table.count(index) > 1) {
            slots.kept.insert(number, frame.clone());
        }
    }
}

/// The frame of a slot whose write failed.
pub(super) fn kept_frame(number: u32) -> Option<Frame> {
    let state = SLOTS.lock();
    let kept = state.slots.as_ref().and_then(|slots| slots.kept.get(number).cloned());
    kept.or_else(|| state.lost.frame(number))
}

/// Calls `look` for each frame whose write failed.
pub(super) fn for_each_kept_frame(look: impl FnMut(&Frame)) {
    let state = SLOTS.lock();
    let kept = state.slots.iter().flat_map(|slots| slots.kept.frames());
    kept.chain(state.lost.frames()).for_each(look);
}

/// Whether a chunk may have become ready to be punched since the last call. Costs one load where
/// none has.
#[inline]
pub(super) fn take_idle_mark() -> bool {
    IDLE_CHUNK.load(Ordering::Relaxed) && IDLE_CHUNK.swap(false, Ordering::Relaxed)
}

/// A chunk that can become a hole: the number of its first slot, and the pages of the device. It
/// hands out no slot until [`punched`]. `None` also while [`PUNCHES`] are under way.
pub(super) fn next_to_punch() -> Option<(u32, Range<usize>)> {
    let mut state = SLOTS.lock();
    let slots = state.slots.as_mut().filter(|slots| !slots.lost)?;
    if slots.table.punching() >= PUNCHES {
        return None;
    }
    let pages = slots.table.next_to_punch()?;
    Some((slots.first + pages.start as u32, pages))
}

/// The request to punch the chunk of a slot was answered.
pub(super) fn punched(number: u32) {
    if let Some(slots) = SLOTS.lock().slots.as_mut()
        && let Some(index) = slots.index(number)
    {
        slots.table.punched(index);
        IDLE_CHUNK.store(true, Ordering::Relaxed);
    }
}

/// Chunks that are being punched.
pub(super) fn punching() -> usize {
    SLOTS.lock().slots.as_ref().map_or(0, |slots| slots.table.punching())
}
