//! One test for each rule of the contract that `mem` keeps.

use super::*;
use crate::sync::ThreadId;
use std::{sync::mpsc, thread};

/// A space of 64 pages, all of which stand for file 7, version 1, from its start.
fn lazy_space(pager: &Arc<TestPager>) -> Arc<Space> {
    let space = space_of(64);
    assert_eq!(associate(&space, BASE, 64, &pager.snapshot(7, 1, 0, 64), 0), Ok(64));
    space
}

#[test]
fn f1_load_fetches_the_page_and_its_neighbours() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    assert_eq!(pager.requests(), 0, "associating asks for nothing");
    assert_eq!(load(&space, UserAddr(at(20).0 + 5)), byte_of(7, 1, 20 * PAGE + 5));
    assert_eq!(load(&space, at(23)), byte_of(7, 1, 23 * PAGE));
    assert_eq!(
        *lock(&pager.requests),
        [(Handle(7 << 32 | 1), 16 * PAGE, 8)],
        "one window, one message"
    );
    assert_eq!(space.counters.get(Counter::PagesFetched), 8);
}

#[test]
fn f1_windows_grow_when_pages_are_touched_in_order() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(4096);
    associate(&space, BASE, 4096, &pager.snapshot(7, 1, 0, 4096), 0).unwrap();
    (0..256).for_each(|page| assert_eq!(load(&space, at(page)), byte_of(7, 1, page * PAGE)));
    let pages: Vec<u64> = lock(&pager.requests).iter().map(|request| request.2).collect();
    assert_eq!(pages, [16, 16, 32, 64, 64, 64]);
    load(&space, at(2000));
    load(&space, at(1000));
    assert_eq!(
        lock(&pager.requests)[6..].iter().map(|request| request.2).collect::<Vec<_>>(),
        [8, 8],
        "out of order"
    );
}

#[test]
fn f1_windows_are_large_where_all_was_touched_the_time_before() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let windows = |touched: u64| {
        let space = space_of(256);
        for version in [touched, touched + 1] {
            associate(&space, BASE, 256, &pager.snapshot(7, version, 0, 256), 0).unwrap();
            (0..touched).for_each(|page| {
                assert_eq!(load(&space, at(100 + page)), byte_of(7, version, (100 + page) * PAGE))
            });
        }
        core::mem::take(&mut *lock(&pager.requests)).last().map(|request| request.2)
    };
    assert_eq!(windows(156), Some(64), "a buffer that is looked at from end to end");
    assert_eq!(windows(1), Some(8), "a buffer of which a page is looked at each time");
}

#[test]
fn f2_store_makes_a_private_copy_and_ends_the_association_of_that_page() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let (one, two) = (lazy_space(&pager), lazy_space(&pager));
    store(&one, at(3), 200);
    assert_eq!(load(&one, at(3)), 200);
    assert_eq!(load(&one, UserAddr(at(3).0 + 1)), byte_of(7, 1, 3 * PAGE + 1));
    assert_eq!(load(&two, at(3)), byte_of(7, 1, 3 * PAGE), "nobody else sees the store");
    assert_eq!((one.stats().lazy.0, two.stats().lazy.0), (63, 64));
}

#[test]
fn r3_nothing_past_the_pages_named() {
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
            Backing::Shared { memory: SharedMemory::new(), first: 0 },
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
        "trimmed where it cannot be lazy"
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
    assert!(before - frame::stats().free <= 3, "tables alone");
    assert_eq!((pager.requests(), space.stats().resident.0), (0, 0));
    store(&space, at(50), 1);
    assert_eq!(
        (load(&space, at(50)), load(&space, UserAddr(at(50).0 + 1)), pager.requests()),
        (1, 0, 0)
    );
    assert_eq!(
        load(&space, at(0)),
        byte_of(3, 1, 0),
        "a page that is a hole only partly is fetched"
    );
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
    assert_eq!(overwritten.regions().len(), 1, "plain memory again");

    let unmapped = lazy_space(&pager);
    unmapped.unmap(at(0), pages(63)).unwrap();
    assert_eq!(pager.closed(), 1);
    unmapped.unmap(at(63), pages(1)).unwrap();
    assert_eq!(pager.closed(), 2);

    let parent = lazy_space(&pager);
    let child = parent.fork().unwrap();
    drop(parent);
    assert_eq!(pager.closed(), 2, "the child still needs it");
    drop(child);
    assert_eq!(pager.closed(), 3);
    assert_eq!(counter::GLOBAL.get(Counter::SnapshotsLive), 0);
}

