//! `sim`: the simulation, for as long as one likes.
//!
//! It is a test of the kernel's that the suite leaves out, built as tests are. It prints by itself;
//! it is told to stop by the end of its standard input, so that the run under way comes to its end.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

use crate::cli::SimArgs;
use crate::host_tests;
use crate::interrupts::Interrupts;
use crate::paths::Paths;

/// Where failures are kept, seen from the workspace's root.
const CORPUS: &str = "kernel/tests/simulation/corpus";

/// Runs it; 1 where a seed fails.
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
    // SAFETY: between fork and exec only one system call is made, which is safe there.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let mut child = command.spawn().context("cannot start the simulation")?;
    let ended = wait(&mut child, &interrupts);
    if ended.is_err() {
        // What cannot be killed has ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(u8::from(!ended?))
}

/// Waits for its end, and lets it come to one when we are told to stop; says whether nothing
/// failed.
fn wait(child: &mut Child, interrupts: &Interrupts) -> Result<bool> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("a program without an id")?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a program")?;
    let mut input = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        let ended = PollFd::new(&handle, PollFlags::IN);
        let waited = if input.is_some() {
            poll(&mut [ended, PollFd::new(interrupts, PollFlags::IN)], None)
        } else {
            poll(&mut [ended], None)
        };
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for a program"),
        }
        if interrupts.pending().is_some() {
            drop(input.take());
        }
    }
}

fn build(paths: &Paths) -> Result<PathBuf> {
    let messages = host_tests::build(paths, &["-p", "kernel", "--test", "simulation"])?;
    let programs = messages.into_iter().filter(|message| message["target"]["name"] == "simulation");
    programs
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo made no simulation")
}
