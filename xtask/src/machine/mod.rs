//! One QEMU process: its command line, its three serial ports, and how it ended.
//!
//! COM1 is the guest's console. COM2 carries the kernel's log and a command's standard error. On
//! COM3 init reports the command's status and xtask the size of the user's terminal. COM1 and COM2
//! are pipes between QEMU and xtask: QEMU's sockets treat every byte from the guest as a message
//! and are full after a few hundred. COM3, which carries little, is a socket. The
//! guest's disk, for temporary data, and its initrd are unlinked files that QEMU opens through
//! inherited descriptors, so no file and no QEMU process outlives xtask.

pub mod session;
pub mod symbols;
pub mod task;
pub mod terminal;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};

use self::symbols::Symbols;
use self::task::MachineFiles;
use crate::guest::Guest;
use crate::process;
use crate::setup::QEMU;

/// Exit statuses of QEMU after a write of `code` to isa-debug-exit: `(code << 1) | 1`.
const POWER_OFF: i32 = 0x10 << 1 | 1;
const KERNEL_PANIC: i32 = 0x11 << 1 | 1;
const LOADER_REFUSED: i32 = 0x12 << 1 | 1;

/// What drives the guest's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's clock.
    Host,
    /// One nanosecond per instruction: the same in every run.
    Instructions,
}

impl Clock {
    /// The CPU that a machine with this clock has by default: all features that QEMU emulates, or
    /// a plain one that costs the same in every version.
    pub fn cpu(self) -> &'static str {
        match self {
            Self::Host => "max",
            Self::Instructions => "qemu64",
        }
    }
}

/// What the machine offers to those who debug the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Debugging {
    /// The machine waits for gdb, on port [`GDB_PORT`], before its first instruction.
    pub gdb: bool,
    /// The socket on which QEMU's monitor listens.
    pub monitor: Option<PathBuf>,
    /// A plugin of QEMU, with its arguments.
    pub plugin: Option<String>,
}

/// The port for gdb, on this host only.
pub const GDB_PORT: u16 = 1234;

/// Whether the machine has a disk for temporary data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// An empty disk, on which files spill and to which pages are swapped.
    Scratch,
    /// The same, behind a disk of the user's: `/dev/vda` holds [`OTHER_LINE`] again and again.
    Second,
    /// The first on a host that has no space left: each write fails.
    Full,
    /// Memory is all there is.
    None,
}

/// What a disk of the user's holds.
pub const OTHER_LINE: &str = "a line of another disk\n";
/// How often: enough for several transfers.
pub const OTHER_LINES: usize = 1 << 16;

/// What the machine starts.
#[derive(Debug)]
pub enum Start {
    /// The loader for QEMU, with an initrd.
    Initrd(MachineFiles),
    /// Linux in place of Sloth, with an initramfs.
    Linux {
        /// The kernel's file.
        kernel: PathBuf,
        /// The root file system.
        initrd: File,
        /// The kernel's command line.
        command_line: String,
    },
    /// A disk image, as a PC with a screen and a keyboard does.
    Image {
        /// The disk's contents.
        image: File,
        /// The firmware, unless it is QEMU's own.
        firmware: Option<PathBuf>,
        /// Where the screen is shown, as QEMU's option `-display` takes it.
        display: String,
    },
}

impl Start {
    /// The beginning of the disk for temporary data, if something is there.
    fn placed(&self) -> Option<&File> {
        match self {
            Self::Initrd(files) => Some(&files.placed),
            Self::Linux { .. } | Self::Image { .. } => None,
        }
    }

