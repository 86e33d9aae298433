//! Rules of the lazy read that `mem` keeps (R, C10).

use super::*;

#[test]
fn r3_nothing_past_the_given_pages() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(8);
    (0..8).for_each(|page| store(&space, at(page), 100 + page as u8));
    assert_eq!(associate(&space, at(2), 3, &pager.snapshot(1, 1, 0, 8), PAGE), Ok(3));
    for page in 0..8 {
        let expected = if (2..5).contains(&page) {
            byte_of(1, 1, (page - 1) * PAGE)
        } else {
            100 + page as u8
        };
        assert_eq!(load(&space, at(page)), expected, "page {page}");
    }
}

#[test]
fn r4_any_offset_within_the_file() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(4);
    associate(&space, BASE, 4, &pager.snapshot(1, 1, 100, 5), PAGE).unwrap();
    assert_eq!(load(&space, at(2)), byte_of(1, 1, 100 + 3 * PAGE));
}

#[test]
fn r4_incongruent_pages_are_composed_of_pages_of_the_file() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(256);
    associate(&space, BASE, 256, &pager.snapshot(1, 1, 100, 256), 0).unwrap();
    for page in 0..256 {
        assert_eq!(load(&space, at(page)), byte_of(1, 1, 100 + page * PAGE), "page {page}");
        let last = UserAddr(at(page).0 + PAGE - 1);
        assert_eq!(load(&space, last), byte_of(1, 1, 99 + (page + 1) * PAGE), "page {page}");
    }
    let requests = core::mem::take(&mut *lock(&pager.requests));
    assert!(requests.len() <= 8, "{requests:?}");
    let composed: u64 =
        requests.iter().filter(|request| (request.1 + 100) % PAGE == 0).map(|r| r.2).sum();
    assert!(composed > 120, "pages of the file: {requests:?}");
    // They are cached for all readers of the file, and a store gets a frame of its own.
    let other = space_of(256);
    associate(&other, BASE, 254, &pager.snapshot(1, 1, PAGE, 254), 0).unwrap();
    assert_eq!(load(&other, at(100)), byte_of(1, 1, 101 * PAGE));
    assert_eq!(pager.requests(), 0);
    evict_everything();
    store(&space, at(70), 1);
    assert_eq!(load(&space, at(70)), 1);
    assert_eq!(load(&space, UserAddr(at(70).0 + 1)), byte_of(1, 1, 101 + 70 * PAGE));
    assert_eq!(load(&space, at(71)), byte_of(1, 1, 100 + 71 * PAGE));
    assert_eq!(load(&other, at(70)), byte_of(1, 1, 71 * PAGE));
}

#[test]
fn r5_prefixes_look_at_regions_alone() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(8);
    space.protect(at(5), pages(1), Prot::READ).unwrap();
    space
        .map(
            Placement::Fixed(at(3)),
            pages(1),
            RW,
            Backing::Shared { memory: SharedMemory::new(&Account::new()), first: 0 },
            "",
        )
        .unwrap();
    let buffer = slice(UserAddr(at(0).0 + 10), 7 * PAGE);
    assert_eq!(space.writable_prefix(buffer), 5 * PAGE_BYTES - 10);
    assert_eq!(space.lazy_prefix(buffer), 3 * PAGE_BYTES - 10);
    assert_eq!(space.writable_prefix(slice(at(5), 1)), 0);
    assert_eq!(
        associate(&space, at(0), 7, &pager.snapshot(1, 1, 0, 7), 0),
        Ok(3),
        "truncated at the first page that cannot be lazy"
    );
    assert_eq!(associate(&space, at(5), 1, &pager.snapshot(1, 2, 0, 7), 0), Ok(0));
    assert_eq!(pager.closed(), 1, "a snapshot that nothing refers to is closed");
    assert_eq!(space.stats().resident.0, 0);
}

