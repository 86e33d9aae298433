//! Access times that are newer than the base's: what a client reads from a snapshot is not read
//! from the base at that time, so the wrapper keeps the times itself (X6).

use alloc::collections::BTreeMap;

use fsproto::{FileId, Time};

/// Maximum number of files whose access times are kept. The lowest file ids are dropped first.
const MAX_ACCESS_TIMES: usize = 4096;

/// Access times by file.
#[derive(Default)]
pub(super) struct AccessTimes(BTreeMap<FileId, Time>);

impl AccessTimes {
    /// A file's access time, if it is newer than the base's.
    #[inline]
    pub fn get(&self, id: FileId) -> Option<Time> {
        self.0.get(&id).copied()
    }

    /// A client has read a file.
    #[inline]
    pub fn set(&mut self, id: FileId, now: Time) {
        self.0.insert(id, now);
        if self.0.len() > MAX_ACCESS_TIMES {
            self.0.pop_first();
        }
    }

    /// The file is gone, or a client has set its access time on the base.
    #[inline]
    pub fn forget(&mut self, id: FileId) {
        self.0.remove(&id);
    }
}
