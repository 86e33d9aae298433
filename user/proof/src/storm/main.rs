//! `storm [-i INSTRUCTIONS] [-w WORKERS] [-k KIND] [-v] SEED`: hostile processes of every kind at
//! once, which use up whatever a program can use up ([`worker`]), while two processes must go on as
//! if they were alone:
//!
//! - a witness ([`witness`]) that reads a file lazily, changes it, and keeps checking the bytes and
//!   versions of its buffers;
//! - a shell ([`answer`]) that must answer each `echo` within 10^9 ticks of the time-stamp counter.
//!   With `cargo xtask run --icount`, ticks are instructions.
//!
//! At the end every server and init must be the process that it was, and files must work. Run it
//! under `leaks`, which checks that nothing is left.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

#[macro_use]
extern crate proof;

mod answer;
mod channels;
mod driver;
mod files;
mod memory;
mod names;
mod numbers;
mod processes;
mod queues;
mod regions;
mod witness;
mod worker;

use driver::Storm;
use user::opt::{self, Options};
use user::prelude::*;
use worker::Plan;

program!(run);

const USAGE: &str = "storm [-i INSTRUCTIONS] [-w WORKERS] [-k KIND] [-v] SEED";

fn run(args: &Args) -> i32 {
    let options = Options::parse(args, "i:w:k:v", USAGE);
    let number =
        |letter, default: u64| options.value(letter).map_or(Some(default), opt::number::<u64>);
    let seed = match options.operands.as_slice() {
        [seed] => opt::number::<u64>(seed),
        _ => None,
    };
    let (Some(ticks), Some(workers), Some(seed)) =
        (number(b'i', 1_500_000_000), number(b'w', 6), seed)
    else {
        eprintln!("usage: {USAGE}");
        return 2;
    };
    if !proof::omitted::is_ours() {
        eprintln!("storm: on a host it would end other processes");
        return 2;
    }
    let plan = Plan { seed, only: options.value(b'k'), verbose: options.has(b'v') };
    if !plan.is_possible() {
        eprintln!("storm: there is no such kind");
        return 2;
    }
    let directory = format!("/tmp/storm.{}", sys::getpid()).into_bytes();
    if let Err(error) = sys::mkdir(&directory, 0o700).and_then(|()| sys::chdir(&directory)) {
        return complain("storm", &directory, error);
    }
    let outcome = Storm::new(plan, ticks, workers).and_then(Storm::run);
    let _ = sys::chdir(b"/");
    proof::kit::remove_tree(&directory);
    match outcome {
        Ok(figures) => {
            println!("storm: seed {seed}: {figures}");
            0
        }
        Err(failure) => {
            eprintln!("storm: seed {seed}: {failure}");
            1
        }
    }
}
