//! Builds with cargo, whose progress is shown.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, stderr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::paths::Paths;
use crate::say;

/// The cargo that started xtask, or the one in PATH.
pub fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A subcommand of cargo at the project's root.
pub fn command(paths: &Paths, subcommand: &str) -> Command {
    let mut command = Command::new(program());
    command.arg(subcommand).current_dir(&paths.root).stdin(Stdio::null());
    command
}

/// Runs a build and returns its artifacts, as cargo's messages describe them. A terminal shows
/// cargo's own progress. Elsewhere a line says what is built, unless all of it is fresh.
pub fn artifacts(mut command: Command, what: &str) -> Result<Vec<Value>> {
    let is_shown = stderr().is_terminal();
    if is_shown {
        say!("checking {what}");
    } else {
        command.arg("--quiet");
    }
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut is_announced = is_shown;
    let mut artifacts = Vec::new();
    for line in BufReader::new(output).lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        if message["fresh"] == false && !is_announced {
            say!("building {what}");
            is_announced = true;
        }
        artifacts.push(message);
    }
    if !child.wait()?.success() {
        bail!("{what} could not be built (see above)");
    }
    Ok(artifacts)
}

/// The program that an artifact is, if it is one.
pub fn executable(artifact: &Value) -> Option<PathBuf> {
    artifact["executable"].as_str().map(PathBuf::from)
}
