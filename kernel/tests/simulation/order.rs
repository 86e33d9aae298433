//! What happens next: drawn from a seed, or told. Every draw is noted, so that a run can be told
//! again, and made smaller.
//!
//! The choice 0 is always the calm one: the running actor goes on, the oldest message arrives
//! first. A list of choices that ends goes on with zeros.

use fastrand::Rng;

/// Where choices come from.
enum Source {
    Drawn(Rng),
    Told(Vec<u32>),
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

    /// These choices.
    pub fn told(choices: Vec<u32>) -> Self {
        Self { source: Source::Told(choices), taken: Vec::new() }
    }

    /// One of `count` possibilities.
    pub fn choose(&mut self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        let choice = match &mut self.source {
            Source::Drawn(rng) => rng.usize(..count),
            Source::Told(choices) => {
                choices.get(self.taken.len()).map_or(0, |&choice| (choice as usize).min(count - 1))
            }
        };
        self.taken.push(choice as u32);
        choice
    }

    /// What was chosen so far.
    pub fn taken(&self) -> &[u32] {
        &self.taken
    }
}
