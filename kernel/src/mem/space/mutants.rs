//! Wrong code of address spaces for testing the tests. Without the feature `mutants`, [`active`] is
//! constant, and nothing of it is compiled.
#![forbid(unsafe_code)]

use super::{
    SentPages, Space, SpaceState,
    access::{Access, FaultError, PRIVATE_WRITABLE},
    fault::Failure,
    resolution::{Awaited, PageRequest},
};
use crate::mem::{Claim, Frame, Page, PageRange, USER_END, page_table::EntryFlags};
use crate::sync::MutexGuard;
use foundation::{
    PageCount,
    mutant::{Mutant, active},
};

/// F5, Q3, Q4: a page that is not available is zeros. Returns the error where no mutant is active.
#[inline]
pub(super) fn zeros_on_failure<T>(
    space: &Space,
    request: &PageRequest<'_>,
    failure: Failure,
    then: &mut Option<impl FnOnce(&mut SpaceState) -> T>,
) -> Result<T, FaultError> {
    let wrong = match failure {
        Failure::Fetch => active(Mutant::ZeroOnError),
        Failure::PageIn => active(Mutant::ZeroOnSwapError),
        Failure::Memory => active(Mutant::ZeroOnShortage),
        Failure::Store | Failure::Other(_) => false,
    };
    if !wrong {
        return Err(failure.into());
    }
    let map = |state: &mut SpaceState| {
        let (frame, flags) = match request.access {
            // From the reserve: the mutant is not about the shortage.
            Access::Write => (Frame::zeroed_for(Claim::Kernel)?, PRIVATE_WRITABLE),
            Access::Read | Access::Execute => (Frame::zero_page(), EntryFlags::empty()),
        };
        drop(state.table.map(request.page, frame, state.flags_at(request.page) | flags)?);
        Ok::<_, FaultError>(then.take().map(|then| then(state)))
    };
    space.with(map)?.ok_or(FaultError::Bus)
}

/// F3: what a fetch brought is mapped without another look at the region.
#[inline]
pub(super) fn map_blindly(space: &Space, page: Page, awaited: &Awaited) -> Result<(), FaultError> {
    if !active(Mutant::NoGeneration) {
        return Ok(());
    }
    space.with(|state| match awaited.frame() {
        Some(frame) => state.install(page, frame, EntryFlags::empty()),
        None => Ok(()),
    })
}

/// F8: the space is locked while a claim may wait.
#[inline]
pub(super) fn lock_before_claim(space: &Space) -> Option<MutexGuard<'_, SpaceState>> {
    active(Mutant::ClaimUnderLock).then(|| space.inner.lock())
}

/// A1: a fork drops the child's associations.
#[inline]
pub(super) fn drop_associations(child: &mut SpaceState) {
    if active(Mutant::ForkDropsAssociation) {
        let all = PageRange { start: Page(0), end: USER_END.page() };
        child.regions.change(all, |_, region| {
            region.associated = PageCount::ZERO;
            region.settle();
        });
    }
}

impl SentPages {
    /// W8: protects private pages only when their bytes have been sent.
    #[inline]
    pub fn protect_late(&mut self, space: &Space) -> Result<(), FaultError> {
        if let Self::Data { first, frames } = self {
            *frames = space.lend(PageRange::new(*first, PageCount::of_len(frames.len())))?;
        }
        Ok(())
    }
}

foundation::mutant_switches! {
    pub(super),
    /// W8: a page that is modified during the write counts as written.
    associate_stored_page: AssociateStoredPage;
    /// W8: pages beyond the written length count as written.
    clean_beyond_written: CleanBeyondWritten;
    /// R4: a page of two pages of the file is composed of one of them.
    compose_of_one_page: ComposeOfOnePage;
    /// R6: a partially covered page is dropped without fetching it.
    drop_partial_page: DropPartialPage;
    /// Q2: modified pages are dropped as if they were clean.
    evict_private: EvictPrivate;
    /// F3: every faulting thread sends its own request.
    fetch_twice: FetchTwice;
    /// A8: fork leaves the parent's mappings writable.
    fork_leaves_writable: ForkLeavesWritable;
    /// E1: the value of a knob is ignored.
    ignore_knob: IgnoreKnob;
    /// F8: servers read lazily.
    lazy_server: LazyServer;
    /// Q2: mapped pages are never evicted.
    no_clock: NoClock;
    /// F3: fetched pages are mapped without checking that the association is unchanged.
    no_generation: NoGeneration;
    /// F7: a waiting process cannot be killed.
    not_killable: NotKillable;
    /// W1: a modified page is sent as a reference.
    store_ignored_in_runs: StoreIgnoredInRuns;
    /// F2: a store goes into the cached frame.
    store_shared: StoreShared;
    /// F8: pages of servers are swapped out as those of other processes.
    swap_servers: SwapServers;
    /// R7: a read writes into a shared frame.
    write_shared_frame: WriteSharedFrame;
}
