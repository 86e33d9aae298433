//! Shares of CPU time: what each thread has had, in virtual time.
//!
//! Virtual time is CPU time, in cycles, divided by the weight of a thread's niceness: who has had
//! the least of it is next (`task::fair`). The shares are here, below whoever lends one: a message
//! carries the share of the client that it is about, and the server's work on it is paid from both.
//!
//! So a client and the servers that work for it have as much of the CPU as if each were on its own:
//! a server's share is at the disposal of the clients that need it, whatever part of the work is
//! the server's. All time is paid once. Who is ahead of the other by [`LEVELLED`] pays nothing, so
//! no share is used beyond what those that compute have, but for a bounded time: one of N threads
//! always gets an Nth at least.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicI8, AtomicU64, Ordering};

/// The range of niceness.
pub const NICENESS: core::ops::RangeInclusive<i32> = -20..=19;

/// The weight of niceness 0.
const NORMAL: u64 = 1024;

/// The weights of niceness -20 to 19, those of Linux: one step is a tenth of the CPU for one of two
/// (`sched_prio_to_weight`).
const WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
    3906, 3121, 2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87,
    70, 56, 45, 36, 29, 23, 18, 15,
];

/// By how much a server, or its client, can be ahead of the other and still pays for the server's
/// work, in virtual time: half a slice or so.
pub const LEVELLED: u64 = 500_000;

/// What one thread has had of the CPU.
#[derive(Debug, Default)]
pub struct Share {
    virtual_time: AtomicU64,
    niceness: AtomicI8,
}

impl Share {
    /// For a new thread, which begins where its maker is.
    pub fn like(other: &Self) -> Self {
        Self {
            virtual_time: AtomicU64::new(other.virtual_time()),
            niceness: AtomicI8::new(other.niceness.load(Ordering::Relaxed)),
        }
    }

    /// Virtual time so far.
    #[inline]
    pub fn virtual_time(&self) -> u64 {
        self.virtual_time.load(Ordering::Relaxed)
    }

    /// Adds CPU time.
    #[inline]
    pub fn charge(&self, cycles: u64) {
        let niceness = self.niceness.load(Ordering::Relaxed);
        let time = if niceness == 0 || super::mutants::ignore_niceness() {
            cycles
        } else {
            weighted(cycles, niceness.into())
        };
        self.virtual_time.fetch_add(time, Ordering::Relaxed);
    }

    /// Adds CPU time that this one, a server, has worked for a client. Each pays half of it where
    /// they have had equally much of the CPU, and the one that has had more pays less.
    #[inline]
    pub fn charge_service(&self, client: &Self, cycles: u64) {
        let behind = client.virtual_time().wrapping_sub(self.virtual_time()).cast_signed();
        let most = LEVELLED.cast_signed();
        let part = (behind.clamp(-most, most) + most).cast_unsigned();
        let own = cycles.saturating_mul(part) / (2 * LEVELLED);
        let own = super::mutants::servers_part(own);
        client.charge(cycles - own);
        if !super::mutants::free_service() {
            self.charge(own);
        }
    }

    /// Forfeits what it had not yet used before `virtual_time`.
    #[inline]
    pub fn raise_to(&self, virtual_time: u64) {
        if self.virtual_time() < virtual_time {
            self.virtual_time.store(virtual_time, Ordering::Relaxed);
        }
    }

    /// Niceness, -20 to 19; less of it is a larger weight.
    pub fn niceness(&self) -> i32 {
        self.niceness.load(Ordering::Relaxed).into()
    }

    /// Sets the niceness, as close to the given one as the range allows.
    pub fn set_niceness(&self, niceness: i32) {
        let niceness = niceness.clamp(*NICENESS.start(), *NICENESS.end());
        self.niceness.store(niceness as i8, Ordering::Relaxed);
    }
}

/// CPU time as virtual time.
fn weighted(cycles: u64, niceness: i32) -> u64 {
    cycles.saturating_mul(NORMAL) / u64::from(weight(niceness).max(1))
}

/// The weight of a niceness.
fn weight(niceness: i32) -> u32 {
    let index = niceness.wrapping_sub(*NICENESS.start());
    usize::try_from(index).ok().and_then(|index| WEIGHTS.get(index).copied()).unwrap_or(1024)
}

/// A share on its way with a message.
pub type Turn = Arc<Share>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_niceness_is_a_tenth_of_the_cpu() {
        for niceness in -20..19 {
            let (this, next) = (weight(niceness), weight(niceness + 1));
            let part = f64::from(this) / f64::from(this + next);
            assert!((0.54..0.57).contains(&part), "{niceness}: {part}");
        }
        let share = Share::default();
        share.charge(1000);
        share.set_niceness(99);
        share.charge(15);
        assert_eq!((share.virtual_time(), share.niceness()), (2024, 19));
        share.raise_to(3000);
        share.raise_to(5);
        assert_eq!(Share::like(&share).virtual_time(), 3000);
    }
}
