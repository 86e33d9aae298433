//! `cargo xtask`: builds, boots, tests and measures Sloth.
//!
//! xtask uses the other crates only as files and programs. Products, images and temporary files
//! are below cargo's target folder; no temporary file and no QEMU process outlives xtask.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod bench;
mod book;
mod cargo;
mod ci;
mod cli;
mod exit_status;
mod filter;
mod foreign;
mod fuzz;
mod gdb;
mod guest;
mod image;
mod interrupts;
mod machine;
mod packages;
mod paths;
mod process;
mod profile;
mod run;
mod setup;
mod sim;
#[cfg(test)]
mod style;
mod test;

use cli::{Cli, Command};
use paths::Paths;

/// Prints a message for the user on standard error; standard output belongs to the guest.
macro_rules! say {
    ($($word:tt)*) => { eprintln!("xtask: {}", format_args!($($word)*)) };
}
pub(crate) use say;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.exit_if_dashes_are_missing();
    match dispatch(&cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say!("{error:#}");
            ExitCode::from(exit_status::XTASK)
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
        Command::Image(arguments) => image::image(&paths, arguments)?,
        Command::Run(arguments) => return run::run(&paths, arguments),
        Command::Test(arguments) => return test::test(&paths, arguments),
        Command::Bench(arguments) => return bench::bench(&paths, arguments),
        Command::Profile(arguments) => return profile::profile(&paths, arguments),
        Command::Foreign(arguments) => return foreign::foreign(&paths, arguments),
        Command::Sim(arguments) => return sim::sim(&paths, arguments),
        Command::Book => return book::book(&paths),
        Command::Fuzz(arguments) => return fuzz::fuzz(&paths, arguments),
        Command::Gdb(arguments) => return gdb::gdb(&paths, arguments),
        Command::Ci => return ci::ci(&paths),
    }
    Ok(0)
}