#[test]
fn r6_reading_again_fetches_nothing() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    associate(&space, BASE, 64, &pager.snapshot(7, 2, 0, 64), 0).unwrap();
    assert_eq!((pager.requests(), pager.closed()), (0, 1));
    assert_eq!(load(&space, at(9)), byte_of(7, 2, 9 * PAGE));
}

#[test]
fn r6_a_page_partly_covered_is_fetched_first() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    assert_eq!(space.copy_out(slice(UserAddr(at(1).0 + 4000), 200), &[9; 200]), Ok(200));
    assert_eq!(load(&space, UserAddr(at(1).0 + 3999)), byte_of(7, 1, 2 * PAGE - 97));
    assert_eq!(load(&space, UserAddr(at(2).0 + 103)), 9);
    assert_eq!(load(&space, UserAddr(at(2).0 + 104)), byte_of(7, 1, 2 * PAGE + 104));
}

#[test]
fn r7_frames_that_others_see_are_never_written() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    load(&space, at(0));
    store(&space, at(40), 1);
    let child = space.fork().unwrap();
    space.copy_out(slice(at(0), 2 * PAGE), &[5; 2 * PAGE_BYTES]).unwrap();
    space.copy_out(slice(at(40), 1), &[5]).unwrap();
    associate(&space, at(1), 1, &pager.snapshot(8, 1, 0, 1), 0).unwrap();
    assert_eq!(load(&child, at(0)), byte_of(7, 1, 0));
    assert_eq!(load(&child, at(1)), byte_of(7, 1, PAGE));
    assert_eq!(load(&child, at(40)), 1);
    assert_eq!(load(&space, at(0)), 5);
    assert_eq!(load(&space, at(1)), byte_of(8, 1, 0));
}

#[test]
fn r10_holes_cost_no_message_and_no_frame() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(64);
    let holes = vec![
        Hole { offset: 100, length: ByteCount(20 * PAGE) },
        Hole { offset: 40 * PAGE, length: ByteCount(24 * PAGE) },
    ];
    let snapshot = pager.holey(3, 1, 0, 64, holes);
    associate(&space, BASE, 64, &snapshot, 0).unwrap();
    let before = frame::stats().free;
    (40..64).for_each(|page| assert_eq!(load(&space, at(page)), 0));
    assert!(before - frame::stats().free <= 3, "only tables");
    assert_eq!((pager.requests(), space.stats().resident.0), (0, 0));
    store(&space, at(50), 1);
    assert_eq!(
        (load(&space, at(50)), load(&space, UserAddr(at(50).0 + 1)), pager.requests()),
        (1, 0, 0)
    );
    assert_eq!(load(&space, at(0)), byte_of(3, 1, 0), "a page that is partly a hole is fetched");
    assert_eq!(load(&space, at(20)), byte_of(3, 1, 20 * PAGE));
}

#[test]
fn c10_the_last_association_closes_the_snapshot() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let overwritten = lazy_space(&pager);
    (0..63).for_each(|page| store(&overwritten, at(page), 1));
    assert_eq!(pager.closed(), 0);
    overwritten.copy_out(slice(at(63), PAGE), &[1; PAGE_BYTES]).unwrap();
    assert_eq!(pager.closed(), 1, "overwritten page by page");
    assert_eq!(overwritten.regions().unwrap().len(), 1, "anonymous memory again");

    let unmapped = lazy_space(&pager);
    unmapped.unmap(at(0), pages(63)).unwrap();
    assert_eq!(pager.closed(), 1);
    unmapped.unmap(at(63), pages(1)).unwrap();
    assert_eq!(pager.closed(), 2);

    let parent = lazy_space(&pager);
    let child = parent.fork().unwrap();
    drop(parent);
    assert_eq!(pager.closed(), 2, "the child still refers to it");
    drop(child);
    assert_eq!(pager.closed(), 3);
    assert_eq!(counter::GLOBAL.get(Counter::SnapshotsLive), 0);
}
