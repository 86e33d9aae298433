//! `leaks COMMAND [ARGUMENT…]`: runs a program, and fails where it left something behind.
//!
//! `/proc/kept` tells how much there is of everything that programs must give back: frames,
//! snapshots, rescued pages, handles, descriptors, requests in flight, processes. It is read before
//! and after; what only the cache holds is dropped first. Every line has to be what it was. On a
//! kernel without that file the command just runs.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use proof::counters::Counters;
use user::prelude::*;

program!(run);

const KEPT: &[u8] = b"/proc/kept";
const DROP_CACHES: &[u8] = b"/proc/sys/lazy/drop_caches";

/// Looks at what is kept, at most, until it is what it was: what was killed goes only when it is
/// next scheduled, and what it held goes after it.
const LOOKS: usize = 2000;

/// Children of the warm-up.
const WARM_PROCESSES: usize = 8;

/// Bytes by which the kernel's heap may have grown after the first run: lists keep the room that
/// they once needed (threads at once, messages on their way). Where it is more, the command runs
/// again: what is kept for good is not kept again, but what is lost is lost again.
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
        Ok((0, left)) if !left.is_empty() && left.iter().all(|line| line.is_heap) => {
            run_once(command).map_or_else(|status| status, conclude)
        }
        Ok(seen) => conclude(seen),
        Err(status) => status,
    }
}

/// A line of `/proc/kept` that is not what it was.
struct Left {
    is_heap: bool,
    text: String,
}

/// The command's status, unless there is something to complain about.
fn conclude((status, left): (i32, Vec<Left>)) -> i32 {
    for line in &left {
        eprintln!("leaks: {}", line.text);
    }
    if status == 0 && !left.is_empty() { 1 } else { status }
}

/// Processes at once, messages and page-ins: what every command has some of. It also loads the
/// pages of this program that later looks need.
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
    kept();
}

/// Runs the command; its status, and what is not as it was. An error is the status to end with.
fn run_once(command: &[&'static [u8]]) -> core::result::Result<(i32, Vec<Left>), i32> {
    let before = kept();
    let child = match sys::fork() {
        Ok(None) => sys::exit(become_command(command)),
        Ok(Some(child)) => child,
        Err(error) => return Err(complain("leaks", b"fork", error)),
    };
    let status = sys::wait_for(child).map_err(|error| complain("leaks", b"wait4", error))?;
    let mut left = Vec::new();
    for _ in 0..LOOKS {
        left = differences(&before, &kept());
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

/// What is kept now, caches apart.
fn kept() -> Counters {
    if let Ok(fd) = sys::open(DROP_CACHES, sys::abi::O_WRONLY, 0) {
        let _ = (sys::write(fd, b"1"), sys::close(fd));
    }
    user::io::read_file(KEPT).map(|text| Counters::parse(&text)).unwrap_or_default()
}

/// The lines that are not as they were.
fn differences(before: &Counters, after: &Counters) -> Vec<Left> {
    let line = |(name, old): (&str, u64)| {
        let (new, is_heap) = (after.get(name).unwrap_or(0), name == "heap_bytes");
        let changed = if is_heap { old + HEAP_SLACK_BYTES < new } else { old != new };
        changed.then(|| Left { is_heap, text: format!("{name}: {old} before, {new} after") })
    };
    before.iter().filter_map(line).collect()
}
