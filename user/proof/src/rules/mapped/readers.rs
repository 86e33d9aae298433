//! M4: every reader of the file sees what was stored, exec included.

use super::compare::{P, bytes_of, expect_both, expect_bytes, expect_file, map_anew};
use core::time::Duration;
use foundation::mutant::Mutant;
use proof::kit::{Buffer, Child, File, Gate, Named, Outcome, PAGE, pattern};
use proof::{check, check_eq, guest_test, os};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 24;

/// A file of a seed's pattern, its mapping, and what both hold: each page was stored to once.
fn stored(name: &str, seed: u64) -> Outcome<(File, Buffer, Vec<u8>)> {
    let file = File::make(name, seed, (PAGES * PAGE) as u64)?;
    let map = map_anew(&file, PAGES * PAGE)?;
    let mut expected = bytes_of(seed, PAGES * PAGE);
    for page in 0..PAGES {
        let at = page * PAGE + page * 100;
        map.store(at, 0xa0 + page as u8);
        expected[at] = 0xa0 + page as u8;
    }
    Ok((file, map, expected))
}

/// Stores anew to a byte of a page, before each reader.
fn store_again(map: &Buffer, expected: &mut [u8], page: usize, byte: u8) {
    map.store(page * PAGE + 1, byte);
    expected[page * PAGE + 1] = byte;
}

/// Each kind of read, by this process and by another one, sees the last stores.
#[guest_test(mutants: &[Mutant::ReadPastStores])]
fn m4_readers_see_stores() -> Outcome {
    let (file, map, mut expected) = stored("read", 1)?;
    let length = PAGES * PAGE;
    let buffer = Buffer::new(length)?;
    for (round, offset) in [(1, 0), (2, 0), (3, 100), (4, 5 * PAGE)] {
        let left = length - offset;
        store_again(&map, &mut expected, 7, round);
        check_eq!(os::pread(file.fd, buffer.at(0), left, offset as u64), Ok(left), "pread");
        store_again(&map, &mut expected, 8, round);
        // What was read is of then.
        let mut then = expected.clone();
        then[8 * PAGE + 1] = if round > 1 { round - 1 } else { bytes_of(1, length)[8 * PAGE + 1] };
        expect_bytes("pread", &buffer.bytes(0, left), &then[offset..])?;
        os::seek(file.fd, offset as u64).named("lseek")?;
        let parts = [[buffer.at(0), PAGE + 9], [buffer.at(PAGE + 9), left - PAGE - 9]];
        check_eq!(os::readv(file.fd, &parts), Ok(left), "readv");
        expect_bytes("readv", &buffer.bytes(0, left), &expected[offset..])?;
        store_again(&map, &mut expected, 9, round);
        let mut small = vec![0; left];
        os::seek(file.fd, offset as u64).named("lseek")?;
        for part in small.chunks_mut(1000) {
            sys::read_full(file.fd, part).named("read")?;
        }
        expect_bytes("small reads", &small, &expected[offset..])?;
        store_again(&map, &mut expected, 10, round);
        Child::start("reader", || expect_file(&file, &expected))?.join()?;
    }
    Ok(())
}

/// Small reads in order, which are answered from what is read ahead, see stores in between, and so
/// do lazy pages that are touched late keep what they had when they were read.
#[guest_test]
fn m4_read_ahead_and_lazy_pages() -> Outcome {
    let (file, map, mut expected) = stored("ahead", 2)?;
    let mut found = Vec::new();
    os::seek(file.fd, 0).named("lseek")?;
    let mut part = [0; 2048];
    for number in 0..PAGES * 2 {
        // Half a page in front of the reader, and half a page behind it.
        for at in [number * 2048 + 2047, (number * 2048).saturating_sub(9)] {
            map.store(at, number as u8);
            expected[at] = number as u8;
        }
        check_eq!(sys::read_full(file.fd, &mut part), Ok(2048), "bytes read");
        expect_bytes("a small read", &part, &expected[number * 2048..(number + 1) * 2048])?;
        found.extend(part);
    }
    let buffer = Buffer::new(PAGES * PAGE)?;
    file.read_into(&buffer, 0, PAGES * PAGE, 0)?;
    let then = expected.clone();
    for page in 0..PAGES {
        store_again(&map, &mut expected, page, 0x11);
    }
    map.sync().named("msync")?;
    expect_bytes("pages read before the stores", &buffer.bytes(0, PAGES * PAGE), &then)?;
    expect_both(&file, &map, &expected)
}

