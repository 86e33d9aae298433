//! A trace of a run, line by line, if it is enabled.

use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Enables or disables the trace.
pub fn set(wanted: bool) {
    LINES.set(wanted.then(Vec::new));
}

/// Whether the trace is enabled.
pub fn is_on() -> bool {
    LINES.with_borrow(Option::is_some)
}

/// Adds a line.
pub fn push(line: String) {
    LINES.with_borrow_mut(|lines| lines.as_mut().map(|lines| lines.push(line)));
}

/// Ends the trace. Returns its lines.
pub fn take() -> Vec<String> {
    LINES.take().unwrap_or_default()
}

/// Adds a line, if the trace is enabled.
macro_rules! trace {
    ($($word:tt)*) => {
        if $crate::trace::is_on() {
            $crate::trace::push(format!($($word)*));
        }
    };
}
pub(crate) use trace;
