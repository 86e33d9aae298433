//! The tests of `tests`, as plain data without dependencies: xtask includes this file to know what there is.

/// A test that runs as `/bin/tests NAME` in a machine of its own.
#[derive(Clone, Copy, Debug)]
pub struct SystemTest {
    /// Its name.
    pub name: &'static str,
    /// Memory of the machine.
    pub memory_mib: u32,
    /// Seconds until it counts as hanging.
    pub timeout_s: u32,
}

const fn test(name: &'static str) -> SystemTest {
    SystemTest { name, memory_mib: 128, timeout_s: 60 }
}

/// All of them.
pub const TESTS: &[SystemTest] = &[
    test("descriptor_numbers"),
    test("descriptor_close_on_exec"),
    test("pipe_bytes_and_ends"),
    test("pipe_blocks"),
    test("pipe_nonblocking"),
    test("socket_keeps_borders"),
    test("socket_large_messages"),
    test("file_read_write"),
    test("file_offsets"),
    test("file_append"),
    test("file_truncate"),
    test("file_sparse"),
    test("file_vectored"),
    test("file_shared_offset"),
    test("file_unlinked_but_open"),
    test("file_large"),
    test("device_files"),
    test("name_open_flags"),
    test("name_rename_over"),
    test("name_rename_directories"),
    test("name_directories"),
    test("name_many_entries"),
    test("name_working_directory"),
    test("name_attributes"),
    test("name_links"),
    test("memory_anonymous"),
    test("memory_huge_reservation"),
    test("memory_fixed"),
    test("memory_protection"),
    test("memory_holes_punched"),
    test("memory_brk"),
    test("memory_file_private"),
    test("memory_stack_grows"),
    test("process_fork_and_wait"),
    test("process_wait_choices"),
    test("process_memory_is_private"),
    test("process_orphans"),
    test("process_vfork"),
    test("process_exec"),
    test("process_exec_errors"),
    test("process_many"),
    test("process_threads"),
    test("process_futex"),
    test("process_preemption"),
    test("time_passes"),
    test("signal_default_actions"),
    test("signal_faults"),
    test("signal_pipe"),
    test("signal_handlers"),
    test("signal_mask"),
    test("signal_interrupts"),
    test("signal_child"),
    test("signal_catches_segv"),
    test("signal_groups"),
    test("state_over_switches"),
    test("state_over_handlers"),
    test("hostile_numbers"),
    test("hostile_read_write"),
    test("hostile_vectors"),
    test("hostile_paths"),
    test("hostile_structures"),
    test("hostile_memory"),
    test("hostile_processes"),
    test("hostile_everything"),
];
