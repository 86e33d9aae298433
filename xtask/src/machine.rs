//! One QEMU: its command line, its three serial ports, and how it ended.
//!
//! COM1 is the guest's console, COM2 the kernel's log and a command's standard error, COM3 the
//! channel on which init reports. Each is a pipe that only QEMU and we hold; a pipe, since a socket
//! counts every byte the guest sends as a message and is full after a few hundred. Its disk is for
//! what is temporary. That and the initrd are unlinked files that QEMU opens through their
//! descriptors, so that however this program ends, nothing is left lying about, and no QEMU
//! running.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::guest::Guest;
use crate::setup::QEMU;

/// QEMU's statuses by isa-debug-exit: `(code << 1) | 1`.
const POWER_OFF: i32 = 0x10 << 1 | 1;
const KERNEL_PANIC: i32 = 0x11 << 1 | 1;
const LOADER_REFUSED: i32 = 0x12 << 1 | 1;

/// How the guest's clock runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// With the host's, on a CPU with all features there are.
    Host,
    /// One nanosecond an instruction, on a plain CPU: the same in every run.
    Instructions,
}

/// Whether the machine waits for a debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debugger {
    /// It starts at once.
    None,
    /// It waits for gdb on port 1234.
    Wait,
}

/// What kind of machine.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Its memory, as QEMU writes it.
    pub memory: String,
    /// Its clock.
    pub clock: Clock,
    /// Its debugger.
    pub debugger: Debugger,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest switched itself off.
    PowerOff,
    /// The kernel panicked.
    KernelPanic,
    /// The loader could not start the kernel.
    LoaderRefused,
    /// Anything else, in words.
    Other(String),
}

/// A running machine. Dropping it kills it.
pub struct Machine {
    child: Child,
    /// COM1, what it reads; never waits.
    pub keys: ChildStdin,
    /// COM1, what it writes.
    pub console: ChildStdout,
    /// COM2, what it writes.
    pub log: File,
    /// COM3, what it writes.
    pub control: File,
    /// What QEMU itself has to say.
    pub complaints: ChildStderr,
}

impl Machine {
    /// Starts one.
    pub fn start(guest: &Guest, initrd: &File, hardware: &Hardware) -> Result<Self> {
        let mut command = Command::new(QEMU);
        command.args([
            "-M",
            "q35",
            "-nodefaults",
            "-accel",
            "tcg",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.args(["-m", &hardware.memory]);
        match hardware.clock {
            Clock::Host => command.args(["-cpu", "max"]),
            Clock::Instructions => command.args(["-cpu", "qemu64", "-icount", "shift=0,sleep=off"]),
        };
        if hardware.debugger == Debugger::Wait {
            command.args(["-s", "-S"]);
        }
        command.arg("-kernel").arg(&guest.boot);
        inherit(initrd)?;
        command.args(["-initrd", &format!("/proc/self/fd/{}", initrd.as_raw_fd())]);
        let scratch = scratch(guest)?;
        let disk = format!(
            "if=none,id=scratch,format=raw,cache=unsafe,file.locking=off,file=/proc/self/fd/{}",
            scratch.as_raw_fd()
        );
        command.args(["-drive", &disk, "-device", "virtio-blk-pci,drive=scratch"]);
        command.args(["-chardev", "stdio,id=com1,signal=off", "-serial", "chardev:com1"]);
        // Kept until QEMU has its copies.
        let mut far_ends = Vec::new();
        let mut port = |name: &str| -> Result<File> {
            let (near, far) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
            inherit(&far)?;
            command.args([
                "-chardev",
                &format!("file,id={name},path=/proc/self/fd/{}", far.as_raw_fd()),
            ]);
            command.args(["-serial", &format!("chardev:{name}")]);
            far_ends.push(far);
            Ok(near.into())
        };
        let (log, control) = (port("com2")?, port("com3")?);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that the terminal's Ctrl-C is ours to handle.
        command.process_group(0);
        // SAFETY: between fork and exec only one system call is made, which is safe there.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {QEMU}"))?;
        let keys = child.stdin.take().context("QEMU has no standard input")?;
        let console = child.stdout.take().context("QEMU has no standard output")?;
        let complaints = child.stderr.take().context("QEMU has no standard error")?;
        ioctl_fionbio(&keys, true).context("cannot prepare the console")?;
        Ok(Self { child, keys, console, log, control, complaints })
    }

    /// Ends the machine at once.
    pub fn kill(&mut self) {
        // A machine that has ended already is as dead as it can be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the machine has ended by itself.
    pub fn wait(&mut self) -> Result<Ending> {
        Ok(classify(self.child.wait().context("cannot wait for QEMU")?))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Bytes of the disk on which the guest keeps what is temporary and does not fit into its memory:
/// one half is for files, the other for pages of programs.
const SCRATCH_BYTES: u64 = 2 << 30;

/// An empty disk of holes, unlinked like the initrd.
fn scratch(guest: &Guest) -> Result<File> {
    let folder = guest.boot.parent().context("the loader lies nowhere")?;
    let file = tempfile::tempfile_in(folder)
        .with_context(|| format!("cannot make a file in {}", folder.display()))?;
    file.set_len(SCRATCH_BYTES).context("cannot size the guest's disk")?;
    inherit(&file)?;
    Ok(file)
}

/// Lets the next program inherit a descriptor.
fn inherit(descriptor: &impl AsFd) -> Result<()> {
    fcntl_setfd(descriptor, FdFlags::empty()).context("cannot pass a descriptor on")
}

fn classify(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(POWER_OFF), _) => Ending::PowerOff,
        (Some(KERNEL_PANIC), _) => Ending::KernelPanic,
        (Some(LOADER_REFUSED), _) => Ending::LoaderRefused,
        // With -no-reboot a triple fault, too, is an orderly end for QEMU.
        (Some(0), _) => Ending::Other(
            "QEMU ended without a word from the guest: the CPU was reset, or QEMU told to quit"
                .to_owned(),
        ),
        (Some(code), _) => Ending::Other(format!("QEMU ended with status {code}")),
        (None, signal) => {
            Ending::Other(format!("QEMU was killed by signal {}", signal.unwrap_or(0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_told_apart() {
        let ending = |raw| classify(ExitStatus::from_raw(raw));
        assert_eq!(ending(33 << 8), Ending::PowerOff);
        assert_eq!(ending(35 << 8), Ending::KernelPanic);
        assert_eq!(ending(37 << 8), Ending::LoaderRefused);
        for raw in [0, 1 << 8, 9] {
            assert!(matches!(ending(raw), Ending::Other(_)));
        }
    }
}
