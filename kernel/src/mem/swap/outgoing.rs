//! Writes to the swap file: a fixed number of buffers, allocated when swap is attached.
//!
//! A buffer is used by the thread that collects frames for it and sends them, and from then on by
//! the transfer, until the write has completed. It is free when neither uses it.

use super::AREA;
use crate::mem::{
    Frame, OutOfMemory, fallible,
    slot::{self, SlotRow, WRITE_PAGES, WRITES},
};
use crate::sync::{Interrupt, Interrupted, WaitQueue};
use alloc::vec::Vec;
use foundation::Errno;
use foundation::counter::{self, Counter};

/// Woken when a write has completed, and when a buffer has become free.
static WRITTEN: WaitQueue = WaitQueue::new();

struct Buffer {
    /// Writes begun so far in this buffer.
    writes: u64,
    users: u8,
    /// The slots of the write under way.
    row: Option<SlotRow>,
    /// Its frames; moved out while a batch collects them.
    frames: Vec<Frame>,
    /// Empty; moved out while they are sent.
    sent: Vec<Frame>,
}

/// All buffers.
pub(super) struct Outgoing([Buffer; WRITES]);

impl Outgoing {
    pub const NEW: Self = Self(
        [const { Buffer { writes: 0, users: 0, row: None, frames: Vec::new(), sent: Vec::new() } };
            WRITES],
    );

    /// Allocates space for all frames.
    pub fn reserve(&mut self) -> Result<(), OutOfMemory> {
        self.0.iter_mut().flat_map(|buffer| [&mut buffer.frames, &mut buffer.sent]).try_for_each(
            |frames| fallible::reserve_exact(frames, WRITE_PAGES.saturating_sub(frames.len())),
        )
    }

    /// The frame of a slot that is being written.
    pub fn frame(&self, number: u32) -> Option<Frame> {
        self.0.iter().find_map(|buffer| {
            let index = buffer.row.as_ref()?.index_of(number)?;
            buffer.frames.get(index).cloned()
        })
    }

    /// All frames that are being written.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.0.iter().flat_map(|buffer| &buffer.frames)
    }

    /// A write that is under way.
    fn first(&self) -> Option<PageOut> {
        let buffer = self.0.iter().position(|buffer| buffer.row.is_some())?;
        Some(PageOut { buffer, write: self.0.get(buffer)?.writes })
    }

    fn is_under_way(&self, out: PageOut) -> bool {
        self.0
            .get(out.buffer)
            .is_some_and(|buffer| buffer.writes == out.write && buffer.row.is_some())
    }
}

/// Takes a free buffer: its number, and space for its frames.
pub(super) fn take_buffer() -> Option<(usize, Vec<Frame>)> {
    let mut area = AREA.lock();
    let number = area.outgoing.0.iter().position(|buffer| buffer.users == 0)?;
    let buffer = area.outgoing.0.get_mut(number)?;
    buffer.users = 1;
    Some((number, core::mem::take(&mut buffer.frames)))
}

/// The thread that took a buffer does not use it any more. `frames` is the space that it took, if
/// it has written nothing.
pub(super) fn leave_buffer(number: usize, frames: Option<Vec<Frame>>) {
    let is_free = {
        let mut area = AREA.lock();
        let Some(buffer) = area.outgoing.0.get_mut(number) else { return };
        if let Some(frames) = frames {
            debug_assert!(frames.is_empty() && buffer.row.is_none());
            buffer.frames = frames;
        }
        buffer.users -= 1;
        buffer.users == 0
    };
    if is_free {
        WRITTEN.wake_all();
    }
}

/// Begins to write frames to the slots of a row, one to each, from a buffer that the caller took.
pub(super) fn write(number: usize, row: SlotRow, frames: Vec<Frame>) -> PageOut {
    debug_assert_eq!((row.len(), frames.is_empty()), (frames.len(), false));
    let first = row.first();
    let mut out = PageOut { buffer: number, write: 0 };
    let (place, mut sent) = {
        let mut area = AREA.lock();
        let place = area.place_of(first);
        let Some(buffer) = area.outgoing.0.get_mut(number) else { return out };
        (buffer.users, buffer.writes) = (buffer.users + 1, buffer.writes + 1);
        (buffer.row, buffer.frames, out.write) = (Some(row), frames, buffer.writes);
        let mut sent = core::mem::take(&mut buffer.sent);
        debug_assert!(sent.capacity() >= buffer.frames.len(), "this must not allocate");
        sent.extend(buffer.frames.iter().cloned());
        (place, sent)
    };
    match place {
        Some((device, first)) => device.write(first, &sent, super::Transfer::Out(out)),
        None => out.complete(Err(Errno::EIO)),
    }
    sent.clear();
    if let Some(buffer) = AREA.lock().outgoing.0.get_mut(number) {
        buffer.sent = sent;
    }
    out
}

/// Waits until a write can begin. Returns at once where nothing can be swapped out.
pub(in crate::mem) fn await_buffer() -> Result<(), Interrupted> {
    WRITTEN.wait_for_server(Interrupt::Killable, || {
        AREA.lock().outgoing.0.iter().any(|buffer| buffer.users == 0).then_some(())
    })
}

/// Waits until a write has completed, where one is under way. Returns whether there was one.
pub(in crate::mem) fn await_write() -> Result<bool, Interrupted> {
    let under_way = AREA.lock().outgoing.first();
    under_way.map_or(Ok(false), |out| out.wait().map(|()| true))
}

/// A write of pages.
#[derive(Clone, Copy, Debug)]
pub struct PageOut {
    buffer: usize,
    /// Which one of the buffer's writes.
    write: u64,
}

impl PageOut {
    /// How many pages are written.
    pub(super) fn pages(self) -> usize {
        let area = AREA.lock();
        let buffer = area.outgoing.0.get(self.buffer);
        buffer.and_then(|buffer| buffer.row.as_ref()).map_or(0, SlotRow::len)
    }

    pub(super) fn complete(self, result: Result<(), Errno>) {
        let pages = {
            let mut area = AREA.lock();
            debug_assert!(area.outgoing.is_under_way(self), "a write completes once");
            let Some(buffer) = area.outgoing.0.get_mut(self.buffer) else { return };
            let Some(row) = buffer.row.take() else { return };
            // Under the area's lock: at any time the frames are found either here or there.
            if let Err(error) = result {
                slot::keep(&row, &buffer.frames, error);
            }
            buffer.frames.clear();
            buffer.users -= 1;
            row.len()
        };
        match result {
            Ok(()) => counter::count(Counter::PagesSwappedOut, pages as u64),
            Err(error) => log::warn!("swap: pages could not be written: {}", error.text()),
        }
        WRITTEN.wake_all();
    }

    /// Waits until the write has completed or failed.
    pub fn wait(self) -> Result<(), Interrupted> {
        WRITTEN.wait_for_server(Interrupt::Killable, || {
            (!AREA.lock().outgoing.is_under_way(self)).then_some(())
        })
    }
}
