//! The tests of `rules`, as plain data without dependencies: xtask includes this file to know what
//! there is.

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
    /// The deliberate breaks (`foundation::mutant`) that make this test fail.
    pub mutants: &'static [&'static str],
    /// What the kernel's log tells of the pages of traced reads, line by line; `*` stands for
    /// anything. Empty where it does not matter.
    pub log: &'static [&'static str],
}

const fn test(name: &'static str, mutants: &'static [&'static str], doc: &'static str) -> RuleTest {
    RuleTest { name, memory_mib: 128, timeout_s: 60, doc, mutants, log: &[] }
}

/// What becomes of the pages that `e4_trace_tells_each_read` reads, from what it does with each.
const E4_LOG: &[&str] = &[
    "pread64(*) = 131072  read #1, 32 pages lazy",
    "load at *, read #1: 1 pages fetched",
    "load at *, read #1: 1 pages fetched",
    "load at *, read #1: 1 pages fetched",
    "store at *, read #1: 1 pages fetched",
    "store at *, read #1: 0 pages fetched",
    "pwrite64(*) = 16384  4 pages by reference",
    "write(*) = 4096  1 pages fetched",
    "read #1: of 32 lazy pages 5 were fetched, 0 holes, 2 copied for a store, 4 written by reference; 27 never came",
    "pread64(*) = 65536  read #2, 16 pages lazy",
    "load at *, read #2: 1 pages fetched",
    "load at *, read #2: 0 pages fetched",
    "load at *, read #2: 0 pages fetched",
    "store at *, read #2: 0 pages fetched",
    "pread64(*) = 32768  read #3, 8 pages lazy",
    "load at *, read #3: 1 pages fetched",
    "load at *, read #2: 0 pages fetched",
    "load at *, read #2: 1 pages fetched",
    "pread64(*) = 65536  read #4, 16 pages lazy",
    "load at *, read #4: 0 pages fetched",
    "pread64(*) = 100  100 bytes copied",
    "read #2: of 16 lazy pages 2 were fetched, 4 holes, 0 copied for a store, 0 written by reference; 10 never came",
    "read #3: of 8 lazy pages 1 were fetched, 0 holes, 0 copied for a store, 0 written by reference; 7 never came",
    "read #4: of 16 lazy pages 0 were fetched, 0 holes, 0 copied for a store, 0 written by reference; 15 never came",
];

/// All of them.
pub const TESTS: &[RuleTest] = &[
    test(
        "r1_one_instant",
        &["skip-rescue"],
        "a read's bytes are those of one moment, fragments included, although the file changes before they are touched",
    ),
    test(
        "r1_one_instant_under_writes",
        &[],
        "no read mixes two versions of a file that is written without end",
    ),
    test(
        "r1_small_reads_in_order",
        &["stale-ahead"],
        "small reads in order tell each change of the file at once",
    ),
    test(
        "r1_small_reads_among_changes",
        &["stale-ahead"],
        "and so they do among changes of every kind",
    ),
    test(
        "q1_reading_ahead_takes_no_room",
        &["ahead-keeps-room"],
        "a writer does not miss the room that is set aside for what is read ahead",
    ),
    test(
        "r1_fragments_in_the_same_reply",
        &["live-fragments"],
        "fragments come from the snapshot, in its own reply",
    ),
    test(
        "r2_count",
        &["offset-by-request"],
        "the count is short at the end of file, the offset advances by it, and there is no snapshot of nothing",
    ),
    test(
        "r2_position_lock",
        &["no-position-lock"],
        "processes that share an open file get every byte exactly once",
    ),
    test("r3_nothing_past_n", &["zero-past-end"], "no byte before the buffer or past n changes"),
    test(
        "r4_any_offset",
        &["align-offset"],
        "every alignment of file offset, buffer and length gives the same bytes",
    ),
    test(
        "r5_errors_as_eager",
        &["early-fault"],
        "counts and errors for bad buffers are Linux's, and leave no snapshot behind",
    ),
    test(
        "r5_space_changes_meanwhile",
        &[],
        "a buffer that goes while the read waits shortens it, and its snapshot is closed",
    ),
    test(
        "r6_reread",
        &["drop-partial-page"],
        "reading over lazy pages fetches only what is covered partly",
    ),
    test(
        "r7_frames_are_never_written",
        &["write-shared-frame"],
        "a read never writes to a frame that others see",
    ),
    test(
        "r8_fallback",
        &[],
        "pipes, devices, directories, small reads and shared memory are copied",
    ),
    test("r8_refused", &["no-fallback"], "where a server refuses a snapshot, the read copies"),
    RuleTest {
        memory_mib: 48,
        ..test(
            "r8_short_of_memory",
            &[],
            "a copying read larger than memory is short, and nothing is killed",
        )
    },
    test(
        "r9_one_call_one_snapshot",
        &["vector-per-buffer"],
        "a vector of buffers is filled from one snapshot, whole pages of each lazily",
    ),
    test(
        "r9_small_parts",
        &["vector-per-buffer"],
        "where no part holds a page, the parts are copied out of one snapshot",
    ),
    test("r9_counts", &[], "counts and errors of vectors are Linux's"),
    test("r10_holes", &["ignore-holes", "all-holes"], "holes cost no message and no frame"),
    test("r10_many_holes", &["all-holes"], "more holes than one reply lists are holes still"),
    test(
        "r10_hole_written_over",
        &["ignore-holes"],
        "a hole that is written over is rescued as a hole",
    ),
    test(
        "c1_overwrite",
        &["skip-rescue", "rescue-after-change"],
        "a file overwritten, by anyone and in pieces, keeps its old bytes for those who read them",
    ),
    test("c2_truncate", &["skip-truncate-rescue"], "so does a file that is cut off"),
    test(
        "c3_remove",
        &["remove-snapshotted"],
        "so does a file that is removed, and nothing that is kept for it shows",
    ),
    test(
        "c4_rename_over",
        &["rename-over-snapshotted"],
        "so does a file that another is renamed over",
    ),
    test(
        "c5_open_truncate",
        &["skip-open-truncate-rescue"],
        "so does a file that is opened with O_TRUNC",
    ),
    test("c6_punch", &["skip-rescue"], "so does a file that a hole is punched into"),
    test(
        "c7_append_rename_close",
        &["close-with-file"],
        "appending, extending, renaming, changing the mode and closing leave a snapshot alone",
    ),
    test("c8_versions", &["rescue-serves-all"], "reads of several versions each keep their own"),
    test(
        "c10_gone_on_close",
        &["leak-snapshot"],
        "however an association ends, its snapshot is closed",
    ),
    test("c11_ordered", &["skip-rescue"], "page-ins that race with writers bring one version"),
    test(
        "f1_load",
        &["no-fault-around"],
        "a touch brings its page and neighbours in one message, each page once",
    ),
    test("f2_store", &["store-shared"], "a store makes a private copy that nobody else sees"),
    test("f3_one_fetch", &["fetch-twice"], "threads that touch one page make one request"),
    test(
        "f3_fetch_outlives_its_starter",
        &["fetch-twice"],
        "a fetch goes on when the process that began it is killed",
    ),
    test(
        "f3_generation",
        &["no-generation"],
        "a page that arrives late is not put where something else is meant by now",
    ),
    test("f4_kernel_access", &[], "system calls read and write lazy memory"),
    test("f4_nothing_consumed", &["consume-early"], "what cannot be delivered is not consumed"),
    test(
        "f4_no_lock_while_waiting",
        &[],
        "a system call that waits for a page holds nothing that others need",
    ),
    test(
        "f5_page_in_error",
        &["zero-on-error"],
        "a page that cannot be had is SIGBUS or EIO, never zeros",
    ),
    test("f5_error_is_not_kept", &[], "a page that could not be had comes when the server can"),
    test("f7_killable", &["not-killable"], "a process that waits for a server can be killed"),
    test("f7_no_eintr", &[], "a signal neither interrupts nor shortens a file's read"),
    test(
        "f8_marks",
        &["lazy-server"],
        "servers read eagerly, and a server without the mark is read eagerly",
    ),
    test("c7_no_rescue", &[], "changes that take no bytes away cost no rescue"),
    test(
        "c8_one_rescue",
        &["rescue-per-snapshot"],
        "one rescue serves all who read the same bytes",
    ),
    test(
        "c9_nothing_for_nothing",
        &["eager-rescue"],
        "while nobody changes the file a snapshot costs the base nothing",
    ),
    test(
        "c10_rescue_is_freed",
        &["leak-rescue", "leak-snapshot"],
        "with the last association its rescued bytes go",
    ),
    test(
        "r10_holes_need_no_room",
        &[],
        "no room is set aside for holes, and nothing is stored for them",
    ),
    test(
        "q1_reservation",
        &["no-reservation"],
        "room for a rescue is set aside, or the read copies",
    ),
    test("q1_failed_rescue", &[], "a rescue that fails stops the change, not the reader"),
    test("q4_limits", &["no-snapshot-limit"], "past the bound on snapshots reads copy"),
    test("q4_regions", &[], "past the bound on regions reads copy"),
    test(
        "q4_out_of_memory",
        &[],
        "who stores to more than there is memory is ended, and nobody else",
    ),
    test(
        "a1_fork_shares",
        &["fork-drops-association"],
        "fork shares what was read, and a page is fetched once for all",
    ),
    test(
        "a2_exec_arguments",
        &["exec-late-arguments"],
        "execve finds its arguments in lazy memory",
    ),
    test("a3_exit_releases", &["leak-space"], "exit and kill give everything back"),
    test(
        "a4_split",
        &["split-forgets-offset"],
        "parts of a lazy buffer are unmapped, protected and moved without a fetch",
    ),
    test(
        "a8_write_protected",
        &["fork-leaves-writable"],
        "stores after a fork, and after a message was sent, are seen by nobody else",
    ),
    test(
        "w1_references",
        &["store-ignored-in-runs"],
        "pages that nobody stored to travel as references, whatever became of their source; the rest as bytes",
    ),
    test(
        "w1_vectors",
        &["vector-by-bytes", "store-ignored-in-runs"],
        "a vector is written as its bytes in a row would be, in one message: pages of any buffer as references, the rest as bytes",
    ),
    test(
        "w2_same_place",
        &["elide-without-asking", "restore-skipped"],
        "writing a file back sends its changed pages, and brings back what others changed",
    ),
    test(
        "w3_shifted_overlap",
        &["forward-copy"],
        "a write over its own source is as if the bytes had been read before",
    ),
    test(
        "w4_other_file",
        &["copy-by-bytes"],
        "a copy to another file of the server moves no byte of it",
    ),
    test(
        "w5_elsewhere",
        &["foreign-reference"],
        "what goes to a pipe, a device or another server is fetched first, and goes as bytes",
    ),
    test("w6_append", &["elide-append"], "an append of a file to itself goes behind its end"),
    test(
        "w7_effects",
        &["silent-elide", "free-references"],
        "a write of references needs rights and room, moves the times and satisfies fsync like one of bytes",
    ),
    test(
        "w8_after_write",
        &["leak-result-snapshot"],
        "what was written stays in place, is not sent again, and outlives changes; its snapshot goes with it",
    ),
    test(
        "w8_again",
        &[],
        "a buffer changed and written back again and again sends the changed page each time",
    ),
    test(
        "w8_shared",
        &[],
        "what was written is there for the next reader, without a message for it",
    ),
    test("w8_evicted", &[], "what was written goes under pressure and comes back"),
    test(
        "w8_store_meanwhile",
        &["associate-stored-page", "late-protect"],
        "a page that is stored to during the write stays the program's own",
    ),
    test(
        "w8_space_changes_meanwhile",
        &[],
        "pages unmapped, read over or protected during the write are left alone, and no snapshot is lost",
    ),
    test("w8_short_write", &["clean-beyond-written"], "what was not written is not clean"),
    test(
        "w8_pays",
        &[],
        "a large buffer that is filled anew for each write is not made clean again and again",
    ),
    test(
        "w8_vectors",
        &[],
        "whole pages of each buffer of a vector are clean after it was written",
    ),
    test(
        "w8_many_messages",
        &[],
        "a write of many messages, appended or unaligned, is clean in all its whole pages",
    ),
    test(
        "x1_rights_at_read",
        &["rights-at-page-in"],
        "rights count at the read, and what was read stays",
    ),
    test(
        "x2_handles_are_the_kernels",
        &["open-carrier"],
        "nobody but the kernel speaks to a server that is mounted",
    ),
    RuleTest {
        memory_mib: 48,
        ..test(
            "x3_asked_once",
            &["ask-twice"],
            "a server that is not trusted is asked for each page once, also where memory is short",
        )
    },
    test(
        "a5_shared_frames",
        &["share-nothing"],
        "processes that read the same bytes of a version share frames, and fetch them once",
    ),
    test(
        "a6_program_overwritten",
        &["skip-rescue"],
        "a running program does not notice that its file is overwritten, cut off and removed",
    ),
    test(
        "a7_debugger",
        &["debugger-sees-zeros", "write-shared-frame"],
        "/proc/PID/mem has the bytes of lazy pages, and what is written there is that process's own",
    ),
    RuleTest {
        memory_mib: 48,
        ..test(
            "q2_pressure",
            &["evict-private"],
            "a buffer larger than memory is read; clean pages go and come back, others stay",
        )
    },
    RuleTest {
        memory_mib: 48,
        ..test(
            "q2_last_reference",
            &["no-clock"],
            "pages that several processes map go once all have let go of them",
        )
    },
    RuleTest {
        memory_mib: 64,
        timeout_s: 120,
        ..test(
            "q3_swap",
            &["swap-wrong-slot", "leak-swap-slot"],
            "a program fills a buffer of four times the machine's memory and finds it as it was",
        )
    },
    RuleTest {
        memory_mib: 64,
        timeout_s: 180,
        ..test(
            "q3_file_larger_than_memory",
            &["spill-wrong-slot"],
            "a file of three times the machine's memory is read lazily, written over, and both are as they should be",
        )
    },
    RuleTest {
        memory_mib: 64,
        ..test(
            "q3_fork",
            &["swap-wrong-slot"],
            "pages in the swap file are shared over fork, and stored to apart",
        )
    },
    RuleTest {
        memory_mib: 48,
        ..test(
            "q3_dirty_lazy",
            &["swap-wrong-slot"],
            "a lazy buffer larger than memory can be stored to all over",
        )
    },
    RuleTest {
        memory_mib: 48,
        ..test(
            "q3_slots_are_freed",
            &["leak-swap-slot"],
            "unmapping, discarding, exec, exit and kill give the swap file's pages back",
        )
    },
    RuleTest {
        memory_mib: 48,
        ..test(
            "q4_swap_is_full",
            &[],
            "where the swap file is full, who asks for more is ended, and nobody else loses anything",
        )
    },
    RuleTest {
        memory_mib: 48,
        timeout_s: 60,
        ..test(
            "f8_under_pressure",
            &["swap-servers"],
            "readers, writers and those who store finish with the right bytes while all servers work at the edge of memory",
        )
    },
    test("x4_arguments_once", &[], "a vector that changes during the call does no harm"),
    test(
        "x4_vector_is_taken_at_the_start",
        &["vector-again"],
        "a vector that changes while the call waits in the middle moves the bytes that it named at the start",
    ),
    test(
        "x5_lies",
        &["believe-server"],
        "a server's lies are errors, never wrong bytes, and the kernel stands",
    ),
    test("x5_twice_late_unasked", &[], "replies that come twice, late or unasked do no harm"),
    test("x5_garbage", &[], "random messages do no harm"),
    test(
        "x6_times",
        &["times-at-page-in"],
        "the access time moves at the read, and not when pages come",
    ),
    test("x5_server_dies", &[], "a server that dies gives errors, and what is resident stays"),
    test(
        "x5_hostile_arguments",
        &[],
        "hostile arguments around a lazy buffer give Linux's errors, and nothing is lost",
    ),
    test(
        "x5_nothing_leaks",
        &["leak-snapshot", "leak-space", "leak-handle", "leak-frame"],
        "what programs take, frames, snapshots, handles and rescued bytes, is there again when they have ended, and been killed",
    ),
    test("e1_block_size", &[], "stat tells the block size by which programs size their buffers"),
    test(
        "e1_knobs",
        &["ignore-knob"],
        "laziness is switched for all, for one process, and by size",
    ),
    RuleTest {
        timeout_s: 180,
        ..test(
            "e2_differential",
            &["ignore-knob"],
            "a long random program sees the same lazily, eagerly and on Linux",
        )
    },
    test("e3_counters", &["miscount"], "the counters tell what a server saw pass"),
    test(
        "e3_relay_agrees",
        &["miscount"],
        "the client counts what a relay between it and the wrapper counts",
    ),
    RuleTest {
        log: E4_LOG,
        ..test(
            "e4_trace_tells_each_read",
            &["trace-forgets"],
            "a trace tells, for each read, what became of its pages",
        )
    },
    test(
        "w2_one_page_moves",
        &[],
        "by a relay's word, a file written back whole sends the page that changed",
    ),
    test(
        "w4_no_byte_moves",
        &[],
        "by the word of relays on both sides of the wrapper, a copy to another file moves no byte of it",
    ),
];
