//! `sim`: runs the simulation for a given number of steps.
//!
//! The simulation is one of the kernel's tests, which the suite leaves out, and is built like a
//! test. It prints its own output. The end of its standard input makes it stop after the current
//! run.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};

use crate::cli::SimArgs;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::process;
use crate::test::host;

/// The folder for kept failures, relative to the workspace's root.
const CORPUS: &str = "kernel/tests/simulation/corpus";

/// Runs the simulation; returns the exit status, which is 1 if a seed fails.
pub fn sim(paths: &Paths, arguments: &SimArgs) -> Result<u8> {
    let program = build(paths)?;
    let interrupts = Interrupts::listen()?;
    let mut command = Command::new(program);
    command
        .args(["simulate", "--exact", "--ignored", "--nocapture"])
        .current_dir(&paths.root)
        .stdin(Stdio::piped())
        .process_group(0);
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.env(name, value);
        }
    };
    set("SLOTH_SEED", arguments.seed.map(|seed| seed.to_string()));
    set("SLOTH_STEPS", Some(arguments.steps.to_string()));
    set("SLOTH_MUTANT", arguments.mutant.clone());
    set("SLOTH_REPLAY", arguments.replay.as_ref().map(|path| path.display().to_string()));
    set(
        "SLOTH_KEEP",
        arguments.keep.as_ref().map(|name| {
            paths.root.join(CORPUS).join(name).with_extension("txt").display().to_string()
        }),
    );
    let mut child = process::spawn_bound(&mut command)?;
    let succeeded = wait(&mut child, &interrupts);
    if succeeded.is_err() {
        process::kill(&mut child);
    }
    Ok(u8::from(!succeeded?))
}

/// Waits for the simulation, and lets it finish its current run at a signal; returns whether all
/// runs passed.
fn wait(child: &mut Child, interrupts: &Interrupts) -> Result<bool> {
    let end = process::end_of(child)?;
    let mut input = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        let ended = PollFd::new(&end, PollFlags::IN);
        if input.is_some() {
            process::poll(&mut [ended, PollFd::new(interrupts, PollFlags::IN)], None)?;
        } else {
            process::poll(&mut [ended], None)?;
        }
        if interrupts.pending().is_some() {
            drop(input.take());
        }
    }
}

fn build(paths: &Paths) -> Result<PathBuf> {
    let messages = host::build(paths, &["-p", "kernel", "--test", "simulation"])?;
    let programs = messages.into_iter().filter(|message| message["target"]["name"] == "simulation");
    programs
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo built no simulation")
}
