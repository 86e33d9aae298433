//! Four-level page tables of x86-64 (Intel SDM volume 3, 4.5), walked by software through the
//! direct map.
//!
//! A [`PageTable`] owns its tables and one reference to every frame it maps; tables that a range
//! covers as a whole are freed when the range is cleared. An entry that is not zero holds a frame,
//! even where the CPU may not use it (PROT_NONE): [`EntryFlags::HELD`]; or, where the page was
//! swapped out, a slot of the swap file in the place of one ([`EntryFlags::SWAPPED`]). What comes
//! out of an entry is therefore [`Held`]. The upper half is the kernel's, the same in all spaces.
//! Entries are atomics because the CPU sets accessed and dirty bits by itself.
//!
//! Changes that the CPU could still have the old translation for are gathered in a [`Flush`], which
//! the caller merges and flushes before it lets go of the address space's lock: the one place for
//! shoot-down, once there are more CPUs. (With one CPU, kernel code that is never preempted, and no
//! access through user mappings, frames may be freed before that.)

mod bulk;

pub use bulk::{Filler, Sharing, Swept, Verdict};

use super::{
    Frame, OutOfMemory, PAGE_SHIFT, Page, PageRange, PhysAddr, frame::Claim, kernel, mmu,
    phys::phys_to_virt, swap::Slot,
};
use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};
use foundation::PageCount;
use foundation::counter::{self, Counter};

bitflags::bitflags! {
    /// The bits of an entry that are not the address.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryFlags: u64 {
        /// The CPU may use it.
        const PRESENT = 1 << 0;
        /// Stores are allowed.
        const WRITE = 1 << 1;
        /// Ring 3 may use it.
        const USER = 1 << 2;
        /// Set by the CPU when it used the entry.
        const ACCESSED = 1 << 5;
        /// Set by the CPU at a store.
        const DIRTY = 1 << 6;
        /// Contents that belong to this space alone: not the zero page, not clean bytes of an
        /// association (software).
        const PRIVATE = 1 << 9;
        /// The entry owns a reference to its frame (software; in every entry that maps a page).
        const HELD = 1 << 10;
        /// The page is in the swap file: the address is that of its slot there, to which the entry
        /// owns a reference (software; with `PRIVATE` and nothing else).
        const SWAPPED = 1 << 11;
        /// No instruction is fetched from it.
        const NO_EXECUTE = 1 << 63;
    }
}

const ADDRESS_BITS: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: usize = 512;
const LEVELS: u32 = 4;
/// Entries of the root that are a program's.
const USER_ROOT_ENTRIES: usize = ENTRIES / 2;
/// Translations flushed one by one, at most; beyond that the whole space is cheaper.
const SINGLE_FLUSHES: PageCount = PageCount(32);

type Table = [AtomicU64; ENTRIES];

/// What an entry held a reference to, once it is out of the table.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// A frame.
    Frame(Frame),
    /// A page of the swap file.
    Slot(Slot),
}

/// An entry that holds a frame, or a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    fn swapped(slot: Slot) -> Self {
        Self(
            u64::from(slot.into_raw()) << PAGE_SHIFT
                | (EntryFlags::SWAPPED | EntryFlags::PRIVATE).bits(),
        )
    }

    /// Whether the page is in the swap file.
    pub fn is_swapped(self) -> bool {
        self.0 & EntryFlags::SWAPPED.bits() != 0
    }

    /// The number of its slot there, if so.
    pub fn slot(self) -> Option<u32> {
        self.is_swapped().then_some(((self.0 & ADDRESS_BITS) >> PAGE_SHIFT) as u32)
    }

    fn new(address: PhysAddr, flags: EntryFlags) -> Self {
        Self(address.0 | (flags | EntryFlags::HELD).bits())
    }

    /// The frame's address. (Of a page that is not swapped, like all below.)
    pub fn address(self) -> PhysAddr {
        PhysAddr(self.0 & ADDRESS_BITS)
    }

    /// Its flags.
    pub fn flags(self) -> EntryFlags {
        EntryFlags::from_bits_truncate(self.0)
    }

    /// Whether all of `flags` are set.
    pub fn has(self, flags: EntryFlags) -> bool {
        self.flags().contains(flags)
    }

    /// A reference to its frame.
    pub fn frame(self) -> Frame {
        // SAFETY: the entry holds a reference (that is what an `Entry` is), which is only looked at
        // here, and kept.
        let held = core::mem::ManuallyDrop::new(unsafe { Frame::from_raw(self.address()) });
        Frame::clone(&held)
    }

    /// Whether anyone but this entry holds the frame.
    pub fn is_shared(self) -> bool {
        // SAFETY: as above.
        !self.is_swapped()
            && core::mem::ManuallyDrop::new(unsafe { Frame::from_raw(self.address()) }).is_shared()
    }

    /// Whether it maps the frame of zeros.
    pub fn is_zero_page(self) -> bool {
        // SAFETY: as above.
        !self.is_swapped()
            && core::mem::ManuallyDrop::new(unsafe { Frame::from_raw(self.address()) })
                .is_zero_page()
    }
}

