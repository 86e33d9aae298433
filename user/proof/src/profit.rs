//! `profit NAME COMMAND…`: runs a program with cold caches and its output discarded, and prints the
//! bytes that its reads requested, the bytes and messages moved, and the time: `profit NAME asked
//! moved messages nanoseconds status`. A nanosecond is one instruction where the clock counts these
//! (`--icount`).

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use proof::counters::Counters;
use user::prelude::*;
use user::sys::abi;

program!(run);

const PAGE_BYTES: u64 = 4096;

fn run(args: &Args) -> i32 {
    let [_, name, command @ ..] = args else { return usage() };
    if command.is_empty() {
        return usage();
    }
    // Drops the kernel's caches. The servers' memory stays.
    let dropped = sys::open(b"/proc/sys/lazy/drop_caches", abi::O_WRONLY, 0)
        .and_then(|fd| sys::write_all(fd, b"1").and(sys::close(fd)));
    if let Err(error) = dropped {
        return complain("profit", b"drop_caches", error);
    }
    let before = Counters::now();
    let start = sys::clock(abi::CLOCK_MONOTONIC).unwrap_or_default();
    let status = match measured(command) {
        Ok(status) => status,
        Err(error) => return complain("profit", command[0], error),
    };
    let took = sys::clock(abi::CLOCK_MONOTONIC).unwrap_or_default().saturating_sub(start);
    let after = Counters::now();
    let grown =
        |name: &str| after.get(name).unwrap_or(0).wrapping_sub(before.get(name).unwrap_or(0));
    let asked =
        grown("pages_lazy") * PAGE_BYTES + grown("bytes_read_eager") + grown("bytes_read_ahead");
    let moved = grown("bytes_sent") + grown("bytes_received");
    println!(
        "profit {} {asked} {moved} {} {} {status}",
        Show(name),
        grown("messages_sent"),
        took.as_nanos()
    );
    0
}

/// Runs the program until it ends. Returns its exit status.
fn measured(command: &[&[u8]]) -> Result<i32> {
    if let Some(child) = sys::fork()? {
        let status = sys::wait_for(child)?;
        return Ok(status.exit_code().unwrap_or(255));
    }
    let opened = sys::open(b"/dev/null", abi::O_WRONLY, 0).and_then(|fd| sys::dup2(fd, Fd::STDOUT));
    if opened.is_ok() {
        user::launch::launch(command, user::rt::environment());
    }
    sys::exit(127)
}

fn usage() -> i32 {
    eprintln!("usage: profit NAME COMMAND...");
    2
}
