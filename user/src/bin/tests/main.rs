//! `tests NAME…`, `tests --list`: what system calls do, each test passing on Linux too, which is
//! the oracle.
//!
//! `user/src/tests_list.rs` says what tests there are, for xtask, which runs each in a machine of
//! its own. A test is a function that returns what it found wrong. It runs in an empty directory of
//! its own. To add one: a function, a line in its module's table, a line in that list.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

#[macro_use]
mod kit;
mod descriptors;
mod fifos;
mod files;
mod hazards;
mod hostile;
mod jobs;
mod memory;
mod names;
mod processes;
mod queued;
mod signals;
mod state;
mod storm;
mod survey;
mod terminals;

use user::prelude::*;
use user::tests_list::TESTS;

program!(run);

/// A module's tests by name.
type Table = &'static [(&'static str, fn() -> kit::Outcome)];

const TABLES: &[Table] = &[
    descriptors::TESTS,
    fifos::TESTS,
    files::TESTS,
    hazards::TESTS,
    hostile::TESTS,
    jobs::TESTS,
    memory::TESTS,
    names::TESTS,
    processes::TESTS,
    queued::TESTS,
    signals::TESTS,
    state::TESTS,
    storm::TESTS,
    survey::TESTS,
    terminals::TESTS,
];

fn run(args: &Args) -> i32 {
    match args.get(1..) {
        Some([b"--list"]) => list(),
        Some(names @ [_, ..]) => names.iter().map(|name| run_one(name)).max().unwrap_or(0),
        _ => {
            eprintln!("usage: tests NAME...   or   tests --list");
            2
        }
    }
}

/// Names what there is; complains where the tables and the list disagree.
fn list() -> i32 {
    let mut status = 0;
    for test in TESTS {
        println!("{}", test.name);
        if find(test.name).is_none() {
            eprintln!("tests: {} is in the list, but not in a table", test.name);
            status = 1;
        }
    }
    for (name, _) in TABLES.iter().copied().flatten() {
        if !TESTS.iter().any(|test| test.name == *name) {
            eprintln!("tests: {name} is in a table, but not in the list");
            status = 1;
        }
    }
    status
}

fn find(name: &str) -> Option<fn() -> kit::Outcome> {
    TABLES.iter().copied().flatten().find(|(known, _)| *known == name).map(|(_, test)| *test)
}

fn run_one(name: &[u8]) -> i32 {
    let Some(test) = core::str::from_utf8(name).ok().and_then(find) else {
        eprintln!("tests: {}: there is no such test", Show(name));
        return 2;
    };
    let directory = format!("/tmp/tests.{}", sys::getpid()).into_bytes();
    if let Err(error) = sys::mkdir(&directory, 0o700).and_then(|()| sys::chdir(&directory)) {
        return complain("tests", &directory, error);
    }
    let outcome = test();
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
