//! Tests that run on the host: every test of every crate, each in its own process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::process::{self, Ended};
use crate::test::verdict::Verdict;

/// Time limit: enough for a property test on a slow machine, and short enough to notice a hang.
const LIMIT: Duration = Duration::from_secs(300);

/// A test function of a crate.
#[derive(Debug, Clone)]
pub struct HostTest {
    /// The full name: `host::`, crate, target, and path of the function.
    pub name: String,
    program: PathBuf,
    folder: PathBuf,
    arguments: Vec<String>,
}

impl HostTest {
    /// Runs the test in its own process.
    pub fn run(&self, paths: &Paths, interrupts: &Interrupts) -> Result<Verdict> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        command.env("RUST_BACKTRACE", "1");
        let (ended, output) = process::capture(paths, command, LIMIT, interrupts)?;
        Ok(match ended {
            Ended::ByItself(status) if status.success() => Verdict::Passed,
            Ended::ByItself(status) => Verdict::Failed(format!("{output}\n{status}")),
            Ended::Stopped => Verdict::Failed(format!(
                "{output}\nstopped: not finished after {} s",
                LIMIT.as_secs()
            )),
        })
    }
}

/// Compiles the tests that the arguments for cargo select; returns cargo's messages.
pub fn build(paths: &Paths, which: &[&str]) -> Result<Vec<Value>> {
    let mut command = cargo::command(paths, "test");
    command.args(which).arg("--no-run");
    cargo::artifacts(command, "the host tests")
}

/// Compiles the workspace's tests and lists them.
pub fn list(paths: &Paths) -> Result<Vec<HostTest>> {
    let messages = build(paths, &["--workspace"])?;
    let mut tests = Vec::new();
    for message in messages {
        if message["profile"]["test"] == true {
            tests.extend(tests_of(&message)?);
        }
    }
    tests.push(examples(paths));
    tests.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(tests)
}

/// All examples in the documentation, as one test.
fn examples(paths: &Paths) -> HostTest {
    HostTest {
        name: "host::examples_in_the_documentation".to_owned(),
        program: cargo::program().into(),
        folder: paths.root.clone(),
        arguments: ["test", "--workspace", "--doc", "--quiet"].map(str::to_owned).to_vec(),
    }
}

/// The tests of one program that cargo built.
fn tests_of(message: &Value) -> Result<Vec<HostTest>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let Some(program) = cargo::executable(message) else { return Ok(Vec::new()) };
    let target = text(&message["target"]["name"]).unwrap_or_default();
    let manifest = PathBuf::from(text(&message["manifest_path"]).unwrap_or_default());
    let folder = manifest.parent().unwrap_or(Path::new(".")).to_path_buf();
    let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = if package == target { package } else { format!("{package}::{target}") };
    let ignored: BTreeSet<_> = functions(&program, &["--ignored"])?.into_iter().collect();
    let all = functions(&program, &[])?.into_iter().filter(|function| !ignored.contains(function));
    let test = |function: String| {
        let name = format!("host::{prefix}::{function}");
        let arguments = ["--exact", &function, "--nocapture"].map(str::to_owned).to_vec();
        HostTest { name, program: program.clone(), folder: folder.clone(), arguments }
    };
    Ok(all.map(test).collect())
}

/// The names of the test functions in a program.
fn functions(program: &Path, options: &[&str]) -> Result<Vec<String>> {
    let output = Command::new(program)
        .args(["--list", "--format", "terse"])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} does not list its tests", program.display());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
