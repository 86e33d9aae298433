//! Wrong code for testing the tests of this layer. Neutral stubs without the feature `mutants`.

use crate::mem::{Occupant, Space};
use alloc::sync::Arc;

#[cfg(feature = "mutants")]
mod wrong {
    use super::{Arc, Occupant, Space};
    use foundation::mutant::{Mutant, active};

    /// A3: the space of an ended thread is never dropped.
    pub fn leak_space(space: Option<Occupant>) -> Option<Occupant> {
        if active(Mutant::LeakSpace) {
            core::mem::forget(space);
            return None;
        }
        space
    }

    /// F7: a waiting process cannot be killed.
    pub fn not_killable() -> bool {
        active(Mutant::NotKillable)
    }

    /// A server works at its own expense.
    pub fn keep_turn() -> bool {
        active(Mutant::KeepTurn)
    }

    /// Q4: the smallest process is ended where memory runs out.
    pub fn is_due(largest: i64, score: i64) -> bool {
        if active(Mutant::EndSmallest) { score < largest } else { score >= largest }
    }

    /// Q4: who waits for the end of a process keeps that process's memory until then.
    pub fn held_by_waiter(space: Arc<Space>) -> Option<Occupant> {
        active(Mutant::HoldVictim).then(|| Occupant::new(&space))
    }
}

#[cfg(not(feature = "mutants"))]
mod wrong {
    use super::{Arc, Occupant, Space};

    #[inline(always)]
    pub fn leak_space(space: Option<Occupant>) -> Option<Occupant> {
        space
    }

    #[inline(always)]
    pub fn not_killable() -> bool {
        false
    }

    #[inline(always)]
    pub fn keep_turn() -> bool {
        false
    }

    /// Whether a process of this score is to be ended rather than the one with the largest so far.
    #[inline(always)]
    pub fn is_due(largest: i64, score: i64) -> bool {
        score >= largest
    }

    /// What a thread that waits for the end of a process keeps of its memory: nothing.
    #[inline(always)]
    pub fn held_by_waiter(_: Arc<Space>) -> Option<Occupant> {
        None
    }
}

pub(super) use wrong::{held_by_waiter, is_due, keep_turn, leak_space, not_killable};

/// Q8: a thread that could not be made stays in the table.
#[inline(always)]
pub(super) fn keep_failed_thread() -> bool {
    foundation::mutant::active(foundation::mutant::Mutant::KeepFailedThread)
}

/// What the CPU waits is charged to the process that waits.
#[inline(always)]
pub(super) fn charge_waiting() -> bool {
    foundation::mutant::active(foundation::mutant::Mutant::ChargeWaiting)
}

/// A sleeper keeps all that it did not use of the CPU.
#[inline(always)]
pub(super) fn hoard_credit() -> bool {
    foundation::mutant::active(foundation::mutant::Mutant::HoardCredit)
}
