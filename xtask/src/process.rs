//! Host programs: started, watched, and ended with xtask.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

use crate::interrupts::Interrupts;
use crate::paths::Paths;

/// How a captured program ended.
pub enum Ended {
    /// The program exited or was killed by a signal that xtask did not send.
    ByItself(ExitStatus),
    /// xtask killed it, at its time limit or because of a signal.
    Stopped,
}

/// Runs a command without input or output; returns whether it succeeded.
pub fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs a command and returns whether it succeeded. Its output goes to standard error, since
/// standard output belongs to the guest.
pub fn run(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr())).status();
    status.is_ok_and(|status| status.success())
}

/// Runs a command without input or output; on failure returns its last complaint.
pub fn check(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    let last = why.trim().lines().last().unwrap_or_default();
    Err(format!("{name} ended with {}: {last}", output.status))
}

/// Runs a command with a time limit; returns how it ended, and its standard output and standard
/// error in one text.
pub fn capture(
    paths: &Paths,
    mut command: Command,
    limit: Duration,
    interrupts: &Interrupts,
) -> Result<(Ended, String)> {
    let mut output = paths.scratch_file()?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    let ended = finish(command, limit, interrupts)?;
    Ok((ended, text_of(&mut output)?))
}

/// Runs a command, whose descriptors are set, with a time limit; returns how it ended.
pub fn finish(mut command: Command, limit: Duration, interrupts: &Interrupts) -> Result<Ended> {
    let mut child = spawn_bound(command.process_group(0))?;
    let ended = wait(&mut child, limit, interrupts);
    if !matches!(ended, Ok(Ended::ByItself(_))) {
        kill(&mut child);
    }
    ended
}

/// Starts a program that the kernel kills when xtask ends.
pub fn spawn_bound(command: &mut Command) -> Result<Child> {
    // SAFETY: between fork and exec only one system call is made, which is safe there.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))
}

/// Kills a program and collects it.
pub fn kill(child: &mut Child) {
    // Both fail for a program that has ended, and then there is nothing to do.
    let _ = child.kill();
    let _ = child.wait();
}

/// A descriptor that becomes readable when the program ends.
pub fn end_of(child: &Child) -> Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.context("a program without an id")?;
    pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a program")
}

/// Waits for one of the descriptors, for `left` at most. A signal ends the wait early.
pub fn poll(waiting: &mut [PollFd<'_>], left: Option<Duration>) -> Result<()> {
    let timeout = left.map(|left| Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    });
    match rustix::event::poll(waiting, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for a descriptor"),
    }
}

fn wait(child: &mut Child, limit: Duration, interrupts: &Interrupts) -> Result<Ended> {
    let end = end_of(child)?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::ByItself(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || interrupts.pending().is_some() {
            return Ok(Ended::Stopped);
        }
        let mut waiting =
            [PollFd::new(&end, PollFlags::IN), PollFd::new(interrupts, PollFlags::IN)];
        poll(&mut waiting, Some(left))?;
    }
}

fn text_of(output: &mut File) -> Result<String> {
    output.rewind()?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
