//! Shared memory on the host: each owner sees the others' stores, also of pages that were swapped
//! out in between.

use super::*;
use crate::mem::{
    host::SwapAnswers,
    page_table::{FrameTree, Held},
    swap,
};

fn value(page: u64) -> u8 {
    (page * 7 + 3) as u8
}

fn map_shared(space: &Space, memory: &Arc<SharedMemory>, first: u64, count: u64) {
    let backing = Backing::Shared { memory: memory.clone(), first };
    space.map(Placement::Fixed(BASE), pages(count), RW, backing, "").unwrap();
}

/// Two spaces that map the first pages of one memory.
fn pair(count: u64) -> (Arc<SharedMemory>, [Arc<Space>; 2]) {
    let memory = SharedMemory::new(&Account::new());
    let spaces = [Space::new().unwrap(), Space::new().unwrap()];
    spaces.iter().for_each(|space| map_shared(space, &memory, 0, count));
    (memory, spaces)
}

fn fill(space: &Space, count: u64) {
    (0..count).for_each(|page| store(space, at(page), value(page)));
}

fn check(space: &Space, count: u64) {
    (0..count).for_each(|page| assert_eq!(load(space, at(page)), value(page), "page {page}"));
}

#[test]
fn q3_shared_memory_is_swapped_out_once_and_back_for_all() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let before = frame::stats().free;
    {
        let (_memory, [one, other]) = pair(100);
        fill(&one, 100);
        check(&other, 100);
        evict_everything();
        assert_eq!([one.stats().resident.0, other.stats().resident.0], [0, 0]);
        assert_eq!((swap.0.pages(), swap::stats()), (100, (1000, 900)));
        assert_eq!([one.stats().shared.0, other.stats().shared.0], [100, 100]);
        check(&other, 50);
        (0..100).for_each(|page| store(&other, at(page), value(page + 1)));
        (0..100).for_each(|page| assert_eq!(load(&one, at(page)), value(page + 1)));
        assert_eq!(swap::stats(), (1000, 1000), "pages in memory have no slot");
        let waits = [&one, &other].map(|space| space.counters.get(Counter::FaultsMajor));
        assert!(waits[0] == 0 && waits[1] < 20, "neighbours come along: {waits:?}");
        evict_everything();
    }
    assert_eq!(swap::stats(), (1000, 1000), "slots go with the memory");
    assert_eq!(frame::stats().free, before);
}

#[test]
fn q3_more_shared_memory_than_the_machine_has() {
    let _alone = host::exclusive();
    let _swap = Swap::new(4 * host::POOL_FRAMES as u32);
    let count = 2 * host::POOL_FRAMES as u64;
    let (_memory, [one, other]) = pair(count);
    fill(&one, count);
    check(&other, count);
    (0..count).for_each(|page| store(&other, at(page), value(page + 5)));
    (0..count).for_each(|page| assert_eq!(load(&one, at(page)), value(page + 5)));
}

/// Each page has many more entries than the machine has frames.
#[test]
fn q3_shared_memory_of_many_spaces_is_swapped_out() {
    const SPACES: usize = 24;
    let _alone = host::exclusive();
    let _swap = Swap::new(4 * host::POOL_FRAMES as u32);
    let count = host::POOL_FRAMES as u64 / 2;
    let memory = SharedMemory::new(&Account::new());
    let spaces: Vec<_> = (0..SPACES).map(|_| Space::new().unwrap()).collect();
    for space in &spaces {
        map_shared(space, &memory, 0, count);
        fill(space, count);
    }
    let wanted = host::POOL_FRAMES * 3 / 4;
    assert_eq!(reclaim::make_room(wanted, Claim::Program), Ok(true));
    spaces.iter().for_each(|space| check(space, count));
}

/// The swap server reads the frame of a page that is being written out: an owner that stores to the
/// page meanwhile gets another frame, and all owners the same one.
#[test]
fn q3_a_shared_page_in_transit_gets_a_new_frame() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let (_memory, [one, other]) = pair(20);
    fill(&one, 20);
    swap.0.set(SwapAnswers::Later);
    let writer = spawn(evict_everything);
    while swap.0.waiting() < 1 {
        std::thread::yield_now();
    }
    store(&one, at(3), 99);
    assert_eq!(load(&other, at(3)), 99);
    store(&other, at(3), 98);
    assert_eq!(load(&one, at(3)), 98);
    assert_eq!(frame_of(&one, 3), frame_of(&other, 3));
    swap.0.set(SwapAnswers::Now);
    while !writer.is_finished() {
        swap.0.answer_next(0);
        std::thread::yield_now();
    }
    writer.join().unwrap();
    assert_eq!((load(&other, at(3)), load(&one, at(4))), (98, value(4)));
}

