//! M4: calls on mappings of files: protection, moves, advice, locks, futexes, synchronisation.

use super::compare::{P, SIGBUS, bytes_of, expect_both, expect_bytes, expect_file, map_anew};
use core::time::Duration;
use proof::kit::{Buffer, Child, File, Gate, Named, Outcome, PAGE, ZEROS, signal_of, store};
use proof::{check, check_eq, guest_test, os};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 16;
const LENGTH: usize = PAGES * PAGE;
const SIGSEGV: Option<i32> = Some(abi::SIGSEGV as i32);

fn advise(map: &Buffer, page: usize, pages: usize, advice: u32) -> Result<()> {
    os::raw(abi::__NR_madvise, &[map.at(page * PAGE), pages * PAGE, advice as usize]).map(drop)
}

/// Which pages are in memory, by mincore(2).
fn resident(map: &Buffer) -> Outcome<Vec<bool>> {
    let mut found = vec![0u8; map.len_bytes() / PAGE];
    let given = [map.at(0), map.len_bytes(), found.as_mut_ptr() as usize];
    os::raw(abi::__NR_mincore, &given).named("mincore")?;
    Ok(found.iter().map(|byte| byte & 1 != 0).collect())
}

/// Pages whose protection changes back and forth, before and after stores, keep their bytes, and
/// stores to them are not lost.
#[guest_test]
fn m4_protection() -> Outcome {
    let file = File::make("protected", 1, LENGTH as u64)?;
    let mut expected = bytes_of(1, LENGTH);
    let map = map_anew(&file, LENGTH)?;
    let protect = |first: usize, pages: usize, protection| {
        os::mprotect(map.at(first * PAGE), pages * PAGE, protection).named("mprotect")
    };
    let mut put = |at: usize, byte: u8| {
        map.store(at, byte);
        expected[at] = byte;
    };
    (0..PAGES).for_each(|page| put(page * PAGE, 1));
    protect(2, 8, abi::PROT_READ)?;
    check_eq!(signal_of(|| map.store(3 * PAGE, 2))?, SIGSEGV, "signal for a store");
    check_eq!(map.load(3 * PAGE), 1, "a page to read");
    protect(4, 4, abi::PROT_NONE)?;
    check_eq!(signal_of(|| _ = map.load(5 * PAGE))?, SIGSEGV, "signal for a load");
    map.sync().named("msync of all")?;
    protect(0, PAGES, os::READ_WRITE)?;
    (0..PAGES).for_each(|page| put(page * PAGE + 1, 2));
    protect(0, PAGES, abi::PROT_READ)?;
    // Dirty pages that may not be stored to are written back, and clean ones are mapped so.
    map.sync().named("msync of pages to read")?;
    protect(0, PAGES, os::READ_WRITE)?;
    (0..PAGES).for_each(|page| put(page * PAGE + 2, 3));
    expect_both(&file, &map, &expected)
}

/// A mapping that moves, grows and shrinks shows the same pages of the file, those behind its old
/// end too.
#[guest_test]
fn m4_moved_mappings() -> Outcome {
    let file = File::make("moved", 2, LENGTH as u64)?;
    let mut expected = bytes_of(2, LENGTH);
    let start = map_anew(&file, 4 * PAGE)?.leak();
    (0..4).for_each(|page| store(start + page * PAGE, 1));
    // What is next to it makes it move.
    let grown = os::mremap(start, 4 * PAGE, 12 * PAGE).named("mremap, longer")?;
    (0..12).for_each(|page| store(grown + page * PAGE + 1, 2));
    let target = Buffer::new(12 * PAGE)?;
    let moved = os::mremap_to(grown, 12 * PAGE, 12 * PAGE, target.at(0)).named("mremap, moved")?;
    check_eq!(moved, target.at(0), "place of the mapping");
    check_eq!(signal_of(|| store(grown, 1))?, SIGSEGV, "signal at the old place");
    (0..12).for_each(|page| target.store(page * PAGE + 2, 3));
    let short = os::mremap(moved, 12 * PAGE, 6 * PAGE).named("mremap, shorter")?;
    check_eq!(short, moved, "place of the shorter mapping");
    check_eq!(signal_of(|| store(moved + 6 * PAGE, 1))?, SIGSEGV, "signal behind its end");
    (0..6).for_each(|page| target.store(page * PAGE + 3, 4));
    for page in 0..12 {
        let at = page * PAGE;
        expected[at + 1..at + 3].copy_from_slice(&[2, 3]);
        if page < 4 {
            expected[at] = 1;
        }
        if page < 6 {
            expected[at + 3] = 4;
        }
    }
    expect_bytes("the mapping", &target.bytes(0, 6 * PAGE), &expected[..6 * PAGE])?;
    expect_file(&file, &expected)?;
    // Growing past the end of the file is allowed, touching it there is not.
    let long = os::mremap(moved, 6 * PAGE, 20 * PAGE).named("mremap past the end")?;
    check_eq!(signal_of(|| store(long + 17 * PAGE, 1))?, SIGBUS, "signal past the end");
    os::munmap(long, 20 * PAGE).named("munmap")
}

