//! The files that for clients are deleted, and that only snapshots keep: their sums, so that the
//! figures of the file system can leave them out without a visit to each file.

use foundation::{PAGE_BYTES, PageCount};
use fsproto::Attr;

/// Bytes of the unit in which storage is reported.
const BLOCK: u64 = 512;

/// Sums over these files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    /// Number of files.
    pub files: u64,
    /// Pages that they have on the base.
    pub pages: PageCount,
}

impl Deleted {
    /// Counts a file. Returns the number of its pages.
    pub fn add(&mut self, attr: &Attr) -> PageCount {
        let pages = PageCount(attr.blocks.saturating_mul(BLOCK) / PAGE_BYTES as u64);
        self.files += 1;
        self.pages = self.pages.saturating_add(pages);
        pages
    }

    /// Counts a file no longer, if it was counted with so many pages.
    pub fn remove(&mut self, counted: Option<PageCount>) {
        if let Some(pages) = counted {
            self.files -= 1;
            self.pages = self.pages.saturating_sub(pages);
        }
    }
}
