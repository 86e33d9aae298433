//! `leaks COMMAND [ARGUMENT…]`: runs a program and fails if it leaked a resource.
//!
//! `/proc/kept` counts every resource that programs must release: frames, snapshots, rescued pages,
//! handles, descriptors, requests in flight, processes. It is read before and after the command,
//! without what only the cache holds. All lines must be equal. On a kernel without that file the
//! command just runs.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use proof::kept::{HEAP, LOOKS, differences, kept};
use proof::os::raw;
use user::prelude::*;
use user::sys::abi;

program!(run);

/// Children of the warm-up.
const WARM_PROCESSES: usize = 8;

/// Bytes by which the kernel's heap may grow in the first run. If it grows more, the command runs
/// again: a leak grows again, and what is left of a time with many threads and handles does not.
/// That is up to twice the memory which the run queue and each session's list of handles need (a
/// list is moved to less memory only below half of its capacity, or it would be moved all the
/// time), and nodes of B-trees that are half full or, in tables that were never used before, empty.
/// After a storm it can be a little more than these bytes; shorter tests stay below them.
const HEAP_SLACK_BYTES: u64 = 1024;

fn run(args: &Args) -> i32 {
    let command = args.get(1..).unwrap_or_default();
    if command.is_empty() {
        eprintln!("usage: leaks COMMAND [ARGUMENT...]");
        return 2;
    }
    if kept().is_empty() {
        return become_command(command);
    }
    warm_up();
    match run_once(command) {
        Ok((0, left)) if !left.is_empty() && left.iter().all(|line| line.starts_with(HEAP)) => {
            run_once(command).map_or_else(|status| status, conclude)
        }
        Ok(seen) => conclude(seen),
        Err(status) => status,
    }
}

/// Prints the changed lines. Returns the command's status, or 1 if that is 0 and a line has
/// changed.
fn conclude((status, left): (i32, Vec<String>)) -> i32 {
    for line in &left {
        eprintln!("leaks: {line}");
    }
    if status == 0 && !left.is_empty() { 1 } else { status }
}

/// Runs what every command does: several processes at once, messages, page-ins. It also loads the
/// pages of this program that later reads of `/proc/kept` need.
fn warm_up() {
    let read = || {
        let mut pages = user::pages::Pages::new(64 * user::pages::PAGE_BYTES)?;
        let fd = sys::open(b"/bin/sh", sys::abi::O_RDONLY, 0)?;
        let count = sys::read(fd, &mut pages)?;
        let sum = pages
            .get(..count)
            .unwrap_or_default()
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        Ok(sum)
    };
    for _ in 0..WARM_PROCESSES {
        match sys::fork() {
            Ok(None) => {
                let read: Result<u8> = read();
                sys::exit(i32::from(read.is_err()))
            }
            Ok(Some(_)) => {}
            Err(error) => {
                complain("leaks", b"fork", error);
            }
        }
    }
    while let Ok(Some(_)) = sys::wait(-1, 0) {}
    use_tables();
    kept();
}

/// Has an entry in each of the kernel's tables once: those keep their last node.
fn use_tables() {
    let (word, time) = (0u32, [0u64, 1]);
    let [word, time] = [&raw const word as usize, time.as_ptr() as usize];
    let fifo = c"/tmp/leaks.fifo".as_ptr() as usize;
    let _ = raw(abi::__NR_futex, &[word, abi::FUTEX_WAIT as usize, 0, time, 0, 0]);
    let _ = (raw(abi::__NR_alarm, &[100]), raw(abi::__NR_alarm, &[0]));
    let _ = raw(abi::__NR_mknod, &[fifo, (abi::S_IFIFO | 0o600) as usize, 0]);
    let files = [
        sys::open(b"/tmp/leaks.fifo", abi::O_RDWR, 0),
        sys::open(b"/bin/sh", abi::O_RDONLY, 0),
        sys::open_pty(),
    ];
    for fd in files.into_iter().flatten() {
        // Shared, so that the file may be open for reading only.
        let _ = raw(abi::__NR_flock, &[fd.argument(), abi::LOCK_SH as usize]);
        let page = user::pages::PAGE_BYTES;
        let (read, shared) = (abi::PROT_READ as usize, abi::MAP_SHARED as usize);
        if let Ok(at) = raw(abi::__NR_mmap, &[0, page, read, shared, fd.argument(), 0]) {
            let _ = raw(abi::__NR_munmap, &[at, page]);
        }
        let _ = sys::close(fd);
    }
    let _ = sys::unlink(b"/tmp/leaks.fifo");
}

/// Runs the command. Returns its status and the changed lines; the error is an exit status.
fn run_once(command: &[&'static [u8]]) -> core::result::Result<(i32, Vec<String>), i32> {
    let before = kept();
    let child = match sys::fork() {
        Ok(None) => sys::exit(become_command(command)),
        Ok(Some(child)) => child,
        Err(error) => return Err(complain("leaks", b"fork", error)),
    };
    let status = sys::wait_for(child).map_err(|error| complain("leaks", b"wait4", error))?;
    let mut left = Vec::new();
    for _ in 0..LOOKS {
        left = differences(&before, &kept(), HEAP_SLACK_BYTES);
        if left.is_empty() {
            break;
        }
        let _ = sys::sched_yield();
    }
    Ok((status.shell_status(), left))
}

fn become_command(command: &[&'static [u8]]) -> i32 {
    let failure = user::launch::launch(command, user::rt::environment());
    complain("leaks", command[0], failure);
    user::launch::failure_status(failure)
}
