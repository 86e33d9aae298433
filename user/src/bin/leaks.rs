//! `leaks COMMAND [ARGUMENT…]`: runs a program, and fails where it left something behind.
//!
//! `/proc/kept` tells how much there is of everything that programs must give back: frames, snapshots, rescued pages, handles, descriptors, requests in
//! flight, processes. It is read before and after; what only the cache holds is dropped first. Every line has to be what it was. On a kernel without that file the
//! command just runs.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::counters::Counters;
use user::prelude::*;

program!(run);

const KEPT: &[u8] = b"/proc/kept";
const DROP_CACHES: &[u8] = b"/proc/sys/lazy/drop_caches";

/// Looks at what is kept, at most, until it is what it was: what was killed goes only when it is next scheduled, and what it held goes after it.
const LOOKS: usize = 2000;

/// Bytes by which the kernel's heap may differ: lists keep the room that they once needed (threads at once, sockets' queues), and the tree of processes
/// is not as deep everywhere.
const HEAP_SLACK_BYTES: u64 = 2048;

fn run(args: &Args) -> i32 {
    let command = args.get(1..).unwrap_or_default();
    if command.is_empty() {
        eprintln!("usage: leaks COMMAND [ARGUMENT...]");
        return 2;
    }
    if kept().is_empty() {
        return become_command(command);
    }
    // The first look loads the pages of this program that the later ones need.
    let before = kept();
    let child = match sys::fork() {
        Ok(None) => sys::exit(become_command(command)),
        Ok(Some(child)) => child,
        Err(error) => return complain("leaks", b"fork", error),
    };
    let status = match sys::wait_for(child) {
        Ok(status) => status.shell_status(),
        Err(error) => return complain("leaks", b"wait4", error),
    };
    let mut left = Vec::new();
    for _ in 0..LOOKS {
        left = differences(&before, &kept());
        if left.is_empty() {
            return status;
        }
        let _ = sys::sched_yield();
    }
    for line in left {
        eprintln!("leaks: {line}");
    }
    if status == 0 { 1 } else { status }
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

/// The lines that are not as they were, in words.
fn differences(before: &Counters, after: &Counters) -> Vec<String> {
    let changed = |name: &str, old: u64, new: u64| {
        let slack = if name == "heap_bytes" { HEAP_SLACK_BYTES } else { 0 };
        old.abs_diff(new) > slack
    };
    let line = |(name, old): (&str, u64)| {
        let new = after.get(name).unwrap_or(0);
        changed(name, old, new).then(|| format!("{name}: {old} before, {new} after"))
    };
    before.iter().filter_map(line).collect()
}
