//! `poweroff`: powers the machine off.

use user::prelude::*;

pub fn run(_: &Args) -> i32 {
    sys::sync();
    complain("poweroff", b"reboot", sys::power_off())
}
