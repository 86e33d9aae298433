//! The tests of `rules`, as plain data without dependencies: xtask includes this file to know what there is.

/// A test that runs as `/bin/rules NAME` in a machine of its own.
#[derive(Clone, Copy, Debug)]
pub struct RuleTest {
    /// Its name, which begins with that of the rule.
    pub name: &'static str,
    /// Memory of the machine.
    pub memory_mib: u32,
    /// Seconds until it counts as hanging.
    pub timeout_s: u32,
    /// What is proved.
    pub doc: &'static str,
    /// The deliberate breaks (`fsproto::mutant`) that make this test fail.
    pub mutants: &'static [&'static str],
}

const fn test(name: &'static str, mutants: &'static [&'static str], doc: &'static str) -> RuleTest {
    RuleTest { name, memory_mib: 128, timeout_s: 60, doc, mutants }
}

/// All of them.
pub const TESTS: &[RuleTest] = &[
    test(
        "r1_one_instant",
        &["skip-rescue"],
        "a read's bytes are those of one moment, fragments included, although the file changes before they are touched",
    ),
    test("r1_one_instant_under_writes", &[], "no read mixes two versions of a file that is written without end"),
    test("r1_fragments_in_the_same_reply", &["live-fragments"], "fragments come from the snapshot, in its own reply"),
    test(
        "r2_count",
        &["offset-by-request"],
        "the count is short at the end of file, the offset advances by it, and there is no snapshot of nothing",
    ),
    test("r2_position_lock", &["no-position-lock"], "processes that share an open file get every byte exactly once"),
    test("r3_nothing_past_n", &["zero-past-end"], "no byte before the buffer or past n changes"),
    test("r4_any_offset", &["align-offset"], "every alignment of file offset, buffer and length gives the same bytes"),
    test("r5_errors_as_eager", &["early-fault"], "counts and errors for bad buffers are Linux's, and leave no snapshot behind"),
    test("r5_space_changes_meanwhile", &[], "a buffer that goes while the read waits shortens it, and its snapshot is closed"),
    test("r6_reread", &["drop-partial-page"], "reading over lazy pages fetches only what is covered partly"),
    test("r7_frames_are_never_written", &["write-shared-frame"], "a read never writes to a frame that others see"),
    test("r8_fallback", &[], "pipes, devices, directories, small reads and shared memory are copied"),
    test("r8_refused", &["no-fallback"], "where a server refuses a snapshot, the read copies"),
    RuleTest { memory_mib: 48, ..test("r8_short_of_memory", &[], "a copying read larger than memory is short, and nothing is killed") },
    test("r10_holes", &["ignore-holes", "all-holes"], "holes cost no message and no frame"),
    test("r10_many_holes", &["all-holes"], "more holes than one reply lists are holes still"),
    test("r10_hole_written_over", &["ignore-holes"], "a hole that is written over is rescued as a hole"),
];
