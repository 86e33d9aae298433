//! `poweroff`: switches the machine off.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::prelude::*;

program!(run);

fn run(_: &Args) -> i32 {
    sys::sync();
    complain("poweroff", b"reboot", sys::power_off())
}
