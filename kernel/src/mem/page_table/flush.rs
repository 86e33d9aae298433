//! Address translations that may be stale.
#![forbid(unsafe_code)]

use super::PageTable;
use crate::mem::{Page, PageRange, mmu};
use foundation::PageCount;
use foundation::counter::{self, Counter};

/// Maximum of translations flushed one by one; beyond that flushing the whole space is cheaper.
const SINGLE_FLUSHES: PageCount = PageCount(32);

/// Pages whose translations the CPU may still have.
#[must_use = "stale translations must be flushed"]
#[derive(Debug)]
pub struct Flush {
    range: Option<PageRange>,
}

impl Flush {
    /// Nothing is stale.
    pub const NOTHING: Self = Self { range: None };

    /// The translation of one page is stale.
    #[inline]
    pub fn page(page: Page) -> Self {
        Self { range: Some(PageRange::single(page)) }
    }

    /// A range of pages.
    pub fn range(range: PageRange) -> Self {
        Self { range: Some(range) }
    }

    /// Extends this to the range that covers both.
    pub fn merge(&mut self, other: Self) {
        self.range = match (self.range, other.range) {
            (Some(a), Some(b)) => {
                Some(PageRange { start: a.start.min(b.start), end: a.end.max(b.end) })
            }
            (one, None) | (None, one) => one,
        };
    }

    /// Makes the CPU forget the translations.
    pub fn flush(self, table: &PageTable) {
        let Some(range) = self.range else { return };
        counter::count(Counter::Flushes, 1);
        if range.pages() <= SINGLE_FLUSHES {
            range.iter().for_each(|page| mmu::invalidate_page(table.root(), page));
        } else {
            mmu::invalidate_all(table.root());
        }
    }
}
