//! M1: an absent page of a mapping is fetched, and never counts as zeros.

use super::compare::{
    P, SIGBUS, bytes_of, expect_both, expect_bytes, expect_file, expect_mapped, map_anew,
};
use foundation::mutant::Mutant;
use proof::kit::{
    Buffer, Child, File, Named, Outcome, PAGE, ZEROS, load, pattern, signal_of, within,
};
use proof::lazy::{self, Knob};
use proof::random::shuffled;
use proof::{check, check_eq, guest_test, os};
use user::prelude::*;
use user::sys::abi;

/// What a file of no bytes grows to.
const GROWN: usize = 4 * PAGE;

fn letters() -> Vec<u8> {
    vec![b'A'; GROWN]
}

fn by_write(file: &File) -> Outcome {
    sys::write_all(file.fd, &letters()).named("write")
}

fn by_odd_writes(file: &File) -> Outcome {
    letters().chunks(1000).try_for_each(|part| sys::write_all(file.fd, part).named("write"))
}

fn by_vectors(file: &File) -> Outcome {
    let letters = letters();
    let (first, second) = letters.split_at(PAGE + 11);
    let parts = [first, second].map(|part| [part.as_ptr() as usize, part.len()]);
    check_eq!(os::writev(file.fd, &parts), Ok(GROWN), "bytes that writev wrote");
    Ok(())
}

fn by_appending(file: &File) -> Outcome {
    let flags = abi::O_WRONLY | abi::O_APPEND;
    let fd = sys::open(file.path.as_bytes(), flags, 0).named("open")?;
    letters().chunks(3000).try_for_each(|part| sys::write_all(fd, part).named("write"))?;
    sys::close(fd).named("close")
}

/// The last page first: all before it is a hole until it is written.
fn backwards(file: &File) -> Outcome {
    (0..4).rev().try_for_each(|page| file.overwrite_bytes(b'A', page * P, PAGE))
}

fn after_extension(file: &File) -> Outcome {
    sys::ftruncate(file.fd, ByteCount(GROWN as u64)).named("ftruncate")?;
    file.overwrite_bytes(b'A', 0, GROWN)
}

fn after_allocation(file: &File) -> Outcome {
    let given = [file.fd.argument(), 0, 0, GROWN];
    os::raw(abi::__NR_fallocate, &given).named("fallocate")?;
    file.overwrite_bytes(b'A', 0, GROWN)
}

/// From pages of another file that nobody has touched: the server copies them itself.
fn by_reference(file: &File) -> Outcome {
    let source = File::sparse("source", 0)?;
    by_write(&source)?;
    let buffer = Buffer::new(GROWN)?;
    source.read_into(&buffer, 0, GROWN, 0)?;
    check_eq!(os::write(file.fd, buffer.at(0), GROWN), Ok(GROWN), "bytes written");
    Ok(())
}

fn by_another_process(file: &File) -> Outcome {
    Child::start("writer", || {
        let fd = file.reopen()?;
        sys::write_all(fd, &letters()).named("write")
    })?
    .join()
}

fn by_another_mapping(file: &File) -> Outcome {
    sys::ftruncate(file.fd, ByteCount(GROWN as u64)).named("ftruncate")?;
    let map = map_anew(file, GROWN)?;
    (0..GROWN).for_each(|at| map.store(at, b'A'));
    Ok(())
}

/// A way in which a file grows.
type Grow = fn(&File) -> Outcome;

const WAYS: [(&str, Grow); 10] = [
    ("write", by_write),
    ("odd writes", by_odd_writes),
    ("writev", by_vectors),
    ("append", by_appending),
    ("backwards", backwards),
    ("after ftruncate", after_extension),
    ("after fallocate", after_allocation),
    ("by reference", by_reference),
    ("another process", by_another_process),
    ("another mapping", by_another_mapping),
];

/// Maps a file that is empty, lets it grow, and only then touches the mapping.
fn grows(grow: Grow) -> Outcome {
    let file = File::sparse("grown", 0)?;
    let map = Buffer::of_file(file.fd, 8 * PAGE)?;
    grow(&file)?;
    check_eq!(map.load(PAGE + 7), b'A', "a byte that was written");
    map.store(2 * PAGE + 100, b'B');
    let mut expected = letters();
    expected[2 * PAGE + 100] = b'B';
    expect_mapped(&map, &expected)?;
    map.sync().named("msync")?;
    expect_both(&file, &map, &expected)?;
    check_eq!(signal_of(|| _ = map.load(4 * PAGE))?, SIGBUS, "signal behind the end");
    Ok(())
}

