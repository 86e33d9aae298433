//! Shrinkers: what can free frames when the allocator runs out.
//!
//! The allocator of frames and the heap call [`run`] and know no shrinker. Each shrinker registers
//! itself at start: the heap, the frame cache, and the clock over all address spaces
//! ([`reclaim`](super::reclaim), to which each space is added when it is made).
#![forbid(unsafe_code)]

use crate::sync::Once;

/// The order in which shrinkers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// What is kept of programs' files.
    KeptFiles,
    /// Empty pages of the heap.
    Heap,
    /// Frames that only the frame cache holds.
    Cache,
    /// Clean pages that address spaces map.
    Spaces,
}

/// Frees some frames and returns how many. May be called with any lock held: it allocates nothing,
/// and skips what is locked.
type Shrinker = fn() -> usize;

static SHRINKERS: [Once<Shrinker>; 4] = [const { Once::new() }; 4];

/// Registers a stage's shrinker, once.
pub(super) fn register(stage: Stage, shrinker: Shrinker) {
    if let Some(place) = SHRINKERS.get(stage as usize) {
        place.call_once(|| shrinker);
    }
}

/// Asks one shrinker after the other until some frames became free. Returns how many.
pub(super) fn run() -> usize {
    SHRINKERS
        .iter()
        .filter_map(|shrinker| shrinker.get())
        .map(|shrinker| shrinker())
        .find(|&freed| freed > 0)
        .unwrap_or(0)
}
