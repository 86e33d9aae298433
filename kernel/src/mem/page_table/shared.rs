//! Lowest tables that address spaces share after a fork.
//!
//! An entry of level 2 without [`EntryFlags::WRITE`] refers to a lowest table to which other spaces
//! may refer as well: the CPU allows no store below it. Each of them has the same entries, until
//! one of them changes an entry. It owns a table first: it takes the shared one back where it is
//! the last to refer to it, and otherwise makes a copy, for which a frame was promised at the fork.
//! So owning cannot fail.
//!
//! Invariants:
//! - The count of the table's frame is the number of entries of level 2 that refer to it, and one
//!   less than that is the number of frames promised for it.
//! - An entry of a shared table may have `WRITE` where its frame has no other owner. A copy is
//!   another owner, and clears `WRITE` in both tables. So the last one can take the table back as
//!   it is.
//! - The CPU marks pages as used through every space, and reclaim clears these marks. Nothing else
//!   of a shared table changes, but for `WRITE` as above.
//!
//! What reads entries sees them without `WRITE`, and marked: [`EntryFlags::SHARED_TABLE`]. What
//! changes entries gets their table from [`own`] only: by way of `make_leaf`, `own_cell` and
//! `visit_owned`.
//!
//! Lock: `SHARING`, inside a space's. It decides who is the last.
#![forbid(unsafe_code)]

use super::{
    Entry, EntryFlags, Flush, LEVELS, PageTable, Table, USER_TABLE,
    entry::ADDRESS_BITS,
    mutants,
    walk::{make_upper, owned, span, table_at, visit_uppers},
};
use crate::mem::{OutOfMemory, Page, PageRange, PhysAddr, frame, mmu, slot::SwapSlot};
use crate::sync::{Mutex, rank};
use core::sync::atomic::{AtomicU64, Ordering};

static SHARING: Mutex<(), rank::SharedTables> = Mutex::new(());

const WRITE: u64 = EntryFlags::WRITE.bits();

/// Whether an entry of level 2 refers to a table that others may refer to as well.
#[inline]
pub(super) fn is_shared(upper: u64) -> bool {
    upper & WRITE == 0
}

/// Whether others refer to the table of a cell of level 2 now.
pub(super) fn has_sharers(upper: &AtomicU64) -> bool {
    frame::is_shared(PhysAddr(upper.load(Ordering::Relaxed) & ADDRESS_BITS))
}

/// An entry that is not empty, as the CPU and everybody else see it below an entry of level 2.
#[inline]
pub(super) fn entry_below(upper: u64, entry: u64) -> Entry {
    if is_shared(upper) {
        let withheld = if mutants::share_writable() { 0 } else { WRITE };
        Entry(entry & !withheld | EntryFlags::SHARED_TABLE.bits())
    } else {
        Entry(entry)
    }
}

/// The lowest table that a cell of level 2 refers to, which no other space refers to from now on.
/// `page` is one of the table's.
#[inline]
pub(super) fn own(root: PhysAddr, page: Page, upper: &AtomicU64) -> &'static Table {
    let entry = upper.load(Ordering::Relaxed);
    if is_shared(entry) {
        return own_shared(root, page, upper);
    }
    table_at(PhysAddr(entry & ADDRESS_BITS))
}

#[cold]
#[inline(never)]
fn own_shared(root: PhysAddr, page: Page, upper: &AtomicU64) -> &'static Table {
    let _sharing = SHARING.lock();
    own_locked(root, page, upper)
}

/// The same for reclaim, which may hold any lock. `None` where the table cannot be owned now.
pub(super) fn try_own(
    root: PhysAddr,
    page: Page,
    upper: &AtomicU64,
    locks: Locks,
) -> Option<&'static Table> {
    let entry = upper.load(Ordering::Relaxed);
    if locks == Locks::Any || !is_shared(entry) {
        return Some(own(root, page, upper));
    }
    let _sharing = SHARING.try_lock()?;
    // To count a reference to a slot takes a lock.
    let table = table_at(PhysAddr(entry & ADDRESS_BITS));
    let has_slots = || table.iter().any(|cell| Entry(cell.load(Ordering::Relaxed)).is_swapped());
    if has_sharers(upper) && has_slots() {
        return None;
    }
    Some(own_locked(root, page, upper))
}

/// Which locks a sweep acquires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// Those of its order: the caller holds none further inside.
    Any,
    /// Those that are free, and of these only the outermost: the caller may hold any.
    Free,
}

