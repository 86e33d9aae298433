//! Long changes: for a program, all their steps are one change.

use super::*;
use crate::mem::page_table::EntryFlags;
use crate::sync::Interrupted;

/// Ranges with a lowest table of their own, so many that each change takes several steps.
const CHUNKS: u64 = 40;
const CHUNK: u64 = 2 << 20;
const BYTES: ByteCount = ByteCount(CHUNKS * CHUNK);

/// A page of a chunk.
fn page_in(start: UserAddr, chunk: u64) -> UserAddr {
    UserAddr(start.0 + chunk * CHUNK + 5 * PAGE)
}

/// A mapping with one page in each chunk, which holds the chunk's number and 1.
fn filled(space: &Space) -> UserAddr {
    let anywhere = Placement::Anywhere(UserAddr(0));
    let start = space.map(anywhere, BYTES, RW, Backing::Anonymous, "").unwrap();
    (0..CHUNKS).for_each(|chunk| store(space, page_in(start, chunk), chunk as u8 + 1));
    start
}

fn is_filled(space: &Space, start: UserAddr) -> bool {
    (0..CHUNKS).all(|chunk| load(space, page_in(start, chunk)) == chunk as u8 + 1)
}

#[test]
fn a_fork_in_steps_copies_everything() {
    let _alone = host::exclusive();
    let before = frame::stats();
    let space = Space::new().unwrap();
    let start = filled(&space);
    space.protect(page_in(start, 7), pages(1), Prot::READ).unwrap();
    let child = space.fork().unwrap();
    assert_eq!(space.regions(), child.regions());
    assert!(is_filled(&child, start));
    assert_eq!(mmu::store(&child, page_in(start, 7), 1), Err(FaultError::Segv));
    store(&child, page_in(start, 9), 99);
    store(&space, page_in(start, 11), 99);
    assert_eq!(load(&space, page_in(start, 9)), 10);
    assert_eq!(load(&child, page_in(start, 11)), 12);
    drop((child, space));
    assert_eq!(frame::stats(), before);
}

#[test]
fn a_mapping_moves_shrinks_and_is_replaced_in_steps() {
    let _alone = host::exclusive();
    let before = frame::stats();
    let space = Space::new().unwrap();
    let start = filled(&space);
    let to = UserAddr(start.0 - 2 * BYTES.0 - 3 * PAGE);
    assert_eq!(space.remap(start, BYTES, BYTES, Move::To(to)), Ok(to));
    assert!(is_filled(&space, to));
    assert_eq!(mmu::load(&space, page_in(start, 1)), Err(FaultError::Segv));
    let half = ByteCount(BYTES.0 / 2);
    assert_eq!(space.remap(to, BYTES, half, Move::Never), Ok(to));
    assert_eq!(load(&space, page_in(to, 1)), 2);
    assert_eq!(mmu::load(&space, page_in(to, CHUNKS / 2)), Err(FaultError::Segv));
    let fixed = Placement::Fixed(to);
    assert_eq!(space.map(fixed, half, RW, Backing::Anonymous, ""), Ok(to));
    assert_eq!(load(&space, page_in(to, 1)), 0);
    assert_eq!(space.regions().unwrap().len(), 1);
    drop(space);
    assert_eq!(frame::stats(), before);
}

#[test]
fn a_search_for_frames_ends_between_two_steps() {
    let _alone = host::exclusive();
    let space = Space::new().unwrap();
    let count = 3 * reclaim::STEP.most as u64;
    let anywhere = Placement::Anywhere(UserAddr(0));
    let start = space.map(anywhere, pages(count), RW, Backing::Anonymous, "").unwrap();
    // Zero pages: they free nothing, and have been used.
    let page = |number: u64| UserAddr(start.0 + number * PAGE).page();
    (0..count).for_each(|number| assert_eq!(load(&space, page(number).user_start()), 0));
    let used = || {
        let is_used = |number| {
            space
                .with(|state| state.table.get(page(number)))
                .is_some_and(|entry| entry.has(EntryFlags::ACCESSED))
        };
        (0..count).filter(|&number| is_used(number)).count()
    };
    let mark =
        |number| space.with(|state| state.table.mark_used(page(number), EntryFlags::ACCESSED));
    (0..count).for_each(mark);
    host::kill(Some(host::current()));
    let searched = reclaim::make_room(host::POOL_FRAMES, Claim::Program);
    host::kill(None);
    assert_eq!(searched, Err(Interrupted), "a kill ends it");
    let left = used();
    assert!((count as usize / 2..count as usize).contains(&left), "{left} pages are left");
}

#[test]
fn an_occupant_empties_the_space_that_others_still_look_at() {
    let _alone = host::exclusive();
    let space = Space::new().unwrap();
    let (first, last) = (Occupant::new(&space), Occupant::new(&space));
    let start = filled(&space);
    drop(first);
    assert!(is_filled(&space, start));
    drop(last);
    assert_eq!(space.stats().resident.0, 0);
    assert_eq!(space.regions().unwrap(), []);
}
