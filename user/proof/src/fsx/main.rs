//! `fsx [OPTION…] FILE`: the file-system exerciser, after Apple's of 1991: random operations on a
//! file, every byte that comes back compared.
//!
//! What makes it hard on a lazy read: buffers stay in use. Each of a few keeps what it was read
//! into it long after the file has changed, is stored to, read over in part, and written back from,
//! while a copy in ordinary memory says what it has to hold ([`mod@exercise`]). Seed and the last
//! operations are printed where something differs. Options:
//!
//! - `-N OPERATIONS`, `-S SEED`, `-l BYTES` (the file's greatest length);
//! - `-a BYTES`: offsets, lengths and places in buffers are multiples of this;
//! - `-p PROCESSES`: each on a file and with a seed of its own;
//! - `-M`: map the file besides, shared;
//! - `-o`: all processes use one file, which they map ([`mod@several`]); an operation is then a
//!   round of all of them;
//! - `-m BYTES`: hold so much memory besides, so that there is little left;
//! - `-c COUNTER`: fail unless this line of `/proc/lazy` has grown; `-C COUNTER`: fail if it has.
//!   Neither matters on a kernel without it.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

mod exercise;
mod journal;
mod several;

use exercise::{Exercise, Settings};
use proof::counters::Counters;
use several::{Common, Member};
use user::opt::{self, Options};
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

program!(run);

const USAGE: &str = "fsx [-N OPERATIONS] [-S SEED] [-l BYTES] [-a BYTES] [-p PROCESSES] [-M] \
                     [-o] [-m BYTES] [-c COUNTER]... [-C COUNTER]... FILE";

fn run(args: &Args) -> i32 {
    let options = Options::parse(args, "N:S:l:a:p:Mom:c:C:", USAGE);
    let number = |letter, default: u64| options.value(letter).map_or(Some(default), opt::size);
    let numbers = (
        number(b'N', 5000),
        number(b'S', 1),
        number(b'l', 256 << 10),
        number(b'a', 1),
        number(b'p', 1),
        number(b'm', 0),
    );
    let (
        (Some(operations), Some(seed), Some(max_bytes), Some(unit), Some(processes), Some(held)),
        [file],
    ) = (numbers, options.operands.as_slice())
    else {
        eprintln!("usage: {USAGE}");
        return 2;
    };
    if unit == 0 || max_bytes < unit {
        eprintln!("fsx: the greatest length has to be a multiple of what -a says");
        return 2;
    }
    let before = Counters::now();
    let ballast = match hold(held as usize) {
        Ok(ballast) => ballast,
        Err(error) => return complain("fsx", b"memory to hold", error),
    };
    let settings = |number: u64| Settings {
        seed: seed + number,
        operations,
        max_bytes: max_bytes as usize,
        unit: unit as usize,
        is_mapped: options.has(b'M'),
    };
    let passed = if options.has(b'o') {
        exercise_together(file, settings(0), processes as u32)
    } else if processes == 1 {
        exercise(file, settings(0))
    } else {
        let path = |number: u64| [file, format!(".{number}").as_bytes()].concat();
        let children: Vec<_> = (0..processes)
            .map(|number| start(|| exercise(&path(number), settings(number))))
            .collect();
        // All children are waited for, also after a failure.
        children.into_iter().filter(|child| !ended_well(*child)).count() == 0
    };
    drop(ballast);
    let counted = has_counted(&before, &options);
    if passed && counted {
        println!(
            "fsx: {processes} times {operations} operations from seed {seed} on: \
             every byte is right"
        );
    }
    i32::from(!(passed && counted))
}

/// Allocates memory and stores to each page.
fn hold(len_bytes: usize) -> Result<Option<Pages>> {
    if len_bytes == 0 {
        return Ok(None);
    }
    let mut pages = Pages::new(len_bytes)?;
    for (number, byte) in pages.iter_mut().step_by(PAGE_BYTES).enumerate() {
        *byte = 1 + (number % 255) as u8;
    }
    Ok(Some(pages))
}

fn start(body: impl FnOnce() -> bool) -> Result<i32> {
    match sys::fork()? {
        Some(child) => Ok(child),
        None => sys::exit(i32::from(!body())),
    }
}

fn ended_well(child: Result<i32>) -> bool {
    let status = child.and_then(sys::wait_for).inspect_err(|error| {
        complain("fsx", b"a process", *error);
    });
    status.is_ok_and(|status| {
        if let Some(signal) = status.signal() {
            eprintln!("fsx: a process was ended by signal {signal}");
        }
        status.exit_code() == Some(0)
    })
}

/// Exercises one file. Returns what was wrong.
fn exercise(path: &[u8], settings: Settings) -> bool {
    let outcome = Exercise::new(path, settings).and_then(Exercise::run);
    if let Err(failure) = &outcome {
        eprintln!("fsx: {}, seed {}: {failure}", Show(path), settings.seed);
    }
    let _ = sys::unlink(path);
    outcome.is_ok()
}

/// Exercises one file with several processes. Returns what was wrong.
fn exercise_together(path: &[u8], settings: Settings, processes: u32) -> bool {
    let run = || {
        let flags = abi::O_RDWR | abi::O_CREAT | abi::O_TRUNC;
        let made = sys::open(path, flags, 0o644).and_then(sys::close);
        made.map_err(|error| format!("open: {error:?}"))?;
        let common = Common::new(settings.max_bytes)?;
        let member = |number| {
            Member::new(&common, path, settings, number, processes)
                .and_then(Member::run)
                .inspect_err(|failure| {
                    eprintln!("fsx: {}, seed {}: {failure}", Show(path), settings.seed);
                    common.fail();
                })
                .is_ok()
        };
        let children = (0..processes).map(|number| start(|| member(number)));
        let left = children.collect::<Result<Vec<_>>>().map_err(|error| {
            common.fail();
            format!("fork: {error:?}")
        })?;
        // In the order in which they end: after a failure no other waits for the failed one.
        let mut passed = true;
        for _ in left {
            let ended = sys::wait(-1, 0).map_err(|error| format!("wait: {error:?}"))?;
            let status = ended.map(|(_, status)| status);
            if status.and_then(|status| status.exit_code()) != Some(0) {
                eprintln!("fsx: a process ended with {status:?}");
                common.fail();
                passed = false;
            }
        }
        Ok::<_, String>(passed)
    };
    let outcome = run().inspect_err(|failure| eprintln!("fsx: {failure}"));
    let _ = sys::unlink(path);
    outcome == Ok(true)
}

/// Whether the counters have grown, or not, as requested.
fn has_counted(before: &Counters, options: &Options) -> bool {
    let now = Counters::now();
    if now.is_empty() {
        return true;
    }
    let grown = now.since(before);
    let wrong = |letter, wanted: bool| {
        let has_grown = |name: &[u8]| grown.iter().any(|(grown, _)| grown.as_bytes() == name);
        let wrong: Vec<_> =
            options.values(letter).filter(|name| has_grown(name) != wanted).collect();
        for name in &wrong {
            eprintln!("fsx: {} has {}grown", Show(name), if wanted { "not " } else { "" });
        }
        !wrong.is_empty()
    };
    let (missing, excess) = (wrong(b'c', true), wrong(b'C', false));
    !missing && !excess
}
