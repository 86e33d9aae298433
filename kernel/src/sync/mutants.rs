//! Wrong code for testing the tests of this layer. Neutral without the feature `mutants`.

use foundation::mutant::{Mutant, active};

/// Niceness changes nothing.
#[inline(always)]
pub(super) fn ignore_niceness() -> bool {
    active(Mutant::IgnoreNiceness)
}

/// A server's work for its clients does not count as its own, too.
#[inline(always)]
pub(super) fn free_service() -> bool {
    active(Mutant::FreeService)
}
