//! `env [-i] [NAME=VALUE…] [COMMAND…]`: shows the environment, or runs a program with it changed.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    let mut environment = user::rt::environment().to_vec();
    if rest.first() == Some(&&b"-i"[..]) {
        environment.clear();
        rest = &rest[1..];
    }
    while let [setting, after @ ..] = rest
        && let Some(equals) = setting.iter().position(|byte| *byte == b'=')
    {
        environment.retain(|entry| !entry.starts_with(&setting[..=equals]));
        environment.push(setting);
        rest = after;
    }
    let Some(program) = rest.first() else {
        let mut out = Out::standard();
        for entry in environment {
            out.put(&[entry, b"\n"].concat());
        }
        return out.finish("env", 0);
    };
    let failure = user::launch::launch(rest, &environment);
    complain("env", program, failure);
    user::launch::failure_status(failure)
}
