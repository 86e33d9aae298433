//! Frames and slots of shared memory by page number: tables in the format of page tables, of as
//! many levels as the highest page needs.
//!
//! An entry owns a reference, as in a page table. No CPU walks these tables, so entries have no
//! flags. Replacing what an entry holds allocates nothing, which page-outs rely on.

use super::{
    Bounds, Entry, EntryFlags, Held, Locks, Swept, Table, Verdict,
    bulk::Sweep,
    entry::ADDRESS_BITS,
    walk::{clear, index, owned, span, table_at, visit, visit_frames},
};
use crate::mem::account::{Account, Kind, PageTally};
use crate::mem::{Claim, Frame, OutOfMemory, Page, PageRange, PhysAddr};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::PageCount;

/// Levels at most: page numbers have 63 bits then.
const MAX_LEVELS: u32 = 7;
/// Flags of pages that a search finds without a look at all others. No CPU walks these tables, so
/// what a flag of a page means is up to their owner.
pub const MARKS: EntryFlags = EntryFlags::DIRTY.union(EntryFlags::WRITE);
/// `WRITE`: nobody shares the table ([`super::shared`]).
const TABLE_FLAGS: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::WRITE);

/// The tables; empty ones have no frame.
#[derive(Debug, Default)]
pub struct FrameTree {
    root: Option<Frame>,
    levels: u32,
    /// Where its tables count, and its pages, those in swap included, if they cannot be dropped.
    tally: Option<PageTally>,
    counts_pages: bool,
}

/// In an entry above the lowest level: an entry below may have some of [`MARKS`].
const MARKED: u64 = EntryFlags::DIRTY.bits();

impl FrameTree {
    /// Empty tables, for which `account` pays.
    pub fn new(account: Arc<Account>) -> Self {
        Self::counting(account, true)
    }

    /// The same for pages that can be dropped at any time: they are not counted.
    pub fn of_file(account: Arc<Account>) -> Self {
        Self::counting(account, false)
    }

    fn counting(account: Arc<Account>, counts_pages: bool) -> Self {
        let tally = Some(PageTally::new(account, Kind::Shared));
        Self { root: None, levels: 0, tally, counts_pages }
    }

    fn count(&self) {
        if let Some(tally) = &self.tally {
            tally.add();
        }
    }

    /// Whether a page lies below the root, as it is now.
    fn covers(&self, page: Page) -> bool {
        self.root.is_some() && page.0 < span(self.levels + 1)
    }