    /// QEMU's arguments. The files are inherited.
    fn arguments(&self, guest: &Guest) -> Result<Vec<OsString>> {
        let text = |text: &str| OsString::from(text);
        let path = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
        match self {
            Self::Initrd(files) => {
                inherit(&files.initrd)?;
                let boot = guest.boot.clone().into_os_string();
                let initrd = path(&files.initrd).into();
                let display = [text("-display"), text("none")];
                Ok([&display[..], &[text("-kernel"), boot, text("-initrd"), initrd]].concat())
            }
            Self::Linux { kernel, initrd, command_line } => {
                inherit(initrd)?;
                let mut arguments = vec![text("-display"), text("none"), text("-kernel")];
                arguments.push(kernel.clone().into_os_string());
                arguments.extend([text("-initrd"), path(initrd).into()]);
                arguments.extend([text("-append"), text(command_line)]);
                Ok(arguments)
            }
            Self::Image { image, firmware, display } => {
                inherit(image)?;
                let drive = format!("format=raw,file.locking=off,file={}", path(image)).into();
                let mut arguments = vec![text("-display"), text(display), text("-drive"), drive];
                arguments.extend([text("-device"), text("VGA")]);
                if let Some(firmware) = firmware {
                    arguments.extend([text("-bios"), firmware.clone().into_os_string()]);
                }
                Ok(arguments)
            }
        }
    }
}

/// The configuration of a machine.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Size of the memory, as QEMU's option `-m` takes it.
    pub memory: String,
    /// The clock's source.
    pub clock: Clock,
    /// The CPU, as QEMU's option `-cpu` takes it.
    pub cpu: String,
    /// The disk for temporary data.
    pub disk: Disk,
    /// What it offers to debuggers.
    pub debugging: Debugging,
}

impl Hardware {
    /// QEMU's options for processor, clock and memory, which figures in instructions depend on.
    pub fn options(&self) -> Vec<&str> {
        let clock: &[&str] = match self.clock {
            Clock::Host => &[],
            Clock::Instructions => &["-icount", "shift=0,sleep=off"],
        };
        let processor = ["-cpu", &self.cpu, "-smp", "1", "-m", &self.memory];
        [&["-M", "q35", "-accel", "tcg"], clock, &processor].concat()
    }
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
    /// Another ending, described in a sentence.
    Other(String),
}

/// A running machine. Dropping it kills QEMU.
pub struct Machine {
    child: Child,
    /// Input of COM1; writes do not block.
    pub keys: ChildStdin,
    /// Output of COM1.
    pub console: ChildStdout,
    /// Output of COM2.
    pub log: File,
    /// The kernel's symbols, for backtraces in its log.
    pub symbols: Symbols,
    /// Both directions of COM3; does not block.
    pub control: UnixStream,
    /// QEMU's own standard error.
    pub complaints: ChildStderr,
}

impl Machine {
    /// Starts QEMU.
    pub fn start(guest: &Guest, start: &Start, hardware: &Hardware) -> Result<Self> {
        let mut command = Command::new(QEMU);
        command.args(["-nodefaults", "-no-reboot"]).args(hardware.options());
        if hardware.debugging.gdb {
            command.args(["-gdb", &format!("tcp:127.0.0.1:{GDB_PORT}"), "-S"]);
        }
        if let Some(path) = &hardware.debugging.monitor {
            let monitor = format!("unix:{},server=on,wait=off", in_option(path));
            command.args(["-monitor", &monitor]);
        }
        if let Some(plugin) = &hardware.debugging.plugin {
            command.args(["-plugin", plugin]);
        }
        command.args(start.arguments(guest)?);
        // Kept open until QEMU has inherited them.
        let disks = disks(guest, hardware.disk, start.placed())?;
        for (name, file) in &disks {
            let disk = drive(name, file, hardware.disk);
            // The guest finds its disk by the serial number.
            let device = format!("virtio-blk-pci,drive={name},serial={name}");
            command.args(["-drive", &disk, "-device", &device]);
        }
        command.args(["-chardev", "stdio,id=com1,signal=off", "-serial", "chardev:com1"]);
        // The far ends are kept open until QEMU has inherited them.
        let (log, far_log) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        inherit(&far_log)?;
        let com2 = format!("file,id=com2,path=/proc/self/fd/{}", far_log.as_raw_fd());
        let (control, far_control) = UnixStream::pair().context("cannot make a socket pair")?;
        inherit(&far_control)?;
        control.set_nonblocking(true).context("cannot prepare the control channel")?;
        let com3 = format!("socket,id=com3,fd={}", far_control.as_raw_fd());
        command.args(["-chardev", &com2, "-serial", "chardev:com2"]);
        command.args(["-chardev", &com3, "-serial", "chardev:com3"]);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A process group of its own, so that only xtask receives the terminal's Ctrl-C.
        command.process_group(0);
        let mut child = process::spawn_bound(&mut command)?;
        let keys = child.stdin.take().context("QEMU has no standard input")?;
        let console = child.stdout.take().context("QEMU has no standard output")?;
        let complaints = child.stderr.take().context("QEMU has no standard error")?;
        ioctl_fionbio(&keys, true).context("cannot prepare the console")?;
        let symbols = Symbols::of(&guest.kernel_symbols);
        Ok(Self { child, keys, console, log: log.into(), symbols, control, complaints })
    }

