//! Wrong code of `mem` for testing the tests. Without the feature `mutants`, [`active`] is
//! constant, and nothing of it is compiled.
#![forbid(unsafe_code)]

use super::{Frame, PAGE_BYTES};
use foundation::mutant::{Mutant, active};

/// Q3: the reference of a swap slot is never dropped.
#[inline(always)]
pub(super) fn leak_swap_slot() -> bool {
    active(Mutant::LeakSwapSlot)
}

/// Q3: a page is read from its neighbour's slot. Returns the wrong index.
#[inline(always)]
pub(super) fn wrong_swap_index(index: usize, count: usize) -> Option<usize> {
    active(Mutant::SwapWrongSlot).then(|| (index + 1) % count)
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
