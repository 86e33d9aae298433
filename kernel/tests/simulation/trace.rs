//! What happened in a run, line by line, where somebody wants to know.

use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Lines are kept from now on, or no longer.
pub fn set(wanted: bool) {
    LINES.set(wanted.then(Vec::new));
}

/// Whether lines are kept.
pub fn is_on() -> bool {
    LINES.with_borrow(Option::is_some)
}

/// One more line.
pub fn push(line: String) {
    LINES.with_borrow_mut(|lines| lines.as_mut().map(|lines| lines.push(line)));
}

/// What was kept.
pub fn take() -> Vec<String> {
    LINES.take().unwrap_or_default()
}

/// Keeps a line, if lines are kept.
macro_rules! trace {
    ($($word:tt)*) => {
        if $crate::trace::is_on() {
            $crate::trace::push(format!($($word)*));
        }
    };
}
pub(crate) use trace;
