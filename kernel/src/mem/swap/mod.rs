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
//! Page-outs are what makes memory free, so they need none: all tables are allocated when the
//! device is attached, for all slots and for [`WRITES`](slot::WRITES) writes of
//! [`WRITE_PAGES`](slot::WRITE_PAGES) pages at once. Who wants to begin another one waits.
//!
//! A device can be lost at any moment ([`notice_loss`]). What it kept is lost with it: a touch of
//! such a page fails ([`Unavailable::Lost`]) and never finds other bytes. Pages on their way to it
//! stay in memory. Then another device can be attached.
//!
//! Locks: `AREA`, inside an address space's; inside it the heap, the slots and the transfers.
//! Messages are sent with no lock of `mem` held.
#![forbid(unsafe_code)]

mod batch;
mod outgoing;
mod transfer;

pub(super) use batch::{Owners, PageOutBatch};
pub use outgoing::PageOut;
pub(super) use outgoing::{await_buffer, await_write};
pub(super) use transfer::await_punch;
pub use transfer::{PageIn, Transfer};

pub use super::slot::{is_open, stats};

use super::{
    Claim, Frame, OutOfMemory, fallible,
    slot::{self, SlotRow},
};
use crate::sync::{Mutex, rank};
use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::ops::Range;
use foundation::Errno;
use outgoing::Outgoing;

/// A file that keeps pages: slot `n` is at byte `n` times the page size. No method waits. Each
/// transfer is completed once, from any context.
pub trait SwapDevice: Send + Sync {
    /// Writes frames to consecutive slots from `first` on.
    fn write(&self, first: u32, frames: &[Frame], transfer: Transfer);
    /// Reads `pages` pages from slot `first` on.
    fn read(&self, first: u32, pages: usize, transfer: Transfer);
    /// Releases the disk space of slots.
    fn punch(&self, slots: Range<usize>, transfer: Transfer);
    /// Whether the device is lost: all transfers fail, for ever. Called with locks held.
    fn is_gone(&self) -> bool;
}

struct Area {
    device: Option<Arc<dyn SwapDevice>>,
    /// Writes under way, and space for more.
    outgoing: Outgoing,
    /// Reads under way, and those whose pages are not yet mapped by all who asked.
    coming: Vec<Weak<PageIn>>,
}

static AREA: Mutex<Area, rank::SwapArea> =
    Mutex::new(Area { device: None, outgoing: Outgoing::NEW, coming: Vec::new() });

/// From now on pages can be swapped to `slots` slots of a device. EBUSY where there is a device
/// already, and it is not lost.
pub fn attach(device: Arc<dyn SwapDevice>, slots: u32) -> Result<(), Errno> {
    notice_loss();
    let mut area = AREA.lock();
    if area.device.is_some() {
        return Err(Errno::EBUSY);
    }
    // Slots without a device could not be replaced: they come last.
    area.outgoing.reserve()?;
    slot::open(slots)?;
    area.device = Some(device);
    drop(area);
    // Its loss may have been noticed while it was not attached yet.
    notice_loss();
    Ok(())
}

/// Detaches the device if it is gone. Called with no lock held.
pub fn notice_loss() {
    let (device, pages) = {
        let mut area = AREA.lock();
        if !area.device.as_ref().is_some_and(|device| device.is_gone()) {
            return;
        }
        (area.device.take(), slot::lose())
    };
    // After the lock: this closes the connection to the server.
    drop(device);
    log::warn!("swap: the server is gone, and with it up to {pages} pages of programs");
}

/// Detaches the device, for the next test. No page may be swapped out.
#[cfg(not(target_os = "none"))]
pub fn detach() {
    let device = AREA.lock().device.take();
    drop(device);
    slot::close();
}

/// The same after a test that failed: pages may be swapped out, which nobody has any more.
#[cfg(not(target_os = "none"))]
pub fn abandon() {
    let device = AREA.lock().device.take();
    drop(device);
    slot::abandon();
}

impl Area {
    fn resident(&self, number: u32) -> Option<Frame> {
        self.outgoing.frame(number).or_else(|| slot::kept_frame(number))
    }

    /// The device, and where it keeps a slot. `None` where the slot's device is lost.
    fn place_of(&self, number: u32) -> Option<(Arc<dyn SwapDevice>, u32)> {
        self.device.clone().zip(slot::place_of(number))
    }
}

/// Why a slot cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// Memory is short.
    Memory,
    /// Its device is lost.
    Lost,
}

impl From<OutOfMemory> for Unavailable {
    fn from(_: OutOfMemory) -> Self {
        Self::Memory
    }
}

