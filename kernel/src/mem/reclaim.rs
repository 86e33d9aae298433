//! Making room: what can be had again goes when frames run out.

use super::cache;

/// Frames let go of at once: often enough that the search is paid for, few enough that the cache stays useful.
const BATCH: usize = 64;

/// Lets go of some clean frames; says how many became free. Takes locks only where they are free, so it may be called from anywhere.
pub(super) fn run() -> usize {
    cache::evict(BATCH)
}
