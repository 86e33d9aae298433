//! The kinds of workers. Each is a process that makes steps of one kind until it has made enough,
//! or until a signal ends it. Errors are expected; wrong bytes are not.

use crate::channels::Channels;
use crate::driver::WRONG;
use crate::files::Files;
use crate::memory::{Held, Memory};
use crate::names::Names;
use crate::numbers::{Number, Numbers};
use crate::processes::{Forks, Hog, Threads};
use crate::queues::Queues;
use crate::regions::Regions;
use proof::kit::Outcome;
use proof::random::Random;
use proof::stress::{self, StressWorker};
use user::alloc::boxed::Box;
use user::prelude::*;

/// Steps of a worker, at most.
const STEPS: u64 = 400;
/// Random calls of one step.
const CALLS: u64 = 20;

/// A worker of one kind.
pub trait Worker {
    /// Makes a step. The failure says which bytes were wrong.
    fn step(&mut self, random: &mut Random) -> Outcome;

    /// The number of random calls that a step makes.
    fn calls(&self) -> u64 {
        0
    }
}

/// Random calls with random arguments.
struct Calls(StressWorker, Vec<u32>);

impl Worker for Calls {
    fn step(&mut self, _: &mut Random) -> Outcome {
        for _ in 0..CALLS {
            self.0.call(&self.1);
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        CALLS
    }
}

/// Makes a worker of one kind.
type Make = fn(&mut Random) -> Result<Box<dyn Worker>>;

/// The kinds, by name. What is listed twice is twice as frequent.
const KINDS: [(&str, Make); 13] = [
    ("calls", calls),
    ("calls", calls),
    ("private", |random| Ok(Box::new(Memory::new(Held::Private, random)?))),
    ("private", |random| Ok(Box::new(Memory::new(Held::Private, random)?))),
    ("shared", |random| Ok(Box::new(Memory::new(Held::Shared, random)?))),
    ("regions", |_| Ok(Box::new(Regions::new()))),
    ("forks", |_| Ok(Box::new(Forks::new()))),
    ("hogs", |_| Ok(Box::new(Hog))),
    ("threads", |_| Ok(Box::new(Threads::new()))),
    ("channels", |_| Ok(Box::new(Channels::new()))),
    ("files", |random| Ok(Box::new(Files::new(random)?))),
    ("names", |_| Ok(Box::new(Names::new()))),
    ("queues", |_| Ok(Box::new(Queues::new()?))),
];

fn calls(random: &mut Random) -> Result<Box<dyn Worker>> {
    Ok(Box::new(Calls(StressWorker::new(random.draw())?, stress::numbers())))
}

/// The directory of the workers with this index.
fn directory(index: usize) -> Vec<u8> {
    format!("worker-{index}").into_bytes()
}

/// Removes what a worker with this index has left.
pub fn remove_directory(index: usize) {
    proof::kit::remove_tree(&directory(index));
}

/// What the workers of a storm have in common.
#[derive(Clone, Copy)]
pub struct Plan {
    /// The storm's seed.
    pub seed: u64,
    /// The only kind; without it, each worker's kind is chosen at random.
    pub only: Option<&'static [u8]>,
    /// Whether each worker reports its start and end.
    pub verbose: bool,
}

impl Plan {
    /// Whether the only kind, if there is one, exists.
    pub fn is_possible(&self) -> bool {
        KINDS.iter().any(|(name, _)| self.only.is_none_or(|only| only == name.as_bytes()))
    }

    /// Runs worker `number` in the place of the last one with this `index`, whose directory it
    /// removes. Returns its exit status.
    pub fn run(&self, index: usize, number: u64, numbers: &Numbers) -> i32 {
        let mut random = Random::new(proof::random::at(self.seed, number));
        let (kind, make) = self.choose(&mut random);
        remove_directory(index);
        let name = directory(index);
        if sys::mkdir(&name, 0o700).and_then(|()| sys::chdir(&name)).is_err() {
            return 1;
        }
        let steps = 1 + random.below(STEPS);
        if self.verbose {
            eprintln!("worker {number}: {steps} steps of {kind}");
        }
        let Ok(mut worker) = make(&mut random) else { return 1 };
        for step in 0..steps {
            if let Err(failure) = worker.step(&mut random) {
                eprintln!("worker {number} ({kind}), step {step}: {failure}");
                return WRONG;
            }
            numbers.count(Number::Steps);
            numbers.add(Number::Calls, worker.calls());
        }
        if self.verbose {
            eprintln!("worker {number} has ended");
        }
        0
    }

    fn choose(&self, random: &mut Random) -> (&'static str, Make) {
        let is_wanted = |name: &str| self.only.is_none_or(|only| only == name.as_bytes());
        loop {
            let kind = KINDS[random.below(KINDS.len() as u64) as usize];
            if is_wanted(kind.0) {
                return kind;
            }
        }
    }
}
