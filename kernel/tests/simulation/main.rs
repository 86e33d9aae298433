//! The simulation: the production `mem`, `mount`, `snapfs` and `memfs` in one process, in an order
//! that is drawn from a seed.
//!
//! Several machines, each with its own memory, frame cache and connection, are clients of one
//! wrapper. Programs on them read, write, load, store, fork, map, unmap, protect and move memory,
//! and change, remove and rename files; threads share memory and file positions. Where a machine
//! may, programs map files shared, and load and store there. Messages stay on the wires until the
//! order delivers them. Meanwhile frames are reclaimed or unavailable, private and shared pages are
//! swapped out and swap may fail, processes are killed in the middle of an operation, connections
//! are lost, and the base server has no space or fails. In some runs the servers are not trusted,
//! and each page may be requested once only.
//!
//! The oracle is plain arrays of bytes with eager semantics: of the files ([`model`]) and of each
//! program's memory ([`memory`]); stores to mapped files count at once ([`stores`]). An error needs
//! an excuse; wrong bytes have none. After each run, all resources must be free again. Debug
//! assertions are on, so that the kernel's own assertions and its lock order are checked in every
//! run.
//!
//! A [`script`] says what each actor does, an [`order`] which event is next; both are generated
//! from a seed ([`draw`]) or replayed. A failing run is reduced ([`shrink`]) and can be saved as
//! text in `corpus/`, which the test suite replays. `cargo xtask sim` runs seeds without limit.

mod actor;
mod bytes;
mod campaign;
mod corpus;
mod disk;
mod draw;
mod environment;
mod faults;
mod files;
mod holding;
mod holes;
mod interference;
mod mapped_files;
mod mapping;
mod memory;
mod model;
mod mutants;
mod order;
mod placed;
mod ranks;
mod run;
mod sched;
mod script;
mod servers;
mod shortage;
mod shrink;
mod stores;
mod swap_file;
mod trace;
mod versions;
mod wire;
mod world;
mod writer;

use std::sync::atomic::Ordering;

use foundation::counter::{Counter, GLOBAL};

/// Steps of the test suite.
const STEPS: u64 = 1_200_000;

#[test]
fn lazy_is_eager_in_every_order() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    campaign::watch();
    let before = Counter::ALL.iter().map(|&counter| GLOBAL.get(counter)).collect::<Vec<_>>();
    let start = std::time::Instant::now();
    let verdict = campaign::run_seeds(0, STEPS, |_, _| ());
    if let Some((seed, failure)) = verdict.failed {
        panic!("{}", campaign::report(seed, failure));
    }
    println!(
        "{} runs, {} steps, {:.1} s",
        verdict.runs,
        verdict.steps,
        start.elapsed().as_secs_f64()
    );
    // The run proves nothing if almost nothing was lazy, fetched, referenced, reclaimed or failed.
    let at_least = [
        (Counter::PagesLazy, 50_000),
        (Counter::PagesFetched, 30_000),
        (Counter::FetchesDirect, 2_000),
        (Counter::FetchesStale, 500),
        (Counter::PagesReferenced, 10_000),
        (Counter::PagesCleaned, 5_000),
        (Counter::PagesUnmapped, 2_000),
        (Counter::PagesSwappedOut, 2_000),
        (Counter::PagesSwappedIn, 2_000),
        (Counter::FetchErrors, 100),
        (Counter::StatsKnown, 20_000),
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
    assert!(rare.is_empty(), "too rare to prove anything: {rare:?}");
    let from_disk = disk::BLOCKS_READ.load(Ordering::Relaxed);
    println!("{from_disk} pages of files were read back from the base server's device");
    assert!(from_disk > 100_000, "the base server's device was hardly used");
    let mapped = [&mapping::LOADS, &mapping::STORES, &mapped_files::PAGES_WRITTEN];
    let [loads, stores, pages] = mapped.map(|count| count.load(Ordering::Relaxed));
    println!("mapped files: {loads} bytes loaded, {stores} stored, {pages} pages written back");
    assert!(loads > 20_000 && stores > 8_000 && pages > 2_000, "files were hardly mapped");
}

#[test]
fn a_seed_replays_exactly() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    for seed in 0..5 {
        let script = draw::script(seed);
        let run = || run::run_traced(&script, order::Order::drawn(seed)).1;
        assert!(run() == run(), "seed {seed} differs when it is replayed");
    }
}

#[test]
#[ignore = "for cargo xtask sim: runs until it is stopped"]
fn simulate() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    campaign::command();
}
