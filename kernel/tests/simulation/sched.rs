//! Actors as coroutines of one host thread, and the kernel's scheduler on top of them: the run's
//! [`Order`] chooses which one runs next.
//!
//! An actor suspends where the kernel waits and, if the order says so, between any two accesses to
//! memory. It holds no spin lock then.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::ptr;

use corosensei::{Coroutine, CoroutineResult, Yielder};
use kernel::sync::{Interrupt, Scheduler, ThreadId};

use crate::order::Order;
use crate::{ranks, swap_file, wire, writer};

/// Choices of one run, at most: a run that makes more does not terminate.
const MAX_CHOICES: usize = 20_000_000;

type Body = Coroutine<(), (), ()>;
/// A coroutine, and the yielder with which it suspends.
type Actor = (Body, *const Yielder<(), ()>);

#[derive(Default)]
struct Seat {
    runnable: bool,
    /// It was woken while it was not blocked.
    woken: bool,
    finished: bool,
    /// It was killed: its waits end (F7).
    killed: bool,
    /// The actor behind it in the queue that it waits in.
    behind: Option<ThreadId>,
}

thread_local! {
    static SEATS: RefCell<Vec<Seat>> = const { RefCell::new(Vec::new()) };
    static ORDER: RefCell<Option<Order>> = const { RefCell::new(None) };
    static ME: Cell<usize> = const { Cell::new(usize::MAX) };
    static YIELDER: Cell<*const Yielder<(), ()>> = const { Cell::new(ptr::null()) };
}

struct Turns;

impl Scheduler for Turns {
    fn current(&self) -> ThreadId {
        ThreadId(ME.get() as u64)
    }

    fn block(&self) {
        let me = ME.get();
        assert_ne!(me, usize::MAX, "only an actor can wait");
        SEATS.with_borrow_mut(|seats| seats[me].runnable = std::mem::take(&mut seats[me].woken));
        suspend();
    }

    fn wake(&self, thread: ThreadId) {
        SEATS.with_borrow_mut(|seats| {
            if let Some(seat) = seats.get_mut(thread.0 as usize).filter(|seat| !seat.finished) {
                seat.woken |= seat.runnable;
                seat.runnable = true;
            }
        });
    }

    fn link(&self, thread: ThreadId, behind: ThreadId) {
        SEATS.with_borrow_mut(|seats| {
            if let Some(seat) = seats.get_mut(thread.0 as usize) {
                seat.behind = Some(behind);
            }
        });
    }

    fn linked(&self, thread: ThreadId) -> Option<ThreadId> {
        SEATS.with_borrow(|seats| seats.get(thread.0 as usize)?.behind)
    }

    fn interrupted(&self, _: Interrupt) -> bool {
        SEATS.with_borrow(|seats| seats.get(ME.get()).is_some_and(|seat| seat.killed))
    }
}

/// Registers this scheduler for the whole process. Called before any other could be registered.
pub fn register() {
    kernel::sync::register(&Turns);
}

/// Suspends the running actor.
fn suspend() {
    kernel::sync::assert_may_wait();
    let yielder = YIELDER.get();
    assert!(!yielder.is_null(), "only an actor can wait");
    // SAFETY: set by the actor that runs, from its own argument, which lives as long as its body
    // does; `turn` sets it anew before each turn.
    unsafe { &*yielder }.suspend(());
}

/// Whether an actor has finished.
pub fn is_finished(actor: usize) -> bool {
    SEATS.with_borrow(|seats| seats.get(actor).is_none_or(|seat| seat.finished))
}

/// Wakes an actor.
pub fn wake(actor: usize) {
    Turns.wake(ThreadId(actor as u64));
}

/// Chooses one of `count` possibilities.
pub fn choose(count: usize) -> usize {
    ORDER.with_borrow_mut(|order| order.as_mut().map_or(0, |order| order.choose(count)))
}

/// Lets others run, if the order says so. Called between any two steps of an actor.
pub fn yield_now() {
    if choose(4) == 3 {
        suspend();
    }
}

