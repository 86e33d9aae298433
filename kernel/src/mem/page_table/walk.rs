//! The walk of page tables by software: finding, making, visiting and clearing entries.

use super::{
    ENTRIES, LEVELS, Table,
    entry::{ADDRESS_BITS, Entry, EntryFlags, Held},
    mutants,
    shared::{entry_below, is_shared, leave, own},
};
use crate::mem::account::PageTally;
use crate::mem::{Claim, Frame, OutOfMemory, Page, PageRange, PhysAddr, phys::phys_to_virt};
use core::{
    iter::Peekable,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// The table at an address.
#[inline]
pub(super) fn table_at(address: PhysAddr) -> &'static Table {
    // SAFETY: only addresses of tables are passed: of a root, or from an entry of an upper level.
    // They are page-aligned and freed only by the owner of the root, which is borrowed mutably
    // then; all access is atomic. No caller keeps the reference.
    unsafe { &*phys_to_virt(address).cast::<Table>() }
}

/// Index of a page's entry in a table of `level`.
#[inline]
pub(super) fn index(page: u64, level: u32) -> usize {
    ((page >> (9 * (level - 1))) & 511) as usize
}

/// Pages that one entry of a table of `level` covers.
#[inline]
pub(super) fn span(level: u32) -> u64 {
    1 << (9 * (level - 1))
}

/// The cell of level 2 for a page, if its tables exist and it is not empty.
#[inline]
pub(super) fn find_upper(root: PhysAddr, page: Page) -> Option<&'static AtomicU64> {
    let mut table = table_at(root);
    for level in (3..=LEVELS).rev() {
        let entry = table[index(page.0, level)].load(Ordering::Relaxed);
        if entry == 0 {
            return None;
        }
        table = table_at(PhysAddr(entry & ADDRESS_BITS));
    }
    let upper = &table[index(page.0, 2)];
    (upper.load(Ordering::Relaxed) != 0).then_some(upper)
}

/// The lowest table of a page, if its tables exist, and the entry that refers to it. For reading:
/// others may share the table.
#[inline]
pub(super) fn find_leaf(root: PhysAddr, page: Page) -> Option<(&'static Table, u64)> {
    let upper = find_upper(root, page)?.load(Ordering::Relaxed);
    Some((table_at(PhysAddr(upper & ADDRESS_BITS)), upper))
}

/// The entry of a page in its lowest table, if its tables exist, for changes: nobody shares the
/// table from now on.
#[inline]
pub(super) fn own_cell(root: PhysAddr, page: Page) -> Option<&'static AtomicU64> {
    Some(&own(root, page, find_upper(root, page)?)[index(page.0, 1)])
}

/// On whose behalf tables are made, and where they count; nowhere for the kernel's own.
pub(in crate::mem) type Payer<'a> = (Claim, Option<&'a PageTally>);

/// The cell of level 2 for a page. Missing tables above it are made, with `flags` in the entries
/// that refer to them.
#[inline]
pub(super) fn make_upper(
    root: PhysAddr,
    page: Page,
    flags: EntryFlags,
    payer: Payer<'_>,
) -> Result<&'static AtomicU64, OutOfMemory> {
    let mut table = table_at(root);
    for level in (3..=LEVELS).rev() {
        let cell = &table[index(page.0, level)];
        let mut entry = cell.load(Ordering::Relaxed);
        if entry == 0 {
            entry = make_table(cell, flags, payer)?;
        }
        table = table_at(PhysAddr(entry & ADDRESS_BITS));
    }
    Ok(&table[index(page.0, 2)])
}

/// Makes the table that a cell refers to. Returns the cell's entry.
#[cold]
#[inline(never)]
fn make_table(
    cell: &AtomicU64,
    flags: EntryFlags,
    (claim, tally): Payer<'_>,
) -> Result<u64, OutOfMemory> {
    if tally.is_some_and(|tally| !tally.account().admits_table()) {
        return Err(OutOfMemory);
    }
    let entry = Frame::zeroed_for(claim)?.into_raw().0 | flags.bits();
    if let Some(tally) = tally {
        tally.add();
    }
    cell.store(entry, Ordering::Relaxed);
    Ok(entry)
}

