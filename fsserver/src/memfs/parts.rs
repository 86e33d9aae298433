//! Splitting ranges of bytes by page.

use core::ops::Range;

use foundation::PAGE_BYTES;

const PAGE: u64 = PAGE_BYTES as u64;

/// The bytes of one page that a range covers.
pub(super) struct Part {
    /// Number of the page.
    pub page: u64,
    /// The bytes within the page.
    pub within: Range<usize>,
}

/// Splits a non-empty range of bytes by page.
pub(super) fn parts(range: Range<u64>) -> impl Iterator<Item = Part> {
    (range.start / PAGE..range.end.div_ceil(PAGE)).map(move |page| {
        let begin = range.start.saturating_sub(page * PAGE);
        let end = (range.end - page * PAGE).min(PAGE);
        Part { page, within: begin as usize..end as usize }
    })
}