/// Marks an actor as killed, which ends its waits, or as alive.
pub fn set_killed(actor: usize, killed: bool) {
    kernel::sync::note_interruption();
    SEATS.with_borrow_mut(|seats| seats[actor].killed = killed);
    if killed {
        Turns.wake(ThreadId(actor as u64));
    }
}

/// Ends the order of the run. Returns its choices.
pub fn take_choices() -> Vec<u32> {
    ORDER.take().map_or_else(Vec::new, |order| order.taken().to_vec())
}

/// Runs actors until all have finished; the last one is the file server, and the one before
/// it the kernel's writer.
/// A panic of one is passed on after the others are unwound.
pub fn run(order: Order, bodies: Vec<Box<dyn FnOnce()>>) {
    ORDER.set(Some(order));
    SEATS.set(bodies.iter().map(|_| Seat { runnable: true, ..Seat::default() }).collect());
    let mut actors: Vec<Actor> =
        bodies.into_iter().map(|body| (actor(body), ptr::null())).collect();
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| take_turns(&mut actors)));
    ME.set(usize::MAX);
    YIELDER.set(ptr::null());
    drop(actors);
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
    let all_finished = SEATS.with_borrow(|seats| seats.iter().all(|seat| seat.finished));
    assert!(all_finished, "deadlock: an actor waits, and nothing can wake it");
}

fn take_turns(actors: &mut [Actor]) {
    let mut last = 0;
    while let Some(next) = next(last) {
        match next {
            Next::Message(line) => wire::step(line),
            Next::Swap => swap_file::step(),
            Next::Actor(index) => {
                last = index;
                turn(index, &mut actors[index]);
            }
        }
        kernel::sync::assert_may_wait();
        let choices =
            ORDER.with_borrow(|order| order.as_ref().map_or(0, |order| order.taken().len()));
        assert!(choices < MAX_CHOICES, "the run does not terminate");
    }
}

fn turn(index: usize, (body, yielder): &mut Actor) {
    ME.set(index);
    YIELDER.set(*yielder);
    let ended = body.resume(()) == CoroutineResult::Return(());
    *yielder = YIELDER.get();
    ME.set(usize::MAX);
    YIELDER.set(ptr::null());
    if ended {
        let left = SEATS.with_borrow_mut(|seats| {
            seats[index] = Seat { finished: true, ..Seat::default() };
            seats.iter().filter(|seat| !seat.finished).count()
        });
        match left {
            2 => writer::stop(),
            1 => ranks::stop(),
            _ => {}
        }
    }
}

fn actor(body: Box<dyn FnOnce()>) -> Body {
    Coroutine::new(move |yielder, ()| {
        YIELDER.set(yielder);
        body();
    })
}

enum Next {
    Actor(usize),
    Message(usize),
    /// The swap file completes a transfer.
    Swap,
}

/// Chooses the next event; `None` if nothing can happen.
fn next(last: usize) -> Option<Next> {
    if SEATS.with_borrow(|seats| !seats.iter().any(|seat| seat.runnable)) {
        wire::idle();
    }
    let mut possible: [Next; 32] = [const { Next::Actor(0) }; 32];
    let mut count = 0;
    let mut add = |next| {
        // An event for which there is no space is considered later.
        if let Some(place) = possible.get_mut(count) {
            *place = next;
            count += 1;
        }
    };
    SEATS.with_borrow(|seats| {
        let runnable = |index: &usize| seats.get(*index).is_some_and(|seat| seat.runnable);
        // The calm order: the last actor continues, then messages arrive, then other actors run.
        Some(last).filter(runnable).into_iter().for_each(|index| add(Next::Actor(index)));
        wire::busy_lines(|line| add(Next::Message(line)));
        swap_file::is_busy().then(|| add(Next::Swap));
        (0..seats.len())
            .filter(|&index| index != last)
            .filter(runnable)
            .for_each(|index| add(Next::Actor(index)));
    });
    if count == 0 {
        return None;
    }
    let chosen = choose(count);
    possible.into_iter().nth(chosen)
}

/// The index of the running actor.
pub fn me() -> usize {
    ME.get()
}
