//! The simulation: the kernel's `mem` and `mount` with `snapfs` and `memfs`, as they are, in one
//! process and in an order drawn from a seed.
//!
//! Several machines, each with memory, a cache and a connection of its own, are clients of one
//! wrapper. Programs on them read, write, load, store, fork, map, unmap, protect and move memory,
//! change, remove and rename files; their threads share memory and positions. Messages lie on the
//! wires until the order says that they arrive. Meanwhile frames are taken away, or are not to be
//! had, private pages go to a swap file, which may fail, processes are killed in the middle of what
//! they do, connections are lost, and the store beneath the wrapper has no room or fails. In some
//! runs the servers are not trusted, and are asked for each page once. Plain arrays of bytes with
//! eager semantics are the oracle: of the files ([`model`]) and of each program's memory
//! ([`memory`]). An error must have an excuse; wrong bytes have none. After each run all that was
//! taken is back.
//!
//! A [`script`] says what everybody does, an [`order`] what comes next; both come from a seed
//! ([`draw`]), or are told. A failure is made smaller ([`shrink`]) and can be kept as text, in
//! `corpus/`, which the suite replays. `cargo xtask sim` runs seeds for as long as one likes.

mod actor;
mod breaks;
mod campaign;
mod corpus;
mod disk;
mod draw;
mod files;
mod happening;
mod holes;
mod meanwhile;
mod memory;
mod model;
mod order;
mod run;
mod sched;
mod script;
mod servers;
mod shortage;
mod shrink;
mod swap_file;
mod trace;
mod trouble;
mod wire;
mod world;

use std::sync::atomic::Ordering;

use foundation::counter::{Counter, GLOBAL};

/// Steps of the test suite.
const STEPS: u64 = 1_000_000;

#[test]
fn lazy_is_eager_in_every_order() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    campaign::watch();
    let before = Counter::ALL.iter().map(|&counter| GLOBAL.get(counter)).collect::<Vec<_>>();
    let start = std::time::Instant::now();
    let verdict = campaign::run_seeds(0, STEPS, |_, _| ());
    if let Some((seed, failure)) = verdict.failed {
        panic!("{}", campaign::told(seed, failure));
    }
    println!(
        "{} runs, {} steps, {:.1} s",
        verdict.runs,
        verdict.steps,
        start.elapsed().as_secs_f64()
    );
    // It counts for nothing where hardly anything was lazy, fetched, referred to, taken away, or
    // failed.
    let at_least = [
        (Counter::PagesLazy, 50_000),
        (Counter::PagesFetched, 30_000),
        (Counter::PagesReferenced, 10_000),
        (Counter::PagesCleaned, 5_000),
        (Counter::PagesUnmapped, 2_000),
        (Counter::PagesSwappedOut, 2_000),
        (Counter::PagesSwappedIn, 2_000),
        (Counter::FetchErrors, 100),
    ];
    let counts = at_least.map(|(counter, _)| {
        let place = Counter::ALL.iter().position(|&other| other == counter).expect("it is listed");
        GLOBAL.get(counter) - before[place]
    });
    let rare: Vec<_> = at_least
        .iter()
        .zip(counts)
        .filter(|((_, least), count)| count < least)
        .map(|((counter, _), count)| (counter.name(), count))
        .collect();
    println!(
        "{}",
        at_least
            .iter()
            .zip(counts)
            .map(|((counter, _), count)| format!("{} {count}  ", counter.name()))
            .collect::<String>()
    );
    assert!(rare.is_empty(), "this shows nothing: {rare:?}");
    let from_disk = disk::BLOCKS_READ.load(Ordering::Relaxed);
    println!("{from_disk} pages of files came back from the store's device");
    assert!(from_disk > 100_000, "this shows nothing of the store's device");
}

#[test]
fn a_seed_replays_exactly() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    for seed in 0..5 {
        let script = draw::script(seed);
        let run = || run::run_traced(&script, order::Order::drawn(seed)).1;
        assert!(run() == run(), "seed {seed} is not the same twice");
    }
}

#[test]
#[ignore = "for cargo xtask sim: runs as long as it is told to"]
fn simulate() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    campaign::command();
}
