//! Operations on many pages at a few instructions a page: for fork, fault-around, messages and
//! reclaim.
#![forbid(unsafe_code)]

use super::{
    ENTRIES, Entry, EntryFlags, Flush, Held, LEVELS, PageTable, Table, USER_TABLE,
    entry::ADDRESS_BITS,
    mutants,
    shared::{Locks, entry_below, has_sharers, own, try_own},
    walk::{
        find_leaf, find_upper, index, make_leaf, next_entry, overlap, own_cell, owned, span,
        table_at, visit, visit_owned_cells, visit_uppers,
    },
};
use crate::mem::{Frame, OutOfMemory, Page, PageRange, PhysAddr, frame, slot::SwapSlot};
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::PageCount;

/// Pages that [`PageTable::used_around`] looks at, and of these, how many it skips at once where
/// nothing is mapped.
const USED_PAGES: usize = 64;
const USED_GROUP: usize = 8;

/// Pages that [`PageTable::allow_stores_around`] looks at: those of two cache lines of entries.
const STORES_AROUND: u64 = 16;
const PRIVATE_PAGE: EntryFlags = EntryFlags::PRIVATE.union(EntryFlags::PRESENT);
/// The flags that show whether a page is private and in memory: then it has [`PRIVATE_PAGE`] only.
const PRIVATE_IN_MEMORY: EntryFlags = PRIVATE_PAGE.union(EntryFlags::SWAPPED);

/// Maps adjacent pages, walking the tables once for all in the same lowest table.
pub struct Filler<'a> {
    table: &'a mut PageTable,
    flags: EntryFlags,
    /// The lowest table last used, and the number of its first page divided by its size.
    leaf: Option<(u64, &'static Table)>,
}

impl<'a> Filler<'a> {
    /// A filler that maps each page with `flags`.
    pub fn new(table: &'a mut PageTable, flags: EntryFlags) -> Self {
        Self { table, flags, leaf: None }
    }

    /// Maps a page if its entry is empty. Returns whether it was. Fails where a table is missing
    /// and no frame is available for it.
    #[inline]
    pub fn put(&mut self, page: Page, frame: &Frame) -> Result<bool, OutOfMemory> {
        self.put_made(page, || Some(frame.clone()))
    }

    /// The same for a frame that is made where the entry is empty. Without one, nothing is mapped.
    #[inline]
    pub fn put_made(
        &mut self,
        page: Page,
        make: impl FnOnce() -> Option<Frame>,
    ) -> Result<bool, OutOfMemory> {
        let cell = self.cell(page)?;
        if cell.load(Ordering::Relaxed) == 0
            && let Some(frame) = make()
        {
            cell.store(Entry::new(frame.into_raw(), self.flags).0, Ordering::Relaxed);
            return Ok(true);
        }
        Ok(false)
    }

    /// Maps frames at adjacent pages, as [`put`](Self::put) does, as far as there are tables.
    /// Returns how many entries were empty.
    pub fn put_all(&mut self, first: Page, mut frames: &[Frame]) -> PageCount {
        let (mut page, mut mapped) = (first, 0);
        while !frames.is_empty()
            && let Ok(leaf) = self.leaf(page)
        {
            let cells = leaf.get(index(page.0, 1)..).unwrap_or_default();
            let (now, behind) = frames.split_at(frames.len().min(cells.len()));
            for (cell, frame) in cells.iter().zip(now) {
                if cell.load(Ordering::Relaxed) == 0 {
                    let entry = Entry::new(frame.clone().into_raw(), self.flags);
                    cell.store(entry.0, Ordering::Relaxed);
                    mapped += 1;
                }
            }
            page = page + PageCount::of_len(now.len());
            frames = behind;
        }
        PageCount(mapped)
    }

    /// Maps a page whatever its entry holds. Returns what that was, with its flags.
    pub fn replace(
        &mut self,
        page: Page,
        frame: Frame,
        flags: EntryFlags,
    ) -> Result<Option<(Held, EntryFlags)>, OutOfMemory> {
        let old = self.cell(page)?.swap(Entry::new(frame.into_raw(), flags).0, Ordering::Relaxed);
        Ok(owned(old).map(|held| (held, Entry(old).flags())))
    }

