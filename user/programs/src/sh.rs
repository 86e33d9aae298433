//! `sh [-e] [-u] [-x] [-c LINE [NAME [ARGUMENT…]] | FILE [ARGUMENT…]]`: the shell.
//!
//! Without a command line or a file, it reads commands from standard input, with a line editor if
//! that is a terminal.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::prelude::*;
use user::shell::Shell;

program!(run);

fn run(args: &Args) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    let mut flags: Vec<&[u8]> = Vec::new();
    let mut line = false;
    while let [flag, after @ ..] = rest {
        match *flag {
            b"-c" => line = true,
            b"-i" => {}
            b"-e" | b"-u" | b"-x" => flags.push(flag),
            b"-ec" | b"-ce" => {
                flags.push(b"-e");
                line = true;
            }
            _ if flag.first() == Some(&b'-') && flag.len() > 1 => {
                eprintln!("sh: {}: unknown option", Show(flag));
                return 2;
            }
            _ => break,
        }
        rest = after;
    }
    let mut shell = Shell::new(b"sh");
    for flag in flags {
        shell.run_text(&[b"set ", flag].concat());
    }
    match rest {
        [] if line => {
            eprintln!("sh: -c: a line is missing");
            2
        }
        [text, parameters @ ..] if line => {
            shell.set_positional(parameters.get(1..).unwrap_or_default());
            shell.run_text(text)
        }
        [path, parameters @ ..] => match user::io::read_file(path) {
            Ok(text) => {
                shell.set_positional(parameters);
                shell.run_text(&text)
            }
            Err(error) => {
                complain("sh", path, error);
                if error == Errno::ENOENT { 127 } else { 126 }
            }
        },
        [] if sys::terminal_settings(Fd::STDIN).is_ok() => shell.run_interactive(),
        [] => shell.run_input(),
    }
}
