//! `printf FORMAT [ARGUMENT…]`: prints formatted.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::prelude::*;

program!(run);

fn run(args: &Args) -> i32 {
    let [_, format, arguments @ ..] = args else {
        eprintln!("usage: printf FORMAT [ARGUMENT...]");
        return 2;
    };
    let (text, good) = user::shell::text::printf(format, arguments);
    let mut out = Out::standard();
    out.put(&text);
    out.finish("printf", i32::from(!good))
}
