//! Many pages at once: what fork, fault-around, messages and reclaim do to page tables, at a few
//! instructions a page.

use super::Held;
use super::{
    ADDRESS_BITS, ENTRIES, Entry, EntryFlags, Flush, LEVELS, PageTable, Table, USER_TABLE, index,
    make_leaf, met, owned, span, table_at, visit, visit_leaves,
};
use crate::mem::{Frame, OutOfMemory, Page, PageRange, PhysAddr, frame, swap::Slot};
use core::sync::atomic::{AtomicU64, Ordering};

/// Maps neighbouring pages where nothing is mapped, walking the tables once for many.
pub struct Filler<'a> {
    table: &'a mut PageTable,
    flags: EntryFlags,
    /// The lowest table last used, and the number of its first page divided by its size.
    leaf: Option<(u64, &'static Table)>,
}

impl<'a> Filler<'a> {
    /// Every page is going to be mapped with these flags.
    pub fn new(table: &'a mut PageTable, flags: EntryFlags) -> Self {
        Self { table, flags, leaf: None }
    }

    /// Maps a page if nothing is there; says whether it did. Fails where a table is missing and
    /// cannot be made.
    pub fn put(&mut self, page: Page, frame: &Frame) -> Result<bool, OutOfMemory> {
        let slot = self.slot(page)?;
        let empty = slot.load(Ordering::Relaxed) == 0;
        if empty {
            slot.store(Entry::new(frame.clone().into_raw(), self.flags).0, Ordering::Relaxed);
        }
        Ok(empty)
    }

    /// Maps a page in the place of what is there; gives that back, with its flags.
    pub fn replace(
        &mut self,
        page: Page,
        frame: Frame,
        flags: EntryFlags,
    ) -> Result<Option<(Held, EntryFlags)>, OutOfMemory> {
        let old = self.slot(page)?.swap(Entry::new(frame.into_raw(), flags).0, Ordering::Relaxed);
        Ok(owned(old).map(|held| (held, Entry(old).flags())))
    }

    fn slot(&mut self, page: Page) -> Result<&'static AtomicU64, OutOfMemory> {
        let number = page.0 / ENTRIES as u64;
        let leaf = match self.leaf {
            Some((found, leaf)) if found == number => leaf,
            _ => {
                let leaf = make_leaf(self.table.root(), page, USER_TABLE, self.table.claim)?;
                self.leaf = Some((number, leaf));
                leaf
            }
        };
        Ok(&leaf[index(page.0, 1)])
    }
}

impl PageTable {
    /// Takes references to the frames of neighbouring pages from the range's start on, up to the
    /// first that is not mapped, and makes their entries read-only. What was writable is stale
    /// then.
    pub fn lend(&mut self, range: PageRange, mut take: impl FnMut(Frame)) -> Flush {
        let mut next = range.start;
        let mut stale = Flush::NOTHING;
        // Stops at a gap by not taking what comes behind it.
        visit(table_at(self.root()), LEVELS, 0, range, &mut |page, slot| {
            if page != next || Entry(slot.load(Ordering::Relaxed)).is_swapped() {
                return;
            }
            next = page.next();
            let entry = Entry(slot.fetch_and(!EntryFlags::WRITE.bits(), Ordering::Relaxed));
            if entry.has(EntryFlags::WRITE) {
                stale.merge(Flush::page(page));
            }
            take(entry.frame());
        });
        stale
    }
}

