//! Limits on what the wrapper keeps in memory for its clients (Q4).

use foundation::PAGE_BYTES;
use fsproto::MAX_PAYLOAD;

use crate::session::ClientLimits;

/// Memory for the small allocations of one request: the versions that a change of all pages adds,
/// or those of the holes that are rescued together.
pub const RESERVE_BYTES: usize = 768 << 10;

/// Memory that the wrapper takes besides its tables: the inbox, the buffer, the reserve, and what
/// the allocator has left in its last mapping.
const FIXED_BYTES: u64 = (2 * (MAX_PAYLOAD + 2 * PAGE_BYTES) + RESERVE_BYTES + (128 << 10)) as u64;

/// Memory of a client's open file: the handle, what is known of the file, and the handle of the
/// dispatcher.
const HANDLE_BYTES: u64 = 1024;

/// Memory of a snapshot: the record, the handle of the dispatcher, and its intervals.
const SNAPSHOT_BYTES: u64 = 320;

/// Memory of an entry of a rescue map, with what its table adds.
const ENTRY_BYTES: u64 = 160;

/// Files that the wrapper has open on the base for itself: its folder, and one that is being
/// opened.
const OWN_FILES: usize = 4;

/// The limits of one wrapper.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Snapshots of one file. Each may cost a few entries of the rescue map.
    pub snapshots_per_file: usize,
    /// Snapshots in all. Each takes a few hundred bytes.
    pub snapshots: usize,
    /// Files with snapshots. Each may need two of the base's open files: one to be read when no
    /// client has it open, and a rescue file.
    pub files: usize,
    /// Entries of one file's rescue map (segments, and rescued versions in them) from which on
    /// snapshots are refused. From three quarters of it on, a rescue also makes the map smaller.
    pub entries_per_file: usize,
    /// The same for the maps of all files.
    pub entries: usize,
}

/// Intervals that count snapshots, for each of the most snapshots there can be. A snapshot of a
/// power of two of pages, as buffers mostly have, takes one; equal ones share theirs.
const INTERVALS_PER_SNAPSHOT: usize = 2;

impl Limits {
    /// Limits that keep the wrapper within its memory, and those of its client: one quarter each
    /// for snapshots and for rescue maps, the rest for open files and what is known of them. All
    /// together never need more than the `base_files` that can be open on the base: else a change
    /// could fail because its rescue file cannot be opened (Q1).
    pub fn within(memory_bytes: u64, base_files: Option<usize>) -> (Self, ClientLimits) {
        let quarter = memory_bytes.saturating_sub(FIXED_BYTES) / 4;
        let count = |bytes: u64, each: u64, least: usize, most: usize| {
            usize::try_from(bytes / each).unwrap_or(most).clamp(least, most)
        };
        let (most, clients) = (Self::default(), ClientLimits::default());
        let entries = count(quarter, ENTRY_BYTES, 1024, most.entries);
        let snapshots = count(quarter, SNAPSHOT_BYTES, 256, clients.snapshots);
        let base_files = base_files.unwrap_or(usize::MAX).saturating_sub(OWN_FILES);
        let files = count(2 * quarter, HANDLE_BYTES, 256, clients.files).min(base_files / 2);
        let limits = Self {
            entries,
            entries_per_file: most.entries_per_file.min(entries / 2),
            snapshots: most.snapshots.min(snapshots),
            files: most.files.min((base_files - files) / 2),
            ..most
        };
        (limits, ClientLimits { files, snapshots })
    }
}

impl Limits {
    /// The same with fewer entries: where a rescue begins to make a map smaller, so that snapshots
    /// are seldom refused.
    pub(super) fn crowded(&self) -> Self {
        let part = |limit: usize| limit - limit / 4;
        Self { entries_per_file: part(self.entries_per_file), entries: part(self.entries), ..*self }
    }

    /// Number of intervals that count the snapshots of all files.
    pub(super) fn intervals(&self) -> usize {
        self.snapshots.saturating_mul(INTERVALS_PER_SNAPSHOT)
    }

    /// Number of files of which many holes are remembered, which takes as much as their maps may.
    pub(super) fn fragmented_files(&self) -> usize {
        (self.entries / 1024).clamp(4, 64)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            snapshots_per_file: 32_768,
            snapshots: 65_536,
            files: 65_536,
            entries_per_file: 4096,
            entries: 65_536,
        }
    }
}