/// The lowest table of a page, for changes: nobody shares it from now on. Missing tables are made,
/// likewise.
#[inline]
pub(super) fn make_leaf(
    root: PhysAddr,
    page: Page,
    flags: EntryFlags,
    payer: Payer<'_>,
) -> Result<&'static Table, OutOfMemory> {
    let upper = make_upper(root, page, flags, payer)?;
    if upper.load(Ordering::Relaxed) == 0 {
        make_table(upper, flags, payer)?;
    }
    Ok(own(root, page, upper))
}

/// The entry of a page in its lowest table, likewise.
#[inline]
pub(in crate::mem) fn make_cell(
    root: PhysAddr,
    page: Page,
    flags: EntryFlags,
    payer: Payer<'_>,
) -> Result<&'static AtomicU64, OutOfMemory> {
    Ok(&make_leaf(root, page, flags, payer)?[index(page.0, 1)])
}

/// Calls `look` for each frame below the entry of the table `root` that covers `page`: tables, and
/// what they map.
pub(in crate::mem) fn for_each_frame(root: PhysAddr, page: Page, look: &mut impl FnMut(PhysAddr)) {
    let entry = table_at(root)[index(page.0, LEVELS)].load(Ordering::Relaxed);
    if entry != 0 {
        visit_frames(entry, LEVELS - 1, look);
    }
}

/// Calls `look` for the frame of an entry, and for all frames below it. `level` is that of the
/// table that the entry refers to, 0 for a page.
pub(super) fn visit_frames(entry: u64, level: u32, look: &mut impl FnMut(PhysAddr)) {
    let address = PhysAddr(entry & ADDRESS_BITS);
    look(address);
    if level > 0 {
        let entries = table_at(address).iter().map(|cell| cell.load(Ordering::Relaxed));
        entries
            .filter(|entry| *entry != 0 && !Entry(*entry).is_swapped())
            .for_each(|entry| visit_frames(entry, level - 1, look));
    }
}

/// Calls `look` for each table below `table` that has pages of a range, and for each frame that is
/// mapped there.
pub(super) fn visit_frames_in(
    table: &Table,
    level: u32,
    base: u64,
    range: PageRange,
    look: &mut impl FnMut(PhysAddr),
) {
    for_each_entry(table, overlap(level, base, range), |index, _, entry| {
        let address = PhysAddr(entry & ADDRESS_BITS);
        if level > 1 {
            look(address);
            let page = base + index as u64 * span(level);
            visit_frames_in(table_at(address), level - 1, page, range, look);
        } else if !Entry(entry).is_swapped() {
            look(address);
        }
    });
}

/// What an entry owned that was just taken out of a table; `None` for an empty one.
#[inline]
pub(super) fn owned(entry: u64) -> Option<Held> {
    (entry != 0).then(|| Entry(entry).into_held())
}

/// Changes the flags of an entry that maps a page; accessed and dirty bits stay.
#[inline]
pub(super) fn change(cell: &AtomicU64, flags: EntryFlags) {
    let keep = ADDRESS_BITS | (EntryFlags::HELD | EntryFlags::ACCESSED | EntryFlags::DIRTY).bits();
    // Never fails: the closure always returns a value.
    let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
        Some(if old == 0 || Entry(old).is_swapped() { old } else { (old & keep) | flags.bits() })
    });
}

/// The indices of the entries that overlap `range`, in a table of `level` whose first page is
/// `base`.
#[inline]
pub(super) fn overlap(level: u32, base: u64, range: PageRange) -> Range<usize> {
    let span = span(level);
    let first = range.start.0.saturating_sub(base) / span;
    let end = range.end.0.saturating_sub(base).div_ceil(span).min(ENTRIES as u64);
    first.min(end) as usize..end as usize
}

