//! `sync`: writes everything to where it belongs.

use user::prelude::*;

/// Runs it; the exit status.
pub fn run(_: &Args) -> i32 {
    sys::sync();
    0
}
