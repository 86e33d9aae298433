//! Pages of a file that are shared with others, for a clone.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::PAGE_BYTES;

use super::page::{Page, Pages};
use super::tree::Tree;

const PAGE: u64 = PAGE_BYTES as u64;

/// A run to copy: the target range, the source page, and the offset in that page.
pub(super) type Stored<'a> = (Range<u64>, &'a Page, usize);

/// The pages of a range of a file, shared.
pub(super) struct Shared {
    pub pages: Tree,
    pub range: Range<u64>,
    /// The range ends where the file ends.
    pub to_source_end: bool,
}

impl Shared {
    /// Length of the range in bytes.
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The stored runs of the part that goes to `target`; the whole goes to `offset`.
    pub fn runs(&self, target: &Range<u64>, offset: u64, store: &Pages) -> Vec<Stored<'_>> {
        let from = |byte: u64| byte - offset + self.range.start;
        let wanted = from(target.start)..from(target.end);
        let mut runs = Vec::new();
        self.pages.for_each(&(wanted.start / PAGE..wanted.end.div_ceil(PAGE)), |index, page| {
            let begin = (index * PAGE).max(wanted.start);
            let end = (index * PAGE + store.length(page) as u64).min(wanted.end);
            let at = |byte: u64| target.start + (byte - wanted.start);
            if begin < end {
                runs.push((at(begin)..at(end), page, (begin - index * PAGE) as usize));
            }
        });
        runs
    }

    /// Releases the pages.
    pub fn release(mut self, store: &mut Pages) {
        self.pages.clear(store);
    }
}
