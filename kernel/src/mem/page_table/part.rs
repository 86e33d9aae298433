//! Ranges are divided into parts of bounded work, between which others can run.
#![forbid(unsafe_code)]

use super::{
    ENTRIES, LEVELS, PageTable, Table,
    entry::ADDRESS_BITS,
    walk::{overlap, span, table_at},
};
use crate::mem::{Page, PageRange, PhysAddr};
use core::sync::atomic::Ordering;

/// Lowest tables of one part. To empty all their entries takes some 800,000 instructions.
const TABLES_IN_PART: usize = 16;
/// Tables, upper ones included, of a space that is one part: that of a small program.
const TABLES_OF_SMALL: usize = 16;

impl PageTable {
    /// The end of the first part of a range: of what one step may change. The cost of a step
    /// depends on the tables that there are, not on the length of the range.
    pub fn part_end(&self, range: PageRange) -> Page {
        let is_small = range.pages().to_usize() <= TABLES_IN_PART * ENTRIES
            || self.tables.pages() <= TABLES_OF_SMALL;
        if is_small {
            return range.end;
        }
        let mut left = TABLES_IN_PART;
        skip_leaves(table_at(self.root()), LEVELS, 0, range, &mut left).unwrap_or(range.end)
    }
}

/// The first page of the lowest table behind `left` others that have pages of a range. `left` is
/// reduced by those that were passed.
fn skip_leaves(
    table: &Table,
    level: u32,
    base: u64,
    range: PageRange,
    left: &mut usize,
) -> Option<Page> {
    if level == 1 {
        if *left == 0 {
            return Some(Page(base));
        }
        *left -= 1;
        return None;
    }
    overlap(level, base, range).find_map(|index| {
        let entry = table.get(index)?.load(Ordering::Relaxed);
        if entry == 0 {
            return None;
        }
        let child = table_at(PhysAddr(entry & ADDRESS_BITS));
        skip_leaves(child, level - 1, base + index as u64 * span(level), range, left)
    })
}