#[test]
fn f3_concurrent_faults_make_one_request() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Later);
    let space = lazy_space(&pager);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            spawn({
                let space = space.clone();
                move || load(&space, at(2))
            })
        })
        .collect();
    let fetch = next_fetch(&pager);
    TestPager::answer(&fetch);
    TestPager::answer(&fetch);
    while threads.iter().any(|thread| !thread.is_finished()) {
        // Were there more requests, they would be answered too, and counted below.
        core::mem::take(&mut *lock(&pager.waiting))
            .iter()
            .for_each(|fetch| TestPager::answer(fetch));
        thread::yield_now();
    }
    for thread in threads {
        assert_eq!(thread.join().unwrap(), byte_of(7, 1, 2 * PAGE));
    }
    assert_eq!(pager.requests(), 1);
}

#[test]
fn f3_what_came_late_is_not_mapped_into_something_else() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Later);
    let space = lazy_space(&pager);
    let reader = spawn({
        let space = space.clone();
        move || load(&space, at(0))
    });
    let fetch = next_fetch(&pager);
    associate(&space, BASE, 64, &pager.snapshot(8, 1, 0, 64), 0).unwrap();
    *lock(&pager.answers) = Answers::Now;
    TestPager::answer(&fetch);
    assert_eq!(reader.join().unwrap(), byte_of(8, 1, 0));
}

#[test]
fn f3_the_fetch_outlives_the_thread_and_the_space() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Later);
    let space = lazy_space(&pager);
    let reader = spawn({
        let space = space.clone();
        move || mmu::load(&space, at(0))
    });
    let fetch = next_fetch(&pager);
    space.unmap(BASE, pages(64)).unwrap();
    drop(space);
    assert_eq!(pager.closed(), 0, "not while a request refers to it");
    TestPager::answer(&fetch);
    assert_eq!(reader.join().unwrap(), Err(FaultError::Segv));
    drop(fetch);
    lock(&pager.waiting).clear();
    assert_eq!(pager.closed(), 1);
}

#[test]
fn f4_try_copies_never_wait() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(8);
    associate(&space, at(2), 2, &pager.snapshot(7, 1, 0, 8), 0).unwrap();
    let mut bytes = [0; 4 * PAGE_BYTES];
    assert_eq!(space.try_copy_in(slice(at(0), 4 * PAGE), &mut bytes), 2 * PAGE_BYTES);
    assert_eq!(space.try_copy_out(slice(at(0), 4 * PAGE), &[1; 4 * PAGE_BYTES]), 2 * PAGE_BYTES);
    assert_eq!(pager.requests(), 0);
    assert_eq!(space.prepare(slice(at(0), 4 * PAGE), Access::Write), Ok(4 * PAGE_BYTES));
    assert_eq!(space.try_copy_out(slice(at(0), 4 * PAGE), &[1; 4 * PAGE_BYTES]), 4 * PAGE_BYTES);
}

#[test]
fn f4_copies_go_as_far_as_memory_reaches() {
    let _alone = host::exclusive();
    let space = space_of(2);
    let end = slice(UserAddr(at(1).0 + 4000), 200);
    assert_eq!(space.copy_out(end, &[1; 200]), Ok(96));
    assert_eq!(space.copy_out_all(end, &[1; 200]), Err(FaultError::Segv));
    assert_eq!(space.copy_in_prefix(end, &mut [0; 200]), Ok(96));
    assert_eq!(space.copy_in(end, &mut [0; 200]), Err(FaultError::Segv));
    assert_eq!(space.copy_out(slice(at(2), 1), &[1]), Err(FaultError::Segv));
    assert_eq!(space.copy_out(slice(at(2), 0), &[]), Ok(0));
    space.write(UserAddr(at(0).0 + 4094), &0x1122_3344_u32).unwrap();
    assert_eq!(space.read::<u32>(UserAddr(at(0).0 + 4094)), Ok(0x1122_3344));
    assert_eq!(
        space.read_string(UserAddr(at(1).0 + 4095), 10),
        Err(FaultError::Segv),
        "no NUL before the end"
    );
    assert_eq!(
        space.read_string(UserAddr(at(0).0 + 4094), 10).unwrap().unwrap(),
        [0x44, 0x33, 0x22, 0x11]
    );
}

