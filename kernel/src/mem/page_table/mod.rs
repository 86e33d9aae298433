//! Four-level page tables of x86-64 (Intel SDM volume 3, 4.5), walked by software through the
//! direct map.
//!
//! A [`PageTable`] owns its tables and one reference to every frame it maps. Tables that a range
//! covers as a whole are freed when the range is cleared. An entry that is not empty holds a frame,
//! even where the CPU may not use it (PROT_NONE): [`EntryFlags::HELD`]. Where the page was swapped
//! out, the entry holds a slot of the swap file instead: [`EntryFlags::SWAPPED`]. What is taken out
//! of an entry is therefore [`Held`]. The upper half is the kernel's, the same in all spaces. After
//! a fork, spaces share lowest tables until one of them changes an entry ([`shared`]).
//! Entries are atomics because the CPU sets accessed and dirty bits.
//!
//! Translations that the CPU could still have are collected in a [`Flush`], which the caller merges
//! and flushes before it releases the address space's lock: the one place for TLB shoot-down, once
//! there are more CPUs. (With one CPU, kernel code that is never preempted, and no access through
//! user mappings, frames may be freed before that.)

mod bulk;
mod entry;
mod flush;
mod mutants;
mod part;
mod shared;
mod tree;
mod walk;

pub use bulk::{Bounds, Filler, ForkSharing, Swept, Verdict};
pub use entry::{Entry, EntryFlags, Held};
pub use flush::Flush;
pub use shared::Locks;
pub use tree::{FrameTree, MARKS};
pub(super) use walk::{for_each_frame, make_cell};

use super::account::{Account, Kind, PageTally};
use super::{Claim, Frame, OutOfMemory, Page, PageRange, PhysAddr, mmu};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::PageCount;
use shared::entry_below;
use walk::{
    change, clear, each_table, find_leaf, free_table, index, own_cell, owned, span, table_at,
    visit, visit_frames_in, visit_owned_cells,
};

/// Entries of a table.
const ENTRIES: usize = 512;
/// Levels of tables; level 1 is the lowest.
const LEVELS: u32 = 4;
/// Entries of the root that are a program's.
const USER_ROOT_ENTRIES: usize = ENTRIES / 2;

type Table = [AtomicU64; ENTRIES];

const USER_TABLE: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::WRITE).union(EntryFlags::USER);

/// The page tables of one address space.
#[derive(Debug)]
pub struct PageTable {
    root: Frame,
    /// On whose behalf tables are allocated.
    pub claim: Claim,
    /// All tables, the root apart.
    tables: PageTally,
}

