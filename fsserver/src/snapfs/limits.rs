//! Limits on what the wrapper keeps in memory for its clients (Q4).

/// The limits of one wrapper.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Snapshots of one file. Each may cost a few entries of the rescue map.
    pub snapshots_per_file: usize,
    /// Snapshots in all. Each takes a few hundred bytes.
    pub snapshots: usize,
    /// Entries of one file's rescue map (segments, and rescued versions in them) past which a
    /// rescue also saves the pages around a change, and snapshots are refused.
    pub entries_per_file: usize,
    /// The same for the maps of all files.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            snapshots_per_file: 32_768,
            snapshots: 65_536,
            entries_per_file: 4096,
            entries: 65_536,
        }
    }
}