#[test]
fn f5_errors_are_never_zeros() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Errors(3));
    let space = lazy_space(&pager);
    assert_eq!(mmu::load(&space, at(0)), Err(FaultError::Bus));
    assert_eq!(pager.requests(), 3, "a bounded number of times");
    assert_eq!(load(&space, at(0)), byte_of(7, 1, 0), "and nothing remembers the failure");
    *lock(&pager.answers) = Answers::Errors(3);
    assert_eq!(space.copy_in(slice(at(32), 1), &mut [0]).map_err(Errno::from), Err(Errno::EIO));
    *lock(&pager.answers) = Answers::Errors(2);
    assert_eq!(load(&space, at(32)), byte_of(7, 1, 32 * PAGE));
}

#[test]
fn f5_a_short_answer_is_an_error() {
    let _alone = host::exclusive();
    // Often: the reader looks while the answer comes, and must not count one for several.
    for _ in 0..300 {
        let pager = TestPager::new(Answers::Later);
        let space = lazy_space(&pager);
        let reader = spawn({
            let space = space.clone();
            move || mmu::load(&space, at(0))
        });
        for _ in 0..3 {
            next_fetch(&pager).complete(Ok(vec![]));
        }
        assert_eq!(reader.join().unwrap(), Err(FaultError::Bus));
    }
}

#[test]
fn f7_a_waiting_thread_can_be_killed() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Later);
    let space = lazy_space(&pager);
    let (tell, told) = mpsc::channel::<ThreadId>();
    let reader = spawn({
        let space = space.clone();
        move || {
            tell.send(host::current()).unwrap();
            mmu::load(&space, at(0))
        }
    });
    let fetch = next_fetch(&pager);
    host::kill(Some(told.recv().unwrap()));
    for _ in 0..1_000_000 {
        // Long enough for anyone who can be killed; then the answer comes to the one who cannot.
        if reader.is_finished() {
            break;
        }
        thread::yield_now();
    }
    lock(&pager.requests).clear();
    TestPager::answer(&fetch);
    assert_eq!(reader.join().unwrap(), Err(FaultError::Killed));
    host::kill(None);
    assert_eq!(load(&space, at(0)), byte_of(7, 1, 0), "others get what it asked for");
    assert_eq!(pager.requests(), 0);
}

#[test]
fn f8_the_mark_of_a_server_is_inherited_and_makes_it_eager() {
    let _alone = host::exclusive();
    let space = space_of(1);
    assert!(space.policy.lazy());
    space.policy.mark_server();
    assert!(!space.policy.lazy());
    assert!(space.fork().unwrap().policy.is_server());
    assert!(space.successor().unwrap().policy.is_server());
}

#[test]
fn f8_the_last_frames_are_the_servers() {
    let _alone = host::exclusive();
    let (server, program) = (space_of(4), space_of(4));
    server.policy.mark_server();
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed() {
        hoard.push(frame);
    }
    assert_eq!(mmu::store(&program, at(0), 1), Err(FaultError::OutOfMemory));
    assert_eq!(mmu::store(&server, at(0), 1), Ok(()));
    drop(hoard);
    assert_eq!(mmu::store(&program, at(0), 1), Ok(()));
}

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
    assert_eq!(space.regions().len(), 8);
    assert_eq!(load(&space, at(6)), byte_of(7, 3, 0));
}

#[test]
fn q2_eviction_lets_clean_frames_go_and_they_come_again() {
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

fn frame_of(space: &Space, page: u64) -> PhysAddr {
    space.with(|space| space.table.get(at(page).page()).unwrap().address())
}

/// Takes all frames but `left` (and the reserve), so that little memory is left.
fn hoard(left: usize) -> Vec<Frame> {
    let wanted = frame::stats().free - frame::reserve() - left;
    (0..wanted).map(|_| Frame::zeroed().unwrap()).collect()
}

#[test]
fn q2_clean_pages_go_and_come_again() {
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
fn q2_tables_of_holes_go_too() {
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

/// Sets a knob until dropped.
struct Knob(&'static knob::Knob, u64);

impl Knob {
    fn set(knob: &'static knob::Knob, value: u64) -> Self {
        let old = knob.get();
        knob.set(value).unwrap();
        Self(knob, old)
    }
}

impl Drop for Knob {
    fn drop(&mut self) {
        self.0.set(self.1).unwrap();
    }
}

fn cache_emptied() -> usize {
    cache::evict(usize::MAX)
}

fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(run)
}

/// The next fetch that a thread started.
fn next_fetch(pager: &TestPager) -> Arc<Fetch> {
    loop {
        if let Some(fetch) = lock(&pager.waiting).pop() {
            return fetch;
        }
        thread::yield_now();
    }
}
