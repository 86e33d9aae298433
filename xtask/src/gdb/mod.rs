//! `gdb`: starts gdb for a machine that waits for it.

use std::process::Command;

use anyhow::{Context, Result};

use crate::cli::GdbArgs;
use crate::guest::{self, Variant};
use crate::machine::GDB_PORT;
use crate::paths::Paths;
use crate::{exit_status, setup};

/// gdb's commands for the kernel.
const COMMANDS: &str = include_str!("commands.py");

/// Runs gdb on the terminal, with the kernel's symbols and commands, connected to a machine that
/// waits for it; returns its status.
pub fn gdb(paths: &Paths, arguments: &GdbArgs) -> Result<u8> {
    let toolchain = setup::ensure(paths)?;
    setup::ensure_gdb()?;
    let guest = guest::build(paths, &toolchain, Variant::Debugger)?;
    let commands = paths.work.join("gdb-commands.py");
    std::fs::write(&commands, COMMANDS)?;
    let mut gdb = Command::new(setup::GDB);
    gdb.args(["-iex", "set debuginfod enabled off", "-iex", "set tcp connect-timeout 60"]);
    // How the compiler's own types are printed.
    let printers = setup::sysroot(paths)?.join("lib/rustlib/etc");
    gdb.arg("-iex").arg(format!(
        "python import sys; sys.path.insert(0, {:?})",
        printers.display().to_string()
    ));
    gdb.arg(&guest.kernel_symbols).arg("-x").arg(&commands);
    gdb.arg("-ex").arg(format!("target remote 127.0.0.1:{GDB_PORT}"));
    let status = gdb.args(&arguments.arguments).status().context("gdb cannot be started")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit_status::XTASK))
}
