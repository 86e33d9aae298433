//! Wrong code of `mem` for testing the tests. Without the feature `mutants`, [`active`] is
//! constant, and nothing of it is compiled.
#![forbid(unsafe_code)]

use super::{Claim, Frame, PAGE_BYTES};
use foundation::mutant::{Mutant, active};

/// Q3: the reference of a swap slot is never dropped.
#[inline(always)]
pub(super) fn leak_swap_slot() -> bool {
    active(Mutant::LeakSwapSlot)
}

/// Q3: slots of a new swap file have the numbers of those that were lost.
#[inline(always)]
pub(super) fn reuse_slot_numbers() -> bool {
    active(Mutant::ReuseSlotNumbers)
}

/// Q3: a page is read from its neighbour's slot. Returns the wrong index.
#[inline(always)]
pub(super) fn wrong_swap_index(index: usize, count: usize) -> Option<usize> {
    active(Mutant::SwapWrongSlot).then(|| (index + 1) % count)
}

/// F8: the swap server's claims wait as those of programs do. Returns the rank as which a claim
/// waits.
#[inline(always)]
pub(super) fn waiting_rank(claim: Claim) -> Claim {
    let wrong = claim == Claim::SwapServer && active(Mutant::SwapServerWaits);
    if wrong { Claim::Program } else { claim }
}

/// E3: pages are counted as bytes. Returns what a fetched page counts.
#[inline(always)]
pub(super) fn counted_page_bytes() -> usize {
    if active(Mutant::Miscount) { 1 } else { PAGE_BYTES }
}

/// X5: a frame that was fetched is never freed.
#[inline(always)]
pub(super) fn leak_frame(frame: Option<&Frame>) {
    if active(Mutant::LeakFrame) {
        core::mem::forget(frame.cloned());
    }
}

/// F8: a file server's claim never waits.
#[inline(always)]
pub(super) fn servers_never_wait(claim: Claim) -> bool {
    claim == Claim::FileServer && active(Mutant::ServersNeverWait)
}

foundation::mutant_switches! {
    pub(in crate::mem),
    /// Q6: who keeps much leaves nothing to others.
    take_all: TakeAll;
    /// R4: byte 0 of the snapshot is treated as a page boundary of the file.
    align_offset: AlignOffset;
    /// R10: everything is a hole.
    all_holes: AllHoles;
    /// X3: pages of an untrusted server are dropped and fetched again.
    ask_twice: AskTwice;
    /// W8: pages beyond the written length count as written.
    clean_beyond_written: CleanBeyondWritten;
    /// R10: the list of holes is ignored.
    ignore_holes: IgnoreHoles;
    /// R8: after a short read that was touched, no short read is lazy any more.
    never_lazy_again: NeverLazyAgain;
    /// F8: floors may take all of memory.
    floors_unchecked: FloorsUnchecked;
    /// F8: init's pages are evicted like any others.
    swap_init: SwapInit;
    /// C10: the kernel does not close a snapshot after its last association has ended.
    leak_snapshot: LeakSnapshot;
    /// Q6: pages that a program locked are evicted.
    reclaim_locked: ReclaimLocked;
    /// Q6: any number of pages of mapped files can be dirty.
    many_dirty_pages: ManyDirtyPages;
    /// Q6: pages that a server does not take keep others from storing.
    refused_pages_count: RefusedPagesCount;
    /// M1: an absent page of a mapped file is zeros.
    absent_is_zeros: AbsentIsZeros;
    /// M2: the first store to a page of a mapped file is not noticed.
    store_unnoticed: StoreUnnoticed;
    /// M2: a page whose frame others refer to is stored to in place.
    store_to_lent: StoreToLent;
    /// M2: pages that are written back are not write-protected.
    unprotected_write_back: UnprotectedWriteBack;
    /// M2: reclaim drops dirty pages of mapped files.
    drop_dirty: DropDirty;
    /// M4: a fetch brings bytes from before a change of the file.
    stale_fetch: StaleFetch;
    /// M4: pages stay as they were before a change of the file.
    change_keeps_pages: ChangeKeepsPages;
    /// F1: no neighbours are fetched.
    no_fault_around: NoFaultAround;
    /// A5: no two snapshots share a frame.
    share_nothing: ShareNothing;
    /// Q3: a page of shared memory is swapped out while another process maps it.
    swap_mapped_shared: SwapMappedShared;
    /// A4: splitting a region forgets the offset into its snapshot.
    split_forgets_offset: SplitForgetsOffset;
}
