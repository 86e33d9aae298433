//! `poweroff`: switches the machine off.

use user::prelude::*;

/// Runs it; the exit status.
pub fn run(_: &Args) -> i32 {
    sys::sync();
    complain("poweroff", b"reboot", sys::power_off())
}