    #[inline]
    fn cell(&mut self, page: Page) -> Result<&'static AtomicU64, OutOfMemory> {
        Ok(&self.leaf(page)?[index(page.0, 1)])
    }

    #[inline]
    fn leaf(&mut self, page: Page) -> Result<&'static Table, OutOfMemory> {
        let number = page.0 / ENTRIES as u64;
        match self.leaf {
            Some((found, leaf)) if found == number => Ok(leaf),
            _ => self.next_leaf(page),
        }
    }

    /// The lowest table of a page, which is made if it is missing.
    #[cold]
    fn next_leaf(&mut self, page: Page) -> Result<&'static Table, OutOfMemory> {
        let account = (self.table.claim, Some(&self.table.tables));
        let leaf = make_leaf(self.table.root(), page, USER_TABLE, account)?;
        self.leaf = Some((page.0 / ENTRIES as u64, leaf));
        Ok(leaf)
    }
}

impl PageTable {
    /// The pages that the CPU has used of the 64 around a page that begin at a multiple of 64: one
    /// bit for each, the lowest for the first.
    pub fn used_around(&self, page: Page) -> u64 {
        let Some((leaf, _)) = find_leaf(self.root(), page) else { return 0 };
        let start = index(page.0, 1) / USED_PAGES * USED_PAGES;
        let cells = leaf.get(start..start + USED_PAGES).unwrap_or_default();
        let (groups, _) = cells.as_chunks::<USED_GROUP>();
        let (mut used, mut first) = (0, 0);
        for cells in groups {
            if cells.iter().fold(0, |all, cell| all | cell.load(Ordering::Relaxed)) != 0 {
                for (bit, cell) in (first..).zip(cells) {
                    let entry = Entry(cell.load(Ordering::Relaxed));
                    used |= u64::from(entry.has(EntryFlags::ACCESSED)) << bit;
                }
            }
            first += USED_GROUP;
        }
        used
    }

    /// Allows stores to private pages of a range around a page, where nobody else holds their
    /// frames. Such pages lose their other owners together, and each would fault. Access grows, so
    /// no translation is stale.
    pub fn allow_stores_around(&mut self, page: Page, range: PageRange) {
        let group = Page(page.0 - page.0 % STORES_AROUND);
        let around = PageRange::new(group, PageCount(STORES_AROUND)).intersect(range);
        visit_owned_cells(self.root(), around, &mut |_, cell| {
            let entry = Entry(cell.load(Ordering::Relaxed));
            let is_private = entry.flags() & PRIVATE_IN_MEMORY == PRIVATE_PAGE;
            if is_private && (!entry.is_shared() || mutants::stores_around_shared()) {
                cell.fetch_or(EntryFlags::WRITE.bits(), Ordering::Relaxed);
            }
        });
    }

    /// Makes the entries of adjacent pages from the range's start on read-only, up to the first
    /// page that is not mapped, and passes references to their frames to `take`. Returns the
    /// translations of those that were writable.
    pub fn lend(&mut self, range: PageRange, mut take: impl FnMut(Frame)) -> Flush {
        let mut next = range.start;
        let mut stale = Flush::NOTHING;
        // After a gap, `next` never matches again.
        visit_owned_cells(self.root(), range, &mut |page, cell| {
            if page != next || Entry(cell.load(Ordering::Relaxed)).is_swapped() {
                return;
            }
            next = page.next();
            let entry = Entry(cell.fetch_and(!EntryFlags::WRITE.bits(), Ordering::Relaxed));
            if entry.has(EntryFlags::WRITE) {
                stale.merge(Flush::page(page));
            }
            take(entry.frame());
        });
        stale
    }
}

impl PageTable {
    /// As [`lend`](Self::lend), up to the first page that is not private and in memory.
    pub fn lend_private(&mut self, range: PageRange, mut take: impl FnMut(Frame)) -> Flush {
        let mut next = range.start;
        let mut stale: Option<PageRange> = None;
        'tables: while next < range.end {
            let first = index(next.0, 1);
            let Some(cell) = find_upper(self.root(), next) else { break };
            let leaf = own(self.root(), next, cell);
            let count = (range.end - next).to_usize().min(ENTRIES - first);
            for cell in leaf.get(first..first + count).unwrap_or_default() {
                let entry = Entry(cell.load(Ordering::Relaxed));
                if entry.flags() & PRIVATE_IN_MEMORY != PRIVATE_PAGE {
                    break 'tables;
                }
                let page = next;
                next = next.next();
                if entry.has(EntryFlags::WRITE) && !mutants::lend_writable() {
                    cell.fetch_and(!EntryFlags::WRITE.bits(), Ordering::Relaxed);
                    let start = stale.map_or(page, |stale| stale.start);
                    stale = Some(PageRange { start, end: next });
                }
                take(entry.frame());
            }
        }
        stale.map_or(Flush::NOTHING, Flush::range)
    }
}

