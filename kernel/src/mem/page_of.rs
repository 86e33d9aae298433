//! Pages of a snapshot for the kernel's own use, outside any address space: from the same cache and
//! by the same fetches as for a fault.
#![forbid(unsafe_code)]

use super::{
    Claim, FaultError, Frame, reclaim,
    snapshot::{
        Fetch, Snapshot,
        cache::{self, Lookup},
    },
};
use alloc::sync::Arc;
use foundation::counter::Counters;
use foundation::{PageCount, SnapshotOffset};

/// Failed fetches after which the call fails (F5).
const MAX_ATTEMPTS: u32 = 3;

/// The frame of the page at byte `offset` of a snapshot of a trusted server. If the page is not
/// cached, up to `pages` pages (64 at most) from it on are fetched. May wait; called with no lock
/// held.
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
        let fetch = match cache::lookup_inline(snapshot, offset, PageCount(1), 0, |_, frame| {
            found = Some(frame.clone())
        }) {
            Lookup::Ready => return found.ok_or(FaultError::Bus),
            Lookup::Pending(fetch) => fetch,
            // Only pages of untrusted servers are swapped out of the cache.
            Lookup::Swapped(_) => return Err(FaultError::Bus),
            Lookup::Absent => {
                reclaim::ready::<FaultError>(claim)?;
                let fetch = cache::begin(snapshot, offset, pages, offset, 0, counters);
                fetch.start();
                fetch
            }
        };
        if fetch.wait()?.is_err() {
            attempts += 1;
        } else if let Some(frame) = page_in(&fetch, snapshot, offset) {
            // The cache may have refused the frame.
            return Ok(frame);
        }
    }
    Err(FaultError::Bus)
}

/// The page's frame, if this fetch brought it.
fn page_in(fetch: &Fetch, snapshot: &Snapshot, offset: SnapshotOffset) -> Option<Frame> {
    let end = fetch.offset + fetch.pages.bytes();
    if !(fetch.offset..end).contains(&offset) || !fetch.is_of(snapshot) {
        return None;
    }
    let index = fetch.pages_before(offset).to_usize();
    fetch.frames(|frames| frames.get(index).cloned()).flatten()
}
