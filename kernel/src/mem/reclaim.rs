//! Making room: when frames run out, what can be had again goes (Q2), and what cannot goes to the
//! swap file (Q3).
//!
//! First what only the frame cache holds. Then clean pages of associations are unmapped, by a clock
//! that goes around all spaces and through each of them, and takes pages that were not used since
//! it last came by; where that was the last mapping, the cache lets the frame go. Only a frame that
//! became free counts: unmapping one that others still map is no progress. The zero page's entries
//! go too, for the sake of the tables that hold nothing else.
//!
//! Private pages go the same way and by the same clock, but only where the caller can wait for them
//! to be written: [`make_room`]. A program that faults does that before it takes the last frames
//! ([`keep_margin`]), so that those who cannot wait find some.
//!
//! [`run`] may be called from anywhere, with any lock held, and allocates nothing: locks are taken
//! only where they are free, and a space whose lock is held by this very call chain is passed over
//! (the fault that ran out tries again without it).

use super::{Claim, Space, cache, frame, space::Leaving, swap};
use crate::sync::Interrupted;
use crate::sync::{Mutex, rank};
use alloc::{
    collections::VecDeque,
    sync::{Arc, Weak},
    vec::Vec,
};
use foundation::counter::{self, Counter};

/// Frames let go of at once: often enough that the search is paid for, few enough that the cache
/// stays useful.
const BATCH: usize = 64;

/// All spaces, in the order in which the clock comes to them.
static SPACES: Mutex<VecDeque<Weak<Space>>, rank::Spaces> = Mutex::new(VecDeque::new());

/// A space is there from now on.
pub(super) fn register(space: &Arc<Space>) {
    SPACES.lock().push_back(Arc::downgrade(space));
}

/// A space is gone.
pub(super) fn unregister() {
    SPACES.lock().retain(|space| space.strong_count() > 0);
}

fn next_space() -> Option<Weak<Space>> {
    let mut spaces = SPACES.try_lock()?;
    let space = spaces.pop_front()?;
    spaces.push_back(space.clone());
    Some(space)
}

/// Frames beyond the reserve that are kept ready for programs while there is somewhere to put
/// pages: what is done where nothing can wait for that (tables, messages, copies) needs some. 1 of
/// so many (1/2 % of memory), and so many at least.
const MARGIN_SHARE: usize = 200;
const MARGIN_LEAST: usize = 64;

fn margin() -> usize {
    (frame::stats().total / MARGIN_SHARE).max(MARGIN_LEAST)
}

fn is_free(frames: usize) -> bool {
    frame::stats().free >= frame::reserve() + frames
}

/// Before a program takes frames: restores the margin, where pages can go to the swap file. May
/// wait; called with no lock held.
pub(super) fn keep_margin(claim: Claim) -> Result<(), Interrupted> {
    if claim == Claim::Program && !is_free(margin()) && swap::is_open() {
        make_room(margin(), claim)?;
    }
    Ok(())
}

/// Whether so many frames can be had, once clean pages are let go of and private ones written to
/// the swap file where needed. May wait, but not for a server's sake: it could be the one that is
/// waited for (F8). Called with no lock held.
pub fn make_room(frames: usize, claim: Claim) -> Result<bool, Interrupted> {
    if claim == Claim::Server {
        return Ok(run() > 0);
    }
    while !is_free(frames) {
        if cache::evict(BATCH) > 0 {
            continue;
        }
        if !(turn(Sharing::Sole, BATCH)? || turn(Sharing::Any, BATCH)? || swap::await_punch()?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Which private pages a turn of the clock takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Those whose frame nobody else sees.
    Sole,
    /// All.
    Any,
}

/// The clock goes around all spaces twice at most (the first time may only make pages old), until
/// some pages went; says whether any did.
fn turn(sharing: Sharing, batch: usize) -> Result<bool, Interrupted> {
    let mut leaving = room_to_leave(sharing, batch);
    let rounds = SPACES.try_lock().map_or(0, |spaces| 2 * spaces.len());
    let mut went = leaving
        .as_mut()
        .is_some_and(|leaving| cache::leave(|frame| leaving.take_frame(frame.clone())) > 0);
    for _ in 0..if went { 0 } else { rounds } {
        let Some(space) = next_space() else { break };
        let enough = leaving.as_ref().map_or(batch, |leaving| leaving.row.len());
        let swept = space.upgrade().and_then(|space| space.take_pages(enough, leaving.as_mut()));
        swap::tidy();
        let Some(swept) = swept else { continue };
        let written = leaving.as_ref().map_or(0, |leaving| leaving.frames.len());
        counter::count(Counter::PagesUnmapped, (swept.entries - written) as u64);
        went = swept.entries + swept.tables > 0;
        if went {
            break;
        }
    }
    if let Some(Leaving { mut row, frames, .. }) =
        leaving.filter(|leaving| !leaving.frames.is_empty())
    {
        row.truncate(frames.len());
        if let Some(out) = swap::write(row, frames) {
            out.wait()?;
        }
    }
    Ok(went)
}

fn room_to_leave(sharing: Sharing, batch: usize) -> Option<Leaving> {
    let row = swap::SlotRow::take(batch)?;
    let mut frames = Vec::new();
    frames.try_reserve_exact(row.len()).ok()?;
    Some(Leaving { row, frames, shared_too: sharing == Sharing::Any })
}

/// Takes up to `pages` pages away now, for want of nothing: clean ones and, where they can go to
/// the swap file, private ones. For tests. May wait.
#[cfg(not(target_os = "none"))]
pub(super) fn take_some(pages: usize) -> Result<bool, Interrupted> {
    turn(Sharing::Any, pages)
}

/// Lets go of some clean frames; says how many became free.
pub(super) fn run() -> usize {
    let freed = cache::evict(BATCH);
    if freed > 0 {
        return freed;
    }
    // Twice around: the first time may only make pages old.
    let rounds = SPACES.try_lock().map_or(0, |spaces| 2 * spaces.len());
    for _ in 0..rounds {
        let Some(space) = next_space() else { break };
        let Some(swept) = space.upgrade().and_then(|space| space.take_pages(BATCH, None)) else {
            continue;
        };
        counter::count(Counter::PagesUnmapped, swept.entries as u64);
        let freed = swept.tables + if swept.entries > 0 { cache::evict(BATCH) } else { 0 };
        if freed > 0 {
            return freed;
        }
    }
    0
}
