//! The mutants of this folder: each function is one mutant's wrong behaviour, or says whether it is
//! active. Without the feature `mutants` of the crate `foundation`, `active` is constant false, so
//! the compiler removes all of this.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::Errno;
use foundation::mutant::{Mutant, active};
use fsproto::{FileId, GetAttr, Handle, OpenFlags, Path, Stat};

use super::Snapfs;
use super::change::Change;
use super::file::PAGE;
use super::handles::Opened;
use super::pieces::Step;
use super::rescue_map::Source;
use crate::connection::Connection;
use crate::server::Clock;

/// C1, C2, C5: the change rescues nothing.
#[inline(always)]
pub(super) fn skip_rescue(change: Change) -> bool {
    match change {
        Change::Write => active(Mutant::SkipRescue),
        Change::Truncate => active(Mutant::SkipTruncateRescue),
        Change::OpenTruncate => active(Mutant::SkipOpenTruncateRescue),
        Change::Punch | Change::Clone => false,
    }
}

/// C8: a rescued version serves snapshots of any epoch.
#[inline(always)]
pub(super) fn version_for(index: usize, versions: usize) -> usize {
    if active(Mutant::RescueServesAll) && versions > 0 { 0 } else { index }
}

/// C8: the number of copies that a rescue makes, one for each snapshot of the file.
#[inline(always)]
pub(super) fn copies(snapshots: usize) -> u64 {
    if active(Mutant::RescuePerSnapshot) { snapshots.max(1) as u64 } else { 1 }
}

foundation::mutant_switches! {
    pub(super),
    /// C11: the rescue comes after the change.
    rescue_after_change: RescueAfterChange;
    /// C9: all pages are rescued when a snapshot is taken.
    eager_rescue: EagerRescue;
    /// C10: nothing is freed in the rescue file.
    leak_rescue: LeakRescue;
    /// C8: the end of a snapshot ends all that are equal to it.
    forget_equal_snapshots: ForgetEqualSnapshots;
    /// Q4: the limits on snapshots are ignored.
    no_snapshot_limit: NoSnapshotLimit;
    /// Q4: a map grows with the number of changes.
    never_widen: NeverWiden;
    /// Q4: only the pages around a change are rescued with it.
    never_join: NeverJoin;
    /// Q1: an allocation turns holes into data that snapshots find in the file.
    allocate_live_holes: AllocateLiveHoles;
    /// Q1: no space is reserved.
    no_reservation: NoReservation;
    /// C11: a page-in does not consult the rescue map.
    no_rescue_recheck: NoRescueRecheck;
    /// W3: copies a page at a time from the front, by a plan made before the rescue.
    forward_copy: ForwardCopy;
    /// W6: an append counts as a write to where its bytes came from.
    elide_append: ElideAppend;
    /// W2: a write back to the same place is elided although the bytes there have changed.
    elide_without_asking: ElideWithoutAsking;
    /// W7: writes by reference need no space.
    free_references: FreeReferences;
    /// W7: an elided write changes neither times nor version.
    silent_elide: SilentElide;
    /// W2: rescued bytes are not written back to their file.
    restore_skipped: RestoreSkipped;
}

fn close_base_handles<C: Connection, K: Clock>(wrapper: &mut Snapfs<C, K>, id: FileId) {
    let Ok(file) = wrapper.files.get_mut(id) else { return };
    for handle in core::mem::take(&mut file.base_handles) {
        wrapper.base.close(handle);
    }
}

/// C3: a removed file is deleted although a snapshot needs it.
#[inline]
pub(super) fn remove_snapshotted<C: Connection, K: Clock>(wrapper: &mut Snapfs<C, K>, id: FileId) {
    if active(Mutant::RemoveSnapshotted) {
        close_base_handles(wrapper, id);
    }
}

/// C4: finds the file that a rename replaces, to delete it afterwards.
#[inline]
pub(super) fn replaced_file<C: Connection, K: Clock>(
    wrapper: &mut Snapfs<C, K>,
    dir: Handle,
    path: Path<'_>,
) -> Option<FileId> {
    if !active(Mutant::RenameOverSnapshotted) {
        return None;
    }
    let stat = Stat { dir, flags: OpenFlags::NO_FOLLOW };
    wrapper.base.walk(&stat, &[path.bytes()]).ok().map(|walk| walk.reply.attr.id)
}

/// C4: deletes the file that a rename has replaced, although a snapshot needs it.
#[inline]
pub(super) fn close_replaced<C: Connection, K: Clock>(
    wrapper: &mut Snapfs<C, K>,
    id: Option<FileId>,
) {
    if let Some(id) = id {
        close_base_handles(wrapper, id);
    }
}

/// C7: closing a descriptor closes the snapshots of its file. Only descriptors that can write:
/// programs are opened for reading, and must run before a test can see anything.
#[inline]
pub(super) fn close_with_file<C: Connection, K: Clock>(
    wrapper: &mut Snapfs<C, K>,
    id: FileId,
    flags: OpenFlags,
) {
    if active(Mutant::CloseWithFile) && flags.contains(OpenFlags::WRITE) {
        for opened in wrapper.handles.remove_snapshots_of(id) {
            if let Opened::Snapshot(record) = opened {
                wrapper.close_snapshot(&record);
            }
        }
    }
}

/// X1, X6: a page-in checks permissions again, or moves the access time.
#[inline]
pub(super) fn on_page_in<C: Connection, K: Clock>(
    wrapper: &mut Snapfs<C, K>,
    id: FileId,
) -> Result<(), Errno> {
    if active(Mutant::TimesAtPageIn) {
        wrapper.accessed(id);
    }
    if active(Mutant::RightsAtPageIn) {
        let handle = wrapper.files.get(id)?.base_handle()?;
        if wrapper.base.request(&GetAttr { handle }, &[])?.mode & 0o400 == 0 {
            return Err(Errno::EACCES);
        }
    }
    Ok(())
}

/// C11: what is read from the file as it is now counts as the snapshot's bytes.
#[inline]
pub(super) fn all_live(runs: &[(Range<u64>, Source)]) -> Vec<(Range<u64>, Source)> {
    let live = |(run, source): &(Range<u64>, Source)| match source {
        Source::Rescued(_) => (run.clone(), Source::Live),
        other => (run.clone(), *other),
    };
    runs.iter().map(live).collect()
}

/// W3: cuts the copies of a plan into pages.
#[inline]
pub(super) fn page_by_page(steps: Vec<(Range<u64>, Step<'_>)>) -> Vec<(Range<u64>, Step<'_>)> {
    let cut = |(bytes, step): (Range<u64>, _)| match step {
        Step::CopyFile(file, from) => {
            let at = move |byte: u64| {
                let copied = Step::CopyFile(file, from + (byte - bytes.start));
                (byte..(byte + PAGE).min(bytes.end), copied)
            };
            bytes.clone().step_by(PAGE as usize).map(at).collect()
        }
        step => alloc::vec![(bytes, step)],
    };
    steps.into_iter().flat_map(cut).collect()
}