    fn find(&self, page: Page) -> Option<&'static AtomicU64> {
        let root = self.root.as_ref().filter(|_| self.covers(page))?;
        let mut table = table_at(root.addr());
        for level in (2..=self.levels).rev() {
            let entry = table.get(index(page.0, level))?.load(Ordering::Relaxed);
            if entry == 0 {
                return None;
            }
            table = table_at(PhysAddr(entry & ADDRESS_BITS));
        }
        table.get(index(page.0, 1))
    }

    /// The entry of a page, unless it is empty.
    pub fn get(&self, page: Page) -> Option<Entry> {
        let entry = self.find(page)?.load(Ordering::Relaxed);
        (entry != 0).then_some(Entry(entry))
    }

    /// Stores what a page has from now on. Fails where a table is missing and no frame is available
    /// for it.
    pub fn put(&mut self, page: Page, held: Held, claim: Claim) -> Result<(), OutOfMemory> {
        self.make(page, claim)?;
        if self.counts_pages && self.get(page).is_none() {
            self.count();
        }
        self.replace(page, held);
        Ok(())
    }

    /// Sets the flags of a page that is not empty. Where they have some of [`MARKS`], the page is
    /// found by [`next_marked`](Self::next_marked).
    pub fn set_flags(&mut self, page: Page, flags: EntryFlags) {
        let Some(root) = self.root.as_ref().filter(|_| self.covers(page)) else { return };
        let mark = if flags.intersects(MARKS) { MARKED } else { 0 };
        let mut table = table_at(root.addr());
        for level in (2..=self.levels).rev() {
            let Some(cell) = table.get(index(page.0, level)) else { return };
            let entry = cell.fetch_or(mark, Ordering::Relaxed);
            if entry == 0 {
                cell.store(0, Ordering::Relaxed);
                return;
            }
            table = table_at(PhysAddr(entry & ADDRESS_BITS));
        }
        let Some(cell) = table.get(index(page.0, 1)) else { return };
        let entry = cell.load(Ordering::Relaxed);
        if entry != 0 {
            let owner = entry & (ADDRESS_BITS | EntryFlags::HELD.bits());
            cell.store(owner | flags.bits(), Ordering::Relaxed);
        }
    }

    /// Empties a page's entry. Returns what it held.
    pub fn take(&mut self, page: Page) -> Option<Held> {
        owned(self.find(page)?.swap(0, Ordering::Relaxed))
    }

    /// The first page from `from` on that has some of [`MARKS`]. Costs time for tables that have
    /// such pages only.
    pub fn next_marked(&self, from: Page) -> Option<Page> {
        let root = self.root.as_ref()?;
        next_marked_in(table_at(root.addr()), self.levels, 0, from)
    }

    /// Stores what a page that has its tables has from now on, and drops what it had. Allocates
    /// nothing.
    pub fn replace(&mut self, page: Page, held: Held) {
        let Some(cell) = self.find(page) else { return };
        let entry = match held {
            Held::Frame(frame) => Entry::new(frame.into_raw(), EntryFlags::empty()),
            Held::Slot(slot) => Entry::swapped(slot),
        };
        drop(owned(cell.swap(entry.0, Ordering::Relaxed)));
    }

    /// Makes the tables of a page.
    pub fn make(&mut self, page: Page, claim: Claim) -> Result<(), OutOfMemory> {
        while !self.covers(page) {
            self.raise(claim)?;
        }
        let root = self.root.as_ref().ok_or(OutOfMemory)?;
        let mut table = table_at(root.addr());
        for level in (2..=self.levels).rev() {
            let cell = entry_of(table, page, level)?;
            let mut entry = cell.load(Ordering::Relaxed);
            if entry == 0 {
                entry = Frame::zeroed_for(claim)?.into_raw().0 | TABLE_FLAGS.bits();
                cell.store(entry, Ordering::Relaxed);
                self.count();
            }
            table = table_at(PhysAddr(entry & ADDRESS_BITS));
        }
        Ok(())
    }

    /// Adds a level above the root.
    fn raise(&mut self, claim: Claim) -> Result<(), OutOfMemory> {
        if self.levels == MAX_LEVELS {
            return Err(OutOfMemory);
        }
        let root = Frame::zeroed_for(claim)?;
        self.count();
        if let Some(old) = self.root.take() {
            let first = entry_of(table_at(root.addr()), Page(0), 1)?;
            // Without a look at the pages; the next search finds out.
            first.store(old.into_raw().0 | TABLE_FLAGS.bits() | MARKED, Ordering::Relaxed);
        }
        (self.root, self.levels) = (Some(root), self.levels + 1);
        Ok(())
    }

    /// All pages below the root.
    fn all(&self) -> PageRange {
        PageRange { start: Page(0), end: Page(span(self.levels + 1)) }
    }

    /// The first page from `from` on whose entry is not empty.
    pub fn next(&self, from: Page) -> Option<Page> {
        let root = self.root.as_ref()?;
        next_in(table_at(root.addr()), self.levels, 0, from)
    }

    /// Number of pages of a range whose entries are not empty.
    pub fn count_in(&self, range: PageRange) -> PageCount {
        let mut count = 0;
        if let Some(root) = &self.root {
            let range = range.intersect(self.all());
            visit(table_at(root.addr()), self.levels, 0, range, &mut |_, _| count += 1);
        }
        PageCount(count)
    }

    /// As [`PageTable::sweep`](super::PageTable::sweep).
    pub fn sweep(
        &mut self,
        range: PageRange,
        bounds: Bounds,
        judge: impl FnMut(Page, Entry) -> Verdict,
    ) -> Swept {
        let mut swept = Swept::default();
        if let Some(root) = &self.root {
            let (root, range) = (root.addr(), range.intersect(self.all()));
            let (locks, frees_empty) = (Locks::Free, true);
            let mut sweep = Sweep { root, range, bounds, locks, swept, judge, frees_empty };
            sweep.table(table_at(root), self.levels, 0);
            swept = sweep.swept;
        }
        if let Some(tally) = &self.tally {
            tally.remove(swept.tables);
        }
        swept
    }

    /// Empties up to `pages` entries. Returns whether there are more.
    pub fn clear_some(&mut self, pages: usize) -> bool {
        let bounds = Bounds { enough: pages, most: usize::MAX };
        let swept = self.sweep(self.all(), bounds, |_, _| Verdict::Drop);
        if let Some(tally) = self.tally.as_ref().filter(|_| self.counts_pages) {
            tally.remove(swept.entries);
        }
        swept.stopped.is_some()
    }

    /// Calls `look` for each frame that this owns: tables, and what they hold.
    pub fn for_each_frame(&self, look: &mut impl FnMut(PhysAddr)) {
        if let Some(root) = &self.root {
            visit_frames(root.addr().0, self.levels, look);
        }
    }

    /// Number of frames that this owns, tables included.
    #[cfg(test)]
    pub fn frames(&self) -> usize {
        let mut count = 0;
        self.for_each_frame(&mut |_| count += 1);
        count
    }
}

