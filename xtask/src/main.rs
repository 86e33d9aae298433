//! `cargo xtask`: everything that is done with Sloth from the outside.
//!
//! It knows the other crates only as files and programs. Products, images and temporary files go
//! below cargo's target folder; nothing outlives it, and no QEMU either.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod add;
mod bench;
mod bench_tests;
mod book;
mod boot_tests;
mod breaks;
mod child;
mod ci;
mod cli;
mod console_tests;
mod demo_tests;
mod fallback;
mod foreign;
mod fsx_tests;
mod fuzz;
mod guest;
mod guest_tests;
mod host_tests;
mod input_tests;
mod interrupts;
mod machine;
mod paths;
mod qemu_tests;
mod ramdisk;
mod record;
mod run;
mod session;
mod setup;
mod sim;
mod status;
mod strip;
#[cfg(test)]
mod style;
mod targets;
mod terminal;
mod test;
mod verdict;

use cli::{Cli, Command};
use paths::Paths;

/// Tells the user something, on standard error: standard output belongs to the guest.
macro_rules! say {
    ($($word:tt)*) => { eprintln!("xtask: {}", format_args!($($word)*)) };
}
pub(crate) use say;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say!("{error:#}");
            ExitCode::from(status::XTASK)
        }
    }
}

fn dispatch(cli: &Cli) -> Result<u8> {
    let paths = Paths::find()?;
    match &cli.command {
        Command::Setup => {
            setup::ensure(&paths)?;
            say!("all set up; next: cargo xtask run");
        }
        Command::Build => {
            let toolchain = setup::ensure(&paths)?;
            let guest = guest::build(&paths, &toolchain, guest::Variant::Normal)?;
            say!("built loader, kernel and {} programs", guest.programs.len());
        }
        Command::Run(arguments) => return run::run(&paths, arguments),
        Command::Test(arguments) => return test::test(&paths, arguments),
        Command::Bench(arguments) => return bench::bench(&paths, arguments),
        Command::Foreign(arguments) => return foreign::foreign(&paths, arguments),
        Command::Sim(arguments) => return sim::sim(&paths, arguments),
        Command::Book => return book::book(&paths),
        Command::Fuzz(arguments) => return fuzz::fuzz(&paths, arguments),
        Command::Ci => return ci::ci(&paths),
    }
    Ok(0)
}
