//! Finding and executing a program, as execvp(3) does.

use crate::prelude::*;

/// Replaces this program by the program `args[0]`, which is searched in `PATH` if it contains no
/// slash. Returns only on failure.
pub fn launch(args: &[&[u8]], environment: &[&[u8]]) -> Errno {
    let Some(program) = args.first() else { return Errno::EINVAL };
    let path =
        environment.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or(b"/bin:/sbin");
    let candidates: Vec<Vec<u8>> = if program.contains(&b'/') {
        vec![program.to_vec()]
    } else {
        path.split(|byte| *byte == b':')
            .map(|directory| crate::fs::join(directory, program))
            .collect()
    };
    let mut failure = Errno::ENOENT;
    for candidate in candidates {
        let error = sys::execve(&candidate, args, environment);
        if error != Errno::ENOENT {
            failure = error;
        }
    }
    failure
}

/// The exit status by which a shell reports a program that could not be started.
pub fn failure_status(failure: Errno) -> i32 {
    if failure == Errno::ENOENT { 127 } else { 126 }
}
