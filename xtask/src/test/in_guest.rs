//! The guest's own tests: one machine for each function with the attribute `#[guest_test]` in the
//! programs `tests` and `rules`.
//!
//! The programs list their tests: they are built for the host and run with `--list`, which prints
//! one line of JSON per test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use crate::cli::Length;
use crate::machine::Clock;
use crate::paths::Paths;
use crate::test::qemu::{Expected, QemuTest};

/// The programs, in the order in which their tests run.
const PROGRAMS: [&str; 2] = ["tests", "rules"];

/// A test as its program lists it.
#[derive(Debug, Clone)]
pub struct GuestTest {
    /// The program that contains the test.
    pub program: &'static str,
    /// The name, which the program takes as its argument.
    pub name: String,
    /// Size of the machine's memory in MiB.
    pub memory_mib: u64,
    /// The machine's CPU, as QEMU's option `-cpu` takes it.
    pub cpu: String,
    /// The machine's clock.
    pub clock: Clock,
    /// Time limit in seconds.
    pub timeout_s: u64,
    /// Whether the test runs only with `--long`.
    pub long: bool,
    /// Whether it needs the kernel that checks itself and can fail claims.
    pub checked: bool,
    /// Names of the mutants that must make the test fail.
    pub mutants: Vec<String>,
    /// The property that the test proves.
    pub doc: String,
    /// Patterns for the lines of the kernel's log about traced reads; empty if not checked.
    pub log: Vec<String>,
}

impl GuestTest {
    fn parse(program: &'static str, line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line)
            .with_context(|| format!("{program} --list prints what is not JSON: {line}"))?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let texts = |name: &str| -> Option<Vec<String>> {
            value[name].as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let test = || {
            Some(Self {
                program,
                name: text("name")?,
                memory_mib: value["memory_mib"].as_u64()?,
                cpu: text("cpu")?,
                clock: if value["icount"].as_bool()? { Clock::Instructions } else { Clock::Host },
                timeout_s: value["timeout_s"].as_u64()?,
                long: value["long"].as_bool()?,
                checked: value["checked"].as_bool()?,
                mutants: texts("mutants")?,
                doc: text("doc")?,
                log: texts("log")?,
            })
        };
        test().with_context(|| format!("{program} --list prints a line that lacks a field: {line}"))
    }

    /// Whether the test proves a rule of the contract.
    pub fn is_rule(&self) -> bool {
        self.program == "rules"
    }

    /// The test with its machine.
    fn to_qemu(&self) -> QemuTest {
        let name = if self.is_rule() { self.name.clone() } else { format!("system_{}", self.name) };
        let expected = if self.log.is_empty() {
            Expected::Status(0)
        } else {
            Expected::Trace(self.log.clone())
        };
        let mut test =
            QemuTest::new(&name, &format!("leaks {} {}", self.program, self.name), expected);
        test.memory = format!("{}M", self.memory_mib);
        test.cpu = self.cpu.clone();
        test.clock = self.clock;
        test.limit = Duration::from_secs(self.timeout_s);
        test.mutants = self.mutants.clone();
        test.checked = self.checked;
        test.about = self.doc.clone();
        test
    }
}

/// The tests of the guest's programs, each with its machine.
pub fn list(paths: &Paths, length: Length) -> Result<Vec<QemuTest>> {
    let in_time = |test: &&GuestTest| length == Length::Long || !test.long;
    Ok(all(paths)?.iter().filter(in_time).map(GuestTest::to_qemu).collect())
}

/// Only those that prove a rule of the contract.
pub fn rules(paths: &Paths) -> Result<Vec<GuestTest>> {
    Ok(all(paths)?.into_iter().filter(GuestTest::is_rule).collect())
}

/// All tests that the guest's programs contain.
pub fn all(paths: &Paths) -> Result<Vec<GuestTest>> {
    let mut tests = Vec::new();
    for (program, file) in build(paths)? {
        let output = Command::new(&file)
            .arg("--list")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", file.display()))?;
        if !output.status.success() {
            bail!("{} does not list its tests", file.display());
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            tests.push(GuestTest::parse(program, line)?);
        }
    }
    Ok(tests)
}

/// Builds the programs for the host.
fn build(paths: &Paths) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut command = cargo::command(paths, "build");
    command.args(["--package", "proof"]);
    command.args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    let artifacts = cargo::artifacts(command, "the guest's tests for the host")?;
    let executables: Vec<PathBuf> = artifacts.iter().filter_map(cargo::executable).collect();
    let find = |program: &'static str| {
        let is_named = |file: &&PathBuf| file.file_name() == Path::new(program).file_name();
        let file = executables.iter().find(is_named);
        file.map(|file| (program, file.clone())).with_context(|| format!("no program {program}"))
    };
    PROGRAMS.into_iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_line_of_the_list_is_an_error() {
        let line = concat!(
            r#"{"name":"r1_x","memory_mib":48,"cpu":"max","icount":true,"timeout_s":60,"#,
            r#""long":false,"checked":false,"mutants":["skip-rescue"],"doc":"All.","log":[]}"#
        );
        let test = GuestTest::parse("rules", line).unwrap();
        assert_eq!((test.name.as_str(), test.memory_mib, test.timeout_s), ("r1_x", 48, 60));
        assert_eq!(test.mutants, ["skip-rescue"]);
        assert!(GuestTest::parse("rules", "r1_x").is_err());
        assert!(GuestTest::parse("rules", &line.replace("doc", "about")).is_err());
    }
}
