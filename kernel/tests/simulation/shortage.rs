//! Shortages of frames: for a while, programs can allocate a limited number only. Operations that
//! need a frame may then fail or be cut short; servers and the kernel have a reserve (F8).

use std::cell::Cell;

use kernel::mem::host;

thread_local! {
    static IS_SHORT: Cell<bool> = const { Cell::new(false) };
    /// Shortages begun so far.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Begins a shortage: programs can allocate `frames` more frames.
pub fn begin(frames: usize) {
    host::leave_to_programs(Some(frames));
    IS_SHORT.set(true);
    COUNT.set(COUNT.get() + 1);
}

/// Ends the shortage.
pub fn end() {
    host::leave_to_programs(None);
    IS_SHORT.set(false);
}

/// Shortages begun so far.
pub fn count() -> u64 {
    COUNT.get()
}

/// Whether there is a shortage, or was one since [`count`] returned `since`.
pub fn excuses(since: u64) -> bool {
    IS_SHORT.get() || COUNT.get() != since
}

/// Runs `act` without a shortage.
pub fn without<T>(act: impl FnOnce() -> T) -> T {
    host::leave_to_programs(None);
    let done = act();
    if IS_SHORT.get() {
        host::leave_to_programs(Some(0));
    }
    done
}
