//! `rules NAME…`: proves rules of the contract of lazy read, one function for each test, named
//! after its rule.
//!
//! `rules --mutant MUTANT NAME` runs one with a mutant chosen in the kernel, where that was built
//! with mutants. `rules --list` lists them, for xtask. All of them also pass on Linux, the eager
//! oracle: there the bytes, counts and errors are checked, and what is only about laziness is not.
//! Tests that need a file server of their own do nothing there.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

mod ahead;
mod arguments;
mod attributes;
mod bounds;
mod change;
mod direct;
mod experiment;
mod fallback;
mod fault;
mod holes;
mod leak;
mod locked;
mod mapped;
mod memory;
mod outage;
mod ranks;
mod read;
mod safety;
mod scripted;
mod shared;
mod sharing;
mod shortage;
mod space;
mod stack;
mod trace;
mod traffic;
mod vectored;
mod wrapper;
mod write;
mod written;

use proof::kit::{self, Outcome};
use proof::{lazy, registry};
use user::prelude::*;

program!(run);

fn run(args: &Args) -> i32 {
    let names = args.get(1..).unwrap_or_default();
    if names.first() == Some(&space::EXEC_TARGET.as_bytes()) {
        return space::exec_target(args);
    }
    let names = match names {
        [option, names @ ..] if *option == sharing::LATE.as_bytes() => {
            sharing::wait_for_go();
            names
        }
        names => names,
    };
    if names == [b"--list"] {
        return registry::list("rules");
    }
    if names.is_empty() {
        eprintln!("usage: rules NAME… | --all | --list");
        return 2;
    }
    lazy::load_program();
    // Most tests touch a few pages, and read again. By default, reads of so few pages are copied,
    // and so are short ones after those that were touched.
    for (knob, value) in [("min_lazy_pages", "2"), ("copy_touched", "0")] {
        if lazy::present()
            && let Err(failure) = lazy::write_text(&format!("/proc/sys/lazy/{knob}"), value)
        {
            eprintln!("rules: {failure}");
            return 2;
        }
    }
    let names = match names {
        [option, mutant, names @ ..] if *option == b"--mutant" => {
            if let Err(failure) = choose_mutant(mutant) {
                eprintln!("rules: {failure}");
                return 2;
            }
            names
        }
        names => names,
    };
    let failed = run_named(names);
    let _: sys::Result<()> = sys::rmdir(kit::directory().as_bytes());
    failed.into()
}

/// Runs the tests of these names, or all of them with `--all`. Returns whether any failed.
fn run_named(names: &Args) -> bool {
    let all = names == [b"--all"];
    let mut failed = false;
    for test in registry::sorted() {
        if !all && !names.contains(&test.name.as_bytes()) {
            continue;
        }
        println!("{}", test.name);
        if let Err(failure) = (test.run)() {
            eprintln!("{}: FAILED: {failure}", test.name);
            failed = true;
        }
    }
    for name in names.iter().filter(|name| !all && registry::find(name).is_none()) {
        eprintln!("rules: no test `{}`", name.escape_ascii());
        failed = true;
    }
    failed
}

/// Chooses a mutant in the kernel and prints its name.
fn choose_mutant(mutant: &[u8]) -> Outcome {
    const KNOB: &str = "/proc/sys/lazy/mutant";
    lazy::write_text(KNOB, &String::from_utf8_lossy(mutant))?;
    println!("{}", lazy::read_text(KNOB)?.trim());
    Ok(())
}
