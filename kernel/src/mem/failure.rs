//! Claims that fail for a test: which one is next is asked wherever a claim may fail.
//!
//! On the host it is a claim of the calling thread (`host::failure`). In the machine, a kernel with
//! the feature `failing-claims` lets a program choose one of its own thread's claims ([`arm`]).
//! Other kernels have no such question.
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
pub(super) use super::host::failure::is_due;

#[cfg(all(target_os = "none", feature = "failing-claims"))]
pub use machine::arm;
#[cfg(all(target_os = "none", feature = "failing-claims"))]
pub(super) use machine::is_due;

/// Whether this claim shall fail.
#[cfg(all(target_os = "none", not(feature = "failing-claims")))]
#[inline(always)]
pub(super) const fn is_due() -> bool {
    false
}

/// Not possible here.
#[cfg(not(all(target_os = "none", feature = "failing-claims")))]
pub fn arm(_: usize) -> Option<usize> {
    None
}

#[cfg(all(target_os = "none", feature = "failing-claims"))]
mod machine {
    use crate::sync;
    use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    /// The thread whose claims count; 0 for none. At most one at a time.
    static THREAD: AtomicU64 = AtomicU64::new(0);
    /// Its claims since it was chosen.
    static CLAIMS: AtomicUsize = AtomicUsize::new(0);
    /// The number of the one that fails, from 1 on; 0 for none.
    static FAILING: AtomicUsize = AtomicUsize::new(0);

    /// From now on, counts the claims of the running thread, of which number `failing` fails; 0
    /// ends this. Returns how many were counted before.
    pub fn arm(failing: usize) -> Option<usize> {
        let thread = if failing == 0 { None } else { sync::try_current() };
        THREAD.store(thread.map_or(0, |thread| thread.0), Ordering::Relaxed);
        FAILING.store(failing, Ordering::Relaxed);
        Some(CLAIMS.swap(0, Ordering::Relaxed))
    }

    /// Counts a claim. Returns whether it shall fail.
    pub fn is_due() -> bool {
        let thread = THREAD.load(Ordering::Relaxed);
        if thread == 0 || sync::try_current().is_none_or(|running| running.0 != thread) {
            return false;
        }
        CLAIMS.fetch_add(1, Ordering::Relaxed) + 1 == FAILING.load(Ordering::Relaxed)
    }
}
