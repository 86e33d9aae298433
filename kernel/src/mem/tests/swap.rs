//! Q3 on the host: pages are swapped out and in.

use super::*;
use crate::mem::{
    host::{RamSwap, SwapAnswers, evict_pages},
    slot, swap,
};

/// A swap device for one test. When it is dropped, all slots must be free.
struct Swap {
    device: Arc<RamSwap>,
}

impl Swap {
    fn new(slots: u32) -> Self {
        let device = RamSwap::new();
        swap::attach(device.clone(), slots).unwrap();
        Self { device }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            swap::punch_idle_chunks();
            assert_eq!(self.device.pages(), 0, "unused chunks are holes");
        }
        // After a failure, only for the next test.
        let _ = std::panic::catch_unwind(swap::detach);
    }
}

fn value(page: u64) -> u8 {
    (page * 7 + 3) as u8
}

/// A space whose pages are private.
fn filled(pages: u64) -> Arc<Space> {
    let space = space_of(pages);
    (0..pages).for_each(|page| store(&space, at(page), value(page)));
    space
}

fn check(space: &Space, pages: u64) {
    (0..pages).for_each(|page| assert_eq!(load(space, at(page)), value(page), "page {page}"));
}

/// Swaps out all pages.
fn swap_all(space: &Space) {
    evict_everything();
    assert_eq!(space.stats().resident.0, 0);
}

/// Waits until `count` requests wait for a reply of the device. Looks only at the device: the clock
/// skips a space that is locked, so looking at the space could keep the clock from evicting.
fn await_requests(swap: &Swap, count: usize) {
    while swap.device.waiting() < count {
        std::thread::yield_now();
    }
}

#[test]
fn q3_pages_are_swapped_in_with_their_neighbours() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let before = frame::stats();
    let space = filled(100);
    let tables = before.free - frame::stats().free - 100;
    swap_all(&space);
    assert_eq!((space.stats().swapped.0, swap.device.pages()), (100, 100));
    assert_eq!(before.free - frame::stats().free, tables, "all frames are free");
    check(&space, 100);
    assert_eq!(swap::stats(), (1000, 1000), "pages in memory have no slot");
    assert!(space.counters.get(Counter::FaultsMajor) < 20, "neighbours come along");
    (0..100).for_each(|page| store(&space, at(page), 1));
    assert_eq!(space.counters.get(Counter::PagesCow), 0, "nobody else has these frames");
}

#[test]
fn q3_more_than_memory_can_be_stored_to() {
    let _alone = host::exclusive();
    let _swap = Swap::new(4 * host::POOL_FRAMES as u32);
    let space = filled(2 * host::POOL_FRAMES as u64);
    check(&space, 2 * host::POOL_FRAMES as u64);
    space.unmap(BASE, ByteCount(2 * host::POOL_FRAMES as u64 * PAGE)).unwrap();
    assert_eq!(swap::stats().0, swap::stats().1);
}

#[test]
fn q3_a_full_swap_file_is_an_error() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let space = space_of(2 * host::POOL_FRAMES as u64);
    let failed = (0..2 * host::POOL_FRAMES as u64)
        .find(|&page| mmu::store(&space, at(page), value(page)).is_err())
        .unwrap();
    assert!(failed > (host::POOL_FRAMES + 300) as u64, "{failed}");
    // With some pages discarded, all others are there.
    space.discard(at(failed - 100), pages(100)).unwrap();
    check(&space, failed - 100);
}

#[test]
fn q3_fork_shares_slots_and_a_page_in_serves_each() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let space = filled(40);
    swap_all(&space);
    let child = space.fork().unwrap();
    assert_eq!(swap::stats(), (1000, 960), "slots are shared");
    (0..40).for_each(|page| store(&child, at(page), 0xee));
    check(&space, 40);
    (0..40).for_each(|page| assert_eq!(load(&child, at(page)), 0xee));
    // Shared frames are evicted too, by each owner.
    let grandchild = child.fork().unwrap();
    evict_everything();
    drop(child);
    (0..40).for_each(|page| assert_eq!(load(&grandchild, at(page)), 0xee));
    check(&space, 40);
    drop((space, grandchild));
    assert_eq!(swap::stats(), (1000, 1000));
    drop(swap);
}

