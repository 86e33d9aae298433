//! Rules of sharing, eviction and limits that `mem` keeps (A, Q).

use super::*;

#[test]
fn a1_fork_shares_associations() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let parent = lazy_space(&pager);
    store(&parent, at(1), 77);
    let child = parent.fork().unwrap();
    assert_eq!(child.stats().lazy.0, 63);
    assert_eq!(load(&child, at(1)), 77);
    assert_eq!(load(&child, at(60)), byte_of(7, 1, 60 * PAGE));
    store(&child, at(60), 1);
    store(&parent, at(1), 78);
    assert_eq!((load(&parent, at(60)), load(&child, at(1))), (byte_of(7, 1, 60 * PAGE), 77));
}

#[test]
fn a3_everything_is_released() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    cache_emptied();
    let before = frame::stats();
    {
        let space = lazy_space(&pager);
        (0..64).for_each(|page| {
            load(&space, at(page));
        });
        let child = space.fork().unwrap();
        (0..64).step_by(3).for_each(|page| store(&child, at(page), 1));
    }
    cache_emptied();
    assert_eq!(frame::stats(), before);
    assert_eq!(pager.closed(), 1);
}

#[test]
fn a4_splitting_fetches_nothing_and_keeps_the_bytes() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    store(&space, at(5), 1);
    let requests = pager.requests();
    space.unmap(at(10), pages(2)).unwrap();
    space.protect(at(20), pages(3), Prot::READ).unwrap();
    let moved = space.remap(at(30), pages(4), pages(6), Move::IfNeeded).unwrap();
    assert_eq!(pager.requests(), requests);
    assert_eq!(mmu::load(&space, at(10)), Err(FaultError::Segv));
    assert_eq!(mmu::store(&space, at(21), 1), Err(FaultError::Segv));
    assert_eq!(load(&space, at(22)), byte_of(7, 1, 22 * PAGE));
    assert_eq!(load(&space, UserAddr(moved.0 + 3 * PAGE)), byte_of(7, 1, 33 * PAGE));
    assert_eq!(load(&space, UserAddr(moved.0 + 4 * PAGE)), 0);
    assert_eq!(mmu::load(&space, at(30)), Err(FaultError::Segv));
    assert_eq!(load(&space, at(12)), byte_of(7, 1, 12 * PAGE));
    assert_eq!(load(&space, at(5)), 1);
    assert_eq!(space.stats().lazy.0, 64 - 1 - 2);
}

#[test]
fn a5_congruent_reads_share_frames_and_incongruent_ones_do_not() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let frame = frame_of;
    let (one, two, three) = (space_of(8), space_of(8), space_of(8));
    associate(&one, BASE, 8, &pager.snapshot(9, 1, 0, 8), 0).unwrap();
    associate(&two, BASE, 4, &pager.snapshot(9, 1, 100, 8), PAGE - 100).unwrap();
    associate(&three, BASE, 4, &pager.snapshot(9, 1, 100, 8), 0).unwrap();
    [&one, &two, &three].into_iter().for_each(|space| {
        load(space, at(0));
    });
    assert_eq!(load(&two, at(0)), byte_of(9, 1, PAGE));
    assert_eq!(load(&three, at(0)), byte_of(9, 1, 100));
    load(&one, at(1));
    assert_eq!(frame(&two, 0), frame(&one, 1));
    assert_eq!(pager.requests(), 2, "the second found everything in the cache");
    assert_ne!(frame(&three, 0), frame(&one, 0));
}

#[test]
fn a8_fork_and_lending_write_protect_first() {
    let _alone = host::exclusive();
    let space = space_of(4);
    store(&space, at(0), 1);
    store(&space, at(1), 1);
    let child = space.fork().unwrap();
    let lent = space.lend(PageRange::new(at(1).page(), PageCount(1))).unwrap();
    store(&space, at(0), 2);
    store(&space, at(1), 2);
    assert_eq!((load(&child, at(0)), lent[0].bytes()[0]), (1, 1));
    assert_eq!(child.accept(at(2).page(), lent), Ok(PageCount(1)));
    assert_eq!(load(&child, at(2)), 1);
    store(&child, at(2), 3);
    assert_eq!((load(&child, at(1)), load(&child, at(2)), load(&space, at(1))), (1, 3, 2));
}

