//! Accounting for space on the base (Q1).
//!
//! What a snapshot may come to need in its file's rescue file is reserved when it is taken, once
//! for each page and nothing for a hole. A change that needs space of its own gets ENOSPC before it
//! would use what is reserved.

use foundation::{Errno, PageCount};
use fsproto::GetStatFs;

use super::rescue_map::Holdings;
use crate::{Base, Connection};

/// Sums over all files, and what is known of the base's free space.
#[derive(Default)]
pub(super) struct SpaceAccount {
    /// Sums over the rescue maps of all files.
    total: Holdings,
    /// Blocks that are certainly free on the base. The base is queried when this is too few.
    free_at_least: PageCount,
}

impl SpaceAccount {
    /// Pages in rescue files.
    #[inline]
    pub fn stored(&self) -> PageCount {
        self.total.stored
    }

    /// Entries of all rescue maps.
    #[inline]
    pub fn entries(&self) -> usize {
        self.total.entries
    }

    /// Entries of the coverage of all files.
    #[inline]
    pub fn intervals(&self) -> usize {
        self.total.intervals
    }

    /// Whether any space is reserved. If not, changes need no check: the base refuses by itself.
    #[inline]
    pub fn has_reservations(&self) -> bool {
        !self.total.reserved.is_zero()
    }

    /// A file's rescue map has changed.
    #[inline]
    pub fn map_changed(&mut self, before: Holdings, after: Holdings) {
        debug_assert!(self.total.reserved >= before.reserved, "a map reserves more than all maps");
        debug_assert!(self.total.stored >= before.stored, "a map stores more than all maps");
        debug_assert!(self.total.entries >= before.entries, "a map has more than all maps");
        self.total.reserved = self.total.reserved + after.reserved - before.reserved;
        self.total.stored = self.total.stored + after.stored - before.stored;
        self.total.entries = self.total.entries + after.entries - before.entries;
        self.total.intervals = self.total.intervals + after.intervals - before.intervals;
    }

    /// ENOSPC unless the base has space for `pages` in addition to all that is reserved.
    pub fn check<C: Connection>(
        &mut self,
        base: &mut Base<C>,
        pages: PageCount,
    ) -> Result<(), Errno> {
        let needed = self.total.reserved.saturating_add(pages);
        if self.free_at_least < needed {
            self.learn_free(base.request(&GetStatFs {}, &[])?.blocks_free);
        }
        if needed <= self.free_at_least { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// The base has reported its number of free blocks.
    #[inline]
    pub fn learn_free(&mut self, blocks: u64) {
        self.free_at_least = PageCount(blocks);
    }

    /// The base may have used up to `pages` more.
    #[inline]
    pub fn used_up(&mut self, pages: PageCount) {
        self.free_at_least = self.free_at_least.saturating_sub(pages);
    }
}