/// Translations that may be stale.
#[must_use = "stale translations must be flushed"]
#[derive(Debug)]
pub struct Flush {
    range: Option<PageRange>,
}

impl Flush {
    /// Nothing is stale.
    pub const NOTHING: Self = Self { range: None };

    /// One page.
    pub fn page(page: Page) -> Self {
        Self { range: Some(PageRange::single(page)) }
    }

    /// A range of pages.
    pub fn range(range: PageRange) -> Self {
        Self { range: Some(range) }
    }

    /// Both.
    pub fn merge(&mut self, other: Self) {
        self.range = match (self.range, other.range) {
            (Some(a), Some(b)) => {
                Some(PageRange { start: a.start.min(b.start), end: a.end.max(b.end) })
            }
            (one, None) | (None, one) => one,
        };
    }

    /// Makes the CPU forget them.
    pub fn flush(self, table: &PageTable) {
        let Some(range) = self.range else { return };
        counter::count(Counter::Flushes, 1);
        if range.pages() <= SINGLE_FLUSHES {
            range.iter().for_each(|page| mmu::invalidate_page(table.root(), page));
        } else {
            mmu::invalidate_all(table.root());
        }
    }
}

/// The table at an address.
fn table_at(address: PhysAddr) -> &'static Table {
    // SAFETY: only addresses of tables come here: a root, or an entry of an upper level. They are
    // page-aligned and freed only by the owner of the root, who is borrowed mutably then; all
    // access is atomic. The lifetime is cut short by the callers, none of which keeps the
    // reference.
    unsafe { &*phys_to_virt(address).cast::<Table>() }
}

fn index(page: u64, level: u32) -> usize {
    ((page >> (9 * (level - 1))) & 511) as usize
}

/// Pages that one entry of a level covers.
fn span(level: u32) -> u64 {
    1 << (9 * (level - 1))
}

/// The lowest-level slot of a page, if its tables exist.
fn find_slot(root: PhysAddr, page: Page) -> Option<&'static AtomicU64> {
    let mut table = table_at(root);
    for level in (2..=LEVELS).rev() {
        let entry = table[index(page.0, level)].load(Ordering::Relaxed);
        if entry == 0 {
            return None;
        }
        table = table_at(PhysAddr(entry & ADDRESS_BITS));
    }
    Some(&table[index(page.0, 1)])
}

/// The lowest table for a page, making tables that are missing, with `flags` in their entries.
fn make_leaf(
    root: PhysAddr,
    page: Page,
    flags: EntryFlags,
    claim: Claim,
) -> Result<&'static Table, OutOfMemory> {
    let mut table = table_at(root);
    for level in (2..=LEVELS).rev() {
        let slot = &table[index(page.0, level)];
        let mut entry = slot.load(Ordering::Relaxed);
        if entry == 0 {
            entry = Frame::zeroed_for(claim)?.into_raw().0 | flags.bits();
            slot.store(entry, Ordering::Relaxed);
        }
        table = table_at(PhysAddr(entry & ADDRESS_BITS));
    }
    Ok(table)
}

/// The slot of a page, likewise.
pub(super) fn make_slot(
    root: PhysAddr,
    page: Page,
    flags: EntryFlags,
    claim: Claim,
) -> Result<&'static AtomicU64, OutOfMemory> {
    Ok(&make_leaf(root, page, flags, claim)?[index(page.0, 1)])
}

const USER_TABLE: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::WRITE).union(EntryFlags::USER);

/// The page tables of one address space.
#[derive(Debug)]
pub struct PageTable {
    root: Frame,
    /// On whose behalf tables are made: they are the kernel's own memory, but a program makes it
    /// spend them.
    pub claim: Claim,
}

