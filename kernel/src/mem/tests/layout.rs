//! Operations on regions, as programs can see them.

use super::*;

#[test]
fn mmap_places_fixed_hinted_and_anywhere() {
    let _alone = host::exclusive();
    let space = space_of(4);
    let map = |placement, bytes| space.map(placement, ByteCount(bytes), RW, Backing::Anonymous, "");
    assert_eq!(map(Placement::FixedNoReplace(at(3)), 2 * PAGE), Err(Errno::EEXIST));
    assert_eq!(map(Placement::Fixed(UserAddr(at(3).0 + 1)), PAGE), Err(Errno::EINVAL));
    assert_eq!(map(Placement::Fixed(USER_END), PAGE), Err(Errno::ENOMEM));
    assert_eq!(map(Placement::Fixed(UserAddr(0)), PAGE), Err(Errno::EPERM));
    assert_eq!(map(Placement::Anywhere(UserAddr(0)), 0), Err(Errno::EINVAL));
    assert_eq!(map(Placement::Anywhere(UserAddr(0)), u64::MAX), Err(Errno::ENOMEM));
    assert_eq!(
        map(Placement::Anywhere(UserAddr(u64::MAX)), PAGE).map(|address| address < USER_END),
        Ok(true)
    );
    assert_eq!(map(Placement::Anywhere(at(10)), PAGE), Ok(at(10)));
    let huge = map(Placement::Anywhere(at(10)), 1 << 40).unwrap();
    assert!(huge.0 > at(11).0);
    store(&space, UserAddr(huge.0 + (1 << 39)), 1);
    assert_eq!(space.stats().resident.0, 1);
    store(&space, at(1), 1);
    map(Placement::Fixed(at(1)), PAGE).unwrap();
    assert_eq!(load(&space, at(1)), 0, "replaced");
}

#[test]
fn the_heap_grows_and_shrinks_by_bytes() {
    let _alone = host::exclusive();
    let space = space_of(2);
    space.set_heap_start(UserAddr(at(4).0 + 10));
    let start = at(4).0 + 10;
    let brk = |end| space.brk(UserAddr(end)).0;
    assert_eq!(brk(0), start);
    assert_eq!(brk(start + 100), start + 100);
    assert_eq!(brk(start + 2 * PAGE), start + 2 * PAGE);
    store(&space, at(6), 7);
    assert_eq!(brk(start), start);
    assert_eq!(mmu::load(&space, at(6)), Err(FaultError::Segv));
    assert_eq!(brk(start - 1), start);
    assert_eq!(brk(u64::MAX), start);
}

#[test]
fn shared_memory_is_seen_across_fork() {
    let _alone = host::exclusive();
    let space = space_of(8);
    space
        .map(
            Placement::Fixed(at(2)),
            pages(3),
            RW,
            Backing::Shared { memory: SharedMemory::new(&Account::new()), first: 0 },
            "",
        )
        .unwrap();
    store(&space, at(2), 1);
    let child = space.fork().unwrap();
    store(&child, at(2), 2);
    store(&child, at(4), 3);
    assert_eq!((load(&space, at(2)), load(&space, at(4))), (2, 3));
    child.unmap(at(3), pages(1)).unwrap();
    child.protect(at(4), pages(1), Prot::READ).unwrap();
    assert_eq!(mmu::store(&child, at(4), 1), Err(FaultError::Segv));
    child.protect(at(4), pages(1), RW).unwrap();
    store(&child, at(4), 4);
    assert_eq!(load(&space, at(4)), 4);
    let moved = space.remap(at(4), pages(1), pages(1), Move::To(at(12))).unwrap();
    store(&space, moved, 5);
    assert_eq!(load(&child, at(4)), 5);
    space.discard(at(2), pages(1)).unwrap();
    assert_eq!(load(&space, at(2)), 2);
}

#[test]
fn protection_changes_mapped_pages() {
    let _alone = host::exclusive();
    let space = space_of(4);
    store(&space, at(0), 9);
    load(&space, at(1));
    space.protect(BASE, pages(4), Prot::empty()).unwrap();
    assert_eq!(mmu::load(&space, at(0)), Err(FaultError::Segv));
    assert_eq!(space.copy_in(slice(at(0), 1), &mut [0]), Err(FaultError::Segv));
    space.protect(BASE, pages(4), Prot::READ).unwrap();
    assert_eq!(load(&space, at(0)), 9);
    assert_eq!(mmu::store(&space, at(0), 1), Err(FaultError::Segv));
    assert_eq!(space.copy_out(slice(at(0), 1), &[0]), Err(FaultError::Segv));
    assert_eq!(mmu::execute(&space, at(0)), Err(FaultError::Segv));
    space.protect(BASE, pages(4), RW | Prot::EXECUTE).unwrap();
    assert_eq!(mmu::execute(&space, at(0)), Ok(()));
    store(&space, at(1), 1);
    assert_eq!(Frame::zero_page().bytes(), &[0; PAGE_BYTES]);
    assert_eq!(space.protect(at(2), pages(4), RW), Err(Errno::ENOMEM));
    assert_eq!(space.regions().unwrap().len(), 1);
}

