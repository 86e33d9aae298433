//! The direct session with a base, one test for each scenario.

mod common;

macro_rules! tests {
    ($($name:ident,)*) => {
        $(#[test] fn $name() { common::direct::$name(); })*
    };
}

tests! {
    f9_a_version_that_is_current_is_read,
    f9_each_change_is_noticed_where_it_is,
    f9_what_changes_no_byte_leaves_all_readable,
    f9_a_clone_has_a_record_of_its_own,
    f9_what_the_record_does_not_cover_counts_as_changed,
    f9_a_change_that_fails_has_a_new_version,
    f9_a_file_without_names_keeps_its_number,
    x2_a_direct_session_has_one_request,
    x6_a_direct_read_does_not_change_the_access_time,
    q6_the_record_is_counted_and_freed,
}