/// A file grows under a mapping that is longer than the file. Each page shows what was written, and
/// a store of one byte changes one byte of the file.
#[guest_test]
fn m1_a_file_grows_under_its_mapping() -> Outcome {
    WAYS.iter().try_for_each(|(way, grow)| within(way, grows(*grow)))
}

/// The first access to a page is a load or a store, in any order and through mappings that begin
/// elsewhere. All other bytes are the file's.
#[guest_test(mutants: &[Mutant::AbsentIsZeros])]
fn m1_absent_pages_are_fetched() -> Outcome {
    const PAGES: usize = 64;
    let length = PAGES * PAGE + 100;
    let file = File::make("fetched", 1, length as u64)?;
    let mut expected = bytes_of(1, length);
    let map = Buffer::of_file(file.fd, length)?;
    let from = Buffer::map(file.fd, 8 * P, 20 * PAGE, os::READ_WRITE, abi::MAP_SHARED)
        .named("mmap from page 8 on")?;
    for page in shuffled(PAGES, PAGES) {
        let at = page * PAGE + page * 11;
        match page % 3 {
            0 => check_eq!(map.load(at), expected[at], "page {page}"),
            _ if (8..28).contains(&page) => {
                from.store(at - 8 * PAGE, page as u8);
                expected[at] = page as u8;
            }
            _ => {
                map.store(at, page as u8);
                expected[at] = page as u8;
            }
        }
    }
    expect_bytes("the second mapping", &from.bytes(0, 20 * PAGE), &expected[8 * PAGE..28 * PAGE])?;
    expect_both(&file, &map, &expected)
}

/// Pages that the kernel drops, on request or because others need memory, come back with what was
/// stored to them.
#[guest_test]
fn m1_dropped_pages_come_back() -> Outcome {
    const PAGES: usize = 32;
    let file = File::make("dropped", 2, PAGES as u64 * P)?;
    let mut expected = bytes_of(2, PAGES * PAGE);
    let map = Buffer::of_file(file.fd, PAGES * PAGE)?;
    for (round, is_synced) in [(1, true), (2, false), (3, true)] {
        for page in (0..PAGES).step_by(round) {
            map.store(page * PAGE + round, round as u8);
            expected[page * PAGE + round] = round as u8;
        }
        if is_synced {
            map.sync().named("msync")?;
        }
        let given = [map.at(0), PAGES * PAGE, abi::MADV_DONTNEED as usize];
        os::raw(abi::__NR_madvise, &given).named("madvise")?;
        if lazy::present() {
            lazy::write_text("/proc/sys/lazy/drop_caches", "1\n")?;
        }
        expect_mapped(&map, &expected)?;
    }
    expect_file(&file, &expected)
}

/// A page of a hole is zeros, a store to it changes one byte, and what is written into a hole is
/// seen. So is what is read ahead around a page that changes.
#[guest_test]
fn m1_holes() -> Outcome {
    const PAGES: usize = 40;
    let _knob = Knob::set("fault_around", 16)?;
    let file = File::sparse("holes", PAGES as u64 * P)?;
    let mut expected = vec![0; PAGES * PAGE];
    file.overwrite_bytes(7, 10 * P, PAGE)?;
    expected[10 * PAGE..11 * PAGE].fill(7);
    let map = Buffer::of_file(file.fd, PAGES * PAGE)?;
    map.check(0, 10 * PAGE, ZEROS)?;
    map.store(9 * PAGE + 5, 1);
    expected[9 * PAGE + 5] = 1;
    // The first has been touched as a hole, the others may have come with neighbours.
    for page in [3, 11, 12, 30] {
        file.overwrite_bytes(page as u8, page * P + 50, PAGE)?;
        let at = page as usize * PAGE + 50;
        expected[at..at + PAGE].fill(page as u8);
        check_eq!(map.load(at), page as u8, "a hole's page that was written");
    }
    expect_both(&file, &map, &expected)
}