    /// Kills QEMU without waiting for the guest.
    pub fn kill(&mut self) {
        process::kill(&mut self.child);
    }

    /// Waits until QEMU exits, and returns how it ended.
    pub fn wait(&mut self) -> Result<Ending> {
        Ok(classify(self.child.wait().context("cannot wait for QEMU")?))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Size in bytes of the disk for temporary data beyond the guest's memory. One half is for files,
/// the other for pages of programs.
const SCRATCH_BYTES: u64 = 2 << 30;

/// A path as it is written in QEMU's options: with each comma twice.
pub fn in_option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// QEMU's description of a disk. What the host refuses is an error for the guest: otherwise QEMU
/// stops the machine without a word when the host's disk is full.
fn drive(name: &str, file: &File, disk: Disk) -> String {
    let file = format!("/proc/self/fd/{}", file.as_raw_fd());
    let layers = match disk {
        Disk::Full => format!(
            "driver=blkdebug,image.driver=raw,image.file.locking=off,image.file.filename={file},\
             inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno={}",
            Errno::NOSPC.raw_os_error()
        ),
        Disk::Scratch | Disk::Second | Disk::None => {
            format!("format=raw,file.locking=off,file={file}")
        }
    };
    format!("if=none,id={name},cache=unsafe,rerror=report,werror=report,{layers}")
}

/// The machine's disks, unlinked like the initrd, with their serial numbers. The one for temporary
/// data is empty and sparse, behind the files that are placed on it.
fn disks(guest: &Guest, disk: Disk, placed: Option<&File>) -> Result<Vec<(&'static str, File)>> {
    let folder = guest.boot.parent().context("the loader has no folder")?;
    let names: &[_] = match disk {
        Disk::Scratch | Disk::Full => &["scratch"],
        Disk::Second => &["other", "scratch"],
        Disk::None => &[],
    };
    let make = |&name: &&'static str| {
        let mut file = match placed {
            Some(placed) if name == "scratch" => placed.try_clone()?,
            _ => tempfile::tempfile_in(folder)
                .with_context(|| format!("cannot make a file in {}", folder.display()))?,
        };
        if name == "scratch" {
            let bytes = file.metadata()?.len() + SCRATCH_BYTES;
            file.set_len(bytes).context("cannot size the guest's disk")?;
        } else {
            let bytes = OTHER_LINE.repeat(OTHER_LINES);
            file.write_all(bytes.as_bytes()).context("cannot fill a disk")?;
        }
        inherit(&file)?;
        Ok((name, file))
    };
    names.iter().map(make).collect()
}

/// Lets programs that are started later inherit a descriptor.
fn inherit(descriptor: &impl AsFd) -> Result<()> {
    fcntl_setfd(descriptor, FdFlags::empty()).context("cannot let QEMU inherit a descriptor")
}

fn classify(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(POWER_OFF), _) => Ending::PowerOff,
        (Some(KERNEL_PANIC), _) => Ending::KernelPanic,
        (Some(LOADER_REFUSED), _) => Ending::LoaderRefused,
        // With -no-reboot QEMU exits with 0 after a triple fault as well.
        (Some(0), _) => Ending::Other(
            "QEMU ended without a report from the guest: the CPU was reset, or QEMU was quit"
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
    fn endings_are_distinguished() {
        let ending = |raw| classify(ExitStatus::from_raw(raw));
        assert_eq!(ending(33 << 8), Ending::PowerOff);
        assert_eq!(ending(35 << 8), Ending::KernelPanic);
        assert_eq!(ending(37 << 8), Ending::LoaderRefused);
        for raw in [0, 1 << 8, 9] {
            assert!(matches!(ending(raw), Ending::Other(_)));
        }
    }
}
