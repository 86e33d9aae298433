//! W8 on the host: pages that were written stand for what the server got.

use super::*;
use crate::mem::host::{evict_all, evict_pages};

/// A space whose pages hold what file 1 holds at version 1, as if a program had made it up.
fn made_up(pages: u64) -> Arc<Space> {
    let space = space_of(pages);
    let bytes: Vec<u8> = (0..pages * PAGE).map(|offset| byte_of(1, 1, offset)).collect();
    space.copy_out_all(slice(at(0), pages * PAGE), &bytes).unwrap();
    space
}

/// What a write takes from pages of the program's own.
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
fn w8_pages_written_are_clean_in_place_and_go_and_come_back() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = made_up(8);
    let sent = [own(&space, 0, 8)];
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 8), 0), 8);
    drop(sent);
    assert_eq!((space.stats().lazy.0, space.stats().resident.0), (8, 8));
    check(&space, 0..8);
    assert_eq!(pager.requests(), 0, "no data moves");
    // Whoever reads the same bytes has them.
    let reader = space_of(8);
    associate(&reader, at(0), 8, &pager.snapshot(1, 1, 0, 8), 0).unwrap();
    check(&reader, 0..8);
    assert_eq!(pager.requests(), 0, "the next reader shares them");
    drop(reader);
    // A store ends it for a page.
    store(&space, at(3), 1);
    assert_eq!(space.stats().lazy.0, 7);
    evict_all();
    while evict_pages(64) {}
    evict_all();
    check(&space, 0..3);
    check(&space, 4..8);
    assert_eq!(load(&space, at(3)), 1);
    assert!(pager.requests() > 0, "they were gone");
    drop(space);
    assert_eq!(pager.closed(), 2);
}

#[test]
fn w8_a_page_stored_to_meanwhile_stays_the_programs_own() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = made_up(8);
    let sent = [own(&space, 0, 8)];
    store(&space, at(2), 99);
    // Two writes at once: each knows of its own frames only.
    let other = [own(&space, 2, 1)];
    // What fork and lending do to the entry is no sign that nobody stored.
    drop(space.fork().unwrap());
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 8), 0), 7);
    assert_eq!((space.stats().lazy.0, load(&space, at(2))), (7, 99));
    assert_eq!(
        associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 8), 0),
        0,
        "a second answer changes nothing"
    );
    drop((sent, other));
    store(&space, at(0), 98);
    assert_eq!((space.stats().lazy.0, load(&space, at(0)), load(&space, at(2))), (6, 98, 99));
    check(&space, 3..8);
    drop(space);
    assert_eq!(pager.closed(), 2);
}

#[test]
fn w8_what_is_not_what_it_was_is_left_alone() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = made_up(16);
    let sent = [own(&space, 0, 16)];
    space.unmap(at(0), pages(2)).unwrap();
    space.map(Placement::Fixed(at(1)), pages(1), RW, Backing::Anonymous, "").unwrap();
    associate(&space, at(4), 2, &pager.snapshot(2, 1, 0, 2), 0).unwrap();
    space.protect(at(8), pages(2), Prot::READ).unwrap();
    space.remap(at(12), pages(2), pages(2), Move::To(at(100))).unwrap();
    // Six of sixteen are elsewhere, gone, or something else; what is protected is still the same.
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
    // Not one of them is there any more.
    let before = pager.closed();
    let sent = [own(&space, 2, 2)];
    space.unmap(at(2), pages(2)).unwrap();
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 2 * PAGE, 2), 0), 0);
    assert_eq!(pager.closed(), before + 1, "nothing stands for that snapshot");
}

#[test]
fn w8_references_move_on_to_the_new_snapshot_and_what_was_not_written_does_not() {
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
    // Eight pages were written.
    assert_eq!(associate_written(&space, &sent, &pager.snapshot(1, 1, 0, 8), 0), 1);
    drop(sent);
    assert_eq!(space.stats().lazy.0, 16);
    assert_eq!(space.regions().len(), 2, "one region for each snapshot");
    drop(old);
    assert_eq!(pager.closed(), 0, "the rest stands for the old one still");
    assert_eq!(load(&space, at(5)), byte_of(1, 2, 5 * PAGE), "its frame is in place");
    check(&space, 8..16);
    check(&space, 0..5);
    drop(space);
    assert_eq!(pager.closed(), 2);
}

#[test]
fn w8_a_buffer_that_is_filled_anew_is_known_as_such() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = made_up(8);
    let middle = slice(UserAddr(at(0).0 + 100), 7 * PAGE);
    assert!(!space.was_cleaned(middle));
    // The next message of the same write knows nothing of the one before.
    let halves = made_up(8);
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
    assert_eq!((space.stats().lazy.0, space.regions().len()), (0, 3));
    assert!(space.was_cleaned(middle));
    assert_eq!(pager.closed(), 2);
}