/// Entries that are skipped at once where all of them are empty: most tables are nearly empty.
const GROUP: usize = 8;

/// Calls `look` for each entry of a table that is not empty, with its index.
pub(super) fn for_each_entry(
    table: &Table,
    indices: Range<usize>,
    mut look: impl FnMut(usize, &AtomicU64, u64),
) {
    let mut index = indices.start;
    while index < indices.end {
        if let Some(group) = table.get(index..).and_then(<[_]>::first_chunk::<GROUP>)
            && group[0].load(Ordering::Relaxed) == 0
            && group.iter().fold(0, |all, cell| all | cell.load(Ordering::Relaxed)) == 0
        {
            index += GROUP;
            continue;
        }
        for (index, cell) in
            (index..indices.end.min(index + GROUP)).zip(table.get(index..).unwrap_or_default())
        {
            let entry = cell.load(Ordering::Relaxed);
            if entry != 0 {
                look(index, cell, entry);
            }
        }
        index += GROUP;
    }
}

/// Removes the indices up to the first entry that is not empty, and returns that one's.
pub(super) fn next_entry(table: &Table, indices: &mut Range<usize>) -> Option<usize> {
    while indices.start < indices.end {
        let group = table.get(indices.start..).and_then(<[_]>::first_chunk::<GROUP>);
        if group.is_some_and(|group| {
            group.iter().fold(0, |all, cell| all | cell.load(Ordering::Relaxed)) == 0
        }) {
            indices.start += GROUP;
            continue;
        }
        let index = indices.next()?;
        if table.get(index).is_some_and(|cell| cell.load(Ordering::Relaxed) != 0) {
            return Some(index);
        }
    }
    None
}

/// Calls `look` for each page of a range whose entry is not empty, with the entry.
pub(super) fn visit(
    table: &Table,
    level: u32,
    base: u64,
    range: PageRange,
    look: &mut impl FnMut(Page, Entry),
) {
    if level == 1 {
        return for_each_entry(table, overlap(1, base, range), |index, _, entry| {
            look(Page(base + index as u64), Entry(entry));
        });
    }
    visit_uppers(table, level, base, range, &mut |base, upper| {
        let upper = upper.load(Ordering::Relaxed);
        let leaf = table_at(PhysAddr(upper & ADDRESS_BITS));
        for_each_entry(leaf, overlap(1, base, range), |index, _, entry| {
            look(Page(base + index as u64), entry_below(upper, entry));
        });
    });
}

/// Calls `look` for each lowest table that has pages of a range, with its first page and the
/// indices of those pages. For changes: nobody shares the tables from now on.
pub(super) fn visit_owned(
    root: PhysAddr,
    range: PageRange,
    look: &mut impl FnMut(u64, &Table, Range<usize>),
) {
    visit_uppers(table_at(root), LEVELS, 0, range, &mut |base, upper| {
        let indices = overlap(1, base, range);
        look(base, own(root, Page(base), upper), indices);
    });
}

/// Calls `look` for each page of a range whose entry is not empty, likewise.
pub(super) fn visit_owned_cells(
    root: PhysAddr,
    range: PageRange,
    look: &mut impl FnMut(Page, &AtomicU64),
) {
    visit_owned(root, range, &mut |base, leaf, indices| {
        for_each_entry(leaf, indices, |index, cell, _| look(Page(base + index as u64), cell));
    });
}

