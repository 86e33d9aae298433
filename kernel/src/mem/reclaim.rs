//! Making room: what can be had again goes when frames run out (Q2).
//!
//! First what only the frame cache holds. Then clean pages of associations are unmapped, by a clock that goes around all spaces and through each of them, and
//! takes pages that were not used since it last came by; where that was the last mapping, the cache lets the frame go. Only a frame that became free counts:
//! unmapping one that others still map is no progress. The zero page's entries go too, for the sake of the tables that hold nothing else.
//!
//! May be called from anywhere, with any lock held, and allocates nothing: locks are taken only where they are free, and a space whose lock is held by this
//! very call chain is passed over (the fault that ran out tries again without it).

use super::{
    Space, cache,
    counters::{self, Counter},
    frame,
};
use alloc::{
    collections::VecDeque,
    sync::{Arc, Weak},
};
use spin::Mutex;

/// Frames let go of at once: often enough that the search is paid for, few enough that the cache stays useful.
const BATCH: usize = 64;

/// All spaces, in the order in which the clock comes to them.
static SPACES: Mutex<VecDeque<Weak<Space>>> = Mutex::new(VecDeque::new());

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

/// Whether programs can have so many frames more, once clean ones are let go of where needed.
pub fn room_for(frames: usize) -> bool {
    loop {
        if frame::stats().free >= frame::reserve() + frames {
            return true;
        }
        if run() == 0 {
            return false;
        }
    }
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
        let Some(swept) = space.upgrade().and_then(|space| space.unmap_clean(BATCH)) else { continue };
        counters::count(Counter::PagesUnmapped, swept.entries as u64);
        let freed = swept.tables + if swept.entries > 0 { cache::evict(BATCH) } else { 0 };
        if freed > 0 {
            return freed;
        }
    }
    0
}
