//! Page-outs need no memory: what they need is allocated when swap is attached.

use super::*;
use crate::mem::{
    host::{RamSwap, SwapAnswers, evict_pages, failure},
    slot::{WRITE_PAGES, WRITES},
    swap,
};

fn attached(slots: u32) -> Arc<RamSwap> {
    let device = RamSwap::new();
    swap::attach(device.clone(), slots).unwrap();
    device
}

fn filled(pages: u64) -> Arc<Space> {
    let space = space_of(pages);
    (0..pages).for_each(|page| store(&space, at(page), page as u8));
    space
}

fn check(space: &Space, pages: u64) {
    (0..pages).for_each(|page| assert_eq!(load(space, at(page)), page as u8, "page {page}"));
}

#[test]
fn q3_a_page_out_allocates_nothing() {
    let _alone = host::exclusive();
    let device = attached(1000);
    let space = filled(200);
    let evict_all = || while evict_pages(64) {};
    assert_eq!(failure::during(None, evict_all).1, 0, "claims");
    assert_eq!((space.stats().resident.0, device.pages()), (0, 200));
    check(&space, 200);
    // A write that fails needs none either.
    device.set(SwapAnswers::Full);
    assert_eq!(failure::during(None, evict_all).1, 0, "claims");
    device.set(SwapAnswers::Now);
    check(&space, 200);
    drop(space);
    swap::detach();
}

#[test]
fn q3_few_writes_are_under_way_at_once() {
    let _alone = host::exclusive();
    let device = attached(4000);
    let pages = 2 * (WRITES * WRITE_PAGES) as u64;
    let space = filled(pages);
    device.set(SwapAnswers::Later);
    let writers: Vec<_> =
        (0..WRITES + 2).map(|_| spawn(|| while evict_pages(WRITE_PAGES) {})).collect();
    while device.waiting() < WRITES {
        std::thread::yield_now();
    }
    assert!(swap::is_open(), "who waits for a write finds swap open");
    for round in 0..1000 {
        assert!(device.waiting() <= WRITES, "round {round}");
        std::thread::yield_now();
    }
    device.set(SwapAnswers::Now);
    while writers.iter().any(|writer| !writer.is_finished()) {
        device.answer_next(1);
        std::thread::yield_now();
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(device.pages(), pages as usize);
    check(&space, pages);
    drop(space);
    swap::detach();
}

#[test]
fn q3_a_page_in_takes_its_frames_first() {
    let _alone = host::exclusive();
    let device = attached(1000);
    let space = filled(64);
    while evict_pages(64) {}
    device.set(SwapAnswers::Later);
    let before = frame::stats().free;
    let reader = {
        let space = space.clone();
        spawn(move || load(&space, at(20)))
    };
    while device.waiting() < 1 {
        std::thread::yield_now();
    }
    // The reply's frames are there already, from the server's reserve.
    assert_eq!(before - frame::stats().free, 2 * knob::SWAP_AROUND.get() as usize);
    device.set(SwapAnswers::Now);
    assert!(device.answer_next(0));
    assert_eq!(reader.join().unwrap(), 20);
    assert_eq!(before - frame::stats().free, knob::SWAP_AROUND.get() as usize);
    check(&space, 64);
    drop(space);
    swap::detach();
}
