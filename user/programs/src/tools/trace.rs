//! `trace on PROCESS…`, `trace off PROCESS…`, `trace COMMAND…`: logs the system calls of a process
//! and its children in the kernel's log, and the outcome of the pages that they read.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    match args.get(1..).unwrap_or_default() {
        [b"on", processes @ ..] if !processes.is_empty() => {
            processes.iter().map(|process| set(process, b"1")).max().unwrap_or(0)
        }
        [b"off", processes @ ..] if !processes.is_empty() => {
            processes.iter().map(|process| set(process, b"0")).max().unwrap_or(0)
        }
        [program, ..] if *program != b"on" && *program != b"off" => launch(args),
        _ => {
            eprintln!(
                "usage: trace on PROCESS...   or   trace off PROCESS...   or   trace COMMAND..."
            );
            2
        }
    }
}

/// Switches tracing of a process on or off.
fn set(process: &[u8], value: &[u8]) -> i32 {
    let path = [b"/proc/", process, b"/trace"].concat();
    let written = sys::open(&path, sys::abi::O_WRONLY, 0).and_then(|fd| {
        let written = sys::write_all(fd, value);
        sys::close(fd).and(written)
    });
    match written {
        Ok(()) => 0,
        Err(error) => complain("trace", process, error),
    }
}

/// Runs a program with tracing on.
fn launch(args: &Args) -> i32 {
    let rest = args.get(1..).unwrap_or_default();
    let status = set(b"self", b"1");
    if status != 0 {
        return status;
    }
    let failure = user::launch::launch(rest, user::rt::environment());
    complain("trace", rest[0], failure);
    user::launch::failure_status(failure)
}