/// Advice changes no byte: what is not needed any more has been stored all the same.
#[guest_test]
fn m4_advice() -> Outcome {
    let file = File::make("advised", 3, LENGTH as u64)?;
    let mut expected = bytes_of(3, LENGTH);
    let map = map_anew(&file, LENGTH)?;
    let all = [
        abi::MADV_DONTNEED,
        abi::MADV_WILLNEED,
        abi::MADV_RANDOM,
        abi::MADV_SEQUENTIAL,
        abi::MADV_NORMAL,
        abi::MADV_COLD,
        abi::MADV_PAGEOUT,
    ];
    for (round, advice) in (1..).zip(all) {
        for page in 0..PAGES {
            map.store(page * PAGE + 50, round);
            expected[page * PAGE + 50] = round;
        }
        advise(&map, 1, PAGES - 2, advice).named(format!("madvise({advice})"))?;
        expect_both(&file, &map, &expected)?;
    }
    // MADV_FREE is for anonymous memory, as its bytes may be lost.
    check_eq!(advise(&map, 0, 1, abi::MADV_FREE), Err(Errno::EINVAL), "madvise(MADV_FREE)");
    let past = Buffer::of_file(file.fd, LENGTH + 4 * PAGE)?;
    check_eq!(advise(&past, PAGES, 4, abi::MADV_WILLNEED), Ok(()), "advice past the end");
    expect_both(&file, &map, &expected)
}

/// mincore(2) reports pages that were touched, and each other page is fetched right all the same.
/// mlock(2) brings all pages, and its errors are those of the access.
#[guest_test]
fn m4_resident_and_locked_pages() -> Outcome {
    let file = File::make("locked", 4, LENGTH as u64)?;
    let mut expected = bytes_of(4, LENGTH);
    let map = map_anew(&file, LENGTH)?;
    map.load(3 * PAGE);
    map.store(7 * PAGE, 1);
    expected[7 * PAGE] = 1;
    let found = resident(&map)?;
    check!(found[3] && found[7], "pages that were touched are not resident: {found:?}");
    let lock =
        |call: u32, map: &Buffer, pages: usize| os::raw(call, &[map.at(0), pages * PAGE]).map(drop);
    lock(abi::__NR_mlock, &map, PAGES).named("mlock")?;
    check!(resident(&map)?.iter().all(|is_resident| *is_resident), "locked pages are not resident");
    for page in 0..PAGES {
        map.store(page * PAGE + 9, 9);
        expected[page * PAGE + 9] = 9;
    }
    let invalidate = [map.at(0), LENGTH, (abi::MS_ASYNC | abi::MS_INVALIDATE) as usize];
    check_eq!(os::raw(abi::__NR_msync, &invalidate), Err(Errno::EBUSY), "msync of locked pages");
    map.sync().named("msync")?;
    expect_both(&file, &map, &expected)?;
    lock(abi::__NR_munlock, &map, PAGES).named("munlock")?;
    let past = Buffer::of_file(file.fd, LENGTH + 4 * PAGE)?;
    let found = lock(abi::__NR_mlock, &past, PAGES + 4);
    check_eq!(found, Err(Errno::ENOMEM), "mlock past the end of the file");
    expect_both(&file, &map, &expected)
}

