//! Wrong code for testing the tests of this layer. Neutral without the feature `mutants`.

use foundation::mutant::{Mutant, active};

/// Niceness changes nothing.
#[inline(always)]
pub(super) fn ignore_niceness() -> bool {
    active(Mutant::IgnoreNiceness)
}

/// What a server pays of its work for a client: nothing.
#[inline(always)]
pub(super) fn servers_part(part: u64) -> u64 {
    if active(Mutant::ClientPays) { 0 } else { part }
}

/// A server's part of its work for clients is not counted.
#[inline(always)]
pub(super) fn free_service() -> bool {
    active(Mutant::FreeService)
}