#[test]
fn a8_a_sole_owner_is_not_copied() {
    let _alone = host::exclusive();
    let space = space_of(1);
    store(&space, at(0), 1);
    let frame = frame_of(&space, 0);
    drop(space.fork().unwrap());
    store(&space, at(0), 2);
    assert_eq!(frame_of(&space, 0), frame);
    assert_eq!(space.counters.get(Counter::PagesCow), 0);
}

#[test]
fn q4_regions_are_bounded() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(64);
    let _knob = Knob::set(&knob::MAX_REGIONS, 8);
    let refused = (0..32)
        .map(|n| associate(&space, at(2 * n), 1, &pager.snapshot(7, n, 0, 1), 0))
        .position(|result| result == Err(Errno::ENOMEM));
    assert_eq!(refused, Some(4));
    assert_eq!(space.protect(at(60), pages(1), Prot::READ), Err(Errno::ENOMEM));
    assert_eq!(space.unmap(at(50), pages(1)), Err(Errno::ENOMEM));
    assert_eq!(space.regions().unwrap().len(), 8);
    assert_eq!(load(&space, at(6)), byte_of(7, 3, 0));
}

#[test]
fn q2_evicted_frames_are_fetched_again() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    load(&space, at(0));
    let child = lazy_space(&pager);
    drop(space);
    assert!(cache_emptied() >= 16);
    assert_eq!(load(&child, at(0)), byte_of(7, 1, 0));
    assert_eq!(pager.requests(), 2);
}

#[test]
fn q4_running_out_is_an_error_and_nothing_is_lost() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    store(&space, at(0), 1);
    cache_emptied();
    let before = frame::stats();
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed() {
        hoard.push(frame);
    }
    assert_eq!(mmu::store(&space, at(1), 1), Err(FaultError::OutOfMemory));
    assert_eq!(space.fork().err(), Some(Errno::ENOMEM));
    assert_eq!(Space::new().err(), Some(Errno::ENOMEM));
    drop(hoard);
    cache_emptied();
    assert_eq!(frame::stats(), before);
    store(&space, at(1), 1);
}

#[test]
fn q2_clean_pages_are_evicted_and_fetched_again() {
    let _alone = host::exclusive();
    cache_emptied();
    let before = frame::stats();
    let hoard = hoard(100);
    let pager = TestPager::new(Answers::Now);
    let space = space_of(1000);
    associate(&space, BASE, 1000, &pager.snapshot(7, 1, 0, 1000), 0).unwrap();
    store(&space, at(500), 1);
    let child = space.fork().unwrap();
    for _ in 0..2 {
        for page in 0..1000 {
            let expected = if page == 500 { 1 } else { byte_of(7, 1, page * PAGE) };
            assert_eq!(load(&space, at(page)), expected);
            assert_eq!(load(&child, at(page)), expected);
        }
    }
    drop((hoard, space, child));
    cache_emptied();
    assert_eq!(frame::stats(), before);
}

#[test]
fn q2_tables_of_holes_are_freed_too() {
    let _alone = host::exclusive();
    cache_emptied();
    let _hoard = hoard(50);
    let pager = TestPager::new(Answers::Now);
    let space = Space::new().unwrap();
    let bytes = 16 << 30;
    let start = space
        .map(Placement::Anywhere(UserAddr(0)), ByteCount(bytes), RW, Backing::Anonymous, "")
        .unwrap();
    let snapshot =
        pager.holey(3, 1, 0, bytes / PAGE, vec![Hole { offset: 0, length: ByteCount(bytes) }]);
    assert_eq!(associate(&space, start, bytes / PAGE, &snapshot, 0), Ok(bytes / PAGE));
    for at in (0..bytes).step_by(4 << 20) {
        assert_eq!(load(&space, UserAddr(start.0 + at)), 0);
    }
    assert_eq!(pager.requests(), 0);
}
