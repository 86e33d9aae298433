//! What the storm's processes count, in memory that they share.

use core::fmt;
use proof::words::SharedWords;
use user::prelude::*;

/// A number in shared memory.
#[derive(Clone, Copy)]
pub enum Number {
    /// Not 0 once the witness must end.
    Ended,
    /// Rounds of reading, writing or comparing.
    WitnessSteps,
    /// Pages that the witness compared.
    PagesCompared,
    /// Versions of the witness's file that were written.
    Versions,
    /// Requests of the witness that ended in an error, which a shortage allows.
    Refused,
    /// Steps of the workers.
    Steps,
    /// Random system calls of the workers.
    Calls,
    /// Workers that were started.
    Workers,
    /// Workers that a signal ended, out of memory included.
    Killed,
    /// `echo` commands that the shell answered.
    Answers,
}

/// The numbers, with names for the cases.
pub struct Numbers(SharedWords);

impl Numbers {
    pub fn new() -> Result<Self> {
        SharedWords::new().map(Self)
    }

    pub fn get(&self, number: Number) -> u64 {
        self.0.get(number as usize)
    }

    pub fn count(&self, number: Number) {
        self.add(number, 1);
    }

    pub fn add(&self, number: Number, by: u64) {
        self.0.add(number as usize, by);
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} workers ({} killed) made {} steps and {} random calls; the witness made {} steps, \
             compared {} pages, wrote {} versions, was refused {} times; the shell answered {} \
             times",
            self.get(Number::Workers),
            self.get(Number::Killed),
            self.get(Number::Steps),
            self.get(Number::Calls),
            self.get(Number::WitnessSteps),
            self.get(Number::PagesCompared),
            self.get(Number::Versions),
            self.get(Number::Refused),
            self.get(Number::Answers),
        )
    }
}
