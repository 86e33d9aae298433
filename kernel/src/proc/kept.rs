//! `/proc/kept`: the current amount of every resource that must be released when programs end, in
//! the kernel and on the servers.
//!
//! While nothing runs, programs that have ended have not changed a line of it: the tests' leak
//! check compares it. The servers' figures are those of the last statfs(2) of each mount, for
//! nothing in `/proc` waits for a server (X9); a server replies to that after all earlier requests.

use super::lines::{lines, pids};
use crate::file::{FileSystemFigures, ProcessView, namespace, tasks};
use crate::mem::{OutOfMemory, audit, cache, fallible, swap};
use alloc::vec::Vec;
use foundation::counter::{Counter, GLOBAL};

/// Generates the contents: one `name: value` line for each resource.
pub(super) fn text() -> Result<Vec<u8>, OutOfMemory> {
    let view = |pid| tasks().and_then(|tasks| tasks.process(pid));
    let views = fallible::collect(pids().filter_map(view))?;
    let count = |of: fn(&ProcessView) -> usize| views.iter().map(of).sum::<usize>() as u64;
    let servers = servers();
    let figures = [
        ("processes", views.len() as u64),
        ("threads", count(|view| view.threads as usize)),
        (
            "descriptors",
            count(|view| view.files.as_ref().map_or(0, |files| files.lock().iter().count())),
        ),
        ("mounts", namespace::root().mounts().len() as u64),
        ("snapshots", GLOBAL.get(Counter::SnapshotsLive)),
        ("frames_unknown", unknown_frames(&views)),
        ("swap_pages_unknown", unknown_slots(&views)),
        ("requests", servers.requests),
        ("server_handles", servers.handles[0]),
        ("server_base_handles", servers.handles[1]),
        ("server_snapshots", servers.snapshots[0]),
        ("server_pages_kept", servers.snapshots[1]),
        ("server_blocks", servers.blocks - servers.blocks_free),
        ("server_files", servers.files - servers.files_free),
        ("heap_bytes", audit::heap_bytes() as u64),
    ];
    drop(views);
    lines(figures.into_iter())
}

/// Slots of the swap file without a known owner.
fn unknown_slots(views: &[ProcessView]) -> u64 {
    let (slots, free) = swap::stats();
    let known: u64 = views
        .iter()
        .filter_map(|view| view.space.as_ref())
        .map(|space| space.stats().swapped.0)
        .sum();
    ((slots - free) as u64).saturating_sub(known + cache::swapped_pages() as u64)
}

/// Frames without a known owner; `u64::MAX` where there is no memory to count them.
fn unknown_frames(views: &[ProcessView]) -> u64 {
    let spaces = views.iter().filter_map(|view| view.space.clone());
    audit::unknown_frames(spaces).map_or(u64::MAX, |frames| frames as u64)
}

/// The sums of the mounted servers' figures, with used instead of total blocks and files.
fn servers() -> FileSystemFigures {
    let mut sum = FileSystemFigures::default();
    for mount in namespace::root().mounts() {
        let figures = mount.filesystem.known_figures();
        sum.requests += figures.requests;
        for (sum, figure) in
            [(&mut sum.handles, figures.handles), (&mut sum.snapshots, figures.snapshots)]
        {
            sum.iter_mut().zip(figure).for_each(|(sum, figure)| *sum = sum.saturating_add(figure));
        }
        sum.blocks = sum.blocks.saturating_add(figures.blocks.saturating_sub(figures.blocks_free));
        sum.files = sum.files.saturating_add(figures.files.saturating_sub(figures.files_free));
    }
    sum
}
