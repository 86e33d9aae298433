//! Measuring: ticks of the time-stamp counter, and the kernel's counters.

use core::time::Duration;
use proof::counters::Counters;
use user::prelude::*;
use user::sys::Mark;

/// The unit of a tick: under xtask's emulator, an instruction.
const UNIT: &str = "instructions";

/// Counters that are reported beside a cost: suffix of the row's name, and unit.
const COUNTED: [(&str, &str, &str); 5] = [
    ("messages_sent", "messages", "messages"),
    ("bytes_sent", "bytes_out", "bytes"),
    ("bytes_received", "bytes", "bytes"),
    ("faults", "faults", "faults"),
    ("flushes", "flushes", "flushes"),
];

/// Measures one row.
pub struct Meter {
    pub name: &'static str,
    /// Prints nothing: the work is done for its effects.
    pub silent: bool,
}

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: every processor that this kernel runs on has RDTSC, and it changes nothing.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// Begins to measure: from here on a profile counts, too.
pub fn begin() -> u64 {
    sys::mark(Mark::Begin);
    ticks()
}

/// Ends what [`begin`] began. Returns its cost.
pub fn end(begin: u64) -> u64 {
    let took = ticks() - begin;
    sys::mark(Mark::End);
    took
}

impl Meter {
    /// Prints a cost.
    pub fn tell(&self, ticks: u64) {
        if !self.silent {
            println!("{} {ticks} {UNIT}", self.name);
        }
    }

    /// Prints how many times as much a cost is as another one, in a row of its own if it has a
    /// suffix.
    pub fn tell_ratio(&self, suffix: &str, ticks: u64, compared_with: u64) {
        let hundredths = ticks.saturating_mul(100) / compared_with.max(1);
        let dot = if suffix.is_empty() { "" } else { "." };
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        println!("{}{dot}{suffix} {whole}.{rest:02} times", self.name);
    }

    /// Prints the cost of `work`, run once, and the counters' increase.
    pub fn once(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = Counters::now();
        let start = begin();
        work()?;
        let took = end(start);
        let after = Counters::now();
        self.tell(took);
        if self.silent {
            return Ok(());
        }
        for (counter, suffix, unit) in COUNTED {
            if let (Some(before), Some(after)) = (before.get(counter), after.get(counter)) {
                println!("{}.{suffix} {} {unit}", self.name, after.wrapping_sub(before));
            }
        }
        Ok(())
    }

    /// Prints the cost of one of many repetitions, after some that are not counted.
    pub fn average(&self, repetitions: u64, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        for _ in 0..repetitions.div_ceil(10) {
            work()?;
        }
        // What others still have to do is not part of the cost.
        sys::sleep(Duration::from_millis(2))?;
        let start = begin();
        for _ in 0..repetitions {
            work()?;
        }
        self.tell(end(start) / repetitions);
        Ok(())
    }
}
