//! Files larger than the server's memory.

mod common;

macro_rules! tests {
    ($($name:ident,)*) => {
        $(#[test] fn $name() { common::spilled::$name(); })*
    };
}

tests! {
    q3_files_larger_than_memory,
    q3_clones_share_what_is_not_in_memory,
    q3_slots_are_freed,
    f5_an_unreadable_page_is_an_error,
    f5_a_page_that_cannot_be_evicted_stays,
    c1_overwrite_of_a_file_larger_than_memory,
}
