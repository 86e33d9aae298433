//! Rules of faults that `mem` keeps (F).

use super::*;
use crate::sync::ThreadId;
use std::{sync::mpsc, thread};

#[test]
fn f1_load_fetches_the_page_and_its_neighbours() {
    let _alone = host::exclusive();
    let _knob = Knob::set(&knob::FAULT_AROUND, 8);
    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    assert_eq!(pager.requests(), 0, "associating sends no request");
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
    assert_eq!(pages, [16, 64, 64, 64, 64]);
    load(&space, at(2000));
    load(&space, at(1000));
    assert_eq!(
        lock(&pager.requests)[5..].iter().map(|request| request.2).collect::<Vec<_>>(),
        [1, 1],
        "not sequential"
    );
    for page in [2003, 2006, 2005, 2018, 2020] {
        load(&space, at(page));
    }
    assert_eq!(
        lock(&pager.requests)[7..].iter().map(|request| request.2).collect::<Vec<_>>(),
        [3, 4, 1, 64],
        "pages of one cluster"
    );
}

#[test]
fn f1_windows_are_large_where_all_pages_were_touched_before() {
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
    assert_eq!(windows(156), Some(64), "a buffer that is read from end to end");
    assert_eq!(windows(1), Some(1), "a buffer of which one page is read each time");
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
        // More requests would be completed too, and counted below.
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
fn f3_a_late_reply_is_not_mapped_elsewhere() {
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
    assert_eq!(pager.closed(), 0, "a fetch refers to it");
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
fn f4_copies_stop_where_memory_ends() {
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
    assert_eq!(pager.requests(), 3, "the number of fetches is bounded");
    assert_eq!(load(&space, at(0)), byte_of(7, 1, 0), "the failure leaves nothing behind");
    *lock(&pager.answers) = Answers::Errors(3);
    assert_eq!(space.copy_in(slice(at(32), 1), &mut [0]).map_err(Errno::from), Err(Errno::EIO));
    *lock(&pager.answers) = Answers::Errors(2);
    assert_eq!(load(&space, at(32)), byte_of(7, 1, 32 * PAGE));
}

#[test]
fn f5_a_short_answer_is_an_error() {
    let _alone = host::exclusive();
    // Repeated, because the reader looks while the result arrives, and must not count it twice.
    for _ in 0..300 {
        let pager = TestPager::new(Answers::Later);
        let space = lazy_space(&pager);
        let reader = spawn({
            let space = space.clone();
            move || mmu::load(&space, at(0))
        });
        for _ in 0..3 {
            next_fetch(&pager).complete(Ok(Frames::default()));
        }
        assert_eq!(reader.join().unwrap(), Err(FaultError::Bus));
    }
}

#[test]
fn f7_a_waiting_thread_can_be_killed() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Later);
    let space = lazy_space(&pager);
    let (sender, receiver) = mpsc::channel::<ThreadId>();
    let reader = spawn({
        let space = space.clone();
        move || {
            sender.send(host::current()).unwrap();
            mmu::load(&space, at(0))
        }
    });
    let fetch = next_fetch(&pager);
    host::kill(Some(receiver.recv().unwrap()));
    for _ in 0..1_000_000 {
        // Long enough for a thread that can be killed. Otherwise the result arrives then.
        if reader.is_finished() {
            break;
        }
        thread::yield_now();
    }
    lock(&pager.requests).clear();
    TestPager::answer(&fetch);
    assert_eq!(reader.join().unwrap(), Err(FaultError::Killed));
    host::kill(None);
    assert_eq!(load(&space, at(0)), byte_of(7, 1, 0), "others get the pages that it requested");
    assert_eq!(pager.requests(), 0);
}

#[test]
fn f8_the_mark_of_a_server_is_inherited_and_makes_it_eager() {
    let _alone = host::exclusive();
    let space = space_of(1);
    assert!(space.policy.lazy());
    space.policy.mark_server(Claim::FileServer);
    assert!(!space.policy.lazy());
    assert!(space.fork().unwrap().policy.is_server());
    assert!(space.successor(space.account.child()).unwrap().policy.is_server());
}

#[test]
fn f8_the_last_frames_are_reserved_for_servers() {
    let _alone = host::exclusive();
    let (server, program) = (space_of(4), space_of(4));
    server.policy.mark_server(Claim::FileServer);
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed() {
        hoard.push(frame);
    }
    assert_eq!(mmu::store(&program, at(0), 1), Err(FaultError::OutOfMemory));
    assert_eq!(mmu::store(&server, at(0), 1), Ok(()));
    drop(hoard);
    assert_eq!(mmu::store(&program, at(0), 1), Ok(()));
}