#[test]
fn remap_grows_shrinks_and_moves_what_a_program_sees_as_one() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(8);
    (0..8).for_each(|page| store(&space, at(page), page as u8));
    associate(&space, at(2), 2, &pager.snapshot(1, 1, 0, 2), 0).unwrap();
    assert_eq!(
        space.remap(at(0), pages(8), pages(9), Move::Never),
        Ok(at(0)),
        "one mapping, although an association splits it"
    );
    space.map(Placement::Fixed(at(9)), pages(1), Prot::READ, Backing::Anonymous, "").unwrap();
    assert_eq!(space.remap(at(0), pages(9), pages(12), Move::Never), Err(Errno::ENOMEM));
    assert_eq!(
        space.remap(at(8), pages(2), pages(1), Move::Never),
        Err(Errno::EFAULT),
        "two mappings"
    );
    let moved = space.remap(at(0), pages(9), pages(12), Move::IfNeeded).unwrap();
    let there = |page: u64| UserAddr(moved.0 + page * PAGE);
    for page in 0..12 {
        let expected = match page {
            2 | 3 => byte_of(1, 1, (page - 2) * PAGE),
            8.. => 0,
            _ => page as u8,
        };
        assert_eq!(load(&space, there(page)), expected, "page {page}");
    }
    assert_eq!(space.remap(moved, pages(12), pages(1), Move::Never), Ok(moved));
    assert_eq!(mmu::load(&space, there(1)), Err(FaultError::Segv));
    assert_eq!(pager.closed(), 1);
}

#[test]
fn discarded_memory_reads_as_zeros() {
    let _alone = host::exclusive();
    let pager = TestPager::new(Answers::Now);
    let space = space_of(4);
    associate(&space, at(0), 2, &pager.snapshot(1, 1, 0, 2), 0).unwrap();
    (0..4).for_each(|page| {
        load(&space, at(page));
    });
    store(&space, at(3), 1);
    space.discard(BASE, pages(4)).unwrap();
    (0..4).for_each(|page| assert_eq!(load(&space, at(page)), 0));
    assert_eq!(pager.closed(), 1);
    assert_eq!(space.residency(BASE, pages(4)).unwrap(), [1; 4]);
    assert_eq!(space.residency(BASE, pages(5)), Err(Errno::ENOMEM));
}

#[test]
fn frames_are_mapped_with_their_contents() {
    let _alone = host::exclusive();
    let before = frame::stats();
    let space = Space::new().unwrap();
    let frames = (0..3).map(|n| Frame::from_bytes(Claim::Program, &[n; 10]).unwrap()).collect();
    let start = space.map_frames(Placement::Anywhere(UserAddr(0)), RW, frames).unwrap();
    assert_eq!(load(&space, UserAddr(start.0 + 2 * PAGE + 9)), 2);
    store(&space, start, 7);
    assert_eq!(space.counters.get(Counter::PagesCow), 0, "the space owns them alone");
    assert_eq!(Frame::adopt(PhysAddr(8 * PAGE)), None, "the frame is ours already");
    drop(space);
    assert_eq!(frame::stats(), before);
}

#[test]
fn intermediate_tables_are_freed_when_a_range_is_unmapped() {
    let _alone = host::exclusive();
    let before = frame::stats();
    let space = Space::new().unwrap();
    let start = space
        .map(Placement::Anywhere(UserAddr(0)), ByteCount(1 << 34), RW, Backing::Anonymous, "")
        .unwrap();
    for gib in 0..16 {
        load(&space, UserAddr(start.0 + (gib << 30)));
    }
    space.unmap(start, ByteCount(1 << 34)).unwrap();
    assert!(
        before.free - frame::stats().free <= 6,
        "{} frames left",
        before.free - frame::stats().free
    );
    drop(space);
    assert_eq!(frame::stats(), before);
}
