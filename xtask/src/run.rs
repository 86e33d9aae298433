//! `run`: boots the guest with a shell on the console, or runs one command in it.

use std::fs::File;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::{RunArgs, memory_bytes};
use crate::guest::addition::Addition;
use crate::guest::userland::{self, Userland};
use crate::guest::{self, Guest, Variant};
use crate::image::firmware::Firmware;
use crate::interrupts::Interrupts;
use crate::machine::session::{Input, Outcome, Session};
use crate::machine::task::{Console, Stdin, Task};
use crate::machine::terminal::RawTerminal;
use crate::machine::{Clock, Debugging, Disk, Ending, Hardware, Machine, Start};
use crate::paths::Paths;
use crate::{exit_status, image, say, setup};

/// Bytes of the kernel's log that are printed if the machine of a shell fails.
const LOG_TAIL_BYTES: usize = 4096;

/// Runs the guest; returns the exit status.
pub fn run(paths: &Paths, arguments: &RunArgs) -> Result<u8> {
    // Arguments are checked first, so that a mistake is reported before the build.
    let additions =
        arguments.add.iter().map(|text| Addition::parse(text)).collect::<Result<Vec<_>>>()?;
    let log = match &arguments.log {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => None,
    };
    let toolchain = setup::ensure(paths)?;
    let guest = guest::build(paths, &toolchain, variant(arguments))?;
    let command = (!arguments.command.is_empty()).then(|| arguments.command.join(" "));
    let is_interactive = command.is_none() && stdin().is_terminal();
    let firmware = firmware(arguments);
    let console = if firmware.is_some() { Console::Screen } else { Console::Serial };
    let userland = userland(paths, arguments, console);
    let task = Task {
        command: command.as_deref(),
        input: if is_interactive { Stdin::Terminal } else { Stdin::Host },
        lazy: arguments.lazy,
        mutant: arguments.mutant.as_deref(),
        memory: &arguments.memory,
        console,
        userland: userland.as_ref(),
        additions: &additions,
        disk: disk(arguments),
        relay: arguments.relay.as_deref(),
    };
    let start = start(paths, arguments, firmware, &guest, &task)?;
    let hardware = hardware(paths, arguments);
    if arguments.gdb {
        say!("waiting for gdb; in another terminal: cargo xtask gdb");
    }
    if arguments.monitor {
        say!("QEMU's monitor; in another terminal: nc -U {}", paths.monitor().display());
    }
    let interrupts = Interrupts::listen()?;
    let limit = arguments.timeout.map(Duration::from_secs);
    let machine = Machine::start(&guest, &start, &hardware)?;
    drop(start);
    let mut log = Log { file: log, tail: Vec::new(), is_shown: !is_interactive };
    let keys = stdin();
    let raw = is_interactive.then(RawTerminal::enter).transpose()?;
    let session = Session {
        input: if is_interactive {
            Input::Terminal(keys.as_fd())
        } else {
            Input::Stream(keys.as_fd())
        },
        console: &mut stdout().lock(),
        log: &mut log,
        limit,
        silence: None,
        interrupts: &interrupts,
    };
    let outcome = session.run(machine);
    drop(raw);
    Ok(conclude(&outcome?, &log))
}

fn variant(arguments: &RunArgs) -> Variant {
    match arguments.mutant {
        _ if arguments.gdb => Variant::Debugger,
        Some(_) => Variant::Mutants,
        None => Variant::Normal,
    }
}

/// The firmware of a machine that boots from a disk image.
fn firmware(arguments: &RunArgs) -> Option<Firmware> {
    match (arguments.bios, arguments.uefi) {
        (true, _) => Some(Firmware::Bios),
        (false, true) => Some(Firmware::Uefi),
        (false, false) => None,
    }
}

/// What the machine starts.
fn start(
    paths: &Paths,
    arguments: &RunArgs,
    firmware: Option<Firmware>,
    guest: &Guest,
    task: &Task<'_>,
) -> Result<Start> {
    Ok(match firmware {
        None => Start::Initrd(task.files(paths, guest)?),
        Some(firmware) => Start::Image {
            image: image::for_one_run(paths, firmware, guest, task)?,
            firmware: firmware.file(paths)?,
            display: arguments.display.clone(),
        },
    })
}

fn disk(arguments: &RunArgs) -> Disk {
    match (arguments.no_disk, arguments.second_disk, arguments.full_disk) {
        (true, ..) => Disk::None,
        (_, true, _) => Disk::Second,
        (.., true) => Disk::Full,
        _ => Disk::Scratch,
    }
}

fn hardware(paths: &Paths, arguments: &RunArgs) -> Hardware {
    let clock = if arguments.icount { Clock::Instructions } else { Clock::Host };
    Hardware {
        memory: arguments.memory.clone(),
        clock,
        cpu: clock.cpu().to_owned(),
        disk: disk(arguments),
        debugging: Debugging {
            gdb: arguments.gdb,
            monitor: arguments.monitor.then(|| paths.monitor()),
            plugin: None,
        },
    }
}

/// The distribution's programs, unless they are not wanted, the machine is too small for them, or
/// they are not available.
fn userland(paths: &Paths, arguments: &RunArgs, console: Console) -> Option<Userland> {
    if arguments.plain || memory_bytes(&arguments.memory) < userland::LEAST_MEMORY_BYTES {
        return None;
    }
    let own = std::env::var("TERM").ok();
    let terminal = match console {
        Console::Serial => own.as_deref(),
        Console::Screen => Some(userland::SCREEN_TERMINAL),
    };
    Userland::find(paths, terminal)
}

/// Returns the exit status for an outcome, and reports a failure.
fn conclude(outcome: &Outcome, log: &Log) -> u8 {
    let (status, complaint) = match outcome {
        Outcome::Ended(Ending::PowerOff, Some(status)) => return *status,
        // `poweroff` ends a shell on the console as well as `exit` does.
        Outcome::Ended(Ending::PowerOff, None) if log.is_shown => (
            exit_status::QEMU_ENDED,
            "the guest switched itself off and reported no status".to_owned(),
        ),
        Outcome::Ended(Ending::PowerOff, None) | Outcome::Quit => return 0,
        Outcome::Interrupted(signal) => {
            return u8::try_from(128 + signal).unwrap_or(exit_status::XTASK);
        }
        other => other.describe(),
    };
    log.show_tail();
    say!("{complaint}");
    status
}

/// The kernel's log. With a command it is copied to standard error; with a shell only its end is
/// kept, in case the machine fails. Either way it is copied to the file, if there is one.
struct Log {
    file: Option<File>,
    tail: Vec<u8>,
    is_shown: bool,
}

impl Log {
    fn show_tail(&self) {
        if !self.is_shown {
            // Standard error may be closed; there is nowhere else to report that.
            let _ = stderr().write_all(&self.tail);
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        if self.is_shown {
            stderr().write_all(bytes)?;
        } else {
            self.tail.extend_from_slice(bytes);
            let excess = self.tail.len().saturating_sub(LOG_TAIL_BYTES);
            self.tail.drain(..excess);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