#[test]
fn q3_a_page_in_transit_is_mapped_again() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let space = filled(20);
    swap.device.set(SwapAnswers::Later);
    let writer = std::thread::spawn(evict_everything);
    await_requests(&swap, 1);
    assert_eq!(space.stats().swapped.0, 20, "all are in transit");
    check(&space, 20);
    store(&space, at(3), 99);
    assert_eq!(space.stats().resident.0, 20);
    swap.device.set(SwapAnswers::Now);
    while !writer.is_finished() {
        swap.device.answer_next(0);
        std::thread::yield_now();
    }
    writer.join().unwrap();
    assert_eq!(load(&space, at(3)), 99);
    space.unmap(BASE, pages(20)).unwrap();
}

#[test]
fn q3_a_write_that_fails_loses_nothing() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let space = filled(100);
    swap.device.set(SwapAnswers::Full);
    evict_everything();
    assert!(!swap::is_open());
    check(&space, 100);
    swap.device.set(SwapAnswers::Now);
    assert!(swap::is_open(), "a slot became free");
    swap_all(&space);
    swap.device.set(SwapAnswers::Broken);
    assert_eq!(mmu::load(&space, at(5)), Err(FaultError::Bus));
    swap.device.set(SwapAnswers::Now);
    check(&space, 100);
}

/// Frames whose write failed can stay as long as the process that owns them sleeps.
#[test]
fn q3_a_frame_that_could_not_be_written_is_accounted_for() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let space = filled(10);
    let unknown = || audit::unknown_frames(core::iter::once(space.clone())).unwrap();
    let before = unknown();
    swap.device.set(SwapAnswers::Full);
    evict_everything();
    assert_eq!(space.stats().resident.0, 0, "no page maps them");
    assert_eq!(unknown(), before, "they are accounted for");
    swap.device.set(SwapAnswers::Now);
    check(&space, 10);
    assert_eq!(unknown(), before);
}

/// Another device in the place of one that was lost.
fn attach_another(swap: &mut Swap) {
    let device = RamSwap::new();
    swap::attach(device.clone(), 1000).unwrap();
    swap.device = device;
}

#[test]
fn q3_pages_of_a_lost_device_are_never_found_again() {
    let _alone = host::exclusive();
    let mut swap = Swap::new(1000);
    let space = filled(40);
    swap_all(&space);
    let child = space.fork().unwrap();
    // Some pages stay in memory, and are not affected.
    assert_eq!(load(&space, at(39)), value(39));
    let resident = space.stats().resident.0;
    swap.device.lose();
    assert_eq!((swap::stats(), swap::is_open()), ((0, 0), false));
    attach_another(&mut swap);
    // The new slots have the bytes of other pages.
    let other = filled(60);
    evict_everything();
    assert_eq!(mmu::load(&space, at(0)), Err(FaultError::Bus));
    assert_eq!(mmu::store(&child, at(1), 0), Err(FaultError::Bus));
    assert_eq!(space.copy_in(slice(at(2), 1), &mut [0]), Err(FaultError::Bus));
    assert_eq!(space.load_all(), Err(FaultError::Bus));
    check(&other, 60);
    let found = (0..40).filter(|&page| mmu::load(&space, at(page)) == Ok(value(page))).count();
    assert_eq!(found as u64, resident, "pages in memory are there");
    // A page that is overwritten as a whole, or mapped anew, is usable again.
    space.copy_out_all(slice(at(0), PAGE), &[7; PAGE_BYTES]).unwrap();
    space.discard(at(1), pages(1)).unwrap();
    assert_eq!((load(&space, at(0)), load(&space, at(1))), (7, 0));
    drop((space, child, other));
    assert_eq!(swap::stats(), (1000, 1000));
}

#[test]
fn q3_pages_on_their_way_to_a_lost_device_stay() {
    let _alone = host::exclusive();
    let mut swap = Swap::new(1000);
    let space = filled(20);
    swap.device.set(SwapAnswers::Later);
    let writer = std::thread::spawn(|| evict_pages(20));
    await_requests(&swap, 1);
    assert_eq!(space.stats().swapped.0, 20, "all are in transit");
    swap.device.lose();
    writer.join().unwrap();
    let unknown = || audit::unknown_frames(core::iter::once(space.clone())).unwrap();
    let before = unknown();
    // Several devices later, they are there.
    for _ in 0..3 {
        attach_another(&mut swap);
        assert_eq!(unknown(), before);
        swap.device.lose();
    }
    attach_another(&mut swap);
    let child = space.fork().unwrap();
    check(&child, 20);
    drop(child);
    check(&space, 20);
    swap_all(&space);
    check(&space, 20);
}

