//! The mutants of this folder: each function is one mutant's wrong behaviour. Without the feature
//! `mutants` of the crate `foundation` all of them are neutral.

use alloc::collections::BTreeMap;
use core::mem::take;
use core::ops::Range;

use foundation::Errno;
use foundation::mutant::{Mutant, active};

use super::inode::Inode;

foundation::mutant_switches! { pub(super),
    /// F9: the bytes of any version are those that the file has now.
    any_version: AnyVersion;
    /// F9: a change that finds the record full takes the place of the oldest one.
    forget_changes: ForgetChanges;
    /// F9: the version is the old one after a change that failed.
    version_kept: VersionKept;
    /// Q1: an allocation leaves what is shared as it is.
    keep_shared: AllocateKeepsShared;
}

/// F9: the bytes that a new length removes do not count as changed.
#[inline(always)]
pub(super) fn truncated(removed: Range<u64>) -> Range<u64> {
    if active(Mutant::TruncationUnrecorded) { removed.start..removed.start } else { removed }
}

/// F9: the target of a clone has the source's record of changes, as far as there is space.
#[inline(always)]
pub(super) fn stamp_travels(inodes: &mut BTreeMap<u64, Inode>, source: u64, target: u64) {
    if !active(Mutant::StampTravels) || source == target {
        return;
    }
    let Some(stamp) = inodes.get_mut(&source).map(|source| take(&mut source.changes)) else {
        return;
    };
    if let Some(target) = inodes.get_mut(&target) {
        let list = &mut target.changes.list;
        list.clear();
        let known = stamp.list.iter().filter(|change| change.version <= target.version);
        list.extend(known.take(list.capacity()).cloned());
    }
    if let Some(source) = inodes.get_mut(&source) {
        source.changes = stamp;
    }
}

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
