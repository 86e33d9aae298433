//! Ranks of claims: what each leaves to those above it, and whom it waits for.

use super::*;
use crate::mem::{host::SwapAnswers, reclaim};
use core::sync::atomic::Ordering;
use foundation::mutant::{self, Mutant};

/// Slots for all that a test stores.
const SLOTS: u32 = 4 * host::POOL_FRAMES as u32;

fn server(rank: Claim, pages: u64) -> Arc<Space> {
    let space = space_of(pages);
    space.policy.mark_server(rank);
    space
}

/// A program that has stored to more pages than memory has.
fn filler() -> Arc<Space> {
    let pages = host::POOL_FRAMES as u64 * 5 / 4;
    let space = space_of(pages);
    (0..pages).for_each(|page| store(&space, at(page), page as u8));
    space
}

#[test]
fn f8_each_rank_leaves_frames_to_those_above_it() {
    let _alone = host::exclusive();
    let mut hoard = Vec::new();
    for claim in [Claim::Program, Claim::FileServer, Claim::SwapServer, Claim::Kernel] {
        while let Ok(frame) = Frame::zeroed_for(claim) {
            hoard.push(frame);
        }
        assert_eq!(frame::stats().free, frame::reserve_below(claim), "{claim:?}");
    }
    let reserves = [Claim::Kernel, Claim::SwapServer, Claim::FileServer, Claim::Program];
    assert!(reserves.is_sorted_by_key(|&claim| frame::reserve_below(claim)));
    assert_eq!(frame::reserve_below(Claim::SwapServer), 64 + frame::stats().total / 256);
}

#[test]
fn f8_a_file_servers_claim_has_programs_pages_swapped_out() {
    let _alone = host::exclusive();
    let swap = Swap::new(SLOTS);
    let pages = host::POOL_FRAMES as u64 / 2;
    let (program, server) = (filler(), server(Claim::FileServer, pages));
    let before = swap.0.pages();
    (0..pages).for_each(|page| store(&server, at(page), !(page as u8)));
    assert_eq!((server.stats().resident.0, server.stats().swapped.0), (pages, 0));
    assert!(swap.0.pages() > before);
    (0..pages).for_each(|page| assert_eq!(load(&server, at(page)), !(page as u8)));
    (0..pages).for_each(|page| assert_eq!(load(&program, at(page)), page as u8));
}

/// With the mutant, the server of the test before is refused what it needs.
#[test]
fn f8_a_server_that_never_waits_is_found() {
    let _alone = host::exclusive();
    let _swap = Swap::new(SLOTS);
    let pages = host::POOL_FRAMES as u64 / 2;
    let (_program, server) = (filler(), server(Claim::FileServer, pages));
    mutant::choose(Some(Mutant::ServersNeverWait));
    let missing = (0..pages).find(|&page| mmu::store(&server, at(page), 1).is_err());
    mutant::choose(None);
    assert!(missing.is_some(), "the server's claim has waited in spite of the mutant");
}

#[test]
fn f8_the_swap_servers_claim_waits_for_nothing() {
    let _alone = host::exclusive();
    let swap = Swap::new(SLOTS);
    let (_program, server) = (filler(), server(Claim::SwapServer, 64));
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed_for(Claim::FileServer) {
        hoard.push(frame);
    }
    swap.0.set(SwapAnswers::Later);
    // One transfer of 64 pages, less the page tables of this space.
    (0..60).for_each(|page| store(&server, at(page), 1));
    let missing = (60..70).find(|&page| mmu::store(&server, at(page), 1).is_err());
    assert!(missing.is_some(), "it is refused, and does not wait");
    assert_eq!(swap.0.waiting(), 0, "nothing is swapped out for it");
    swap.0.set(SwapAnswers::Now);
}

#[test]
fn q3_the_kernels_own_thread_restores_twice_the_margin() {
    let _alone = host::exclusive();
    let _swap = Swap::new(SLOTS);
    let _program = filler();
    let available = || frame::stats().free - frame::reserve_below(Claim::Program);
    let before = available();
    reclaim::keep_margin(Claim::Kernel).unwrap();
    assert_eq!(available(), before, "the kernel itself does not wait");
    reclaim::reclaim_ahead().unwrap();
    assert!(available() >= 2 * host::POOL_FRAMES / 200, "{before} {}", available());
}

#[test]
fn q3_one_search_swaps_out_what_a_fork_shares() {
    let _alone = host::exclusive();
    let _swap = Swap::new(SLOTS);
    let pages = host::POOL_FRAMES as u64 * 3 / 4;
    let parent = space_of(pages);
    (0..pages).for_each(|page| store(&parent, at(page), page as u8));
    let child = parent.fork().unwrap();
    // Half of memory at once, of which nearly all is shared.
    assert_eq!(reclaim::make_room(host::POOL_FRAMES / 2, Claim::Program), Ok(true));
    for space in [&parent, &child] {
        (0..pages).for_each(|page| assert_eq!(load(space, at(page)), page as u8));
    }
}

