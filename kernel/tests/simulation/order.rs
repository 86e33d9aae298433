//! Which event is next: drawn from a seed, or replayed. Every choice is recorded, so that a run can
//! be replayed and reduced.
//!
//! The choice 0 is always the calm one: the running actor continues, the oldest message arrives
//! first. A recorded list that is too short is continued with zeros.

use fastrand::Rng;

/// Where choices come from.
enum Source {
    Drawn(Rng),
    Replayed(Vec<u32>),
}

/// The choices of one run.
pub struct Order {
    source: Source,
    taken: Vec<u32>,
}

impl Order {
    /// Choices from a seed.
    pub fn drawn(seed: u64) -> Self {
        Self { source: Source::Drawn(Rng::with_seed(seed)), taken: Vec::new() }
    }

    /// Recorded choices.
    pub fn replayed(choices: Vec<u32>) -> Self {
        Self { source: Source::Replayed(choices), taken: Vec::new() }
    }

    /// One of `count` possibilities.
    pub fn choose(&mut self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        let choice = match &mut self.source {
            Source::Drawn(rng) => rng.usize(..count),
            Source::Replayed(choices) => {
                choices.get(self.taken.len()).map_or(0, |&choice| (choice as usize).min(count - 1))
            }
        };
        self.taken.push(choice as u32);
        choice
    }

    /// The choices made so far.
    pub fn taken(&self) -> &[u32] {
        &self.taken
    }
}
