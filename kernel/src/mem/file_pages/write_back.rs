//! Write-back: the dirty pages of a range leave for the server, as they are at one instant.
//!
//! First all of them are write-protected in all spaces, and no page becomes dirty again until that
//! is done. Their frames do not change from then on: a store gets a copy ([`own`](super::own)), and
//! does not wait for the server. So the frames themselves are what is sent.
#![forbid(unsafe_code)]

use super::{DIRTY, FilePages, OWN, REFUSED, STEP_PAGES, Treatment, WRITING, kept_flags, mutants};
use crate::mem::{Frame, OutOfMemory, Page, PageRange, fallible};
use alloc::vec::Vec;
use foundation::{Errno, PageCount};

/// Which dirty pages are taken for write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Those that the server has refused, too.
    All,
    /// Those that the server has not refused.
    Fresh,
}

/// Dirty pages that are being written back. Those that were not written when this is dropped stay
/// dirty.
pub struct WriteBack<'a> {
    file: &'a FilePages,
    pages: Vec<(Page, Frame)>,
    /// Pages whose fate is decided.
    done: usize,
}

impl FilePages {
    /// Takes up to `most` dirty pages of a range for write-back. The caller holds the file's lock
    /// as long as the result lives. May wait for other threads.
    pub fn begin_write_back(
        &self,
        range: PageRange,
        taken: Taken,
        most: usize,
    ) -> Result<WriteBack<'_>, Errno> {
        let mut batch = WriteBack { file: self, pages: Vec::new(), done: 0 };
        if !self.is_dirty_in(range) {
            return Ok(batch);
        }
        self.inner.lock().is_protecting = true;
        let result = batch.take(range, taken, most).and_then(|()| {
            let (Some((first, _)), Some((last, _))) = (batch.pages.first(), batch.pages.last())
            else {
                return Ok(());
            };
            let all = PageRange { start: *first, end: last.next() };
            if mutants::unprotected_write_back() {
                return Ok(());
            }
            Ok(self.treat(all, Treatment::Protect)?)
        });
        self.inner.lock().is_protecting = false;
        self.settled.wake_all();
        result.map(|()| batch)
    }
}

impl WriteBack<'_> {
    fn take(&mut self, range: PageRange, taken: Taken, most: usize) -> Result<(), Errno> {
        let mut next = range.start;
        while self.pages.len() < most {
            let mut inner = self.file.inner.lock();
            let step = self.pages.len().saturating_add(STEP_PAGES as usize).min(most);
            while self.pages.len() < step {
                let Some(page) = inner.tree.next_marked(next).filter(|&page| range.contains(page))
                else {
                    return Ok(());
                };
                next = page.next();
                let Some(entry) = inner.tree.get(page) else { continue };
                let is_wanted = entry.has(DIRTY) && (taken == Taken::All || !entry.has(REFUSED));
                if is_wanted {
                    fallible::push(&mut self.pages, (page, entry.frame()))?;
                    inner.tree.set_flags(page, (kept_flags(entry) - DIRTY - OWN) | WRITING);
                }
            }
        }
        Ok(())
    }

    /// Whether no page was taken.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The next adjacent pages, `most` at most: the first one, and their frames. `None` once the
    /// fate of all is decided.
    pub fn next_run(&self, most: usize) -> Result<Option<(Page, Vec<Frame>)>, OutOfMemory> {
        let rest = self.pages.get(self.done..).unwrap_or_default();
        let Some(&(first, _)) = rest.first() else { return Ok(None) };
        let is_next = |&(index, (page, _)): &(usize, &(Page, Frame))| {
            *page == first + PageCount::of_len(index)
        };
        let run = rest.iter().take(most).enumerate().take_while(is_next);
        fallible::collect(run.map(|(_, (_, frame))| frame.clone())).map(|run| Some((first, run)))
    }

    /// The next `count` pages are written.
    pub fn written(&mut self, count: usize) {
        self.settle(count, |flags| flags - WRITING - REFUSED);
    }

    /// The server does not take the next `count` pages, which stay dirty.
    pub fn refused(&mut self, count: usize) {
        self.settle(count, |flags| (flags - WRITING) | DIRTY | REFUSED);
    }

    fn settle(&mut self, count: usize, change: impl Fn(super::EntryFlags) -> super::EntryFlags) {
        let mut inner = self.file.inner.lock();
        let end = self.pages.len().min(self.done + count);
        for (page, _) in self.pages.get(self.done..end).unwrap_or_default() {
            let Some(entry) = inner.tree.get(*page) else { continue };
            let (before, after) = (kept_flags(entry), change(kept_flags(entry)));
            inner.tree.set_flags(*page, after);
            if !after.intersects(DIRTY | WRITING) {
                inner.dirty -= 1;
                self.file.share.subtract(1);
            }
            match (before.contains(REFUSED), after.contains(REFUSED)) {
                (false, true) => {
                    inner.refused += 1;
                    self.file.share.add_refused();
                }
                (true, false) => {
                    inner.refused -= 1;
                    self.file.share.subtract_refused(1);
                }
                _ => {}
            }
        }
        self.done = end;
    }
}

impl Drop for WriteBack<'_> {
    fn drop(&mut self) {
        self.settle(usize::MAX - self.done, |flags| (flags - WRITING) | DIRTY);
    }
}
