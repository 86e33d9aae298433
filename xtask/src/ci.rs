//! `ci`: formatting, lints on host and guest code, all tests. The first that fails is the end.

use std::process::Command;

use anyhow::{Result, bail};

use crate::cli::TestArgs;
use crate::paths::Paths;
use crate::{guest, say, setup, test};

/// Runs it all; the status is xtask's.
pub fn ci(paths: &Paths) -> Result<u8> {
    let toolchain = setup::ensure(paths)?;
    setup::ensure_component(paths, "rustfmt", &["fmt", "--version"])?;
    setup::ensure_component(paths, "clippy", &["clippy", "--version"])?;

    let mut format = Command::new(guest::cargo());
    format.args(["fmt", "--all", "--check"]).current_dir(&paths.root);
    step("formatting", &mut format)?;

    let mut lint = Command::new(guest::cargo());
    lint.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        .current_dir(&paths.root);
    step("lints on the host", &mut lint)?;

    let mut lint = guest::cargo_for_guest(paths, &toolchain, "clippy");
    lint.args(["--", "-D", "warnings"]);
    step("lints in the guest", &mut lint)?;

    say!("ci: tests");
    test::test(paths, &TestArgs { filter: None, list: false, mutants: false, long: false })
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    say!("ci: {name}");
    if setup::run(command) {
        return Ok(());
    }
    bail!("ci: {name} failed (see above)")
}
