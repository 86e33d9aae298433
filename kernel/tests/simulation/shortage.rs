//! Shortage of frames: for a while programs can have no more of them than a few. What needs one may
//! fail then, or come out short; the servers and the kernel have their reserve (F8).

use std::cell::Cell;

use kernel::mem::host;

thread_local! {
    static IS_SHORT: Cell<bool> = const { Cell::new(false) };
    /// Shortages so far.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Programs can have so many more frames.
pub fn begin(frames: usize) {
    host::leave_to_programs(Some(frames));
    IS_SHORT.set(true);
    COUNT.set(COUNT.get() + 1);
}

/// They can have all again.
pub fn end() {
    host::leave_to_programs(None);
    IS_SHORT.set(false);
}

/// How many shortages there have been.
pub fn count() -> u64 {
    COUNT.get()
}

/// Whether frames are short, or have been since there were so many shortages.
pub fn excuses(since: u64) -> bool {
    IS_SHORT.get() || COUNT.get() != since
}

/// Does what no shortage is to keep from being done.
pub fn without<T>(act: impl FnOnce() -> T) -> T {
    host::leave_to_programs(None);
    let done = act();
    if IS_SHORT.get() {
        host::leave_to_programs(Some(0));
    }
    done
}
