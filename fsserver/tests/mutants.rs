//! Each mutant of the servers is found by the test of the rule that it breaks.

mod common;

use common::{allocated, direct, rules, rules_bounds, rules_writes, spilled};
use foundation::mutant::{Mutant, choose};

/// Mutants, and the scenarios that must find them.
const MUTANTS: &[(Mutant, fn())] = &[
    (Mutant::SkipRescue, rules::c1_overwrite),
    (Mutant::RescueAfterChange, rules::c1_overwrite),
    (Mutant::NoRescueRecheck, rules::c11_ordered_a_page_in_takes_what_was_rescued),
    (Mutant::SkipTruncateRescue, rules::c2_truncate),
    (Mutant::SkipOpenTruncateRescue, rules::c5_open_with_truncation),
    (Mutant::RemoveSnapshotted, rules::c3_remove_copies_nothing),
    (Mutant::RenameOverSnapshotted, rules::c4_rename_over),
    (Mutant::EagerRescue, rules::c9_an_unused_snapshot_costs_nothing),
    (Mutant::LeakRescue, rules::c10_gone_on_close),
    (Mutant::CloseWithFile, rules::c7_append_extension_rename_and_close_need_no_rescue),
    (Mutant::RescuePerSnapshot, rules::c8_one_rescue_serves_all),
    (Mutant::RescueServesAll, rules::c8_one_rescue_serves_all),
    (Mutant::ForgetEqualSnapshots, rules::c8_one_rescue_serves_all),
    (
        Mutant::NoReservation,
        rules_writes::q1_reservation_a_snapshot_without_space_is_refused_and_changes_nothing,
    ),
    (Mutant::AllocateLiveHoles, allocated::q1_a_hole_of_a_snapshot_is_allocated),
    (Mutant::AllocateKeepsShared, allocated::q1_what_a_clone_shares_is_allocated_apart),
    (Mutant::NoSnapshotLimit, rules_writes::q4_limits),
    (Mutant::NeverWiden, rules_bounds::q4_the_map_of_a_snapshot_is_bounded_in_data),
    (Mutant::NeverJoin, rules_bounds::q4_what_changes_left_behind_is_joined),
    (Mutant::AnyVersion, direct::f9_each_change_is_noticed_where_it_is),
    (Mutant::StampTravels, direct::f9_a_clone_has_a_record_of_its_own),
    (Mutant::ForgetChanges, direct::f9_what_the_record_does_not_cover_counts_as_changed),
    (Mutant::TruncationUnrecorded, direct::f9_each_change_is_noticed_where_it_is),
    (Mutant::VersionKept, direct::f9_a_change_that_fails_has_a_new_version),
    (Mutant::SpillWrongSlot, spilled::q3_files_larger_than_memory),
    (Mutant::SpillZeroOnError, spilled::f5_an_unreadable_page_is_an_error),
    (Mutant::SpillIgnoresErrors, spilled::f5_a_page_that_cannot_be_evicted_stays),
    (Mutant::LeakSpillSlot, spilled::q3_slots_are_freed),
];

/// One test, since at most one mutant is active in a process.
#[test]
fn each_mutant_is_found() {
    let mut missed = Vec::new();
    for (mutant, rule) in MUTANTS {
        choose(Some(*mutant));
        if std::panic::catch_unwind(rule).is_ok() {
            missed.push(mutant.name());
        }
        choose(None);
        rule();
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