impl PageTable {
    /// Makes the tables for the pages of a range at another place, where nothing is mapped, so that
    /// [`move_entries`](Self::move_entries) cannot fail.
    pub fn make_tables(&mut self, range: PageRange, to: Page) -> Result<(), OutOfMemory> {
        let mut result = Ok(());
        visit(table_at(self.root()), LEVELS, 0, range, &mut |page, _| {
            if result.is_ok() {
                let target = to + (page - range.start);
                let account = (self.claim, Some(&self.tables));
                result = make_leaf(self.root(), target, USER_TABLE, account).map(drop);
            }
        });
        result
    }

    /// Moves the entries of a range to another place, for which there are tables. Those before the
    /// range, from `first` on, have moved already.
    pub fn move_entries(&mut self, first: Page, range: PageRange, to: Page) {
        visit_owned_cells(self.root(), range, &mut |page, cell| {
            let target = own_cell(self.root(), to + (page - range.start));
            debug_assert!(target.is_some(), "there are no tables for {page:?}");
            if let Some(target) = target {
                target.store(cell.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            }
        });
        // Frees the tables.
        self.clear(PageRange { start: first, end: range.end }, |_| ());
    }

    /// Maps the pages of a range in `other` too, where nothing is mapped, except for pages whose
    /// tables are shared with it. Adds to `stale` the translations that were writable and are not
    /// any more.
    pub fn share(
        &mut self,
        range: PageRange,
        other: &mut Self,
        sharing: ForkSharing,
        stale: &mut Flush,
    ) -> Result<(), OutOfMemory> {
        let withheld =
            if sharing == ForkSharing::CopyOnWrite { EntryFlags::WRITE.bits() } else { 0 };
        let dropped = (EntryFlags::ACCESSED | EntryFlags::DIRTY).bits() | withheld;
        let mut result = Ok(());
        let (root, other_root) = (self.root(), other.root());
        visit_uppers(table_at(root), LEVELS, 0, range, &mut |base, upper| {
            let table = upper.load(Ordering::Relaxed);
            let is_same = |(_, theirs): (_, u64)| (table ^ theirs) & ADDRESS_BITS == 0;
            if find_leaf(other_root, Page(base)).is_some_and(is_same) {
                return;
            }
            let (leaf, indices) = (own(root, Page(base), upper), overlap(1, base, range));
            let theirs = match make_leaf(
                other.root(),
                Page(base),
                USER_TABLE,
                (other.claim, Some(&other.tables)),
            ) {
                Ok(theirs) if result.is_ok() => theirs,
                Ok(_) => return,
                Err(error) => return result = Err(error),
            };
            // This loop is what fork costs: a few instructions a page, with all in registers.
            let (withheld, kept) = (withheld, !dropped);
            let first = base + indices.start as u64;
            let ours = leaf.get(indices.clone()).unwrap_or_default();
            let theirs = theirs.get(indices).unwrap_or_default();
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                let entry = ours.load(Ordering::Relaxed);
                if entry == 0 {
                    continue;
                }
                if let Some(slot) = Entry(entry).slot() {
                    theirs.store(Entry::swapped(SwapSlot::share(slot)).0, Ordering::Relaxed);
                    continue;
                }
                frame::retain(Entry(entry).address());
                theirs.store(entry & kept, Ordering::Relaxed);
                if entry & withheld != 0 {
                    ours.fetch_and(!withheld, Ordering::Relaxed);
                    stale.merge(Flush::page(Page(first + index as u64)));
                }
            }
        });
        result
    }
}

/// How parent and child share pages after a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkSharing {
    /// The first store of either copies the page.
    CopyOnWrite,
    /// Stores of one are visible to the other.
    InPlace,
}

/// What [`PageTable::sweep`] does with an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it.
    Keep,
    /// Clear its accessed bit.
    Age,
    /// Empty it.
    Drop,
    /// Replace its frame by this slot of the swap file.
    Swap(SwapSlot),
}

/// The result of [`PageTable::sweep`].
#[derive(Debug, Default)]
pub struct Swept {
    /// Entries that were emptied or replaced by slots.
    pub entries: usize,
    /// Tables that became empty and were freed.
    pub tables: usize,
    /// Entries and tables that were looked at.
    pub scanned: usize,
    /// The page to continue with, where it stopped because of a bound.
    pub stopped: Option<Page>,
}