/// A futex in a mapped file is one for all processes that map it, wherever.
#[guest_test]
fn m4_futexes() -> Outcome {
    let file = File::sparse("futex", 4 * P)?;
    let map = map_anew(&file, 4 * PAGE)?;
    let ready = Gate::new()?;
    let word = 2 * PAGE + 64;
    let mut sleeper = Child::start("sleeper", || {
        let own = Buffer::map(file.fd, 2 * P, PAGE, os::READ_WRITE, abi::MAP_SHARED)
            .named("mmap of a page")?;
        ready.open()?;
        while own.load(64) == 0 {
            os::futex_wait(own.at(64), 0);
        }
        check_eq!(own.load(64), 1, "the word that was waited for");
        Ok(())
    })?;
    ready.pass()?;
    let wake =
        || os::raw(abi::__NR_futex, &[map.at(word), abi::FUTEX_WAKE as usize, 1]).named("futex");
    // Before it wakes somebody, the page is written back and dropped.
    map.sync().named("msync")?;
    advise(&map, 2, 1, abi::MADV_DONTNEED).named("madvise")?;
    while wake()? == 0 {
        sys::sleep(Duration::from_millis(1)).named("sleep")?;
    }
    map.store(word, 1);
    while !sleeper.has_ended()? {
        wake()?;
    }
    sleeper.join()
}

/// The errors of msync(2), and that each kind of it succeeds on each kind of mapping.
#[guest_test]
fn m4_synchronisation() -> Outcome {
    let file = File::make("synced", 5, LENGTH as u64)?;
    let mut expected = bytes_of(5, LENGTH);
    let map = map_anew(&file, LENGTH)?;
    let sync = |start: usize, length: usize, flags: u32| {
        os::raw(abi::__NR_msync, &[start, length, flags as usize]).map(drop)
    };
    for (round, flags) in
        [0, abi::MS_ASYNC, abi::MS_SYNC, abi::MS_INVALIDATE].into_iter().enumerate()
    {
        map.store(round * PAGE, 0x99);
        expected[round * PAGE] = 0x99;
        check_eq!(sync(map.at(0), LENGTH, flags), Ok(()), "msync, flags {flags}");
        check_eq!(sync(map.at(0), 1, flags), Ok(()), "msync of a byte, flags {flags}");
    }
    let both = abi::MS_ASYNC | abi::MS_SYNC;
    check_eq!(sync(map.at(0), PAGE, both), Err(Errno::EINVAL), "msync, both kinds");
    check_eq!(sync(map.at(0), PAGE, 64), Err(Errno::EINVAL), "msync, unknown flag");
    check_eq!(sync(map.at(1), PAGE, abi::MS_SYNC), Err(Errno::EINVAL), "msync, not aligned");
    check_eq!(sync(map.at(0), 0, abi::MS_SYNC), Ok(()), "msync of nothing");
    map.store(5 * PAGE, 0x98);
    expected[5 * PAGE] = 0x98;
    os::munmap(map.at(3 * PAGE), PAGE).named("munmap")?;
    let over_gap = sync(map.at(0), LENGTH, abi::MS_SYNC);
    check_eq!(over_gap, Err(Errno::ENOMEM), "msync over a gap");
    expect_file(&file, &expected)
}

/// Shared memory by `/dev/zero`: zeros, shared with children, of each mapping its own.
#[guest_test]
fn m4_dev_zero() -> Outcome {
    let fd = sys::open(b"/dev/zero", abi::O_RDWR, 0).named("/dev/zero")?;
    let (map, other) = (Buffer::of_file(fd, 4 * PAGE)?, Buffer::of_file(fd, 4 * PAGE)?);
    sys::close(fd).named("close")?;
    map.check(0, 4 * PAGE, ZEROS)?;
    map.store(5, 1);
    Child::start("child", || {
        check_eq!(map.load(5), 1, "the parent's store");
        map.store(PAGE, 2);
        Ok(())
    })?
    .join()?;
    check_eq!(map.load(PAGE), 2, "the child's store");
    other.check(0, 4 * PAGE, ZEROS)?;
    check_eq!(map.sync(), Ok(()), "msync");
    let reader = sys::open(b"/dev/zero", abi::O_RDONLY, 0).named("/dev/zero to read")?;
    let zeros = Buffer::map(reader, 0, PAGE, abi::PROT_READ, abi::MAP_SHARED).named("mmap")?;
    sys::close(reader).named("close")?;
    zeros.check(0, PAGE, ZEROS)
}
