//! References to pages.

use core::num::NonZeroU32;

/// In the reference to a placed page; the other bits are its block.
const PLACED: u32 = 1 << 31;

/// Maximum number of pages with entries, and of blocks with placed pages.
pub(super) const MAX_PAGES: u64 = PLACED as u64 - 1;

/// A counted reference to a page.
#[derive(Debug)]
#[must_use = "a page that is not released stays in use for ever"]
pub(super) struct Page(NonZeroU32);

impl Page {
    /// The reference to the page with this entry.
    pub fn of(entry: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(entry as u32))
    }

    /// The reference to the page that is placed in a block, if such a block is possible.
    pub fn placed(block: u64) -> Option<Self> {
        NonZeroU32::new(block as u32 | PLACED).filter(|_| block < MAX_PAGES).map(Self)
    }

    /// Index of the page's entry; of a placed page, one that no entry has.
    #[inline]
    pub fn entry(&self) -> usize {
        self.0.get() as usize - 1
    }

    /// The block, if the page is placed.
    pub fn block(&self) -> Option<u64> {
        (self.0.get() & PLACED != 0).then(|| (self.0.get() & !PLACED).into())
    }

    /// A reference to the same page, which its owner has counted.
    pub fn same(&self) -> Self {
        Self(self.0)
    }
}
