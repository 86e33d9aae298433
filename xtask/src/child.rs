//! A host program with a time limit and its output caught.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

use crate::interrupts::Interrupts;
use crate::paths::Paths;

/// How a program ended.
pub enum Ended {
    /// By itself.
    ByItself(ExitStatus),
    /// It took too long, or we were told to stop.
    Stopped,
}

/// Runs `command`; gives its ending and all it wrote, standard output and error in one.
pub fn run(
    paths: &Paths,
    mut command: Command,
    limit: Duration,
    interrupts: &Interrupts,
) -> Result<(Ended, String)> {
    let mut output = paths.scratch_file()?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0);
    // SAFETY: between fork and exec only one system call is made, which is safe there.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let mut child =
        command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let ended = wait(&mut child, limit, interrupts);
    if !matches!(ended, Ok(Ended::ByItself(_))) {
        // What cannot be killed has ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok((ended?, text_of(&mut output)?))
}

fn wait(child: &mut Child, limit: Duration, interrupts: &Interrupts) -> Result<Ended> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("a program without an id")?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a program")?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::ByItself(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || interrupts.pending().is_some() {
            return Ok(Ended::Stopped);
        }
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut waiting =
            [PollFd::new(&handle, PollFlags::IN), PollFd::new(interrupts, PollFlags::IN)];
        match poll(&mut waiting, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for a program"),
        }
    }
}

fn text_of(output: &mut File) -> Result<String> {
    output.rewind()?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
