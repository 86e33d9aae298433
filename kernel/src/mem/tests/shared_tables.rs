//! Page tables that spaces share after a fork.

use super::*;
use crate::mem::account::Kind;

/// Pages of a lowest page table.
const SPAN: u64 = 512;
const TABLES: u64 = 8;
/// The first page of the tests' spaces that begins a table.
const FIRST: u64 = SPAN - (BASE.0 / PAGE) % SPAN;

/// A space whose pages hold their numbers, in `TABLES` tables that have nothing else.
fn filled() -> Arc<Space> {
    let space = space_of(FIRST + TABLES * SPAN);
    (FIRST..FIRST + TABLES * SPAN).for_each(|page| store(&space, at(page), page as u8));
    space
}

fn is_filled(space: &Space, from: u64, to: u64) -> bool {
    (from..to).all(|page| load(space, at(page)) == page as u8)
}

fn has(space: &Space, page: u64, flag: page_table::EntryFlags) -> bool {
    space.with(|state| state.table.get(at(page).page()).unwrap().has(flag))
}

fn shares_table(space: &Space, page: u64) -> bool {
    has(space, page, page_table::EntryFlags::SHARED_TABLE)
}

#[test]
fn a8_fork_shares_tables_until_an_entry_changes() {
    let _alone = host::exclusive();
    let before = frame::stats();
    let parent = filled();
    let free = frame::stats().free;
    let child = parent.fork().unwrap().into_space();
    assert!(free - frame::stats().free <= 3, "only the upper tables");
    let tables = |space: &Space| space.account.bytes(Kind::Tables);
    assert_eq!(tables(&parent), tables(&child), "each pays for what it may need");
    assert!(is_filled(&child, FIRST, FIRST + TABLES * SPAN));
    assert!(shares_table(&child, FIRST) && !has(&child, FIRST, page_table::EntryFlags::WRITE));
    store(&child, at(FIRST), 77);
    assert!(!shares_table(&child, FIRST));
    assert_eq!((load(&parent, at(FIRST)), load(&child, at(FIRST))), (FIRST as u8, 77));
    store(&parent, at(FIRST + 1), 78);
    assert_eq!(load(&child, at(FIRST + 1)), FIRST as u8 + 1);
    // Whole tables, and parts of one.
    child.unmap(at(FIRST + SPAN), pages(SPAN + 3)).unwrap();
    child.protect(at(FIRST + 3 * SPAN + 1), pages(1), Prot::READ).unwrap();
    parent.discard(at(FIRST + 4 * SPAN + 1), pages(1)).unwrap();
    assert!(is_filled(&parent, FIRST + 2, FIRST + 4 * SPAN + 1));
    assert!(is_filled(&child, FIRST + 2 * SPAN + 3, FIRST + TABLES * SPAN));
    assert_eq!(mmu::load(&child, at(FIRST + SPAN)), Err(FaultError::Segv));
    assert_eq!(mmu::store(&child, at(FIRST + 3 * SPAN + 1), 1), Err(FaultError::Segv));
    assert_eq!(load(&parent, at(FIRST + 4 * SPAN + 1)), 0);
    drop((parent, child));
    assert_eq!(frame::stats(), before);
}

#[test]
fn a8_the_last_owner_takes_a_table_back() {
    let _alone = host::exclusive();
    let parent = filled();
    let grandchild = parent.fork().unwrap().fork().unwrap();
    assert!(shares_table(&parent, FIRST));
    drop(grandchild);
    let frame = frame_of(&parent, FIRST);
    store(&parent, at(FIRST), 1);
    assert_eq!(frame_of(&parent, FIRST), frame);
    // Its other pages never became read-only.
    assert!(has(&parent, FIRST + 1, page_table::EntryFlags::WRITE));
    assert_eq!(parent.counters.get(Counter::PagesCow), 0);
}

#[test]
fn a8_pages_without_other_owners_become_writable_together() {
    let _alone = host::exclusive();
    let parent = filled();
    let child = parent.fork().unwrap();
    let first = FIRST + 16;
    (first..first + 16).filter(|page| page % 4 > 0).for_each(|page| store(&child, at(page), 1));
    store(&parent, at(first + 1), 2);
    let writable = |page| has(&parent, page, page_table::EntryFlags::WRITE);
    (first..first + 16).for_each(|page| assert_eq!(writable(page), page % 4 > 0, "{page}"));
    assert!(!writable(first + 16));
    (first..first + 16).for_each(|page| store(&parent, at(page), 3));
    assert_eq!(load(&child, at(first)), first as u8);
    assert_eq!(parent.counters.get(Counter::PagesCow), 4);
}

#[test]
fn a8_a_table_is_owned_where_no_frame_is_left() {
    let _alone = host::exclusive();
    let before = frame::stats();
    let parent = filled();
    let child = parent.fork().unwrap();
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed_for(Claim::Kernel) {
        hoard.push(frame);
    }
    // Besides those that fork promised there is none, and unmapping cannot fail.
    assert_eq!(frame::stats().free as u64, TABLES);
    child.with(|state| {
        for table in 0..TABLES {
            assert!(state.table.unmap(at(FIRST + table * SPAN).page()).is_some());
        }
    });
    assert_eq!(frame::stats().free, 0);
    drop(hoard);
    assert!(is_filled(&parent, FIRST, FIRST + TABLES * SPAN));
    drop((parent, child));
    assert_eq!(frame::stats(), before);
}

#[test]
fn q3_pages_of_shared_tables_are_swapped_out() {
    let _alone = host::exclusive();
    let before = frame::stats();
    let device = Swap::new(4 * (TABLES * SPAN) as u32);
    let parent = filled();
    let child = parent.fork().unwrap();
    evict_everything();
    let grandchild = child.fork().unwrap();
    assert!(grandchild.stats().swapped.0 >= TABLES * SPAN);
    assert!(is_filled(&child, FIRST, FIRST + TABLES * SPAN));
    assert!(is_filled(&parent, FIRST, FIRST + TABLES * SPAN));
    assert!(is_filled(&grandchild, FIRST, FIRST + TABLES * SPAN));
    drop((parent, child, grandchild));
    drop(device);
    assert_eq!(frame::stats(), before);
}

#[test]
fn q2_clean_pages_of_shared_tables_are_dropped() {
    let _alone = host::exclusive();
    cache_emptied();
    let before = frame::stats();
    let pager = TestPager::new(Answers::Now);
    let count = FIRST + SPAN;
    let parent = space_of(count);
    associate(&parent, BASE, count, &pager.snapshot(7, 1, 0, count), 0).unwrap();
    (0..count).for_each(|page| assert_eq!(load(&parent, at(page)), byte_of(7, 1, page * PAGE)));
    let child = parent.fork().unwrap();
    let used = frame::stats().free;
    // No thread can wait here: what holds up a claim under a lock is dropped.
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed() {
        hoard.push(frame);
    }
    assert!(hoard.len() as u64 > used as u64 - frame::reserve_below(Claim::Program) as u64 + 500);
    drop(hoard);
    (0..count).for_each(|page| assert_eq!(load(&child, at(page)), byte_of(7, 1, page * PAGE)));
    drop((parent, child));
    cache_emptied();
    assert_eq!(frame::stats(), before);
}
