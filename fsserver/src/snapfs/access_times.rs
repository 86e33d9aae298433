//! Access times that are newer than the base's: what a client reads from a snapshot is not read
//! from the base at that time, so the wrapper keeps the times itself (X6).
//!
//! They are kept after a file is closed, which costs no request. Only past a limit the base gets
//! the time of each file that is closed. So none is lost, and their number is bounded.

use alloc::collections::BTreeMap;

use fsproto::{AttrMask, FileId, Handle, SetAttr, Time};

use crate::{Base, Connection};

/// Maximum number of files whose access times are kept beyond those that are open or have
/// snapshots.
const MAX_ACCESS_TIMES: usize = 1024;

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
    }

    /// The file is gone, or a client has set its access time on the base.
    #[inline]
    pub fn forget(&mut self, id: FileId) {
        self.0.remove(&id);
    }

    /// A file is about to be closed, of which `handle` is the base's. Past the limit the base gets
    /// its access time. (If it does not take it, the time is lost: it cannot be kept.)
    #[inline]
    pub fn closing<C: Connection>(&mut self, base: &mut Base<C>, id: FileId, handle: Handle) {
        if self.0.len() <= MAX_ACCESS_TIMES {
            return;
        }
        if let Some(atime) = self.0.remove(&id) {
            let mask = AttrMask::ACCESSED;
            let _ = base.request(&SetAttr { handle, mask, atime, ..SetAttr::default() }, &[]);
        }
    }
}
