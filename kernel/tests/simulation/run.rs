//! One run: a script in an order, from empty servers to empty servers. A violated check is a panic,
//! and becomes a [`Failure`].

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::mem::{frame, host};

use crate::order::Order;
use crate::script::{PAGE, Script};
use crate::{actor, ranks, sched, shortage, swap_file, trace, wire, world, writer};
use foundation::counter::{Counter, GLOBAL};
use foundation::knob;

/// A check that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub message: String,
    /// Source position: failures from one place count as one.
    pub place: String,
    /// The order's choices up to the failure.
    pub choices: Vec<u32>,
}

thread_local! {
    /// The message and the place of the panic under way.
    static PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Bytes of a read-ahead snapshot, where there is read-ahead.
const READ_AHEAD: u64 = 4 << 20;

/// Runs begun so far: `campaign::watch` checks that it grows.
pub static BEAT: AtomicU64 = AtomicU64::new(0);

/// Records the panics of runs instead of printing them.
pub fn catch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IN_RUN.get() {
                return before(info);
            }
            let message = info.payload_as_str().unwrap_or("a panic").to_owned();
            let place = info
                .location()
                .map(|place| format!("{}:{}", place.file(), place.line()))
                .unwrap_or_default();
            // The first panic counts.
            PANIC.with_borrow_mut(|panic| panic.get_or_insert((message, place)).clone());
        }));
    });
}

thread_local! {
    static IN_RUN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs a script.
pub fn run(script: &Script, order: Order) -> Result<(), Failure> {
    catch_panics();
    BEAT.fetch_add(1, Ordering::Relaxed);
    IN_RUN.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| run_or_panic(script, order)));
    let choices = sched::take_choices();
    let panic = PANIC.take();
    if ended.is_err() {
        // Releases what a failed run left behind: each as far as possible, so that the next run
        // finds nothing of it.
        let steps: [fn(); 7] = [
            shortage::end,
            world::end,
            wire::cut,
            writer::abandon,
            wire::abandon,
            ranks::end,
            swap_file::abandon,
        ];
        for step in steps {
            let _ = catch_unwind(step);
        }
        PANIC.take();
    }
    IN_RUN.set(false);
    match ended {
        Ok(()) => Ok(()),
        Err(_) => {
            let (message, place) = panic.unwrap_or_default();
            Err(Failure { message, place, choices })
        }
    }
}

fn run_or_panic(script: &Script, order: Order) {
    let setup = &script.setup;
    knob::FAULT_AROUND.set(setup.fault_around).expect("a sensible number");
    knob::FAULT_AROUND_MAX.set(setup.fault_around_max).expect("a sensible number");
    knob::FAULT_WHOLE.set(setup.fault_whole).expect("a sensible number");
    knob::COMPOSE_PAGES.set(setup.compose_pages).expect("a sensible number");
    knob::COALESCE_PAGES.set(setup.coalesce_pages).expect("a sensible number");
    knob::COPY_TOUCHED.set(setup.copy_touched).expect("a sensible number");
    let read_ahead = if setup.sole { 0 } else { READ_AHEAD };
    knob::READ_AHEAD.set(read_ahead).expect("a sensible number");
    knob::MIN_LAZY_PAGES.set(setup.min_lazy_pages).expect("a sensible number");
    host::evict_all();
    let free_before = frame::stats().free;
    let counted_before = Counted::now();
    swap_file::begin();
    ranks::begin();
    writer::begin();
    wire::begin(setup);
    world::begin(setup);
    let actors = setup.seats.len();
    let mut bodies: Vec<Box<dyn FnOnce()>> = Vec::new();
    for index in 0..actors {
        let steps = script.steps_of(index);
        bodies.push(Box::new(move || actor::run(index, steps)));
    }
    let steps = script.steps_of(actors);
    bodies.push(Box::new(move || actor::run_environment(actors, steps)));
    bodies.push(Box::new(move || writer::run(actors + 1)));
    bodies.push(Box::new(ranks::serve));
    sched::run(order, bodies);
    shortage::end();
    world::end();
    wire::end();
    ranks::end();
    swap_file::end();
    Counted::now().check_since(&counted_before);
    host::evict_all();
    assert_eq!(frame::stats().free, free_before, "A3: frames that leaked");
}

/// Counters whose values depend on each other.
struct Counted {
    pages_fetched: u64,
    bytes_fetched: u64,
    snapshots_made: u64,
    snapshots_closed: u64,
    snapshots_live: u64,
}

impl Counted {
    fn now() -> Self {
        Self {
            pages_fetched: GLOBAL.get(Counter::PagesFetched),
            bytes_fetched: GLOBAL.get(Counter::BytesFetched),
            snapshots_made: GLOBAL.get(Counter::SnapshotsMade),
            snapshots_closed: GLOBAL.get(Counter::SnapshotsClosed),
            snapshots_live: GLOBAL.get(Counter::SnapshotsLive),
        }
    }

    /// Asserts what must hold after a run, with the values from before it.
    fn check_since(&self, before: &Self) {
        assert_eq!(
            self.snapshots_live, before.snapshots_live,
            "C10: snapshots that nothing refers to"
        );
        assert_eq!(
            self.snapshots_made - before.snapshots_made,
            self.snapshots_closed - before.snapshots_closed,
            "C10: snapshots made and closed"
        );
        assert_eq!(
            self.bytes_fetched - before.bytes_fetched,
            (self.pages_fetched - before.pages_fetched) * PAGE as u64,
            "E3: bytes and pages fetched"
        );
    }
}

/// Runs a script. Returns a trace as well.
pub fn run_traced(script: &Script, order: Order) -> (Result<(), Failure>, Vec<String>) {
    trace::set(true);
    let result = run(script, order);
    (result, trace::take())
}
