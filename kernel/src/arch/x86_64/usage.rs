//! CPU time: how long the CPU has run since it was last asked, in user mode and in the kernel.
//!
//! Entry code subtracts the time-stamp counter from `Cpu::kernel_cycles` on the way in and adds it
//! on the way out, in 32 bits: so the sum is exact as long as one stay in the kernel is shorter
//! than 2^32 cycles. User mode may run for as long as it likes, because the total is taken in 64
//! bits. What the counter counts is measured against the clock, while the machine runs.

use super::{clock, cpu};
use crate::arch::{Cycles, Spent, time_stamp};
use core::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds in a cycle, with 32 bits behind the point; 0 before the first measurement.
static NS_PER_CYCLE: AtomicU64 = AtomicU64::new(0);
/// The counter when the clock was started.
static CYCLES_AT_START: AtomicU64 = AtomicU64::new(0);
/// The rate is measured again until so much time has passed. A tick of the clock is 10^-8 of it.
const MEASURED_NS: u64 = 1_000_000_000;

/// Begins the measurement of the rate.
pub(super) fn start() {
    CYCLES_AT_START.store(sample().1, Ordering::Relaxed);
}

/// The clock and the counter at one moment. The best of several attempts, because an emulator may
/// stop between the two.
fn sample() -> (u64, u64) {
    let attempt = |_| {
        let before = time_stamp();
        let now_ns = clock::now_ns();
        let after = time_stamp();
        (after.wrapping_sub(before), now_ns, before)
    };
    let best = (0..4).map(attempt).min_by_key(|&(gap, ..)| gap);
    best.map_or((0, 0), |(_, now_ns, cycles)| (now_ns, cycles))
}

/// Measures the rate, unless it was measured for long enough.
pub fn measure() {
    static MEASURED: AtomicU64 = AtomicU64::new(0);
    if MEASURED.load(Ordering::Relaxed) >= MEASURED_NS {
        return;
    }
    let (now_ns, cycles) = sample();
    let cycles = cycles.wrapping_sub(CYCLES_AT_START.load(Ordering::Relaxed)).max(1);
    let rate = (u128::from(now_ns) << 32) / u128::from(cycles);
    NS_PER_CYCLE.store(u64::try_from(rate).unwrap_or(u64::MAX), Ordering::Relaxed);
    MEASURED.store(now_ns, Ordering::Relaxed);
}

/// The time since the last call, which this one ends.
#[inline]
pub fn take() -> Cycles {
    let (total, system) = cpu::this().take_cycles(time_stamp());
    Cycles { total, system }
}

/// The cycles since the last [`take`].
#[inline]
pub fn pending() -> u64 {
    cpu::this().cycles_since_taken(time_stamp())
}

/// So much CPU time in nanoseconds.
pub fn spent(cycles: Cycles) -> Spent {
    let rate = NS_PER_CYCLE.load(Ordering::Relaxed);
    let ns = |cycles: u64| ((u128::from(cycles) * u128::from(rate)) >> 32) as u64;
    let (total_ns, system_ns) = (ns(cycles.total), ns(cycles.system));
    Spent { user_ns: total_ns.saturating_sub(system_ns), system_ns }
}
