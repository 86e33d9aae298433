//! `ci`: formatting, lints of host and guest code, documentation, and all tests. It stops at the
//! first failure.

use std::process::Command;

use anyhow::{Result, bail};

use crate::cli::TestArgs;
use crate::paths::Paths;
use crate::{cargo, guest, process, say, setup, test};

/// Names of host tests that run before all others, since they are quick, with cargo's arguments.
const QUICK: [(&str, &[&str]); 2] = [
    ("style", &["--package", "xtask", "style"]),
    ("layers of the kernel", &["--package", "kernel", "--test", "layers"]),
];

/// Runs all checks and tests; returns the exit status.
pub fn ci(paths: &Paths) -> Result<u8> {
    let toolchain = setup::ensure(paths)?;
    setup::ensure_component(paths, "rustfmt", &["fmt", "--version"])?;
    setup::ensure_component(paths, "clippy", &["clippy", "--version"])?;

    let mut format = cargo::command(paths, "fmt");
    step("formatting", format.args(["--all", "--check"]))?;
    let mut format = cargo::command(paths, "fmt");
    step(
        "formatting of the program for disk images",
        format.args(["--manifest-path", "image/Cargo.toml", "--check"]),
    )?;

    let mut lint = cargo::command(paths, "clippy");
    lint.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    step("lints on the host", &mut lint)?;

    let mut lint = guest::cargo_for_guest(paths, &toolchain, "clippy");
    lint.args(["--release", "--", "-D", "warnings"]);
    step("lints in the guest", &mut lint)?;

    let mut docs = cargo::command(paths, "doc");
    docs.args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    step("documentation", &mut docs)?;

    for (name, arguments) in QUICK {
        let mut quick = cargo::command(paths, "test");
        step(name, quick.arg("--quiet").args(arguments))?;
    }

    say!("ci: tests");
    test::test(paths, &TestArgs { filter: None, list: false, mutants: false, long: false })
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    say!("ci: {name}");
    if process::run(command) {
        return Ok(());
    }
    bail!("ci: {name} failed (see above)")
}
