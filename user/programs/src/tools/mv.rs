//! `mv [-f] SOURCE… TARGET`: renames files, or copies and removes them across file systems.

use user::prelude::*;

use user::fs;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "fT", "mv [-f] SOURCE... TARGET");
    let (Some((target, sources)), true) =
        (options.operands.split_last(), options.operands.len() > 1)
    else {
        eprintln!("usage: mv [-f] SOURCE... TARGET");
        return 1;
    };
    if sources.len() > 1 && !fs::is_directory(target) {
        return complain("mv", target, Errno::ENOTDIR);
    }
    let mut status = 0;
    for source in sources {
        let to = if options.has(b'T') { target.to_vec() } else { fs::destination(source, target) };
        status |= match sys::rename(source, &to) {
            Ok(()) => 0,
            Err(Errno::EXDEV) => move_across(source, &to),
            Err(error) => complain("mv", source, error),
        };
    }
    status
}

/// Moves to another file system, with cp and rm.
fn move_across(from: &[u8], to: &[u8]) -> i32 {
    let steps: [&[&[u8]]; 2] = [&[b"/bin/cp", b"-aT", from, to], &[b"/bin/rm", b"-rf", from]];
    for step in steps {
        let status = match sys::fork() {
            Ok(None) => sys::exit(complain(
                "mv",
                step[0],
                sys::execve(step[0], step, user::rt::environment()),
            )),
            Ok(Some(child)) => sys::wait_for(child).map_or(1, |status| status.shell_status()),
            Err(error) => complain("mv", from, error),
        };
        if status != 0 {
            return status;
        }
    }
    0
}
