//! `/proc/kept`: how much there is now of everything that programs must give back when they end, in
//! the kernel and on the servers.
//!
//! While nothing runs, no program that came and went has changed a line of it: this is what the
//! tests' leak check compares. Reading it asks every server for its figures, which it answers when
//! it has done what it was told before.

use crate::file::{FileSystemFigures, ProcessView, namespace, tasks};
use crate::mem::{audit, cache, swap};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use foundation::counter::{Counter, GLOBAL};

/// The lines.
pub(super) fn text() -> Vec<u8> {
    let views: Vec<_> = tasks().map_or_else(Vec::new, |tasks| {
        tasks.pids().into_iter().filter_map(|pid| tasks.process(pid)).collect()
    });
    let count = |of: fn(&ProcessView) -> usize| views.iter().map(of).sum::<usize>() as u64;
    let servers = servers();
    let lines = [
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
    lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>().into_bytes()
}

/// Pages in the swap file that nothing living is known to have there.
fn unknown_slots(views: &[ProcessView]) -> u64 {
    let (slots, free) = swap::stats();
    let known: u64 = views
        .iter()
        .filter_map(|view| view.space.as_ref())
        .map(|space| space.stats().swapped.0)
        .sum();
    ((slots - free) as u64).saturating_sub(known + cache::swapped_pages() as u64)
}

/// Frames that nothing living is known to hold; where there is no memory to find out, a number that
/// will be noticed.
fn unknown_frames(views: &[ProcessView]) -> u64 {
    let spaces = views.iter().filter_map(|view| view.space.clone());
    audit::unknown_frames(spaces).map_or(u64::MAX, |frames| frames as u64)
}

/// What the mounted servers tell, added up; free blocks and files as used ones less.
fn servers() -> FileSystemFigures {
    let mut sum = FileSystemFigures::default();
    for mount in namespace::root().mounts() {
        // A server that is gone keeps nothing.
        let Ok(figures) = mount.filesystem.figures() else { continue };
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
