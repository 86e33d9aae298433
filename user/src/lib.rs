//! User runtime.
