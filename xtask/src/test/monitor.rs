//! QEMU's monitor: its command `nmi` makes the kernel log all threads.

use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::process;
use crate::test::verdict::Verdict;

/// The test's full name.
pub const NAME: &str = "qemu::monitor_nmi_reports_threads";

/// Sends the command while the guest's shell waits for input, and then ends the input.
pub fn run(paths: &Paths) -> Result<Verdict> {
    let mut errors = paths.scratch_file()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--monitor", "--timeout", "60", "--", "echo ready; read line"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors.try_clone()?);
    let mut child = process::spawn_bound(&mut command)?;
    let output = child.stdout.take().context("xtask has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let asked = ask(paths);
    drop(child.stdin.take());
    let status = child.wait()?;
    errors.rewind()?;
    let mut text = String::new();
    errors.read_to_string(&mut text)?;
    let is_reported = text.contains("process 1 init") && text.contains(" sh ");
    Ok(Verdict::from_condition(line == "ready\n" && asked.is_ok() && is_reported, || {
        format!("{status}, monitor: {asked:?}\n{text}")
    }))
}

/// Sends `nmi`, and returns when the monitor has carried it out.
fn ask(paths: &Paths) -> Result<()> {
    let mut monitor = UnixStream::connect(paths.monitor())?;
    let mut answers = BufReader::new(monitor.try_clone()?);
    monitor.write_all(b"nmi\n")?;
    // The prompt, which has no end of line, and the command's echo; then the next prompt.
    let mut answer = Vec::new();
    for _ in 0..2 {
        answers.read_until(b')', &mut answer)?;
    }
    Ok(())
}
