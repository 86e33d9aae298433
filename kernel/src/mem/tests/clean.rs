//! W8 on the host: pages that were written become clean.

use super::*;
use crate::mem::host::{evict_all, evict_pages};

/// A space with private pages that hold the bytes of file 1, version 1.
fn private_copy(pages: u64) -> Arc<Space> {
    let space = space_of(pages);
    let bytes: Vec<u8> = (0..pages * PAGE).map(|offset| byte_of(1, 1, offset)).collect();
    space.copy_out_all(slice(at(0), pages * PAGE), &bytes).unwrap();
    space
}

/// Private pages as a write sends them.
fn own(space: &Space, first: u64, pages: u64) -> SentPages {
    let first = at(first).page();
    SentPages::Data { first, frames: space.lend(PageRange::new(first, PageCount(pages))).unwrap() }
}

/// As [`Space::associate_written`], with bare numbers.
fn associate_written(
    space: &Space,
    sent: &[SentPages],
    snapshot: &Arc<Snapshot>,
    offset: u64,
) -> u64 {
    space.associate_written(sent, snapshot, SnapshotOffset(offset)).0
}

fn check(space: &Space, pages: core::ops::Range<u64>) {
    pages.for_each(|page| {
        assert_eq!(load(space, at(page)), byte_of(1, 1, page * PAGE), "page {page}")
    });
}

#[test]
fn w8_written_pages_are_clean_and_can_be_evicted() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = private_copy(8);
    let sent = [own(&space, 0, 8)];
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 8), 0), 8);
    drop(sent);
    assert_eq!((space.stats().lazy.0, space.stats().resident.0), (8, 8));
    check(&space, 0..8);
    assert_eq!(pager.requests(), 0, "no data moves");
    // A reader of the same bytes finds them in the cache.
    let reader = space_of(8);
    associate(&reader, at(0), 8, &pager.snapshot(1, 1, 0, 8), 0).unwrap();
    check(&reader, 0..8);
    assert_eq!(pager.requests(), 0, "the next reader shares them");
    drop(reader);
    // A store makes a page private again.
    store(&space, at(3), 1);
    assert_eq!(space.stats().lazy.0, 7);
    evict_all();
    while evict_pages(64) {}
    evict_all();
    check(&space, 0..3);
    check(&space, 4..8);
    assert_eq!(load(&space, at(3)), 1);
    assert!(pager.requests() > 0, "the pages were evicted");
    drop(space);
    assert_eq!(pager.closed(), 2);
}

#[test]
fn w8_a_page_stored_to_meanwhile_stays_private() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = private_copy(8);
    let sent = [own(&space, 0, 8)];
    store(&space, at(2), 99);
    // Two writes at once: each has its own frames.
    let other = [own(&space, 2, 1)];
    // Fork and lending write-protect the entry again, which does not undo the store.
    drop(space.fork().unwrap());
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 8), 0), 7);
    assert_eq!((space.stats().lazy.0, load(&space, at(2))), (7, 99));
    assert_eq!(
        associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 8), 0),
        0,
        "a second reply changes nothing"
    );
    drop((sent, other));
    store(&space, at(0), 98);
    assert_eq!((space.stats().lazy.0, load(&space, at(0)), load(&space, at(2))), (6, 98, 99));
    check(&space, 3..8);
    drop(space);
    assert_eq!(pager.closed(), 2);
}

#[test]
fn w8_pages_that_changed_are_left_alone() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = private_copy(16);
    let sent = [own(&space, 0, 16)];
    space.unmap(at(0), pages(2)).unwrap();
    space.map(Placement::Fixed(at(1)), pages(1), RW, Backing::Anonymous, "").unwrap();
    associate(&space, at(4), 2, &pager.snapshot(2, 1, 0, 2), 0).unwrap();
    space.protect(at(8), pages(2), Prot::READ).unwrap();
    space.remap(at(12), pages(2), pages(2), Move::To(at(100))).unwrap();
    // Six of sixteen were moved, unmapped or replaced; protection changes no contents.
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 16), 0), 10);
    drop(sent);
    assert!(mmu::load(&space, at(0)).is_err());
    assert_eq!(load(&space, at(1)), 0);
    assert_eq!(load(&space, at(4)), byte_of(2, 1, 0));
    for pages in [2..4, 6..12, 14..16] {
        check(&space, pages);
    }
    assert_eq!(load(&space, at(100)), byte_of(1, 1, 12 * PAGE));
    assert!(mmu::store(&space, at(8), 0).is_err());
    // All pages were unmapped.
    let before = pager.closed();
    let sent = [own(&space, 2, 2)];
    space.unmap(at(2), pages(2)).unwrap();
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 2 * PAGE, 2), 0), 0);
    assert_eq!(pager.closed(), before + 1, "nothing refers to that snapshot");
}

#[test]
fn w8_written_references_move_to_the_new_snapshot() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(16);
    let old = pager.snapshot(1, 1, 0, 16);
    associate(&space, at(0), 16, &old, 0).unwrap();
    store(&space, at(5), byte_of(1, 2, 5 * PAGE));
    let same = |first: u64, pages: u64| SentPages::Reference {
        pages: PageRange::new(at(first).page(), PageCount(pages)),
        snapshot: old.clone(),
        offset: SnapshotOffset(first * PAGE),
    };
    let sent = [same(0, 5), own(&space, 5, 1), same(6, 10)];
    // The server wrote eight pages.
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 8), 0), 1);
    drop(sent);
    assert_eq!(space.stats().lazy.0, 16);
    assert_eq!(space.regions().unwrap().len(), 2, "one region for each snapshot");
    drop(old);
    assert_eq!(pager.closed(), 0, "the rest is still backed by the old one");
    assert_eq!(load(&space, at(5)), byte_of(1, 2, 5 * PAGE), "its frame is in place");
    check(&space, 8..16);
    check(&space, 0..5);
    drop(space);
    assert_eq!(pager.closed(), 2);
}

#[test]
fn w8_a_buffer_that_is_refilled_is_recognised() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = private_copy(8);
    let middle = slice(UserAddr(at(0).0 + 100), 7 * PAGE);
    assert!(!space.was_cleaned(middle));
    // The next message of the same write does not count as refilled.
    let halves = private_copy(8);
    assert_eq!(
        associate_written(&halves, &[own(&halves, 0, 4)], &pager.snapshot(1, 1, 0, 4), 0),
        4
    );
    assert!(
        halves.was_cleaned(slice(at(0), 4 * PAGE)) && !halves.was_cleaned(slice(at(4), 4 * PAGE))
    );
    drop(halves);
    assert_eq!(
        associate_written(&space, &[own(&space, 1, 6)], &pager.snapshot(1, 1, PAGE, 6), 0),
        6
    );
    (0..8).for_each(|page| store(&space, at(page), 1));
    assert_eq!((space.stats().lazy.0, space.regions().unwrap().len()), (0, 3));
    assert!(space.was_cleaned(middle));
    assert_eq!(pager.closed(), 2);
}
