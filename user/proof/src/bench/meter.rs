//! Measuring: ticks of the time-stamp counter, and the kernel's counters.

use core::time::Duration;
use user::prelude::*;
use user::sys::{Mark, abi};

/// The unit of a tick: under xtask's emulator, an instruction.
const UNIT: &str = "instructions";

/// Counters that are reported beside a cost: suffix of the row's name, and unit.
const COUNTED: [(&str, &str, &str); 6] = [
    ("messages_sent", "messages", "messages"),
    ("bytes_sent", "bytes_out", "bytes"),
    ("bytes_received", "bytes", "bytes"),
    ("faults", "faults", "faults"),
    ("flushes", "flushes", "flushes"),
    ("space_switches", "switches", "switches"),
];

/// The values of [`COUNTED`], or their increase.
type Counts = [u64; COUNTED.len()];

/// Bytes that `/proc/lazy` has at most.
const MOST_BYTES: usize = 4096;

/// What some work took.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Ticks of the time-stamp counter.
    pub ticks: u64,
    /// The counters' increase; `None` on a kernel that has none.
    counts: Option<Counts>,
}

/// Measures one row.
pub struct Meter {
    pub name: &'static str,
    /// Prints nothing: the work is done for its effects.
    pub silent: bool,
}

impl Meter {
    /// Prints nothing.
    pub const SILENT: Meter = Meter { name: "", silent: true };
}

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: every processor that this kernel runs on has RDTSC, and it changes nothing.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// The counters now. Allocates nothing, so that the work finds the heap as it was.
#[inline(never)]
fn counts() -> Option<Counts> {
    let fd = sys::open(b"/proc/lazy", abi::O_RDONLY, 0).ok()?;
    let mut bytes = [0; MOST_BYTES];
    let read = sys::read(fd, &mut bytes);
    let _ = sys::close(fd);
    let text = core::str::from_utf8(bytes.get(..read.ok()?)?).ok()?;
    let mut counts = [0; COUNTED.len()];
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        if let Some(place) = COUNTED.iter().position(|(counter, ..)| *counter == name) {
            counts[place] = value.parse().ok()?;
        }
    }
    Some(counts)
}

/// Does the work once. From beginning to end a profile counts, too.
pub fn sample(work: impl FnOnce() -> Result<()>) -> Result<Sample> {
    let before = counts();
    sys::mark(Mark::Begin);
    let start = ticks();
    work()?;
    let ticks = ticks() - start;
    sys::mark(Mark::End);
    let grown = |(before, after): (Counts, Counts)| {
        core::array::from_fn(|counter| after[counter].wrapping_sub(before[counter]))
    };
    Ok(Sample { ticks, counts: before.zip(counts()).map(grown) })
}

impl Meter {
    /// Prints the cost of one of the repetitions that were measured, and the counters' increase.
    pub fn tell(&self, sample: &Sample, repetitions: u64) {
        if self.silent {
            return;
        }
        println!("{} {} {UNIT}", self.name, sample.ticks / repetitions);
        self.tell_counts(sample, repetitions);
    }

    /// Prints the counters' increase alone.
    pub fn tell_counts(&self, sample: &Sample, repetitions: u64) {
        for (amount, (_, suffix, unit)) in sample.counts.into_iter().flatten().zip(COUNTED) {
            let (whole, rest) = (amount / repetitions, amount % repetitions * 1000 / repetitions);
            println!("{}.{suffix} {whole}.{rest:03} {unit}", self.name);
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

    /// Prints the cost of `work`, run once.
    pub fn once(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.tell(&sample(work)?, 1);
        Ok(())
    }

    /// Prints the cost of one of many repetitions, after some that are not counted.
    pub fn average(&self, repetitions: u64, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        for _ in 0..repetitions.div_ceil(10) {
            work()?;
        }
        // What others still have to do is not part of the cost.
        sys::sleep(Duration::from_millis(2))?;
        let sample = sample(|| (0..repetitions).try_for_each(|_| work()))?;
        self.tell(&sample, repetitions);
        Ok(())
    }
}