/// A private mapping shows the stores that came before it, and its own stores stay its own.
#[guest_test]
fn m4_private_mappings() -> Outcome {
    let (file, map, expected) = stored("private", 3)?;
    let flags = abi::MAP_PRIVATE;
    let private =
        Buffer::map(file.fd, 0, PAGES * PAGE, os::READ_WRITE, flags).named("mmap, private")?;
    for page in (0..PAGES).step_by(3) {
        private.store(page * PAGE + 4000, 0x77);
    }
    let mut own = expected.clone();
    (0..PAGES).step_by(3).for_each(|page| own[page * PAGE + 4000] = 0x77);
    expect_bytes("the private mapping", &private.bytes(0, PAGES * PAGE), &own)?;
    expect_both(&file, &map, &expected)?;
    let part = Buffer::map(file.fd, 2 * P, PAGE, abi::PROT_READ, flags).named("mmap of a part")?;
    expect_bytes("a private page", &part.bytes(0, PAGE), &expected[2 * PAGE..3 * PAGE])
}

/// A copy of the file, through buffers that are touched or not, has all stores.
#[guest_test]
fn m4_copies() -> Outcome {
    let (file, map, mut expected) = stored("original", 4)?;
    for (round, piece) in [(1, PAGES * PAGE), (2, 4 * PAGE), (3, 3000)] {
        store_again(&map, &mut expected, 13, round);
        let copy = File::sparse("copy", 0)?;
        let buffer = Buffer::new(piece)?;
        os::seek(file.fd, 0).named("lseek")?;
        loop {
            let count = os::read(file.fd, buffer.at(0), piece).named("read")?;
            if count == 0 {
                break;
            }
            check_eq!(os::write(copy.fd, buffer.at(0), count), Ok(count), "bytes written");
        }
        expect_file(&copy, &expected)?;
        // And from the mapping itself.
        store_again(&map, &mut expected, 14, round);
        let length = PAGES * PAGE;
        check_eq!(os::pwrite(copy.fd, map.at(0), length, 0), Ok(length), "bytes written");
        expect_file(&copy, &expected)?;
    }
    Ok(())
}

/// Processes that map one file, related or not, see each other's stores at once.
#[guest_test]
fn m4_processes_share() -> Outcome {
    let file = File::make("shared", 5, 4 * P)?;
    let map = map_anew(&file, 4 * PAGE)?;
    let (there, back) = (Gate::new()?, Gate::new()?);
    for is_related in [true, false] {
        let child = Child::start("child", || {
            // A mapping of its own, at another offset, or the one that it has from its parent.
            let own = Buffer::map(file.fd, P, 2 * PAGE, os::READ_WRITE, abi::MAP_SHARED)
                .named("mmap of a part")?;
            let at = |offset: usize| {
                if is_related { map.at(PAGE + offset) } else { own.at(offset) }
            };
            for round in 1..20 {
                there.pass()?;
                check_eq!(proof::kit::load(at(5)), round, "the parent's store");
                proof::kit::store(at(PAGE + 6), round);
                if round == 10 {
                    os::sync(file.fd).named("fsync")?;
                }
                back.open()?;
            }
            Ok(())
        })?;
        for round in 1..20 {
            map.store(PAGE + 5, round);
            if round == 5 {
                map.sync().named("msync")?;
            }
            there.open()?;
            back.pass()?;
            check_eq!(map.load(2 * PAGE + 6), round, "the child's store");
        }
        child.join()?;
    }
    let mut expected = bytes_of(5, 4 * PAGE);
    (expected[PAGE + 5], expected[2 * PAGE + 6]) = (19, 19);
    expect_both(&file, &map, &expected)
}

