//! `test CONDITION`: the shell's builtin as a program.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    match user::shell::condition::evaluate(args.get(1..).unwrap_or_default()) {
        Ok(value) => i32::from(!value),
        Err(message) => {
            eprintln!("test: {message}");
            2
        }
    }
}
