//! The simulation: the kernel's `mem` and `mount` with `snapfs` and `memfs`, as they are, in one process. Several programs read, write, store, load, fork,
//! unmap and change files at once, on a wire that delays and reorders, in an order drawn from a seed; plain arrays of bytes are the oracle.
//!
//! A failing seed replays exactly. `SLOTH_SEED=N` runs that one alone; `SLOTH_SEEDS=N` runs that many.

mod actor;
mod baton;
mod model;
mod servers;
mod wire;

use std::sync::{Arc, Mutex};

use fsproto::{AttrMask, OpenFlags};
use kernel::file::{FileSystem, Io, OpenHow, SetAttr, UserBuffers, Walk, WriteAt};
use kernel::mem::{Backing, Counter, Placement, Prot, UserSlice, VirtAddr, counters::GLOBAL, frame, mmu};
use kernel::mount::{Carrier, Mount, MountedTree, Session};

use crate::actor::Actor;
use crate::wire::Wire;

/// Steps of each actor in one run.
const STEPS: usize = 120;
/// Actors in one run: two that share an address space, and two by themselves.
const ACTORS: usize = 4;
/// Room on the server: little, so that reservations are refused and writes meet a full store.
const CAPACITY_PAGES: u64 = 160;
/// Runs of the test suite.
const SEEDS: u64 = 60;

/// One run, from empty servers to empty servers.
fn simulate(seed: u64) {
    kernel::mem::host::evict_all();
    let free_before = frame::stats().free;
    let live_before = GLOBAL.get(Counter::SnapshotsLive);
    let wire = Arc::new(Wire::new(CAPACITY_PAGES));
    let carrier: Arc<dyn Carrier> = wire.clone();
    let session = Arc::new(Session::new(carrier));
    wire.connect(Arc::downgrade(&session));
    let mount = connect(seed, &wire, session);
    let mut rng = fastrand::Rng::with_seed(seed);
    let shared = kernel::mem::Space::new().expect("memory for a space");
    let bodies: Vec<Box<dyn FnOnce() + Send>> = (0..ACTORS)
        .map(|index| {
            let (wire, mount, space) = (wire.clone(), mount.clone(), (index < 2).then(|| shared.clone()));
            let seed = rng.u64(..);
            let body = move || {
                let mut actor = Actor::new(index, seed, space, MountedTree(mount), wire);
                for _ in 0..STEPS {
                    actor.step();
                    baton::yield_now();
                }
                actor.finish();
            };
            Box::new(body) as Box<dyn FnOnce() + Send>
        })
        .collect();
    baton::run(seed, wire.clone(), bodies);
    drop((shared, mount));
    wire.drain();
    assert_eq!(GLOBAL.get(Counter::SnapshotsLive), live_before, "C10: snapshots that nobody stands for");
    wire.assert_all_closed();
    kernel::mem::host::evict_all();
    assert_eq!(frame::stats().free, free_before, "A3: frames that nobody uses");
}

/// Says hello to the servers.
fn connect(seed: u64, wire: &Arc<Wire>, session: Arc<Session>) -> Arc<Mount> {
    let mount = Mutex::new(None);
    let hello = || *mount.lock().unwrap() = Some(Mount::new(session).expect("the servers say hello"));
    baton::run(seed, wire.clone(), vec![Box::new(hello)]);
    mount.into_inner().unwrap().expect("hello was said")
}

#[test]
fn lazy_is_eager_in_every_order() {
    baton::register();
    let _alone = kernel::mem::host::exclusive();
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    if let Some(seed) = number("SLOTH_SEED") {
        return simulate(seed);
    }
    let before = GLOBAL.get(Counter::PagesLazy);
    for seed in 0..number("SLOTH_SEEDS").unwrap_or(SEEDS) {
        println!("seed {seed}");
        simulate(seed);
    }
    assert!(GLOBAL.get(Counter::PagesLazy) > before + 1000, "the simulation was hardly lazy: it shows nothing");
    assert!(GLOBAL.get(Counter::PagesReferenced) > 1000, "hardly a page was written by reference");
    assert!(GLOBAL.get(Counter::PagesFetched) > 1000, "and hardly looked at what it had read");
}

/// R10: a reply lists the first holes only; the kernel asks for the rest once, and holes then cost neither pages nor messages.
#[test]
fn r10_holes_beyond_the_first_list() {
    const ISLANDS: u64 = 300;
    const PAGE: u64 = 4096;
    baton::register();
    let _alone = kernel::mem::host::exclusive();
    let wire = Arc::new(Wire::new(4 * ISLANDS));
    let session = Arc::new(Session::new(wire.clone()));
    wire.connect(Arc::downgrade(&session));
    let mount = connect(7, &wire, session);
    let body = || {
        let space = kernel::mem::Space::new().expect("memory for a space");
        let io = Io { space: &space, caller: None, nonblocking: false };
        let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        let Ok(Walk::Done(file)) = MountedTree(mount).open(b"sparse", OpenHow { flags, mode: 0o600 }) else { panic!("no file") };
        for island in 0..ISLANDS {
            let mut byte = UserBuffers::kernel_bytes(vec![island as u8 | 1]);
            file.write(&io, &mut byte, WriteAt::Offset((2 * island + 1) * PAGE)).expect("room for a byte");
        }
        let bytes = ISLANDS * 2 * PAGE;
        let whole = SetAttr { mask: AttrMask::SIZE, size: bytes, ..SetAttr::default() };
        file.set_attr(&whole).expect("a hole costs nothing");
        let anywhere = Placement::Anywhere(VirtAddr(0));
        let buffer = space.map(anywhere, bytes, Prot::READ | Prot::WRITE, Backing::Anonymous, "").expect("room for a buffer");
        let slice = UserSlice::new(buffer.0, bytes).expect("a user address");
        assert_eq!(file.read(&io, &mut UserBuffers::one(slice), 0), Ok(bytes));
        let before = (GLOBAL.get(Counter::MessagesSent), GLOBAL.get(Counter::PagesHole));
        for hole in 0..ISLANDS {
            assert_eq!(mmu::load(&space, VirtAddr(buffer.0 + 2 * hole * PAGE)), Ok(0), "hole {hole}");
        }
        let messages = GLOBAL.get(Counter::MessagesSent) - before.0;
        // For each list one question, and a page-in that was under way when it was asked. A page-in for each window would be 37.
        assert!(messages <= 3 * (ISLANDS / 64 + 1), "{messages} messages for {ISLANDS} holes");
        assert!(GLOBAL.get(Counter::PagesHole) - before.1 > ISLANDS - 64, "holes that were not known as such");
        for island in 0..ISLANDS {
            let at = buffer.0 + (2 * island + 1) * PAGE;
            assert_eq!(mmu::load(&space, VirtAddr(at)), Ok(island as u8 | 1), "island {island}");
        }
    };
    baton::run(7, wire.clone(), vec![Box::new(body)]);
    wire.drain();
    wire.assert_all_closed();
}
