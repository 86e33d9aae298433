//! `tests NAME…`, `tests --list`: tests of system calls. All pass on Linux, too, which is the
//! oracle.
//!
//! A test is a function with the attribute `#[guest_test]` that returns a failure, if any. It runs
//! in an empty directory of its own.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

#[macro_use]
extern crate proof;

mod answers;
mod bounded;
mod bounded_more;
mod choices;
mod clones;
mod delivery;
mod descriptors;
mod disks;
mod doors;
mod epolls;
mod event_files;
mod events;
mod fifos;
mod files;
mod futexes;
mod growth;
mod hazards;
mod hostile;
mod jobs;
mod limits;
mod locks;
mod memory;
mod moves;
mod names;
mod paths;
mod processes;
mod queued;
mod ranges;
mod regions;
mod resources;
mod scheduling;
mod shares;
mod signal_io;
mod signals;
mod sockets;
mod state;
mod storm;
mod survey;
mod terminals;
mod timers;
mod trees;

use proof::{kit, registry};
use user::prelude::*;

program!(run);

fn run(args: &Args) -> i32 {
    match args.get(1..) {
        Some([b"--list"]) => registry::list("tests"),
        Some(names @ [_, ..]) => names.iter().map(|name| run_one(name)).max().unwrap_or(0),
        _ => {
            eprintln!("usage: tests NAME...   or   tests --list");
            2
        }
    }
}

fn run_one(name: &[u8]) -> i32 {
    let Some(test) = registry::find(name) else {
        eprintln!("tests: {}: there is no such test", Show(name));
        return 2;
    };
    let directory = format!("/tmp/tests.{}", sys::getpid()).into_bytes();
    if let Err(error) = sys::mkdir(&directory, 0o700).and_then(|()| sys::chdir(&directory)) {
        return complain("tests", &directory, error);
    }
    let outcome = (test.run)();
    let _ = sys::chdir(b"/");
    kit::remove_tree(&directory);
    match outcome {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("{}: {message}", Show(name));
            1
        }
    }
}