/// A system call that takes its argument from an absent page, or puts its result there, finds the
/// file's bytes, and keeps those around its own.
#[guest_test]
fn m1_system_calls_fetch() -> Outcome {
    let file = File::make("called", 3, 16 * P)?;
    let mut expected = bytes_of(3, 16 * PAGE);
    let path = b"/dev/null\0";
    sys::pwrite(file.fd, path, FileOffset(9 * P - 4)).named("pwrite")?;
    expected[9 * PAGE - 4..9 * PAGE + 6].copy_from_slice(path);
    let map = Buffer::of_file(file.fd, 16 * PAGE)?;
    let [from, to] = sys::pipe(0).named("pipe")?;
    // From two absent pages, then into two others.
    check_eq!(os::write(to, map.at(PAGE - 100), 300), Ok(300), "write from absent pages");
    let mut found = vec![0; 300];
    check_eq!(sys::read(from, &mut found), Ok(300), "bytes in the pipe");
    expect_bytes("the pipe", &found, &expected[PAGE - 100..PAGE + 200])?;
    sys::write_all(to, &[1; 20]).named("write")?;
    check_eq!(os::read(from, map.at(3 * PAGE - 10), 20), Ok(20), "read to absent pages");
    expected[3 * PAGE - 10..3 * PAGE + 10].fill(1);
    // A word that a futex is compared with, a time, and a path.
    let wait = [map.at(4 * PAGE), abi::FUTEX_WAIT as usize, 1, 0];
    check_eq!(os::raw(abi::__NR_futex, &wait), Err(Errno::EAGAIN), "futex on an absent page");
    let time = map.at(7 * PAGE - 8);
    os::raw(abi::__NR_clock_gettime, &[abi::CLOCK_MONOTONIC as usize, time]).named("clock")?;
    let time = map.bytes(7 * PAGE - 8, 16);
    check!(time != expected[7 * PAGE - 8..7 * PAGE + 8], "no time has come");
    expected[7 * PAGE - 8..7 * PAGE + 8].copy_from_slice(&time);
    let given = [abi::AT_FDCWD as usize, map.at(9 * PAGE - 4), abi::O_RDONLY as usize, 0];
    let opened = os::raw(abi::__NR_openat, &given).named("a path in absent pages")?;
    for fd in [from, to, Fd(opened as i32)] {
        sys::close(fd).named("close")?;
    }
    expect_both(&file, &map, &expected)
}

/// A mapping that begins when pages are dirty, and one of a file that was stored to and is mapped
/// no more, show what was stored.
#[guest_test]
fn m1_later_mappings() -> Outcome {
    let file = File::make("later", 4, 8 * P)?;
    let mut expected = bytes_of(4, 8 * PAGE);
    for round in 0..5 {
        let first = Buffer::of_file(file.fd, 8 * PAGE)?;
        first.store(round * PAGE + 9, 0xf0);
        expected[round * PAGE + 9] = 0xf0;
        let second = map_anew(&file, 8 * PAGE)?;
        second.store((round + 1) * PAGE + 10, 0xf1);
        expected[(round + 1) * PAGE + 10] = 0xf1;
        drop(first);
        expect_mapped(&second, &expected)?;
        let mut byte = [0];
        sys::pread(file.fd, &mut byte, FileOffset(round as u64 * P + 9)).named("pread")?;
        check_eq!(byte[0], 0xf0, "a store of a mapping that is gone");
    }
    expect_file(&file, &expected)
}

/// The two mappings of one page in one process, and that of a child, are one page.
#[guest_test]
fn m1_one_page_for_all() -> Outcome {
    let file = File::make("one", 5, 4 * P)?;
    let (first, second) =
        (Buffer::of_file(file.fd, 4 * PAGE)?, Buffer::of_file(file.fd, 4 * PAGE)?);
    // Each is touched first by another of the three.
    first.store(0, 1);
    second.store(PAGE, 2);
    Child::start("child", || {
        first.store(2 * PAGE, 3);
        check_eq!((second.load(0), first.load(PAGE)), (1, 2), "what the parent stored");
        Ok(())
    })?
    .join()?;
    check_eq!((second.load(0), first.load(PAGE), second.load(2 * PAGE)), (1, 2, 3), "stores");
    let expected = pattern(5, 1);
    [&first, &second].iter().try_for_each(|map| map.check(1, PAGE - 1, expected))?;
    check_eq!(load(second.at(3 * PAGE)), bytes_of(5, 4 * PAGE)[3 * PAGE], "an untouched page");
    Ok(())
}
