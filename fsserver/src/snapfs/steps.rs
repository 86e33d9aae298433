//! Counts, in unit tests, the entries of maps that are visited: what a request costs beside the
//! logarithm of the maps' sizes. In all other builds nothing is counted.

#[cfg(test)]
extern crate std;

#[cfg(test)]
std::thread_local! {
    static STEPS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

/// An entry was visited.
#[inline(always)]
pub(super) fn visit() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}

/// Number of entries that `work` visits.
#[cfg(test)]
pub(super) fn count<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = STEPS.get();
    let result = work();
    (result, STEPS.get() - before)
}