impl From<Unavailable> for Errno {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Memory => Self::ENOMEM,
            Unavailable::Lost => Self::EIO,
        }
    }
}

/// The frame of a slot whose bytes are still in memory.
pub(super) fn resident(number: u32) -> Option<Frame> {
    AREA.lock().resident(number)
}

/// The page-in that brings a slot, which is a new one where none is under way. `around` are the
/// slots to be read along with it, itself included, as far as `claim` can have frames for them. The
/// caller starts it with [`PageIn::start`] once it holds no lock.
fn page_in(number: u32, around: Range<u32>, claim: Claim) -> Result<Arc<PageIn>, Unavailable> {
    debug_assert!(around.contains(&number));
    let mut area = AREA.lock();
    area.coming.retain(|coming| coming.strong_count() > 0);
    let usable =
        |coming: &Arc<PageIn>| coming.row.index_of(number).is_some() && !coming.has_failed();
    if let Some(coming) = area.coming.iter().filter_map(Weak::upgrade).find(usable) {
        return Ok(coming);
    }
    // Only slots whose bytes are in the file.
    let stored =
        |number: &u32| slot::place_of(*number).is_some() && area.resident(*number).is_none();
    area.place_of(number).ok_or(Unavailable::Lost)?;
    let start = (around.start..number).rev().take_while(stored).last().unwrap_or(number);
    let end =
        (number + 1..around.end).take_while(stored).last().map_or(number + 1, |last| last + 1);
    fallible::reserve(&mut area.coming, 1)?;
    let paid = pay(end - start, claim)?;
    let more = (paid.len() as u32).max(1) - 1;
    let ahead = more.min(end - number - 1);
    let row = number - (more - ahead).min(number - start)..number + 1 + ahead;
    let coming = Arc::new(PageIn::new(SlotRow::share(row), paid));
    debug_assert!(coming.row.index_of(number).is_some() && !coming.has_arrived());
    area.coming.push(Arc::downgrade(&coming));
    Ok(coming)
}

/// Takes frames for a page-in, at least one and up to `pages`. The swap server uses frames of its
/// reserve for what it reads; when those have arrived, these become free in their place. So its
/// reserve lasts, however many pages are wanted at once.
fn pay(pages: u32, claim: Claim) -> Result<Vec<Frame>, OutOfMemory> {
    let mut paid = fallible::with_capacity(pages as usize)?;
    paid.push(Frame::recycled(claim)?);
    paid.extend((1..pages).map_while(|_| Frame::recycled(claim).ok()));
    Ok(paid)
}

/// What is known of a swapped page's bytes.
pub(super) enum Source {
    /// They are in memory.
    Resident(Frame),
    /// This page-in has brought the page, and maybe neighbours.
    Arrived(Frame, Arc<PageIn>),
    /// They have to be waited for.
    Pending(Arc<PageIn>),
}

/// Looks for the bytes of a slot, and begins a page-in of the slots `around` it where they are not
/// in memory. The caller holds a reference to the slot until it has looked at the result.
pub(super) fn find(
    number: u32,
    around: impl Fn() -> Range<u32>,
    claim: Claim,
) -> Result<Source, Unavailable> {
    loop {
        if let Some(frame) = resident(number) {
            return Ok(Source::Resident(frame));
        }
        let page_in = page_in(number, around(), claim)?;
        if !page_in.has_arrived() {
            return Ok(Source::Pending(page_in));
        }
        match page_in.take(number) {
            Some(frame) => return Ok(Source::Arrived(frame, page_in)),
            // Another thread took the frame and could not map it: the page is read again.
            None => page_in.invalidate(),
        }
    }
}

/// Calls `look` for each frame that no address space maps but that is in memory for swap: of writes
/// under way and those that failed, and of reads.
pub(super) fn for_each_frame(look: &mut impl FnMut(&Frame)) {
    let area = AREA.lock();
    area.outgoing.frames().for_each(&mut *look);
    let coming = area.coming.iter().filter_map(Weak::upgrade);
    coming.for_each(|coming| coming.for_each_frame(look));
    slot::for_each_kept_frame(look);
}

/// Makes holes of chunks that are not in use any more. Called often, with no lock of `mem` held.
pub(super) fn punch_idle_chunks() {
    if !slot::take_idle_mark() {
        return;
    }
    loop {
        let (device, (chunk, pages)) = {
            let area = AREA.lock();
            let Some(found) = area.device.clone().zip(slot::next_to_punch()) else { return };
            found
        };
        device.punch(pages, Transfer::Punch(chunk));
    }
}
