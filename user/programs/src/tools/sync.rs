//! `sync`: flushes all file systems.

use user::prelude::*;

pub fn run(_: &Args) -> i32 {
    sys::sync();
    0
}