#[test]
fn q3_no_device_is_attached_while_pages_are_on_their_way_to_another() {
    let _alone = host::exclusive();
    let mut swap = Swap::new(1000);
    assert_eq!(swap::attach(RamSwap::new(), 10), Err(Errno::EBUSY), "there is a device");
    let space = filled(20);
    swap.device.set(SwapAnswers::Later);
    let writer = std::thread::spawn(|| evict_pages(20));
    await_requests(&swap, 1);
    swap.device.leave();
    assert_eq!(swap::attach(RamSwap::new(), 10), Err(Errno::EBUSY));
    swap.device.lose();
    writer.join().unwrap();
    attach_another(&mut swap);
    check(&space, 20);
}

#[test]
fn f5_a_page_in_from_a_lost_device_fails() {
    let _alone = host::exclusive();
    let mut swap = Swap::new(1000);
    let space = filled(20);
    swap_all(&space);
    swap.device.set(SwapAnswers::Later);
    let reader = {
        let space = space.clone();
        std::thread::spawn(move || mmu::load(&space, at(4)))
    };
    await_requests(&swap, 1);
    swap.device.lose();
    assert_eq!(reader.join().unwrap(), Err(FaultError::Bus));
    attach_another(&mut swap);
    assert_eq!(mmu::load(&space, at(4)), Err(FaultError::Bus));
}

#[test]
fn q3_operations_on_swapped_pages() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let space = filled(64);
    swap_all(&space);
    space.protect(at(0), pages(8), Prot::READ).unwrap();
    assert_eq!(mmu::store(&space, at(1), 0), Err(FaultError::Segv));
    let moved = space.remap(at(8), pages(8), pages(8), Move::To(at(100))).unwrap();
    assert_eq!(load(&space, UserAddr(moved.0 + 3 * PAGE)), value(11));
    space.discard(at(16), pages(8)).unwrap();
    assert_eq!(load(&space, at(17)), 0);
    let pager = TestPager::new(Answers::Now);
    associate(&space, at(24), 8, &pager.snapshot(1, 1, 0, 8), 0).unwrap();
    assert_eq!(load(&space, at(25)), byte_of(1, 1, PAGE));
    // Overwriting a whole page needs no page-in; overwriting part of it does.
    let reads = space.counters.get(Counter::FaultsMajor);
    space.copy_out_all(slice(at(32), PAGE), &[5; PAGE_BYTES]).unwrap();
    assert_eq!(space.counters.get(Counter::FaultsMajor), reads);
    space.copy_out_all(slice(at(40), 1), &[5]).unwrap();
    assert_eq!(space.counters.get(Counter::FaultsMajor), reads + 1);
    let mut bytes = [0; 2];
    space.copy_in(slice(at(47), 2), &mut bytes).unwrap();
    assert_eq!(bytes[0], value(47));
    assert_eq!(space.try_copy_in(slice(at(60), 1), &mut [0]), 0, "this never waits");
    assert_eq!(space.residency(at(56), pages(8)).unwrap(), [0; 8]);
    assert_eq!(
        space.lend(PageRange::new(at(48).page(), PageCount(4))).unwrap()[2].bytes()[0],
        value(50)
    );
    evict_everything();
    assert_eq!(
        (load(&space, at(33)), load(&space, at(40)), load(&space, at(1))),
        (value(33), 5, value(1))
    );
}

#[test]
fn f8_pages_of_a_server_are_not_evicted() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let server = filled(20);
    server.policy.mark_server(Claim::FileServer);
    evict_everything();
    assert_eq!((server.stats().resident.0, server.stats().swapped.0), (20, 0));
}

