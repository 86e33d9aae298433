//! Measuring: ticks, and what the kernel counted meanwhile.

use proof::counters::Counters;
use user::prelude::*;

/// What a tick is called: under xtask's emulator, an instruction.
const UNIT: &str = "instructions";

/// Counters that stand beside a cost: the suffix of their rows, and their unit.
const COUNTED: [(&str, &str, &str); 5] = [
    ("messages_sent", "messages", "messages"),
    ("bytes_sent", "bytes_out", "bytes"),
    ("bytes_received", "bytes", "bytes"),
    ("faults", "faults", "faults"),
    ("flushes", "flushes", "flushes"),
];

/// Measures for one row.
pub struct Meter {
    pub name: &'static str,
    /// It tells nothing: what is done under it only has to have been done.
    pub silent: bool,
}

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: every processor that this kernel runs on has it, and it changes nothing.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

impl Meter {
    /// Tells a cost.
    pub fn tell(&self, ticks: u64) {
        if !self.silent {
            println!("{} {ticks} {UNIT}", self.name);
        }
    }

    /// Tells what `work` costs, once, with what was counted meanwhile.
    pub fn once(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = Counters::now();
        let start = ticks();
        work()?;
        let took = ticks() - start;
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

    /// Tells what one of many repetitions costs, after some that do not count.
    pub fn average(&self, repetitions: u64, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        for _ in 0..repetitions.div_ceil(10) {
            work()?;
        }
        let start = ticks();
        for _ in 0..repetitions {
            work()?;
        }
        self.tell((ticks() - start) / repetitions);
        Ok(())
    }
}