/// [`own`], where `SHARING` is locked.
fn own_locked(root: PhysAddr, page: Page, upper: &AtomicU64) -> &'static Table {
    let entry = upper.load(Ordering::Relaxed);
    let table = table_at(PhysAddr(entry & ADDRESS_BITS));
    if !has_sharers(upper) {
        // Access grows, so no translation is stale.
        upper.store(entry | WRITE, Ordering::Relaxed);
        return table;
    }
    let copy = frame::redeem();
    let own = table_at(copy.addr());
    copy_entries(table, own);
    upper.store(copy.into_raw().0 | USER_TABLE.bits(), Ordering::Relaxed);
    drop(owned(entry));
    // The pages are where they were, but the CPU may have cached the way to the old table. To
    // invalidate one page makes it forget all such ways.
    mmu::invalidate_page(root, page);
    own
}

/// Copies all entries. Each page has another owner then, so neither table allows a store to it.
fn copy_entries(from: &Table, to: &Table) {
    for (ours, theirs) in from.iter().zip(to) {
        let mut entry = ours.load(Ordering::Relaxed);
        if let Some(slot) = Entry(entry).slot() {
            entry = Entry::swapped(SwapSlot::share(slot)).0;
        } else if entry != 0 {
            frame::retain(Entry(entry).address());
            if entry & WRITE != 0 {
                ours.fetch_and(!WRITE, Ordering::Relaxed);
                entry &= !WRITE;
            }
        }
        theirs.store(entry, Ordering::Relaxed);
    }
}

/// Removes the reference of a cell of level 2 to a table that others refer to as well. Returns
/// false, without a change, where no others do.
#[cold]
#[inline(never)]
pub(super) fn leave(upper: &AtomicU64) -> bool {
    let _sharing = SHARING.lock();
    let entry = upper.load(Ordering::Relaxed);
    if !has_sharers(upper) {
        upper.store(entry | WRITE, Ordering::Relaxed);
        return false;
    }
    upper.store(0, Ordering::Relaxed);
    drop(owned(entry));
    frame::break_promise();
    true
}

/// The pages of all lowest tables that have pages of a range.
fn whole_tables(range: PageRange) -> PageRange {
    let size = span(2);
    let (start, end) = (range.start.0 / size * size, range.end.0.next_multiple_of(size));
    PageRange { start: Page(start), end: Page(end) }
}

impl PageTable {
    /// Shares lowest tables with `other`, which has nothing there: those that have pages of
    /// `range`, lie in `within` as a whole, and are accepted by `may_share`, which gets their
    /// pages. Adds to `stale` the translations that may have been writable and are not any more.
    /// Returns the end of the pages that were looked at.
    pub fn share_tables(
        &mut self,
        range: PageRange,
        within: PageRange,
        other: &mut Self,
        mut may_share: impl FnMut(PageRange) -> bool,
        stale: &mut Flush,
    ) -> Result<Page, OutOfMemory> {
        let (mut result, range) = (Ok(()), whole_tables(range));
        visit_uppers(table_at(self.root()), LEVELS, 0, range, &mut |base, upper| {
            let pages = PageRange { start: Page(base), end: Page(base + span(2)) };
            if result.is_ok() && pages.intersect(within) == pages && may_share(pages) {
                result = other.share_table(pages, upper, stale);
            }
        });
        result.map(|()| range.end)
    }

    /// Shares the lowest table of these pages that another space's cell refers to.
    fn share_table(
        &mut self,
        pages: PageRange,
        upper: &AtomicU64,
        stale: &mut Flush,
    ) -> Result<(), OutOfMemory> {
        let payer = (self.claim, Some(&self.tables));
        let ours = make_upper(self.root(), pages.start, USER_TABLE, payer)?;
        debug_assert_eq!(ours.load(Ordering::Relaxed), 0, "{pages:?} are mapped already");
        if !self.tables.account().admits_table() {
            return Err(OutOfMemory);
        }
        frame::promise(self.claim)?;
        self.tables.add();
        let entry = upper.load(Ordering::Relaxed);
        frame::retain(PhysAddr(entry & ADDRESS_BITS));
        let shared = entry & !WRITE;
        ours.store(shared & !EntryFlags::ACCESSED.bits(), Ordering::Relaxed);
        if shared != entry {
            upper.store(shared, Ordering::Relaxed);
            stale.merge(Flush::range(pages));
        }
        Ok(())
    }
}
