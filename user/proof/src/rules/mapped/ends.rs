//! M2: what was stored outlives the mapping, the descriptor, the process and the name.

use super::compare::{P, bytes_of, expect_bytes, expect_file, map_anew};
use proof::kit::{Buffer, Child, File, Named, Outcome, PAGE, byte};
use proof::lazy;
use proof::{check, check_eq, guest_test, os};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 20;

/// How a process ends its use of a mapping after its stores.
type End = fn(Buffer) -> Outcome;

const ENDS: [(&str, End); 7] = [
    ("munmap", |map| {
        drop(map);
        Ok(())
    }),
    ("munmap of parts", |map| {
        os::munmap(map.at(3 * PAGE), 5 * PAGE).named("munmap")?;
        os::munmap(map.at(0), 4 * PAGE).named("munmap")
    }),
    ("another mapping in its place", |map| {
        let flags = abi::MAP_PRIVATE | abi::MAP_FIXED;
        os::mmap(map.at(0), map.len_bytes(), os::READ_WRITE, flags).named("mmap").map(drop)
    }),
    ("exit", |map| {
        map.leak();
        Ok(())
    }),
    ("kill", |map| {
        map.leak();
        sys::kill(sys::getpid(), abi::SIGKILL as i32).named("kill")?;
        Err(String::from("it lives on"))
    }),
    ("exec", |map| {
        map.leak();
        let error = sys::execve(b"/bin/true", &[b"true"], &[]);
        Err(format!("execve: {error:?}"))
    }),
    ("moved and made smaller", |map| {
        let moved = os::mremap(map.leak(), PAGES * PAGE, PAGE).named("mremap")?;
        os::munmap(moved, PAGE).named("munmap")
    }),
];

/// A process stores to a mapping whose descriptor is closed, and ends its use in each way. A reader
/// finds all stores.
#[guest_test]
fn m2_stores_outlive_the_mapping() -> Outcome {
    for (name, end) in ENDS {
        let file = File::make("outlived", 8, (PAGES * PAGE) as u64)?;
        let mut expected = bytes_of(8, PAGES * PAGE);
        let status = Child::start(name, || {
            let map = map_anew(&file, PAGES * PAGE)?;
            (0..PAGES).for_each(|page| map.store(page * PAGE + page, page as u8));
            end(map)
        })?
        .status()?;
        let killed = (name == "kill").then_some(abi::SIGKILL as i32);
        check_eq!(status.signal(), killed, "{name}: signal");
        check_eq!(status.exit_code().unwrap_or(0), 0, "{name}: status");
        (0..PAGES).for_each(|page| expected[page * PAGE + page] = page as u8);
        proof::kit::within(name, expect_file(&file, &expected))?;
    }
    Ok(())
}

/// A mapped file is renamed, another one takes its name, and then it loses its last name. Stores go
/// to the file that was mapped, as long as it is mapped or open.
#[guest_test]
fn m2_names_change() -> Outcome {
    let file = File::make("named", 9, 4 * P)?;
    let mut expected = bytes_of(9, 4 * PAGE);
    let map = map_anew(&file, 4 * PAGE)?;
    map.store(10, 1);
    let moved = format!("{}.moved", file.path);
    sys::rename(file.path.as_bytes(), moved.as_bytes()).named("rename")?;
    map.store(PAGE, 2);
    let other = File::make("named", 10, 4 * P)?;
    map.store(2 * PAGE, 3);
    sys::unlink(moved.as_bytes()).named("unlink")?;
    map.store(3 * PAGE, 4);
    for (at, byte) in [(10, 1), (PAGE, 2), (2 * PAGE, 3), (3 * PAGE, 4)] {
        expected[at] = byte;
    }
    expect_bytes("the mapping", &map.bytes(0, 4 * PAGE), &expected)?;
    let mut found = vec![0; 5 * PAGE];
    let count = sys::pread(file.fd, &mut found, FileOffset::ZERO).named("pread")?;
    expect_bytes("the file without a name", &found[..count], &expected)?;
    expect_file(&other, &bytes_of(10, 4 * PAGE))?;
    // A file whose only holder is the mapping.
    let last = File::make("last", 11, 4 * P)?;
    let map = map_anew(&last, 4 * PAGE)?;
    map.store(0, 5);
    drop(last);
    map.store(PAGE, 6);
    let mut expected = bytes_of(11, 4 * PAGE);
    (expected[0], expected[PAGE]) = (5, 6);
    expect_bytes("the mapping of a removed file", &map.bytes(0, 4 * PAGE), &expected)
}

