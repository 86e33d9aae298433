//! `printf FORMAT [ARGUMENT…]`: prints formatted.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let [_, format, arguments @ ..] = args else {
        eprintln!("usage: printf FORMAT [ARGUMENT...]");
        return 2;
    };
    let (text, good) = user::shell::text::printf(format, arguments);
    let mut out = Out::standard();
    out.put(&text);
    out.finish("printf", i32::from(!good))
}
