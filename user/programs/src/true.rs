//! Does nothing, successfully.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::prelude::*;

program!(run);

fn run(_: &Args) -> i32 {
    0
}