#[test]
fn x3_f3_a_slot_in_transit_is_not_reused() {
    let _alone = host::exclusive();
    let swap = Swap::new(20);
    let space = filled(16);
    swap_all(&space);
    swap.device.set(SwapAnswers::Later);
    let reader = {
        let space = space.clone();
        std::thread::spawn(move || load(&space, at(4)))
    };
    await_requests(&swap, 1);
    // All pages are discarded, and some are stored to and swapped out again: the four slots that
    // are free are not those that are being read.
    space.discard(BASE, pages(16)).unwrap();
    (0..4).for_each(|page| store(&space, at(4 + page), 200));
    let writer = std::thread::spawn(|| assert!(evict_pages(4)));
    await_requests(&swap, 2);
    assert_eq!(space.stats().swapped.0, 4, "all are in transit");
    swap.device.set(SwapAnswers::Now);
    while !(reader.is_finished() && writer.is_finished()) {
        swap.device.answer_next(0);
        std::thread::yield_now();
    }
    assert_eq!(reader.join().unwrap(), 200);
    writer.join().unwrap();
}

#[test]
fn q3_a_fork_makes_room_for_its_tables() {
    let _alone = host::exclusive();
    let _swap = Swap::new(4 * host::POOL_FRAMES as u32);
    // A page in each of many tables: the child needs as many as there are pages.
    let tables = host::POOL_FRAMES as u64 / 3;
    let space = space_of(tables * 512);
    (0..tables).for_each(|page| store(&space, at(page * 512), value(page)));
    let child = space.fork().unwrap();
    (0..tables).for_each(|page| assert_eq!(load(&child, at(page * 512)), value(page)));
    drop(child);
    (0..tables).for_each(|page| assert_eq!(load(&space, at(page * 512)), value(page)));
}

#[test]
fn f8_load_all_fetches_every_page() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let pager = TestPager::new(Answers::Now);
    let space = filled(64);
    swap_all(&space);
    associate(&space, at(0), 16, &pager.snapshot(1, 1, 0, 16), 0).unwrap();
    space.load_all().unwrap();
    assert_eq!((space.stats().resident.0, space.stats().swapped.0), (64, 0));
    let fetches = pager.requests();
    space.policy.mark_server(Claim::FileServer);
    evict_everything();
    host::evict_all();
    (0..16).for_each(|page| assert_eq!(load(&space, at(page)), byte_of(1, 1, page * PAGE)));
    assert_eq!(pager.requests(), fetches);
}

#[test]
fn x3_the_first_reply_counts() {
    let _alone = host::exclusive();
    let swap = Swap::new(1000);
    let pager = TestPager::new(Answers::Now);
    let space = space_of(64);
    space.associate(at(0), PageCount(64), &pager.untrusted(64), SnapshotOffset(0)).unwrap();
    let first: Vec<u8> = (0..64).map(|page| load(&space, at(page))).collect();
    let asked = pager.requests();
    let child = space.fork().unwrap();
    // Unmapped, then evicted from the cache: the frames are swapped out and not dropped.
    for _ in 0..3 {
        evict_everything();
        host::evict_all();
    }
    assert_eq!((swap.device.pages(), space.stats().resident.0), (64, 0));
    (0..64).for_each(|page| assert_eq!(load(&space, at(page)), first[page as usize]));
    (0..64).for_each(|page| store(&child, at(page), 0));
    (0..64).for_each(|page| assert_eq!(load(&space, at(page)), first[page as usize]));
    assert_eq!(pager.requests(), asked, "each page is fetched once");
    drop((space, child));
    assert_eq!(swap::stats(), (1000, 1000));
}

/// A program with much in the swap file ends: its chunks become holes a few at a time, and pages of
/// others can be swapped out meanwhile.
#[test]
fn q3_few_chunks_become_holes_at_once() {
    let _alone = host::exclusive();
    let swap = Swap::new(2 * host::POOL_FRAMES as u32);
    let much = host::POOL_FRAMES as u64 * 3 / 4;
    let (large, small) = (filled(much), filled(50));
    evict_everything();
    check(&small, 50);
    swap.device.set(SwapAnswers::Later);
    drop(large);
    swap::punch_idle_chunks();
    assert_eq!(swap.device.waiting(), slot::PUNCHES);
    let rounds = (0..100).take_while(|_| {
        let answered = swap.device.answer_next(0);
        swap::punch_idle_chunks();
        assert!(swap.device.waiting() <= slot::PUNCHES);
        answered
    });
    assert!(rounds.count() > 2 * slot::PUNCHES);
    swap.device.set(SwapAnswers::Now);
    check(&small, 50);
}