/// Pages of holes are one frame, whose mappings free nothing. Behind more of them than one step of
/// a search looks for, a claim finds the clean pages that do.
#[test]
fn q2_pages_of_holes_end_no_search() {
    let _alone = host::exclusive();
    let (holes, count) = (4 * reclaim::BATCH as u64, 8);
    let pager = TestPager::new(Answers::Now);
    let hole = Hole { offset: 0, length: pages(holes) };
    let sparse = pager.holey(1, 1, 0, holes, vec![hole]);
    let data = pager.snapshot(2, 1, 0, count);
    let space = space_of(holes + count);
    assert_eq!(associate(&space, at(0), holes, &sparse, 0), Ok(holes));
    assert_eq!(associate(&space, at(holes), count, &data, 0), Ok(count));
    (0..holes).for_each(|page| assert_eq!(load(&space, at(page)), 0));
    (holes..holes + count).for_each(|page| assert_ne!(load(&space, at(page)), 0));
    drop((sparse, data));
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed_for(Claim::Program) {
        hoard.push(frame);
    }
    let resident = |range: core::ops::Range<u64>| {
        range.filter(|&page| space.with(|state| state.table.get(at(page).page()).is_some())).count()
    };
    assert_eq!(resident(holes..holes + count), 0, "these pages could leave");
}

#[test]
fn q4_a_search_in_vain_is_not_repeated() {
    let _alone = host::exclusive();
    let space = space_of(host::POOL_FRAMES as u64 * 2);
    let end = (0..).find(|&page| mmu::store(&space, at(page), 1).is_err()).unwrap();
    cache_emptied();
    assert!(Frame::zeroed().is_err());
    let searches = reclaim::SEARCHES.load(Ordering::Relaxed);
    (0..1000).for_each(|_| assert!(Frame::zeroed().is_err()));
    assert_eq!(reclaim::SEARCHES.load(Ordering::Relaxed), searches);
    // Frames that become free are found.
    space.unmap(at(end / 2), ByteCount(100 * PAGE)).unwrap();
    store(&space, at(end), 1);
}

#[test]
fn init_and_servers_have_no_page_in_swap() {
    let _alone = host::exclusive();
    let _swap = Swap::new(SLOTS);
    let (init, server) = (space_of(20), server(Claim::FileServer, 20));
    init.policy.make_init();
    for space in [&init, &server] {
        (0..20).for_each(|page| store(space, at(page), 9));
    }
    let _program = filler();
    for space in [&init, &server] {
        assert_eq!((space.stats().resident.0, space.stats().swapped.0), (20, 0));
    }
    assert!(!init.fork().unwrap().policy.is_pinned(), "its children are programs");
}

/// init starts a server again although programs have all the frames that they can have.
#[test]
fn q6_init_forks_where_programs_cannot() {
    let _alone = host::exclusive();
    let (init, program) = (space_of(20), space_of(20));
    init.policy.make_init();
    init.account.mark_server();
    (0..20).for_each(|page| store(&init, at(page), 9));
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed_for(Claim::Program) {
        hoard.push(frame);
    }
    assert!(matches!(program.fork(), Err(Errno::ENOMEM)));
    let child = init.fork().unwrap();
    store(&child, at(3), 8);
    let grandchild = child.fork().unwrap();
    let shell = child.successor(child.account.child());
    assert!(matches!(shell, Err(Errno::ENOMEM)), "another program claims as programs do");
    assert_eq!((load(&init, at(3)), load(&grandchild, at(3))), (9, 8));
}

/// Declares a floor for a server that init trusts.
fn with_floor(frames: u64, pages: u64) -> Arc<Space> {
    let space = server(Claim::FileServer, pages);
    let base = space.stats().resident;
    space.policy.declare_floor(PageCount(frames), base).unwrap();
    space
}

#[test]
fn f8_all_floors_together_are_at_most_half_of_memory() {
    let _alone = host::exclusive();
    let half = frame::stats().total as u64 / 2;
    let first = with_floor(half - 10, 1);
    let second = server(Claim::FileServer, 1);
    let declare = |space: &Arc<Space>, frames| {
        space.policy.declare_floor(PageCount(frames), PageCount(0)).is_ok()
    };
    assert!(!declare(&second, 11) && !declare(&second, u64::MAX), "more than half");
    assert!(declare(&second, 10));
    assert!(!declare(&second, 0), "a floor is declared once");
    let child = second.fork().unwrap();
    assert!(child.policy.is_server(), "a child inherits the mark");
    assert_eq!(crate::mem::floors() as u64, half, "but no floor");
    drop((first, second, child));
    assert_eq!(crate::mem::floors(), 0, "floors end with their servers");
}

#[test]
fn f8_within_its_floor_a_server_grows_at_the_cost_of_programs() {
    let _alone = host::exclusive();
    let _swap = Swap::new(SLOTS);
    let pages = host::POOL_FRAMES as u64 / 4;
    let (server, beyond) = (with_floor(pages + 64, pages), with_floor(0, pages));
    let _program = filler();
    let all = slice(at(0), pages * PAGE);
    assert_eq!(beyond.secure(all), Err(FaultError::OutOfMemory), "beyond its floor");
    assert_eq!(beyond.stats().resident.0, 0);
    assert_eq!(server.secure(all), Ok(()));
    assert_eq!(server.stats().resident.0, pages);
}

#[test]
fn f8_a_program_that_marks_itself_has_no_reserve() {
    let _alone = host::exclusive();
    let (own, trusted) = (server(Claim::Program, 4), server(Claim::FileServer, 4));
    let mut hoard = Vec::new();
    while let Ok(frame) = Frame::zeroed() {
        hoard.push(frame);
    }
    assert!(own.policy.is_server() && !own.policy.keeps_others_alive());
    assert_eq!(mmu::store(&own, at(0), 1), Err(FaultError::OutOfMemory));
    assert_eq!(mmu::store(&trusted, at(0), 1), Ok(()));
}
