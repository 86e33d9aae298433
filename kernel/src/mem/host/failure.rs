//! Failures of memory, for tests: one of the claims of this thread that may fail does.
//!
//! Each attempt to take a frame, to grow a collection ([`fallible`](crate::mem::fallible)) or to
//! find headroom counts as one claim. The state is of the thread.

use std::cell::Cell;

thread_local! {
    static CLAIMS: Cell<usize> = const { Cell::new(0) };
    static FAILING: Cell<Option<usize>> = const { Cell::new(None) };
    static MARK: Cell<bool> = const { Cell::new(false) };
    static STRICT: Cell<bool> = const { Cell::new(false) };
}

/// Counts a claim. Returns whether it shall fail.
pub fn is_due() -> bool {
    let number = CLAIMS.get();
    CLAIMS.set(number + 1);
    FAILING.get() == Some(number)
}

/// Runs `act` as the kernel: claim number `failing` fails, and requests to the allocator must be
/// marked if they are large. Returns the result, and the number of claims.
pub fn during<T>(failing: Option<usize>, act: impl FnOnce() -> T) -> (T, usize) {
    let outer = (CLAIMS.replace(0), FAILING.replace(failing), STRICT.replace(true));
    let result = act();
    STRICT.set(outer.2);
    FAILING.set(outer.1);
    (result, CLAIMS.replace(outer.0))
}

pub(in crate::mem) fn set_mark(marked: bool) {
    MARK.set(marked);
}

pub(in crate::mem) fn is_marked() -> bool {
    MARK.get()
}

/// Whether an allocation of this size is an error of the kernel: large, within [`during`], and
/// without the mark.
pub fn is_rejected(bytes: usize) -> bool {
    bytes > crate::mem::PAGE_BYTES && STRICT.get() && !MARK.get()
}

/// Runs `report`, which may allocate what it needs.
pub fn during_report<T>(report: impl FnOnce() -> T) -> T {
    STRICT.set(false);
    report()
}

/// Runs `act` outside of the kernel: nothing fails or counts in it, and it may allocate what it
/// needs.
pub fn outside<T>(act: impl FnOnce() -> T) -> T {
    let inner = (CLAIMS.get(), FAILING.replace(None), STRICT.replace(false), MARK.replace(false));
    let result = act();
    CLAIMS.set(inner.0);
    FAILING.set(inner.1);
    STRICT.set(inner.2);
    MARK.set(inner.3);
    result
}
