//! `bench [FILTER]`: what things cost, one `name value unit` a line.
//!
//! A value is a difference of the time-stamp counter. Under `cargo xtask bench` the emulator counts
//! one tick for each guest instruction, of kernel and servers too, so the figures are the same in
//! every run. Beside the costs stand the messages and bytes between the kernel and its servers,
//! where the kernel counts them (`/proc/lazy`). The names are those of the table of targets; the
//! rows whose names contain FILTER are measured.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod copies;
mod kernel;
mod meter;
mod reads;

use user::prelude::*;

program!(run);

/// A row: its name and the function that measures it (and may measure more rows whose names begin
/// so).
type Row = (&'static str, fn(&meter::Meter) -> Result<()>);

fn run(args: &Args) -> i32 {
    let filter = args.get(1).copied().unwrap_or_default();
    let rows = kernel::ROWS.iter().chain(reads::ROWS).chain(copies::ROWS);
    let mut status = 0;
    for (name, measure) in rows {
        let matches =
            filter.is_empty() || name.as_bytes().windows(filter.len()).any(|part| part == filter);
        if matches && let Err(error) = measure(&meter::Meter { name, silent: false }) {
            status = complain("bench", name.as_bytes(), error);
        }
    }
    status
}