#[test]
fn q3_a_failed_write_or_read_of_shared_pages_loses_nothing() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let (_memory, [one, other]) = pair(60);
    fill(&one, 60);
    swap.0.set(SwapAnswers::Full);
    evict_everything();
    assert!(!swap::is_open());
    check(&other, 60);
    swap.0.set(SwapAnswers::Now);
    evict_everything();
    swap.0.set(SwapAnswers::Broken);
    assert_eq!(mmu::load(&one, at(5)), Err(FaultError::Bus));
    swap.0.set(SwapAnswers::Now);
    check(&one, 60);
    check(&other, 60);
}

#[test]
fn q3_operations_on_shared_pages_that_are_swapped_out() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let (_memory, [one, other]) = pair(64);
    fill(&one, 64);
    evict_everything();
    let child = one.fork().unwrap();
    store(&child, at(0), 1);
    assert_eq!(load(&one, at(0)), 1);
    one.protect(at(1), pages(1), Prot::READ).unwrap();
    assert_eq!(mmu::store(&one, at(1), 0), Err(FaultError::Segv));
    let moved = one.remap(at(8), pages(8), pages(8), Move::To(at(100))).unwrap();
    assert_eq!(load(&one, UserAddr(moved.0 + 3 * PAGE)), value(11));
    // What one owner discards is still the memory's.
    evict_everything();
    one.discard(at(16), pages(8)).unwrap();
    assert_eq!(load(&one, at(17)), value(17));
    one.copy_out_all(slice(at(32), PAGE), &[5; PAGE_BYTES]).unwrap();
    assert_eq!(load(&other, UserAddr(at(32).0 + 77)), 5);
    evict_everything();
    one.copy_out_all(slice(UserAddr(at(40).0 + 3), 3), &[1, 2, 3]).unwrap();
    let mut bytes = [0; 6];
    other.copy_in(slice(at(40), 6), &mut bytes).unwrap();
    assert_eq!(bytes, [value(40), 0, 0, 1, 2, 3]);
    drop((one, child));
    evict_everything();
    assert_eq!(load(&other, at(63)), value(63));
}

#[test]
fn q3_frames_of_shared_memory_are_accounted_for() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let (_memory, [one, other]) = pair(30);
    let unknown = || audit::unknown_frames([one.clone(), other.clone()].into_iter()).unwrap();
    let before = unknown();
    fill(&one, 30);
    assert_eq!(unknown(), before);
    evict_everything();
    // A page that was brought back by one owner is unmapped in the other.
    assert_eq!((load(&other, at(7)), unknown()), (value(7), before));
}

#[test]
fn f8_shared_memory_of_a_server_stays() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let (memory, [server, other]) = pair(20);
    fill(&other, 10);
    evict_everything();
    server.load_all().unwrap();
    assert_eq!(server.stats().resident.0, 10, "what others stored to is loaded");
    server.policy.mark_server(Claim::FileServer);
    store(&other, at(15), 1);
    evict_everything();
    assert_eq!(swap::stats().1, 1000, "nothing left");
    let fresh = SharedMemory::new(&Account::new());
    map_shared(&server, &fresh, 0, 4);
    store(&server, BASE, 1);
    evict_everything();
    assert_eq!(swap::stats().1, 1000);
    drop(memory);
}

#[test]
fn a_frame_tree_grows_and_finds_its_pages() {
    let _alone = host::exclusive();
    let before = frame::stats().free;
    {
        let mut tree = FrameTree::default();
        let numbers = [3, 511, 512, 0x3_ffff, 0x40_0000, 0x2_0000_0000, 1 << 45];
        assert_eq!((tree.next(Page(0)), tree.frames()), (None, 0));
        for (index, &page) in numbers.iter().enumerate() {
            let frame = Frame::from_bytes(Claim::Program, &[index as u8]).unwrap();
            tree.put(Page(page), Held::Frame(frame), Claim::Program).unwrap();
            assert_eq!(tree.get(Page(page + 1)), None);
        }
        let found: Vec<u64> =
            core::iter::successors(tree.next(Page(0)), |page| tree.next(page.next()))
                .map(|page| page.0)
                .collect();
        assert_eq!(found, numbers);
        for (index, &page) in numbers.iter().enumerate() {
            let frame = tree.get(Page(page)).unwrap().frame();
            assert_eq!(frame.bytes()[0], index as u8);
        }
        let far = Held::Frame(Frame::zeroed().unwrap());
        assert_eq!(tree.put(Page(1 << 63), far, Claim::Program), Err(OutOfMemory));
        assert_eq!(tree.frames(), before - frame::stats().free);
    }
    assert_eq!(frame::stats().free, before);
}
