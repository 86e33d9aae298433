//! A policy that is learned from trials: reads that are of use only if what they bring is hardly
//! touched.
//!
//! Such a read is tried. Where it was touched all the same, the next [`COPIES`] reads of its kind
//! copy, and then one is tried again, to look whether that has changed. A trial that was touched
//! costs half as much again as a copy, or twice as much, which is little of all of them together.
//! Either is correct (R8), so races cost only efficiency.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

use super::mutants;

/// Reads that copy after one that was touched.
const COPIES: u32 = 32;

/// How many reads of one kind are still to be copied.
#[derive(Debug, Default)]
pub struct Copies(AtomicU32);

impl Copies {
    /// What became of the last trial.
    #[inline]
    pub fn learn(&self, touched: bool) {
        self.0.store(if touched { COPIES } else { 0 }, Ordering::Relaxed);
    }

    /// Whether the next read copies; if not, it is a trial.
    #[inline]
    pub fn next(&self) -> bool {
        let mut left = self.0.load(Ordering::Relaxed);
        if mutants::never_lazy_again() {
            left = left.saturating_mul(2);
        }
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_33_reads_that_are_touched_is_a_trial() {
        let copies = Copies::default();
        let mut trials = 0;
        for _ in 0..3300 {
            if !copies.next() {
                trials += 1;
                copies.learn(true);
            }
        }
        assert_eq!(trials, 100);
        while copies.next() {}
        copies.learn(false);
        assert!(!copies.next() && !copies.next(), "what is not touched is not copied");
    }
}
