//! Mappings that grow downwards, and flags of mmap(2) that are not known.

use proof::guest_test;
use proof::kit::{Buffer, Outcome, PAGE, file, load, raw, signal_of, store};
use proof::os;
use user::prelude::*;
use user::sys::abi;

/// Address space that nothing uses, of so many pages.
fn free_space(pages: usize) -> Outcome<usize> {
    let start = ok!(os::mmap(0, pages * PAGE, abi::PROT_NONE, abi::MAP_PRIVATE));
    ok!(os::munmap(start, pages * PAGE));
    Ok(start)
}

/// A growing mapping of a page at an address.
fn growing(at: usize) -> Outcome {
    let flags = abi::MAP_PRIVATE | abi::MAP_FIXED | abi::MAP_GROWSDOWN;
    check_eq!(os::mmap(at, PAGE, os::READ_WRITE, flags), Ok(at));
    Ok(())
}

#[guest_test]
fn growth_below() -> Outcome {
    let start = free_space(1024)?;
    let top = start + 1000 * PAGE;
    growing(top)?;
    for page in 0..64 {
        store(top - page * PAGE, page as u8 + 1);
    }
    // A system call has it grow, too, and so does a touch far below.
    let [reader, writer] = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"x"), Ok(1));
    check_eq!(os::read(reader, top - 64 * PAGE, 1), Ok(1));
    check_eq!(load(top - 200 * PAGE), 0);
    for page in 0..64 {
        check_eq!(load(top - page * PAGE), page as u8 + 1);
    }
    let child = signal_of(|| store(top - 300 * PAGE, 1))?;
    check_eq!(child, None, "a child's grows, too");
    ok!(os::munmap(top - 200 * PAGE, 201 * PAGE));
    let shared = abi::MAP_SHARED | abi::MAP_GROWSDOWN;
    check_eq!(os::mmap(0, PAGE, os::READ_WRITE, shared), Err(Errno::EINVAL));
    Ok(())
}

/// It keeps a distance from other memory, and obeys the limit of stacks.
#[guest_test]
fn growth_ends() -> Outcome {
    let start = free_space(1024)?;
    let top = start + 1000 * PAGE;
    let below = start + 500 * PAGE;
    let fixed = abi::MAP_PRIVATE | abi::MAP_FIXED;
    growing(top)?;
    check_eq!(os::mmap(below, PAGE, os::READ_WRITE, fixed), Ok(below));
    check_eq!(signal_of(|| store(below + 300 * PAGE, 1))?, None);
    let segv = Some(abi::SIGSEGV as i32);
    check_eq!(signal_of(|| store(below + 100 * PAGE, 1))?, segv);
    check_eq!(signal_of(|| store(below - PAGE, 1))?, segv);
    ok!(os::munmap(below, PAGE));
    let [_, hard] = ok!(sys::limit(abi::RLIMIT_STACK));
    let limited = signal_of(|| {
        let _ = sys::set_limit(abi::RLIMIT_STACK, [128 << 10, hard]);
        store(top - 100 * PAGE, 1);
    })?;
    check_eq!(limited, segv);
    Ok(())
}

/// Unknown flags are refused with `MAP_SHARED_VALIDATE` only; a place is no file to map.
#[guest_test]
fn growth_unknown_flags() -> Outcome {
    const UNKNOWN: u32 = 1 << 10;
    let fd = file(b"mapped", b"bytes")?;
    let validate = abi::MAP_SHARED_VALIDATE;
    ok!(Buffer::map(fd, 0, PAGE, os::READ_WRITE, validate));
    let map = |flags: u32| Buffer::map(fd, 0, PAGE, abi::PROT_READ, flags).map(drop);
    check_eq!(map(validate | UNKNOWN), Err(Errno(95)));
    check_eq!(map(abi::MAP_SHARED | UNKNOWN), Ok(()));
    check_eq!(map(abi::MAP_PRIVATE | UNKNOWN), Ok(()));
    let anonymous = os::mmap(0, PAGE, os::READ_WRITE, validate);
    check_eq!(anonymous, Err(Errno::EINVAL), "there is no file that knows flags");
    // More than a program has addresses for.
    for length in [usize::MAX, usize::MAX - PAGE + 1, 1 << 63, 1 << 47] {
        for kind in [abi::MAP_SHARED, abi::MAP_PRIVATE] {
            let arguments = [0, length, abi::PROT_READ as usize, kind as usize, fd.0 as usize, 0];
            check_eq!(raw(abi::__NR_mmap, &arguments), Err(Errno::ENOMEM), "{length:#x}");
        }
    }
    let place = ok!(sys::open(b"mapped", abi::O_PATH, 0));
    let found = Buffer::map(place, 0, PAGE, abi::PROT_READ, abi::MAP_PRIVATE).map(drop);
    check_eq!(found, Err(Errno::EBADF));
    let time = [0u64, 1000];
    let sleep =
        |clock: usize| raw(abi::__NR_clock_nanosleep, &[clock, 0, time.as_ptr() as usize, 0]);
    check_eq!(sleep(3), Err(Errno(95)), "the thread's CPU time");
    check_eq!(sleep(4), Err(Errno(95)), "a clock without timers");
    check_eq!(sleep(77), Err(Errno::EINVAL));
    Ok(())
}
