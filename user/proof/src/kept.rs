//! What programs keep: `/proc/kept` counts every resource that they must release, frames,
//! snapshots, rescued pages, handles, descriptors, requests in flight, processes.

use crate::counters::{Counters, ask_servers};
use user::prelude::*;

const KEPT: &[u8] = b"/proc/kept";
const DROP_CACHES: &[u8] = b"/proc/sys/lazy/drop_caches";
/// The line about the kernel's heap.
pub const HEAP: &str = "heap_bytes";

/// The maximum number of reads until the counts are equal: a killed process ends only when it is
/// next scheduled, and releases its resources after that.
pub const LOOKS: usize = 2000;

/// The current counts, without what only caches hold. Empty on a kernel that does not count.
pub fn kept() -> Counters {
    if let Ok(fd) = sys::open(DROP_CACHES, sys::abi::O_WRONLY, 0) {
        let _ = (sys::write(fd, b"1"), sys::close(fd));
    }
    // Files that were mapped are kept until they are written.
    sys::sync();
    ask_servers();
    user::io::read_file(KEPT).map(|text| Counters::parse(&text)).unwrap_or_default()
}

/// The lines that have changed. The kernel's heap may have grown by `slack_bytes`.
pub fn differences(before: &Counters, after: &Counters, slack_bytes: u64) -> Vec<String> {
    let line = |(name, old): (&str, u64)| {
        let new = after.get(name).unwrap_or(0);
        let changed = if name == HEAP { old + slack_bytes < new } else { old != new };
        changed.then(|| format!("{name}: {old} before, {new} after"))
    };
    before.iter().filter_map(line).collect()
}