/// Calls `look` for each cell of level 2 that is not empty and covers pages of a range, with the
/// first page that it covers. `level` is 2 at least.
pub(super) fn visit_uppers(
    mut table: &Table,
    mut level: u32,
    mut base: u64,
    range: PageRange,
    look: &mut impl FnMut(u64, &AtomicU64),
) {
    let mut indices = overlap(level, base, range);
    // A short range lies below one entry of each table.
    while level > 2 && indices.len() == 1 {
        let entry = table[indices.start].load(Ordering::Relaxed);
        if entry == 0 {
            return;
        }
        table = table_at(PhysAddr(entry & ADDRESS_BITS));
        base += indices.start as u64 * span(level);
        level -= 1;
        indices = overlap(level, base, range);
    }
    for_each_entry(table, indices, |index, cell, entry| {
        let base = base + index as u64 * span(level);
        if level == 2 {
            return look(base, cell);
        }
        visit_uppers(table_at(PhysAddr(entry & ADDRESS_BITS)), level - 1, base, range, look);
    });
}

/// Empties all entries of a range, and frees tables that the range covers as a whole. Calls
/// `emptied` for pages that had something. `root` is that of a program's tables.
pub(super) fn clear(
    table: &Table,
    level: u32,
    base: u64,
    range: PageRange,
    (root, tables): (PhysAddr, Option<&PageTally>),
    emptied: &mut impl FnMut(PageRange),
) {
    let indices = overlap(level, base, range);
    if level == 1 {
        return for_each_entry(table, indices, |index, cell, entry| {
            cell.store(0, Ordering::Relaxed);
            drop(owned(entry));
            emptied(PageRange::single(Page(base + index as u64)));
        });
    }
    for_each_entry(table, indices, |index, cell, entry| {
        let page = base + index as u64 * span(level);
        let pages = PageRange { start: Page(page), end: Page(page + span(level)) };
        let is_whole = range.start <= pages.start && pages.end <= range.end;
        let mut child = table_at(PhysAddr(entry & ADDRESS_BITS));
        let mut is_left = false;
        if level == 2 && is_shared(entry) {
            is_left = is_whole && leave(cell);
            if is_left {
                emptied(pages);
            } else if !mutants::unmap_shared() {
                child = own(root, pages.start, cell);
            }
        }
        if !is_left {
            clear(child, level - 1, page, range, (root, tables), emptied);
        }
        if is_whole {
            drop(owned(cell.swap(0, Ordering::Relaxed)));
            if let Some(tables) = tables {
                tables.remove(1);
            }
        }
    });
}

/// Calls `look` for each cell below a table of `level`, 2 at least, that refers to a table which
/// has pages of `ranges`, ascending: for those of lower tables first. `look` also gets the cell's
/// level. Takes the ranges that lie below the table.
pub(super) fn each_table(
    table: &Table,
    level: u32,
    base: u64,
    ranges: &mut Peekable<impl Iterator<Item = PageRange>>,
    look: &mut impl FnMut(&AtomicU64, u32),
) {
    let end = base + span(level + 1);
    while let Some(range) = ranges.peek().filter(|range| range.start.0 < end) {
        let cell = &table[index(range.start.0, level)];
        let child_end = (range.start.0 / span(level) + 1) * span(level);
        let entry = cell.load(Ordering::Relaxed);
        if entry != 0 {
            if level > 2 {
                let child = table_at(PhysAddr(entry & ADDRESS_BITS));
                each_table(child, level - 1, child_end - span(level), ranges, look);
            }
            look(cell, level);
        }
        while ranges.next_if(|range| range.end.0 <= child_end).is_some() {}
        if let Some(range) = ranges.peek_mut() {
            range.start = range.start.max(Page(child_end));
        }
    }
}

/// Frees the table that a cell of `level` refers to. One of level 1 is emptied first; others have
/// nothing.
pub(super) fn free_table(cell: &AtomicU64, level: u32) {
    let entry = cell.load(Ordering::Relaxed);
    if level == 2 && !(is_shared(entry) && leave(cell)) {
        let table = table_at(PhysAddr(entry & ADDRESS_BITS));
        for_each_entry(table, 0..ENTRIES, |_, _, entry| drop(owned(entry)));
    }
    drop(owned(cell.swap(0, Ordering::Relaxed)));
}
