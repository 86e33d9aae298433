//! A page of a snapshot for the kernel's own use, outside any address space: through the same cache
//! and by the same fetches as a fault.

use super::{
    Claim, FaultError, Frame,
    cache::{self, Lookup},
    heap, reclaim,
    snapshot::{Fetch, Snapshot},
};
use alloc::sync::Arc;
use foundation::counter::Counters;
use foundation::{PageCount, SnapshotOffset};

/// Fetches that may fail before the caller hears of it (F5).
const MAX_ATTEMPTS: u32 = 3;

/// The frame with the whole page at byte `offset` of a snapshot of a trusted server. What is not
/// there is fetched, and up to `pages` pages (64 at most) from it on come along. May wait; called
/// with no lock held.
pub fn page_of(
    snapshot: &Arc<Snapshot>,
    offset: SnapshotOffset,
    pages: PageCount,
    counters: &Arc<Counters>,
    claim: Claim,
) -> Result<Frame, FaultError> {
    if snapshot.is_hole(offset) {
        return Ok(Frame::zero_page());
    }
    let mut attempts = 0;
    while attempts < MAX_ATTEMPTS {
        let mut found = None;
        let fetch = match cache::lookup(snapshot, offset, PageCount(1), 0, |_, frame| {
            found = Some(frame.clone())
        }) {
            Lookup::Ready => return found.ok_or(FaultError::Bus),
            Lookup::Pending(fetch) => fetch,
            // Only what can be had once goes there.
            Lookup::Away(_) => return Err(FaultError::Bus),
            Lookup::Absent => {
                heap::headroom(claim)?;
                reclaim::keep_margin(claim)?;
                let fetch = cache::begin(snapshot, offset, pages, offset, counters);
                fetch.start();
                fetch
            }
        };
        if fetch.wait()?.is_err() {
            attempts += 1;
        } else if let Some(frame) = page_in(&fetch, snapshot, offset) {
            // What came may have found no place in the cache.
            return Ok(frame);
        }
    }
    Err(FaultError::Bus)
}

/// The page, if this fetch brought it.
fn page_in(fetch: &Fetch, snapshot: &Snapshot, offset: SnapshotOffset) -> Option<Frame> {
    if offset < fetch.offset || fetch.snapshot.id != snapshot.id {
        return None;
    }
    let index = fetch.pages_before(offset).to_usize();
    fetch.frames(|frames| frames.get(index).cloned()).flatten()
}
