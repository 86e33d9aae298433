//! Calls on many regions of memory at once.

use core::time::Duration;

use proof::guest_test;
use proof::kit::{Outcome, in_child};
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::abi;

/// Pages, of which every other one has other permissions: nearly as many regions as Linux allows.
const PAGES: usize = 60_000;
const BYTES: usize = PAGES * PAGE_BYTES;
/// An address far from all others.
const FAR: usize = 0x1000_0000_0000;
/// Children that hold a copy of all regions.
const CHILDREN: usize = 40;

/// Memory in as many regions as memory suffices for, [`PAGES`] at most.
fn many() -> Outcome<*mut u8> {
    let flags = abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED nothing that exists is touched.
    let map = unsafe { sys::mmap(0, BYTES, abi::PROT_READ, flags, Fd::NONE, FileOffset::ZERO) };
    let start = ok!(map);
    for page in (0..PAGES).step_by(2) {
        let at = start.wrapping_add(page * PAGE_BYTES);
        // SAFETY: nobody uses the memory.
        if let Err(error) = unsafe { sys::mprotect(at, PAGE_BYTES, abi::PROT_NONE) } {
            check_eq!(error, Errno::ENOMEM);
            break;
        }
    }
    Ok(start)
}

/// Carries out one call on all regions, in a child. It may find memory short.
fn with_many(call: fn(*mut u8) -> isize) -> Outcome {
    let status = in_child(|| {
        let Ok(start) = many() else { return 2 };
        let result = call(start);
        i32::from(result < 0 && result != -(Errno::ENOMEM.0 as isize))
    })?;
    check_eq!(status.exit_code(), Some(0));
    Ok(())
}

fn call(number: u32, arguments: [usize; 6]) -> isize {
    // SAFETY: the calls of this file touch only memory that nobody uses.
    unsafe { sys::syscall(number, arguments) }
}

/// Reads all of /proc/self/maps. Returns its length.
fn read_maps() -> Result<usize> {
    let maps = sys::open(b"/proc/self/maps", abi::O_RDONLY, 0)?;
    let mut buffer = [0; PAGE_BYTES];
    let mut length = 0;
    loop {
        match sys::read(maps, &mut buffer)? {
            0 => return Ok(length),
            count => length += count,
        }
    }
}

fn calls_on_all() -> Outcome {
    with_many(|start| call(abi::__NR_munmap, [start as usize, BYTES, 0, 0, 0, 0]))?;
    with_many(|start| {
        let advice = abi::MADV_DONTNEED as usize;
        call(abi::__NR_madvise, [start as usize, BYTES, advice, 0, 0, 0])
    })?;
    with_many(|start| {
        let protection = (abi::PROT_READ | abi::PROT_WRITE) as usize;
        call(abi::__NR_mprotect, [start as usize, BYTES, protection, 0, 0, 0])
    })?;
    with_many(|start| {
        let flags = (abi::MREMAP_MAYMOVE | abi::MREMAP_FIXED) as usize;
        let result = call(abi::__NR_mremap, [start as usize, BYTES, BYTES, flags, FAR, 0]);
        // More than one mapping cannot move.
        if result == -(Errno::EFAULT.0 as isize) { 0 } else { result }
    })?;
    with_many(|_| match read_maps() {
        Ok(length) => length as isize,
        Err(error) => -(error.0 as isize),
    })?;
    with_many(|start| {
        let flags = (abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_FIXED) as usize;
        call(abi::__NR_mmap, [start as usize, BYTES, 1, flags, usize::MAX, 0])
    })
}

fn copies_of_all() -> Outcome {
    let status = in_child(|| {
        if many().is_err() {
            return 2;
        }
        let mut children = Vec::new();
        let mut result = 0;
        for _ in 0..CHILDREN {
            match sys::fork() {
                Ok(None) => loop {
                    let _ = sys::sleep(Duration::from_secs(1000));
                },
                Ok(Some(child)) => children.push(child),
                Err(Errno::ENOMEM | Errno::EAGAIN) => break,
                Err(_) => result = 3,
            }
        }
        for child in children {
            let _ = sys::kill(child, abi::SIGKILL as i32);
            let _ = sys::wait_for(child);
        }
        result
    })?;
    check_eq!(status.exit_code(), Some(0));
    Ok(())
}

/// A call on nearly as many regions as there may be succeeds or finds memory short.
#[guest_test(timeout_s: 120)]
fn q8_many_regions() -> Outcome {
    calls_on_all()?;
    copies_of_all()
}

/// The same in a machine that has no memory for so many.
#[guest_test(memory_mib: 32, timeout_s: 120)]
fn q8_many_regions_in_little_memory() -> Outcome {
    calls_on_all()?;
    copies_of_all()
}
