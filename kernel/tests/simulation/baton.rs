//! A scheduler for the simulation: each actor is a host thread, and one of them at a time has the baton. Who gets it next is drawn from the seed, so that
//! a seed replays exactly. Delivering a message is drawn in the same way, as one more thing that could happen next.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use kernel::sync::{Interrupt, Scheduler, ThreadId};

/// What goes on apart from the actors.
pub trait World: Send + Sync {
    /// Whether something could happen.
    fn is_busy(&self) -> bool;
    /// Lets one thing happen, chosen by `draw`.
    fn step(&self, draw: u64);
}

#[derive(Default)]
struct Actor {
    runnable: bool,
    /// A wake came while it was not blocked.
    woken: bool,
    finished: bool,
}

#[derive(Default)]
struct State {
    rng: fastrand::Rng,
    turn: Option<usize>,
    actors: Vec<Actor>,
    world: Option<Arc<dyn World>>,
}

/// The one scheduler of this process.
pub struct Baton {
    state: Mutex<State>,
    passed: Condvar,
}

static BATON: Baton = Baton {
    state: Mutex::new(State { rng: fastrand::Rng::with_seed(0), turn: None, actors: Vec::new(), world: None }),
    passed: Condvar::new(),
};

thread_local! {
    static ME: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Baton {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Passes the baton on, and returns when it comes back; at once for an actor that has finished.
    fn pass(&self, me: usize) {
        loop {
            let mut state = self.lock();
            let runnable: Vec<usize> = (0..state.actors.len()).filter(|&actor| state.actors[actor].runnable).collect();
            let world = state.world.clone().filter(|world| world.is_busy());
            let choices = runnable.len() + usize::from(world.is_some());
            if choices == 0 {
                assert!(state.actors.iter().all(|actor| actor.finished), "deadlock: an actor waits for what nobody will do");
                state.turn = None;
                self.passed.notify_all();
                return;
            }
            let choice = state.rng.usize(..choices);
            let Some(&next) = runnable.get(choice) else {
                let draw = state.rng.u64(..);
                drop(state);
                world.expect("one more choice than actors").step(draw);
                continue;
            };
            state.turn = Some(next);
            self.passed.notify_all();
            if state.actors[me].finished || next == me {
                return;
            }
            drop(self.passed.wait_while(state, |state| state.turn != Some(me)));
            return;
        }
    }
}

impl Scheduler for Baton {
    fn current(&self) -> ThreadId {
        ThreadId(ME.get() as u64)
    }

    fn block(&self) {
        let me = ME.get();
        {
            let mut state = self.lock();
            let actor = &mut state.actors[me];
            actor.runnable = std::mem::take(&mut actor.woken);
        }
        self.pass(me);
    }

    fn wake(&self, thread: ThreadId) {
        let mut state = self.lock();
        if let Some(actor) = state.actors.get_mut(thread.0 as usize).filter(|actor| !actor.finished) {
            actor.woken |= actor.runnable;
            actor.runnable = true;
        }
    }

    fn interrupted(&self, _: Interrupt) -> bool {
        false
    }
}

/// Lets others run, perhaps: called between any two steps of an actor.
pub fn yield_now() {
    BATON.pass(ME.get());
}

/// Makes this the scheduler of the process; to be called before anything else could.
pub fn register() {
    kernel::sync::register(&BATON);
}

/// Runs actors to their end, in an order drawn from the seed. A panic of one is passed on.
pub fn run(seed: u64, world: Arc<dyn World>, bodies: Vec<Box<dyn FnOnce() + Send + '_>>) {
    *BATON.lock() = State {
        rng: fastrand::Rng::with_seed(seed),
        turn: None,
        actors: bodies.iter().map(|_| Actor { runnable: true, ..Actor::default() }).collect(),
        world: Some(world),
    };
    std::thread::scope(|scope| {
        for (me, body) in bodies.into_iter().enumerate() {
            scope.spawn(move || {
                ME.set(me);
                drop(BATON.passed.wait_while(BATON.lock(), |state| state.turn != Some(me)));
                // A failed actor stops; the others come to their end or find a deadlock, and the scope panics.
                let _finish = Finish(me);
                body();
            });
        }
        let mut state = BATON.lock();
        let actors = state.actors.len();
        let first = state.rng.usize(..actors);
        state.turn = Some(first);
        drop(state);
        BATON.passed.notify_all();
    });
}

/// Passes the baton on for good.
struct Finish(usize);

impl Drop for Finish {
    fn drop(&mut self) {
        {
            let mut state = BATON.lock();
            state.actors[self.0].runnable = false;
            state.actors[self.0].finished = true;
        }
        if std::thread::panicking() {
            // Nothing after a failure means anything: end at once, with the message already printed.
            std::process::exit(101);
        }
        BATON.pass(self.0);
    }
}

/// The running actor's number.
pub fn me() -> u64 {
    BATON.current().0
}