/// Where [`PageTable::sweep`] stops.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Entries that were emptied or replaced.
    pub enough: usize,
    /// Entries and tables that were looked at: more than there are levels.
    pub most: usize,
}

impl PageTable {
    /// Does to each entry of a range what `judge` returns, within bounds. Entries of a table that
    /// cannot be owned now stay as they are.
    pub fn sweep(
        &mut self,
        range: PageRange,
        bounds: Bounds,
        locks: Locks,
        judge: impl FnMut(Page, Entry) -> Verdict,
    ) -> Swept {
        let swept = Swept::default();
        let (root, frees_empty) = (self.root(), false);
        let mut sweep = Sweep { root, range, bounds, locks, swept, judge, frees_empty };
        sweep.table(table_at(self.root()), LEVELS, 0);
        self.tables.remove(sweep.swept.tables);
        sweep.swept
    }
}

/// A walk of [`PageTable::sweep`].
pub(super) struct Sweep<F> {
    pub root: PhysAddr,
    pub range: PageRange,
    pub bounds: Bounds,
    pub locks: Locks,
    pub swept: Swept,
    pub judge: F,
    /// Whether tables are freed that are found empty, and not only those that become empty.
    pub frees_empty: bool,
}

impl<F: FnMut(Page, Entry) -> Verdict> Sweep<F> {
    /// Sweeps below a table of `level`, whose first page is `base`.
    pub fn table(&mut self, table: &'static Table, level: u32, base: u64) {
        if level == 1 {
            return self.lowest_table(table, None, base);
        }
        let mut indices = overlap(level, base, self.range);
        while let Some(index) = next_entry(table, &mut indices) {
            let (cell, page) = (&table[index], base + index as u64 * span(level));
            if self.stops_at(page) {
                return;
            }
            let before = (self.swept.entries, self.swept.scanned);
            let child = table_at(PhysAddr(cell.load(Ordering::Relaxed) & ADDRESS_BITS));
            if level == 2 {
                self.lowest_table(child, Some(cell), page);
            } else {
                self.table(child, level - 1, page);
            }
            let is_unchanged = self.swept.entries == before.0;
            let is_empty = self.frees_empty && self.swept.scanned == before.1;
            if is_unchanged && !is_empty {
                continue;
            }
            let entry = cell.load(Ordering::Relaxed);
            let child = table_at(PhysAddr(entry & ADDRESS_BITS));
            if child.iter().all(|cell| cell.load(Ordering::Relaxed) == 0) {
                cell.store(0, Ordering::Relaxed);
                drop(owned(entry));
                self.swept.tables += 1;
            }
        }
    }

    /// Sweeps a lowest table, whose first page is `base`, and to which a cell of level 2 refers.
    fn lowest_table(&mut self, mut table: &'static Table, upper: Option<&AtomicU64>, base: u64) {
        let first = Page(base);
        // Where nobody else refers to the table any more, its pages have one owner less.
        if let Some(upper) = upper.filter(|upper| !has_sharers(upper)) {
            let _ = try_own(self.root, first, upper, self.locks);
        }
        let mut indices = overlap(1, base, self.range);
        while let Some(index) = next_entry(table, &mut indices) {
            let page = base + index as u64;
            if self.stops_at(page) {
                return;
            }
            let entry = table[index].load(Ordering::Relaxed);
            let upper_entry = upper.map_or(u64::MAX, |upper| upper.load(Ordering::Relaxed));
            let new = match (self.judge)(Page(page), entry_below(upper_entry, entry)) {
                Verdict::Keep => continue,
                Verdict::Age => {
                    table[index].fetch_and(!EntryFlags::ACCESSED.bits(), Ordering::Relaxed);
                    continue;
                }
                Verdict::Drop => 0,
                Verdict::Swap(slot) => Entry::swapped(slot).0,
            };
            if let Some(upper) = upper {
                match try_own(self.root, first, upper, self.locks) {
                    Some(own) => table = own,
                    None => {
                        drop(owned(new));
                        continue;
                    }
                }
            }
            drop(owned(table[index].swap(new, Ordering::Relaxed)));
            self.swept.entries += 1;
        }
    }

    /// Whether a bound is reached; then the sweep continues at this page. Counts what is looked at.
    fn stops_at(&mut self, page: u64) -> bool {
        let stops =
            self.swept.entries >= self.bounds.enough || self.swept.scanned >= self.bounds.most;
        if stops {
            self.swept.stopped.get_or_insert(Page(page.max(self.range.start.0)));
        } else {
            self.swept.scanned += 1;
        }
        stops
    }
}