impl PageTable {
    /// Tables that map nothing but the kernel.
    pub fn new(claim: Claim) -> Result<Self, OutOfMemory> {
        let root = Frame::zeroed_for(claim)?;
        if let Some(kernel) = kernel::root() {
            let (ours, theirs) = (table_at(root.addr()), table_at(kernel));
            for (slot, entry) in ours.iter().zip(theirs).skip(USER_ROOT_ENTRIES) {
                slot.store(entry.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        Ok(Self { root, claim })
    }

    /// Address of the root, for CR3.
    pub fn root(&self) -> PhysAddr {
        self.root.addr()
    }

    /// Calls `look` for each frame that it holds: tables, and what they map for the program.
    pub fn for_each_frame(&self, look: &mut impl FnMut(PhysAddr)) {
        look(self.root());
        (0..USER_ROOT_ENTRIES as u64)
            .for_each(|index| for_each_frame(self.root(), Page(index * span(LEVELS)), look));
    }

    /// The entry of a page.
    pub fn get(&self, page: Page) -> Option<Entry> {
        let entry = find_slot(self.root(), page)?.load(Ordering::Relaxed);
        (entry != 0).then_some(Entry(entry))
    }

    /// Maps a page, and gives back what was there.
    pub fn map(
        &mut self,
        page: Page,
        frame: Frame,
        flags: EntryFlags,
    ) -> Result<Option<Held>, OutOfMemory> {
        self.put(page, Held::Frame(frame), flags)
    }

    /// Puts an entry that was taken out of a table in again; gives back what was there.
    pub fn put(
        &mut self,
        page: Page,
        held: Held,
        flags: EntryFlags,
    ) -> Result<Option<Held>, OutOfMemory> {
        let slot = make_slot(self.root(), page, USER_TABLE, self.claim)?;
        let entry = match held {
            Held::Frame(frame) => Entry::new(frame.into_raw(), flags),
            Held::Slot(slot) => Entry::swapped(slot),
        };
        Ok(owned(slot.swap(entry.0, Ordering::Relaxed)))
    }

    /// Changes the flags of a page that is mapped; accessed and dirty bits stay as they are.
    pub fn set_flags(&mut self, page: Page, flags: EntryFlags) {
        if let Some(slot) = find_slot(self.root(), page) {
            change(slot, flags);
        }
    }

    /// Sets accessed and dirty bits, as the CPU does by itself.
    #[cfg(not(target_os = "none"))]
    pub fn mark_used(&self, page: Page, bits: EntryFlags) {
        if let Some(slot) = find_slot(self.root(), page) {
            slot.fetch_or(bits.bits(), Ordering::Relaxed);
        }
    }

    /// Takes what a page holds away.
    pub fn unmap(&mut self, page: Page) -> Option<Held> {
        find_slot(self.root(), page).and_then(|slot| owned(slot.swap(0, Ordering::Relaxed)))
    }

    /// Calls `look` for every page of a range that is mapped. Costs what there is, not what there
    /// could be.
    pub fn for_each(&self, range: PageRange, mut look: impl FnMut(Page, Entry)) {
        visit(table_at(self.root()), LEVELS, 0, range, &mut |page, slot| {
            look(page, Entry(slot.load(Ordering::Relaxed)))
        });
    }

    /// How many pages of a range have private contents.
    pub fn count_private(&self, range: PageRange) -> PageCount {
        let mut count = 0;
        self.for_each(range, |_, entry| count += u64::from(entry.has(EntryFlags::PRIVATE)));
        PageCount(count)
    }

    /// Makes the tables of a page, so that mapping it cannot fail.
    pub fn make_tables(&self, page: Page) -> Result<(), OutOfMemory> {
        make_slot(self.root(), page, USER_TABLE, self.claim).map(drop)
    }

    /// Gives the mapped pages of a range new flags, chosen from the entry. Those of swapped ones
    /// are chosen when they come back.
    pub fn update(&mut self, range: PageRange, mut choose: impl FnMut(Page, Entry) -> EntryFlags) {
        visit(table_at(self.root()), LEVELS, 0, range, &mut |page, slot| {
            let entry = Entry(slot.load(Ordering::Relaxed));
            if !entry.is_swapped() {
                change(slot, choose(page, entry));
            }
        });
    }

    /// Takes all frames of a range away, and the tables that covered nothing else. `release` gets
    /// each entry that was there, and what it held.
    pub fn clear(&mut self, range: PageRange, mut release: impl FnMut(Page, Entry, Held)) {
        clear(table_at(self.root()), LEVELS, 0, range, &mut release);
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        mmu::forget(self.root());
        self.clear(
            PageRange { start: Page(0), end: Page(USER_ROOT_ENTRIES as u64 * span(LEVELS)) },
            |_, _, frame| drop(frame),
        );
    }
}

/// Calls `look` for each frame below the entry of the root `root` that covers `page`: tables, and
/// what they map.
pub(super) fn for_each_frame(root: PhysAddr, page: Page, look: &mut impl FnMut(PhysAddr)) {
    let entry = table_at(root)[index(page.0, LEVELS)].load(Ordering::Relaxed);
    if entry != 0 {
        visit_frames(entry, LEVELS - 1, look);
    }
}

/// The frame of an entry, and all below it if it is that of a table of `level`.
fn visit_frames(entry: u64, level: u32, look: &mut impl FnMut(PhysAddr)) {
    let address = PhysAddr(entry & ADDRESS_BITS);
    look(address);
    if level > 0 {
        let entries = table_at(address).iter().map(|slot| slot.load(Ordering::Relaxed));
        entries
            .filter(|entry| *entry != 0 && !Entry(*entry).is_swapped())
            .for_each(|entry| visit_frames(entry, level - 1, look));
    }
}

/// What an entry owned, once it is out of the table.
fn owned(entry: u64) -> Option<Held> {
    if let Some(number) = Entry(entry).slot() {
        return Some(Held::Slot(Slot::from_raw(number)));
    }
    // SAFETY: the entry was just taken out of a table, and with it its reference.
    (entry != 0).then(|| Held::Frame(unsafe { Frame::from_raw(Entry(entry).address()) }))
}

fn change(slot: &AtomicU64, flags: EntryFlags) {
    let keep = ADDRESS_BITS | (EntryFlags::HELD | EntryFlags::ACCESSED | EntryFlags::DIRTY).bits();
    // Never fails: the closure always gives a value.
    let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
        Some(if old == 0 || Entry(old).is_swapped() { old } else { (old & keep) | flags.bits() })
    });
}

/// The indices of a table of `level`, whose first page is `base`, that `range` meets; empty where
/// it meets none.
fn met(level: u32, base: u64, range: PageRange) -> Range<usize> {
    let span = span(level);
    let first = range.start.0.saturating_sub(base) / span;
    let end = range.end.0.saturating_sub(base).div_ceil(span).min(ENTRIES as u64);
    first.min(end) as usize..end as usize
}

/// Entries that are skipped at once where there is nothing in any of them: most tables are nearly
/// empty.
const GROUP: usize = 8;

/// Calls `look` for each entry of a table that is not empty, with its index.
fn for_each_entry(
    table: &Table,
    indices: Range<usize>,
    mut look: impl FnMut(usize, &AtomicU64, u64),
) {
    let mut index = indices.start;
    while index < indices.end {
        if let Some(group) = table.get(index..).and_then(<[_]>::first_chunk::<GROUP>)
            && group[0].load(Ordering::Relaxed) == 0
            && group.iter().fold(0, |all, slot| all | slot.load(Ordering::Relaxed)) == 0
        {
            index += GROUP;
            continue;
        }
        for (index, slot) in
            (index..indices.end.min(index + GROUP)).zip(table.get(index..).unwrap_or_default())
        {
            let entry = slot.load(Ordering::Relaxed);
            if entry != 0 {
                look(index, slot, entry);
            }
        }
        index += GROUP;
    }
}

fn visit(
    table: &Table,
    level: u32,
    base: u64,
    range: PageRange,
    look: &mut impl FnMut(Page, &AtomicU64),
) {
    visit_leaves(table, level, base, range, &mut |base, leaf, indices| {
        for_each_entry(leaf, indices, |index, slot, _| look(Page(base + index as u64), slot));
    });
}

/// Calls `look` for each lowest table that has pages of a range, with its first page and the
/// indices of those pages.
fn visit_leaves(
    table: &Table,
    level: u32,
    base: u64,
    range: PageRange,
    look: &mut impl FnMut(u64, &Table, Range<usize>),
) {
    let indices = met(level, base, range);
    if level == 1 {
        return look(base, table, indices);
    }
    for_each_entry(table, indices, |index, _, entry| {
        visit_leaves(
            table_at(PhysAddr(entry & ADDRESS_BITS)),
            level - 1,
            base + index as u64 * span(level),
            range,
            look,
        );
    });
}

fn clear(
    table: &Table,
    level: u32,
    base: u64,
    range: PageRange,
    release: &mut impl FnMut(Page, Entry, Held),
) {
    let indices = met(level, base, range);
    if level == 1 {
        return for_each_entry(table, indices, |index, slot, entry| {
            slot.store(0, Ordering::Relaxed);
            if let Some(held) = owned(entry) {
                release(Page(base + index as u64), Entry(entry), held);
            }
        });
    }
    for_each_entry(table, indices, |index, slot, entry| {
        let page = base + index as u64 * span(level);
        clear(table_at(PhysAddr(entry & ADDRESS_BITS)), level - 1, page, range, release);
        if range.start.0 <= page && page + span(level) <= range.end.0 {
            slot.store(0, Ordering::Relaxed);
            drop(owned(entry));
        }
    });
}
