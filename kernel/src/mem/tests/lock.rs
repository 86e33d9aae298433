//! Locked memory stays resident, is charged, and is not inherited.

use super::*;
use crate::mem::{
    Lock,
    account::{Kind, ceiling_bytes},
};
use foundation::mutant::{self, Mutant};

const PAGES: u64 = 32;

fn filled() -> Arc<Space> {
    let space = space_of(PAGES);
    (0..PAGES).for_each(|page| store(&space, at(page), page as u8));
    space
}

fn lock(space: &Space, first: u64, count: u64, lock: Lock) -> Result<(), Errno> {
    space.lock(slice(at(first), count * PAGE), lock)?;
    Ok(space.populate_locked(slice(at(first), count * PAGE))?)
}

/// Which pages are resident.
fn resident(space: &Space) -> Vec<u64> {
    let found = space.residency(BASE, pages(PAGES)).unwrap();
    (0..PAGES).filter(|&page| found[page as usize] == 1).collect()
}

fn numbers(range: core::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn q6_locked_private_pages_stay_until_they_are_unlocked() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let space = filled();
    evict_everything();
    assert_eq!(resident(&space), []);
    lock(&space, 4, 16, Lock::Locked).unwrap();
    evict_everything();
    assert_eq!((resident(&space), space.locked()), (numbers(4..20), PageCount(16)));
    // A child shares the frames, but not the locks.
    let child = space.fork().unwrap();
    assert_eq!(child.locked(), PageCount::ZERO);
    evict_everything();
    assert_eq!((resident(&space), resident(&child)), (numbers(4..20), vec![]));
    (0..PAGES).for_each(|page| assert_eq!(load(&child, at(page)), page as u8));
    lock(&space, 0, 10, Lock::Unlocked).unwrap();
    evict_everything();
    assert_eq!((resident(&space), space.locked()), (numbers(10..20), PageCount(10)));
    (0..PAGES).for_each(|page| assert_eq!(load(&space, at(page)), page as u8));
    drop(child);
}

#[test]
fn q6_reclaim_that_ignores_locks_is_found() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let space = filled();
    lock(&space, 0, PAGES, Lock::Locked).unwrap();
    mutant::choose(Some(Mutant::ReclaimLocked));
    evict_everything();
    mutant::choose(None);
    assert_eq!(resident(&space), [], "locked pages stay in spite of the mutant");
}

#[test]
fn q6_locked_shared_and_lazy_pages_stay_once_they_are_there() {
    let _alone = host::exclusive();
    let _swap = Swap::new(1000);
    let memory = SharedMemory::new(&Account::new());
    let spaces = [Space::new().unwrap(), Space::new().unwrap()];
    for space in &spaces {
        let backing = Backing::Shared { memory: memory.clone(), first: 0 };
        space.map(Placement::Fixed(BASE), pages(PAGES), RW, backing, "").unwrap();
        (0..PAGES).for_each(|page| store(space, at(page), page as u8));
    }
    lock(&spaces[0], 0, 8, Lock::Locked).unwrap();
    evict_everything();
    assert_eq!((resident(&spaces[0]), resident(&spaces[1])), (numbers(0..8), vec![]));
    drop(spaces);

    let pager = TestPager::new(Answers::Now);
    let space = lazy_space(&pager);
    lock(&space, 0, PAGES, Lock::OnFault).unwrap();
    assert_eq!(resident(&space), []);
    load(&space, at(0));
    let (there, requests) = (resident(&space), pager.requests());
    assert!(!there.is_empty());
    evict_everything();
    assert_eq!(resident(&space), there);
    there.iter().for_each(|&page| _ = load(&space, at(page)));
    assert_eq!(pager.requests(), requests);
}

#[test]
fn q6_locked_pages_are_charged_as_long_as_they_are_mapped() {
    let _alone = host::exclusive();
    let space = filled();
    let charged = |space: &Space| space.account.bytes(Kind::Locked) / PAGE_BYTES;
    assert_eq!(lock(&space, 0, PAGES + 1, Lock::Locked), Err(Errno::ENOMEM));
    space.lock_all(Some(Lock::OnFault), Lock::Locked).unwrap();
    assert_eq!(charged(&space), PAGES as usize);
    assert_eq!(space.discard(at(3), pages(2)), Err(Errno::EINVAL));
    space.unmap(at(0), pages(8)).unwrap();
    assert_eq!(charged(&space), PAGES as usize - 8);
    let rest = pages(PAGES - 8);
    let moved = space.remap(at(8), rest, pages(PAGES), Move::IfNeeded).unwrap();
    assert_eq!(charged(&space), PAGES as usize);
    // What is mapped in the future is locked, or refused.
    let huge = ByteCount::of_len(ceiling_bytes());
    let map =
        |bytes| space.map(Placement::Anywhere(UserAddr::NULL), bytes, RW, Backing::Anonymous, "");
    assert_eq!(map(huge), Err(Errno::EAGAIN));
    assert_eq!(space.remap(moved, pages(PAGES), huge, Move::IfNeeded), Err(Errno::EAGAIN));
    let more = map(pages(4)).unwrap();
    space.populate_locked(slice(more, 4 * PAGE)).unwrap();
    assert_eq!(space.residency(more, pages(4)).unwrap(), [1; 4]);
    assert_eq!(charged(&space), PAGES as usize + 4);
    space.lock_all(Some(Lock::Unlocked), Lock::Unlocked).unwrap();
    assert_eq!((charged(&space), map(huge).is_ok()), (0, true));
    assert_eq!(space.lock_all(Some(Lock::OnFault), Lock::Unlocked), Err(Errno::ENOMEM));
    assert_eq!(charged(&space), 0);
    space.lock(slice(moved, PAGE), Lock::Locked).unwrap();
    // All pages of a stack are locked as they are touched, those of a part at once.
    let stack = Placement::Anywhere(UserAddr::NULL);
    let stack = space.map(stack, pages(8), RW, Backing::Anonymous, "[stack]").unwrap();
    space.lock_all(None, Lock::Unlocked).unwrap();
    space.lock(slice(stack, 2 * PAGE), Lock::Locked).unwrap();
    space.populate_locked(slice(stack, 8 * PAGE)).unwrap();
    assert_eq!(space.residency(stack, pages(8)).unwrap(), [1, 1, 0, 0, 0, 0, 0, 0]);
    let account = space.account.clone();
    drop(space);
    assert_eq!(account.total_bytes(), 0);
}