impl Drop for FrameTree {
    fn drop(&mut self) {
        if let Some(root) = &self.root {
            let (table, tables) = (table_at(root.addr()), (root.addr(), None));
            clear(table, self.levels, 0, self.all(), tables, &mut |_| ());
        }
    }
}

fn entry_of(
    table: &'static Table,
    page: Page,
    level: u32,
) -> Result<&'static AtomicU64, OutOfMemory> {
    table.get(index(page.0, level)).ok_or(OutOfMemory)
}

/// The first page from `from` on below a table of `level`, whose first page is `base`, whose entry
/// is not empty.
fn next_in(table: &Table, level: u32, base: u64, from: Page) -> Option<Page> {
    let first = from.0.saturating_sub(base) / span(level);
    let from_first = (base + first.saturating_mul(span(level))..).step_by(span(level) as usize);
    for (cell, page) in table.iter().skip(first as usize).zip(from_first) {
        let entry = cell.load(Ordering::Relaxed);
        let found = match level {
            _ if entry == 0 => None,
            1 => Some(Page(page)),
            _ => next_in(table_at(PhysAddr(entry & ADDRESS_BITS)), level - 1, page, from),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The first page from `from` on below a table of `level`, whose first page is `base`, that has
/// marks. Where a table turns out to have none, its own mark goes.
fn next_marked_in(table: &Table, level: u32, base: u64, from: Page) -> Option<Page> {
    let first = from.0.saturating_sub(base) / span(level);
    let from_first = (base + first.saturating_mul(span(level))..).step_by(span(level) as usize);
    for (cell, page) in table.iter().skip(first as usize).zip(from_first) {
        let entry = cell.load(Ordering::Relaxed);
        if level == 1 {
            if Entry(entry).flags().intersects(MARKS) {
                return Some(Page(page));
            }
            continue;
        }
        if entry & MARKED == 0 {
            continue;
        }
        let found = next_marked_in(table_at(PhysAddr(entry & ADDRESS_BITS)), level - 1, page, from);
        if found.is_some() {
            return found;
        }
        if from.0 <= page {
            cell.fetch_and(!MARKED, Ordering::Relaxed);
        }
    }
    None
}
