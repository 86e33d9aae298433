//! `env [-i] [NAME=VALUE…] [COMMAND…]`: shows the environment, or runs a program with it changed.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::prelude::*;

program!(run);

fn run(args: &Args) -> i32 {
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
    let path = environment.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or(b"/bin:/sbin");
    let candidates: Vec<Vec<u8>> = if program.contains(&b'/') {
        vec![program.to_vec()]
    } else {
        path.split(|byte| *byte == b':').map(|directory| user::fs::join(directory, program)).collect()
    };
    let mut failure = Errno::ENOENT;
    for candidate in candidates {
        let error = sys::execve(&candidate, rest, &environment);
        if error != Errno::ENOENT {
            failure = error;
        }
    }
    complain("env", program, failure);
    if failure == Errno::ENOENT { 127 } else { 126 }
}
