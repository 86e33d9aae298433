//! Wrong code for testing the tests of this layer. Neutral without the feature `mutants`.

use foundation::mutant::{Mutant, active};

/// Niceness changes nothing.
#[inline(always)]
pub(super) fn ignore_niceness() -> bool {
    active(Mutant::IgnoreNiceness)
}
