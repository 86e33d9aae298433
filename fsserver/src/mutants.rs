//! The mutants of the dispatcher. Without the feature `mutants` all of them are neutral.

use foundation::mutant::{Mutant, active};

/// Q4: the limit on snapshots is ignored.
#[inline(always)]
pub(crate) fn no_snapshot_limit() -> bool {
    active(Mutant::NoSnapshotLimit)
}
