//! The rules of the wrapper, one test for each scenario.

mod common;

macro_rules! tests {
    ($module:ident: $($rule:ident,)*) => {
        $(#[test]
        fn $rule() {
            common::$module::$rule();
        })*
    };
}

tests! { rules:
    r1_one_instant_fragments_and_pages_are_of_the_same_moment,
    r1_small_reads_come_whole_and_leave_no_snapshot,
    r2_the_server_decides_the_length,
    r10_holes_are_listed_and_cost_nothing,
    r10_further_holes_are_listed_on_request,
    r10_a_hole_that_is_written_over_is_rescued_as_a_hole,
    c1_overwrite,
    c2_truncate,
    c3_remove_copies_nothing,
    c4_rename_over,
    c3_c4_a_base_that_deletes_open_files,
    c10_files_left_by_a_crash_are_removed,
    c5_open_with_truncation,
    c6_punch_and_clone,
    c6_a_snapshot_is_cloned_over_its_own_file,
    c7_append_extension_rename_and_close_need_no_rescue,
    c8_one_rescue_serves_all,
    c9_an_unused_snapshot_costs_nothing,
    c9_a_snapshot_of_an_open_file_costs_no_call,
    c10_gone_on_close,
    c10_gone_with_the_session,
    c11_ordered_a_page_in_takes_what_was_rescued,
    r10_a_snapshot_of_a_new_file_costs_no_message,
    c9_a_page_in_of_many_runs_takes_two_messages,
    c11_a_change_that_cannot_be_rescued_is_not_made,
    c11_where_the_base_does_not_copy_the_wrapper_does,
}

tests! { rules_writes:
    q1_reservation_a_snapshot_without_space_is_refused_and_changes_nothing,
    q1_writers_cannot_use_reserved_space,
    q1_changing_shared_pages_needs_space,
    q1_snapshots_of_writes_leave_space_for_others,
    q4_limits,
    x1_permissions_are_those_of_the_handle,
    x6_access_time_is_that_of_the_read,
    same_version_same_bytes,
    w1_references_and_bytes_make_one_write,
    w2_same_place_costs_no_data,
    e3_traffic_is_reported,
    w3_shifted_overlap,
    w4_other_file_moves_no_bytes,
    w6_append_returns_its_offset,
    w7_an_elided_write_has_the_effects_of_a_write,
    w8_a_write_returns_a_snapshot_of_its_result,
}

tests! { rules_bounds:
    q4_the_map_of_a_snapshot_is_bounded_in_a_hole,
    q4_the_map_of_a_snapshot_is_bounded_in_data,
    q4_a_file_with_many_changes_takes_snapshots,
    q4_what_changes_left_behind_is_joined,
    q4_a_snapshot_makes_space_in_a_full_map,
    q4_holes_that_changes_split_are_rescued_together,
    q4_versions_of_a_page_are_bounded,
    q4_holes_that_are_not_remembered_count_as_data,
    q4_the_steps_of_a_write_are_bounded,
    q4_files_beyond_those_that_share_need_space_to_change,
    x6_access_times_of_many_files_are_kept,
    q1_rescue_files_can_be_opened,
    q7_statfs_and_rename_concern_no_other_files,
}