/// A page's mark in a file that is larger than memory.
fn mark(page: usize) -> u8 {
    byte(300, page as u64) | 1
}

/// A mapping of 300 MiB in a machine of 128 MiB is stored to all over, twice. A reader of the file
/// finds each store.
#[guest_test(timeout_s: 600)]
fn m2_larger_than_memory() -> Outcome {
    const LARGE: usize = 300 << 20;
    let file = File::sparse("large", LARGE as u64)?;
    let map = map_anew(&file, LARGE)?;
    for page in 0..LARGE / PAGE {
        map.store(page * PAGE, mark(page));
    }
    for page in (0..LARGE / PAGE).rev().step_by(16) {
        check_eq!(map.load(page * PAGE), mark(page), "page {page} in the mapping");
        map.store(page * PAGE + 100, !mark(page));
    }
    let mut bytes = vec![0; 64 * PAGE];
    for first in (0..LARGE / PAGE).step_by(64) {
        let count = sys::pread(file.fd, &mut bytes, FileOffset(first as u64 * P)).named("pread")?;
        check_eq!(count, bytes.len(), "bytes read at page {first}");
        for (page, bytes) in (first..).zip(bytes.chunks(PAGE)) {
            let second = if (LARGE / PAGE - 1 - page).is_multiple_of(16) { !mark(page) } else { 0 };
            check_eq!((bytes[0], bytes[100]), (mark(page), second), "page {page}");
            check!(bytes[1..100].iter().all(|byte| *byte == 0), "page {page} has other bytes");
        }
    }
    Ok(())
}

/// Where the server has no space for a page of a hole, the store is SIGBUS. Pages that have their
/// space are stored to as before, loads see zeros, and no other store is lost.
#[guest_test(memory_mib: 64, timeout_s: 240)]
fn m2_no_space() -> Outcome {
    if !lazy::present() {
        // It would fill the host's disk.
        return Ok(());
    }
    let file = File::sparse("full", 64 * P)?;
    let map = map_anew(&file, 64 * PAGE)?;
    (0..8).for_each(|page| map.store(page * PAGE, 1 + page as u8));
    map.sync().named("msync")?;
    let ballast = fill_up()?;
    let store = |page: usize| {
        proof::kit::signal_of(|| {
            map.store(page * PAGE + 1, 0xaa);
        })
    };
    for page in [20, 63] {
        check_eq!(store(page)?, super::compare::SIGBUS, "signal for a store to page {page}");
        check_eq!(map.load(page * PAGE + 1), 0, "a byte of page {page} after that");
    }
    check_eq!(store(3)?, None, "signal for a store to a page that has space");
    let mut expected = vec![0; 64 * PAGE];
    (0..8).for_each(|page| expected[page * PAGE] = 1 + page as u8);
    expected[3 * PAGE + 1] = 0xaa;
    expect_file(&file, &expected)?;
    drop(ballast);
    check_eq!(store(20)?, None, "signal when there is space again");
    expected[20 * PAGE + 1] = 0xaa;
    expect_file(&file, &expected)
}

/// A file that takes all space that is left in `/tmp`.
fn fill_up() -> Outcome<File> {
    let ballast = File::sparse("ballast", 0)?;
    let mut length = 0;
    for step in [64 << 20, 1 << 20, P as usize] {
        let given = |length: usize| [ballast.fd.argument(), 0, length, step];
        while os::raw(abi::__NR_fallocate, &given(length)).is_ok() {
            length += step;
        }
    }
    Ok(ballast)
}
