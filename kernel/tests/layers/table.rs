//! The layers.

/// The top-level modules of the kernel, lowest first. A module imports from itself and from lower
/// rows; modules of one row do not know each other.
pub const LAYERS: &[&[&str]] = &[
    &["sync"],
    &["arch"],
    &["mem"],
    &["dev"],
    &["file"],
    &["mount"],
    &["trace"],
    &["task"],
    &["trap"],
    &["proc", "syscall"],
    &["boot"],
];

/// The crates of the workspace (folder and name), lowest first. A crate depends on crates before
/// it.
pub const CRATES: &[(&str, &str)] = &[
    ("foundation", "foundation"),
    ("fsproto", "fsproto"),
    ("fsserver", "fsserver"),
    ("boot", "boot"),
    ("kernel", "kernel"),
    ("user/runtime", "user"),
    ("user/programs", "programs"),
    ("user/proof/guest-test", "guest-test"),
    ("user/proof", "proof"),
    ("fuzz", "fuzz"),
    ("xtask", "xtask"),
];

/// Layers without unsafe code.
pub const SAFE_LAYERS: &[&str] = &["sync", "file", "mount", "trace", "trap", "proc", "syscall"];

/// Where locks of the crate `spin` may be used, which have no rank: in `sync`, which is built on
/// them, and in the doubles of the machine for host tests.
pub const UNRANKED_LOCKS: &[&str] = &["sync/", "mem/host/"];

/// Files that may refer to all of their layer: `host` replaces the machine in host tests, `mutants`
/// holds deliberately wrong code, which refers to the code that it replaces.
pub const EXEMPT_FILES: &[&str] = &["host", "mutants"];
