//! `bench [FILTER]`: what things cost, one `name value unit` a line. `bench =NAME` is the row of
//! that name alone. `bench --run LINE` has the shell run a line, for a profile.
//!
//! A value is a difference of the time-stamp counter. Under `cargo xtask bench` the emulator counts
//! one tick for each guest instruction, of kernel and servers too, so the figures are the same in
//! every run. Beside the costs stand the messages and bytes between the kernel and its servers,
//! where the kernel counts them (`/proc/lazy`). The names are those of the table of targets; the
//! rows whose names contain FILTER are measured.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod coalesce;
mod copies;
mod history;
mod kernel;
mod mapped;
mod meter;
mod reads;
mod servers;
mod worse;

use user::prelude::*;
use user::sys::Mark;

program!(run);

/// A row: its name and the function that measures it (and may measure more rows whose names begin
/// so).
type Row = (&'static str, fn(&meter::Meter) -> Result<()>);

fn run(args: &Args) -> i32 {
    let filter = args.get(1).copied().unwrap_or_default();
    if filter == b"--run" {
        return run_line(args.get(2).copied().unwrap_or_default());
    }
    let rows = kernel::ROWS.iter().chain(servers::ROWS).chain(reads::ROWS);
    let rows = rows.chain(copies::ROWS).chain(history::ROWS);
    let rows = rows.chain(worse::ROWS).chain(coalesce::ROWS).chain(mapped::ROWS);
    let (mut status, mut found) = (0, false);
    for (name, measure) in rows.clone() {
        let matches = match filter {
            [] => true,
            [b'=', whole @ ..] => name.as_bytes() == whole,
            part => name.as_bytes().windows(part.len()).any(|found| found == part),
        };
        found |= matches;
        if matches && let Err(error) = measure(&meter::Meter { name, silent: false }) {
            status = complain("bench", name.as_bytes(), error);
        }
    }
    if let ([b'=', ..], false) = (filter, found) {
        let names: Vec<&str> = rows.map(|(name, _)| *name).collect();
        eprintln!("bench: there is no such row; there are {}", names.join(" "));
        return 1;
    }
    status
}

/// Has the shell run a line between the marks of a profile. Returns the line's status.
fn run_line(line: &[u8]) -> i32 {
    sys::mark(Mark::Begin);
    let status = match sys::fork() {
        Ok(None) => {
            let failure = user::launch::launch(&[b"sh", b"-c", line], user::rt::environment());
            sys::exit(complain("bench", b"sh", failure))
        }
        Ok(Some(child)) => sys::wait_for(child).map(|status| status.shell_status()),
        Err(error) => Err(error),
    };
    sys::mark(Mark::End);
    status.unwrap_or_else(|error| complain("bench", line, error))
}