impl PageTable {
    /// Maps the pages of a range into a space that has nothing there, too. `stale` gets what the
    /// CPU may think writable that is not any more.
    pub fn share(
        &mut self,
        range: PageRange,
        other: &mut Self,
        sharing: Sharing,
        stale: &mut Flush,
    ) -> Result<(), OutOfMemory> {
        let used = (EntryFlags::ACCESSED | EntryFlags::DIRTY).bits();
        let withheld = if sharing == Sharing::CopyOnWrite { EntryFlags::WRITE.bits() } else { 0 };
        let mut result = Ok(());
        visit_leaves(table_at(self.root()), LEVELS, 0, range, &mut |base, leaf, indices| {
            let theirs = match make_leaf(other.root(), Page(base), USER_TABLE, other.claim) {
                Ok(theirs) if result.is_ok() => theirs,
                Ok(_) => return,
                Err(error) => return result = Err(error),
            };
            // This loop is what fork costs: a few instructions a page.
            let slots = leaf
                .get(indices.clone())
                .unwrap_or_default()
                .iter()
                .zip(theirs.get(indices.clone()).unwrap_or_default());
            for (page, (ours, theirs)) in (base + indices.start as u64..).zip(slots) {
                let entry = ours.load(Ordering::Relaxed);
                if entry == 0 {
                    continue;
                }
                if let Some(slot) = Entry(entry).slot() {
                    theirs.store(Entry::swapped(Slot::share(slot)).0, Ordering::Relaxed);
                    continue;
                }
                frame::retain(Entry(entry).address());
                theirs.store(entry & !withheld & !used, Ordering::Relaxed);
                if entry & withheld != 0 {
                    ours.fetch_and(!withheld, Ordering::Relaxed);
                    stale.merge(Flush::page(Page(page)));
                }
            }
        });
        result
    }
}

/// How two spaces share pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Neither can store any more without a copy.
    CopyOnWrite,
    /// Both go on as they did.
    InPlace,
}

/// What [`PageTable::sweep`] does with an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It stays, but counts as not used from now on.
    Age,
    /// It goes.
    Drop,
    /// It gives way to a slot of the swap file, to which it gets this reference.
    Swap(Slot),
}

/// What a [`PageTable::sweep`] came to.
#[derive(Debug, Default)]
pub struct Swept {
    /// Entries that went.
    pub entries: usize,
    /// Tables that were empty then, and are free.
    pub tables: usize,
    /// Where it stopped because it had enough; it goes on there.
    pub stopped: Option<Page>,
}

impl PageTable {
    /// Goes through the mapped pages of a range and takes away what `judge` says, until `enough`
    /// entries went.
    pub fn sweep(
        &mut self,
        range: PageRange,
        enough: usize,
        mut judge: impl FnMut(Page, Entry) -> Verdict,
    ) -> Swept {
        let mut swept = Swept::default();
        sweep(table_at(self.root()), LEVELS, 0, range, enough, &mut swept, &mut judge);
        swept
    }
}

fn sweep(
    table: &Table,
    level: u32,
    base: u64,
    range: PageRange,
    enough: usize,
    swept: &mut Swept,
    judge: &mut impl FnMut(Page, Entry) -> Verdict,
) {
    for index in met(level, base, range) {
        let (slot, page) = (&table[index], base + index as u64 * span(level));
        let entry = slot.load(Ordering::Relaxed);
        if entry == 0 {
            continue;
        }
        if swept.entries >= enough {
            swept.stopped.get_or_insert(Page(page.max(range.start.0)));
            return;
        }
        if level > 1 {
            let (child, before) = (table_at(PhysAddr(entry & ADDRESS_BITS)), swept.entries);
            sweep(child, level - 1, page, range, enough, swept, judge);
            if swept.entries > before && child.iter().all(|slot| slot.load(Ordering::Relaxed) == 0)
            {
                slot.store(0, Ordering::Relaxed);
                drop(owned(entry));
                swept.tables += 1;
            }
            continue;
        }
        match judge(Page(page), Entry(entry)) {
            Verdict::Keep => {}
            Verdict::Age => drop(slot.fetch_and(!EntryFlags::ACCESSED.bits(), Ordering::Relaxed)),
            Verdict::Drop => {
                slot.store(0, Ordering::Relaxed);
                drop(owned(entry));
                swept.entries += 1;
            }
            Verdict::Swap(new) => {
                slot.store(Entry::swapped(new).0, Ordering::Relaxed);
                drop(owned(entry));
                swept.entries += 1;
            }
        }
    }
}