/// A file that is open for reading can be mapped shared to be read: stores by others show in it.
/// Writing is EACCES, also by mprotect(2) afterwards.
#[guest_test]
fn m4_read_only_mappings() -> Outcome {
    let (file, map, mut expected) = stored("read_only", 6)?;
    let name = file.path.as_bytes();
    let fd = sys::open(name, abi::O_RDONLY, 0).named("open")?;
    let length = PAGES * PAGE;
    let reader = Buffer::map(fd, 0, length, abi::PROT_READ, abi::MAP_SHARED).named("mmap")?;
    expect_bytes("the reader's mapping", &reader.bytes(0, length), &expected)?;
    store_again(&map, &mut expected, 1, 9);
    file.overwrite_bytes(8, 3 * P - 5, 10)?;
    expected[3 * PAGE - 5..3 * PAGE + 5].fill(8);
    expect_bytes("the reader's mapping", &reader.bytes(0, length), &expected)?;
    let protect = |map: &Buffer, protection| os::mprotect(map.at(0), PAGE, protection);
    check_eq!(protect(&reader, os::READ_WRITE), Err(Errno::EACCES), "mprotect to write");
    check_eq!(protect(&reader, abi::PROT_WRITE), Err(Errno::EACCES), "mprotect to write alone");
    check_eq!(protect(&reader, abi::PROT_NONE), Ok(()), "mprotect to none");
    check_eq!(protect(&reader, abi::PROT_READ), Ok(()), "mprotect to read");
    check_eq!(reader.load(1), expected[1], "a byte after that");
    let refused = |fd, protection, flags| Buffer::map(fd, 0, PAGE, protection, flags).map(drop);
    let shared = abi::MAP_SHARED;
    check_eq!(refused(fd, os::READ_WRITE, shared), Err(Errno::EACCES), "mmap to write");
    check_eq!(refused(fd, abi::PROT_WRITE, shared), Err(Errno::EACCES), "mmap to write alone");
    check_eq!(refused(fd, os::READ_WRITE, abi::MAP_PRIVATE), Ok(()), "private mmap to write");
    let none = Buffer::map(fd, 0, PAGE, abi::PROT_NONE, shared).named("mmap with no access")?;
    check_eq!(protect(&none, os::READ_WRITE), Err(Errno::EACCES), "mprotect from none to write");
    check_eq!(protect(&none, abi::PROT_READ), Ok(()), "mprotect from none to read");
    let writer = sys::open(name, abi::O_WRONLY, 0).named("open to write")?;
    for protection in [abi::PROT_READ, abi::PROT_WRITE, os::READ_WRITE] {
        check_eq!(refused(writer, protection, shared), Err(Errno::EACCES), "mmap, write only");
    }
    check_eq!(reader.sync(), Ok(()), "msync of a mapping to read");
    for fd in [fd, writer] {
        sys::close(fd).named("close")?;
    }
    // The mapping is without its descriptor, and stores show as before.
    store_again(&map, &mut expected, 2, 7);
    expect_bytes("the reader's mapping", &reader.bytes(0, length), &expected)
}

/// The modification time is that of the first store since the file was written back. stat(2) shows
/// it at once, and the size stays.
#[guest_test]
fn m4_times() -> Outcome {
    let file = File::make("times", 7, 4 * P)?;
    let map = map_anew(&file, 4 * PAGE)?;
    map.load(0);
    let time = || {
        let stat = sys::stat(file.path.as_bytes()).named("stat")?;
        check_eq!(stat.st_size, 4 * PAGE as i64, "size");
        Ok::<_, String>((stat.st_mtime, stat.st_mtime_nsec))
    };
    let pause = || sys::sleep(Duration::from_millis(30)).named("sleep");
    let before = time()?;
    pause()?;
    check_eq!(time()?, before, "the time after loads");
    map.store(0, 1);
    let stored = time()?;
    check!(stored > before, "a store does not change the time");
    pause()?;
    map.store(1, 2);
    check_eq!(time()?, stored, "the time after another store to the page");
    pause()?;
    map.sync().named("msync")?;
    check_eq!(time()?, stored, "the time after write-back");
    pause()?;
    map.store(0, 3);
    check!(time()? > stored, "a store after write-back does not change the time");
    file.overwrite_bytes(1, 0, 1)?;
    let written = time()?;
    pause()?;
    map.sync().named("msync")?;
    drop(map);
    check_eq!(time()?, written, "the time of a later write");
    Ok(())
}

/// Bytes that a lazy read promised before a store are the old ones, whenever they are touched, and
/// whatever becomes of the mapping.
#[guest_test(mutants: &[Mutant::StoreToLent])]
fn m4_reads_before_stores() -> Outcome {
    let length = PAGES * PAGE;
    let file = File::make("before", 8, length as u64)?;
    let map = map_anew(&file, length)?;
    let buffers = [Buffer::new(length)?, Buffer::new(length)?];
    file.read_into(&buffers[0], 0, length, 0)?;
    (0..PAGES).for_each(|page| map.store(page * PAGE, 0x55));
    buffers[0].check(0, length / 2, pattern(8, 0))?;
    file.read_into(&buffers[1], 0, length, 0)?;
    (0..PAGES).for_each(|page| map.store(page * PAGE, 0x66));
    drop(map);
    os::sync(file.fd).named("fsync")?;
    buffers[0].check(0, length, pattern(8, 0))?;
    let mut second = bytes_of(8, length);
    (0..PAGES).for_each(|page| second[page * PAGE] = 0x55);
    expect_bytes("the second read", &buffers[1].bytes(0, length), &second)?;
    (0..PAGES).for_each(|page| second[page * PAGE] = 0x66);
    expect_file(&file, &second)
}
