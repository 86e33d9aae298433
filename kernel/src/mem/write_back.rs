//! Write-back of dirty pages of mapped files: which pages are under way.
#![forbid(unsafe_code)]

use super::{Page, PageRange, SharedMemory, reclaim, stores::Taken};
use crate::sync::Interrupted;

/// Dirty pages that are being written back. Those that were not when this is dropped stay dirty.
#[derive(Debug)]
pub struct WriteBack<'a> {
    memory: &'a SharedMemory,
    range: PageRange,
}

impl<'a> WriteBack<'a> {
    /// Takes up to `most` such dirty pages of a mapped file, from the page with number `from` on:
    /// the next store to each of them faults. `None` where there are none. One at a time for
    /// each file. May wait; called with no spin lock held.
    pub fn begin(
        memory: &'a SharedMemory,
        from: u64,
        most: usize,
        which: Taken,
    ) -> Result<Option<Self>, Interrupted> {
        let taken = memory.with_stored(|stored| stored.take(Page(from), most, which)).flatten();
        let Some(range) = taken else { return Ok(None) };
        let pages = Self { memory, range };
        reclaim::write_protect(memory.id(), range)?;
        Ok(Some(pages))
    }

    /// The number of the next page.
    pub fn next_page(&self) -> Option<u64> {
        let next = self.memory.with_stored(|stored| stored.next_leaving(self.range.start));
        next.flatten().map(|page| page.0)
    }

    /// Whether the server has refused a page before.
    pub fn is_refused(&self, page: u64) -> bool {
        self.memory.with_stored(|stored| stored.is_refused(Page(page))) == Some(true)
    }

    /// The server does not take the page, which stays dirty.
    pub fn refused(&mut self, page: u64) {
        self.memory.with_stored(|stored| stored.refuse(Page(page)));
    }

    /// The page is written to the file, as it was after [`begin`](Self::begin) or later.
    pub fn written(&mut self, page: u64) {
        self.memory.with_stored(|stored| stored.written(Page(page)));
    }
}

impl Drop for WriteBack<'_> {
    fn drop(&mut self) {
        self.memory.with_stored(|stored| stored.keep(self.range));
    }
}