impl PageTable {
    /// Tables without user mappings, for which `account` pays. `kernel` is the root whose upper
    /// half is the kernel's; there is none on the host.
    pub fn new(
        kernel: Option<PhysAddr>,
        claim: Claim,
        account: Arc<Account>,
    ) -> Result<Self, OutOfMemory> {
        let root = Frame::zeroed_for(claim)?;
        if let Some(kernel) = kernel {
            let (ours, theirs) = (table_at(root.addr()), table_at(kernel));
            let (_, ours) = ours.split_at(USER_ROOT_ENTRIES);
            let (_, theirs) = theirs.split_at(USER_ROOT_ENTRIES);
            for (cell, entry) in ours.iter().zip(theirs) {
                cell.store(entry.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        Ok(Self { root, claim, tables: PageTally::new(account, Kind::Tables) })
    }

    /// Address of the root table, for CR3.
    pub fn root(&self) -> PhysAddr {
        self.root.addr()
    }

    /// Calls `look` for each frame that this owns and that has to do with a range of a program's
    /// pages: tables, and what they map.
    pub fn for_each_frame(&self, range: PageRange, look: &mut impl FnMut(PhysAddr)) {
        look(self.root());
        visit_frames_in(table_at(self.root()), LEVELS, 0, range, look);
    }

    /// The entry of a page, unless it is empty.
    #[inline]
    pub fn get(&self, page: Page) -> Option<Entry> {
        let (leaf, upper) = find_leaf(self.root(), page)?;
        let entry = leaf[index(page.0, 1)].load(Ordering::Relaxed);
        (entry != 0).then(|| entry_below(upper, entry))
    }

    /// The entry of a page, unless it is empty, in a table that no other space shares from now on.
    pub fn own(&mut self, page: Page) -> Option<Entry> {
        let entry = own_cell(self.root(), page)?.load(Ordering::Relaxed);
        (entry != 0).then_some(Entry(entry))
    }

    /// Maps a page whose entry is empty.
    #[inline]
    pub fn fill(&mut self, page: Page, frame: Frame, flags: EntryFlags) -> Result<(), OutOfMemory> {
        let cell = make_cell(self.root(), page, USER_TABLE, (self.claim, Some(&self.tables)))?;
        debug_assert_eq!(cell.load(Ordering::Relaxed), 0, "{page:?} is mapped already");
        cell.store(Entry::new(frame.into_raw(), flags).0, Ordering::Relaxed);
        Ok(())
    }

    /// Maps a page. Returns what its entry held before.
    pub fn map(
        &mut self,
        page: Page,
        frame: Frame,
        flags: EntryFlags,
    ) -> Result<Option<Held>, OutOfMemory> {
        self.put(page, Held::Frame(frame), flags)
    }

    /// Stores an entry that was taken out of a table. Returns what the page's entry held before.
    pub fn put(
        &mut self,
        page: Page,
        held: Held,
        flags: EntryFlags,
    ) -> Result<Option<Held>, OutOfMemory> {
        let cell = make_cell(self.root(), page, USER_TABLE, (self.claim, Some(&self.tables)))?;
        let entry = match held {
            Held::Frame(frame) => Entry::new(frame.into_raw(), flags),
            Held::Slot(slot) => Entry::swapped(slot),
        };
        Ok(owned(cell.swap(entry.0, Ordering::Relaxed)))
    }

    /// Changes the flags of a page that is mapped; accessed and dirty bits stay as they are.
    pub fn set_flags(&mut self, page: Page, flags: EntryFlags) {
        if let Some(cell) = own_cell(self.root(), page) {
            change(cell, flags);
        }
    }

    /// Sets accessed and dirty bits, as the CPU does.
    #[cfg(not(target_os = "none"))]
    pub fn mark_used(&self, page: Page, bits: EntryFlags) {
        if let Some((leaf, _)) = find_leaf(self.root(), page) {
            leaf[index(page.0, 1)].fetch_or(bits.bits(), Ordering::Relaxed);
        }
    }

    /// Empties the entry of a page. Returns what it held.
    pub fn unmap(&mut self, page: Page) -> Option<Held> {
        own_cell(self.root(), page).and_then(|cell| owned(cell.swap(0, Ordering::Relaxed)))
    }

    /// Calls `look` for each page of a range whose entry is not empty. The cost depends on the
    /// number of such pages, not on the length of the range.
    pub fn for_each(&self, range: PageRange, mut look: impl FnMut(Page, Entry)) {
        visit(table_at(self.root()), LEVELS, 0, range, &mut look);
    }

    /// Number of pages of a range that have private contents.
    pub fn count_private(&self, range: PageRange) -> PageCount {
        let mut count = 0;
        self.for_each(range, |_, entry| count += u64::from(entry.has(EntryFlags::PRIVATE)));
        PageCount(count)
    }

    /// Changes the flags of the mapped pages of a range to what `choose` returns. The flags of
    /// swapped pages are chosen when they are mapped again.
    pub fn update(&mut self, range: PageRange, mut choose: impl FnMut(Page, Entry) -> EntryFlags) {
        visit_owned_cells(self.root(), range, &mut |page, cell| {
            let entry = Entry(cell.load(Ordering::Relaxed));
            if !entry.is_swapped() {
                change(cell, choose(page, entry));
            }
        });
    }

    /// Empties all entries of a range, and frees the tables that the range covers as a whole.
    /// `emptied` gets the pages, in ascending order, and maybe others between them that had
    /// nothing.
    pub fn clear(&mut self, range: PageRange, mut emptied: impl FnMut(PageRange)) {
        let tables = (self.root(), Some(&self.tables));
        clear(table_at(self.root()), LEVELS, 0, range, tables, &mut emptied);
    }
}

impl PageTable {
    /// Empties tables that no thread uses any more, and of which only pages of `ranges`, ascending,
    /// have anything. Does nothing where there are other tables as well, which have become empty.
    pub fn dismantle<T: Iterator<Item = PageRange>>(&mut self, ranges: impl Fn() -> T) {
        mmu::forget(self.root());
        let root = table_at(self.root());
        let mut tables = 0;
        each_table(root, LEVELS, 0, &mut ranges().peekable(), &mut |_, _| tables += 1);
        if tables == self.tables.pages() {
            each_table(root, LEVELS, 0, &mut ranges().peekable(), &mut free_table);
            self.tables.remove(tables);
        }
    }

    /// Empties the entries of a range in a table that no thread uses any more.
    pub fn abandon(&mut self, range: PageRange) {
        mmu::forget(self.root());
        self.clear(range, |_| ());
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        self.abandon(PageRange {
            start: Page(0),
            end: Page(USER_ROOT_ENTRIES as u64 * span(LEVELS)),
        });
    }
}
