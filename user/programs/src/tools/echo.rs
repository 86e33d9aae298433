//! `echo [-n] [-e] WORD…`: prints its arguments.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let mut out = Out::standard();
    out.put(&user::shell::text::echo(args.get(1..).unwrap_or_default()));
    out.finish("echo", 0)
}
