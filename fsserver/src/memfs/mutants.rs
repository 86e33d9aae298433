//! The mutants of this folder: each function is one mutant's wrong behaviour. Without the feature
//! `mutants` of the crate `foundation` all of them are neutral.

use foundation::Errno;
use foundation::mutant::{Mutant, active};

/// F5: a write to the device that failed counts as done.
#[inline(always)]
pub(super) fn written(outcome: Result<(), Errno>) -> Result<(), Errno> {
    if active(Mutant::SpillIgnoresErrors) { Ok(()) } else { outcome }
}

/// Q3: the slot that a page is read from, or its neighbour.
#[inline(always)]
pub(super) fn first_slot(slot: u64) -> u64 {
    if active(Mutant::SpillWrongSlot) { slot.saturating_sub(1) } else { slot }
}

/// F5: pages that the device did not return are zeros.
#[inline(always)]
pub(super) fn read(outcome: Result<(), Errno>, bytes: &mut [u8]) -> Result<(), Errno> {
    if outcome.is_err() && active(Mutant::SpillZeroOnError) {
        bytes.fill(0);
        return Ok(());
    }
    outcome
}

/// Q3: slots are never freed.
#[inline(always)]
pub(super) fn leak_slot() -> bool {
    active(Mutant::LeakSpillSlot)
}
