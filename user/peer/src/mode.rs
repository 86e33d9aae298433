//! The ways in which FUSE can serve files, and which rows are measured in which of them.

/// A way.
#[derive(Clone, Copy)]
pub struct Mode {
    /// Its name in the report.
    pub name: &'static str,
    /// Reads and writes pass the page cache by.
    pub is_direct: bool,
    /// The kernel keeps what was written and writes it later.
    pub writes_back: bool,
    /// Seconds for which the kernel may keep names and attributes.
    pub valid_s: u64,
    /// KiB that the kernel reads ahead at most; `None` for its default.
    pub read_ahead_kib: Option<u32>,
}

/// A day.
const LONG_S: u64 = 86_400;

/// All ways.
pub const MODES: [Mode; 4] = [
    Mode { name: "direct", is_direct: true, writes_back: false, valid_s: 0, read_ahead_kib: None },
    Mode {
        name: "cached",
        is_direct: false,
        writes_back: false,
        valid_s: LONG_S,
        read_ahead_kib: None,
    },
    Mode {
        name: "ahead",
        is_direct: false,
        writes_back: false,
        valid_s: LONG_S,
        read_ahead_kib: Some(1024),
    },
    Mode {
        name: "writeback",
        is_direct: false,
        writes_back: true,
        valid_s: LONG_S,
        read_ahead_kib: Some(1024),
    },
];

/// Rows of the bench that involve no file server.
pub const KERNEL_ROWS: [&str; 10] = [
    "null",
    "pipe.rtt",
    "fault.anon",
    "fault.cow.copy",
    "fault.cow.sole",
    "fork",
    "fork.64m",
    "exec",
    "wait.400",
    "threads.100",
];

/// Rows that need the server to be asked: a page cache would answer.
pub const UNCACHED_ROWS: [&str; 1] = ["server.rtt"];

/// All other rows that Linux can be compared in.
pub const FILE_ROWS: [&str; 16] = [
    "stat",
    "busy.files",
    "read64m.touch0",
    "read64m.touch1",
    "read64m.touch16",
    "read64m.touch256",
    "read64m.touch4096",
    "read64m.random",
    "read64m.sequential",
    "read64m.incongruent",
    "read64m.again",
    "loop1m",
    "loop4k",
    "cp64m.1m",
    "cp64m.64m",
    "modify64m",
];

/// Rows of files that are mapped shared, which needs a page cache.
pub const MAPPED_ROWS: [&str; 4] = ["map.fault", "map.store", "map.writeback", "map.munmap"];
