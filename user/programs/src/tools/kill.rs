//! `kill [-SIGNAL] PROCESS…`, `kill -l`: sends a signal. A negative number means a process group.

use user::prelude::*;

use user::shell::text::SIGNALS;

pub fn run(args: &Args) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    let mut signal = sys::abi::SIGTERM as i32;
    if let [first, after @ ..] = rest
        && let Some(name) = first.strip_prefix(b"-")
        && *first != b"--"
    {
        rest = after;
        if name == b"l" {
            let names: Vec<&str> = SIGNALS.iter().map(|(_, name, _)| *name).collect();
            println!("{}", names.join(" "));
            return 0;
        }
        let name = if name == b"s" {
            let Some((name, after)) = rest.split_first() else { return usage() };
            rest = after;
            *name
        } else {
            name
        };
        match find(name) {
            Some(number) => signal = number,
            None => {
                eprintln!("kill: {}: unknown signal", Show(name));
                return 1;
            }
        }
    }
    if let [b"--", after @ ..] = rest {
        rest = after;
    }
    if rest.is_empty() {
        return usage();
    }
    let mut status = 0;
    for arg in rest {
        let Some(id) = user::opt::number(arg) else {
            eprintln!("kill: {}: not a process id", Show(arg));
            status = 1;
            continue;
        };
        if let Err(error) = sys::kill(id, signal) {
            status = complain("kill", arg, error);
        }
    }
    status
}

fn usage() -> i32 {
    eprintln!("usage: kill [-SIGNAL] PROCESS...");
    2
}

/// Parses a signal by number or name, with or without `SIG`.
fn find(name: &[u8]) -> Option<i32> {
    if let Some(number) = user::opt::number::<i32>(name) {
        return (0..=64).contains(&number).then_some(number);
    }
    let name = name.strip_prefix(b"SIG").unwrap_or(name);
    SIGNALS
        .iter()
        .find(|(_, known, _)| known.as_bytes().eq_ignore_ascii_case(name))
        .map(|(number, ..)| *number)
}
