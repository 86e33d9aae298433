//! `run`: a shell on the console, or one command.

use std::fs::File;
use std::io::{Write, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::add::Addition;
use crate::cli::{Lazy, RunArgs};
use crate::guest::{self, Guest, Variant};
use crate::interrupts::Interrupts;
use crate::machine::{Clock, Debugger, Ending, Hardware, Machine};
use crate::paths::Paths;
use crate::ramdisk::Ramdisk;
use crate::session::{Input, Outcome, Session};
use crate::terminal::RawTerminal;
use crate::{say, setup, status};

/// Bytes of the kernel's log that are shown when a shell's machine ends badly.
const LOG_TAIL_BYTES: usize = 4096;

/// What the guest is to do.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// A line of shell; without it the shell is interactive.
    pub command: Option<&'a str>,
    /// Whether reads are lazy.
    pub lazy: Lazy,
    /// A rule to break.
    pub mutant: Option<&'a str>,
    /// The machine's memory.
    pub memory: &'a str,
    /// What is added to the root file system.
    pub additions: &'a [Addition],
    /// Where relays count what passes between kernel, wrapper and base: words with commas between.
    pub relay: Option<&'a str>,
}

impl Task<'_> {
    /// The guest's configuration. The command is last, since it may hold line breaks.
    fn configuration(&self) -> String {
        let mut text = format!("lazy={}\nmemory={}\n", self.lazy.word(), self.memory);
        if let Some(mutant) = self.mutant {
            text.push_str(&format!("mutant={mutant}\n"));
        }
        if let Some(relay) = self.relay {
            text.push_str(&format!("relay={relay}\n"));
        }
        if let Some(command) = self.command {
            text.push_str(&format!("command={command}\n"));
        }
        text
    }

    /// The initrd that has the guest do it.
    pub fn initrd(&self, paths: &Paths, guest: &Guest) -> Result<File> {
        let mut ramdisk = Ramdisk::new(guest)?;
        for addition in self.additions {
            ramdisk.add(addition)?;
        }
        ramdisk.add_text("etc/sloth.conf", self.configuration().into_bytes())?;
        let file = paths.scratch_file()?;
        ramdisk.write_initrd(&guest.kernel, &file)?;
        Ok(file)
    }
}

/// Runs the guest; the status is xtask's.
pub fn run(paths: &Paths, arguments: &RunArgs) -> Result<u8> {
    // First what can be wrong with the arguments: no one waits for a build to hear of it.
    let additions =
        arguments.add.iter().map(|text| Addition::parse(text)).collect::<Result<Vec<_>>>()?;
    let log = match &arguments.log {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => None,
    };
    let toolchain = setup::ensure(paths)?;
    let variant = if arguments.mutant.is_some() { Variant::Mutants } else { Variant::Normal };
    let guest = guest::build(paths, &toolchain, variant)?;
    let command = (!arguments.command.is_empty()).then(|| arguments.command.join(" "));
    let task = Task {
        command: command.as_deref(),
        lazy: arguments.lazy,
        mutant: arguments.mutant.as_deref(),
        memory: &arguments.memory,
        additions: &additions,
        relay: arguments.relay.as_deref(),
    };
    let initrd = task.initrd(paths, &guest)?;
    let hardware = Hardware {
        memory: arguments.memory.clone(),
        clock: if arguments.icount { Clock::Instructions } else { Clock::Host },
        debugger: if arguments.gdb { Debugger::Wait } else { Debugger::None },
    };
    if arguments.gdb {
        say!("waiting for gdb: gdb {} -ex 'target remote :1234'", guest.kernel_symbols.display());
    }
    let interrupts = Interrupts::listen()?;
    let limit = arguments.timeout.map(Duration::from_secs);
    let machine = Machine::start(&guest, &initrd, &hardware)?;
    drop(initrd);
    let mut log = Log { file: log, tail: Vec::new(), is_shown: command.is_some() };
    let outcome = if command.is_some() {
        let mut console = stdout().lock();
        let session = Session {
            input: Input::None,
            console: &mut console,
            log: &mut log,
            limit,
            interrupts: &interrupts,
        };
        session.run(machine)?
    } else {
        interactive(machine, &mut log, limit, &interrupts)?
    };
    Ok(conclude(&outcome, command.is_some(), &log))
}

/// Gives the user the guest's console.
fn interactive(
    machine: Machine,
    log: &mut Log,
    limit: Option<Duration>,
    interrupts: &Interrupts,
) -> Result<Outcome> {
    let keys = stdin();
    let raw = RawTerminal::enter();
    let input =
        if raw.is_some() { Input::Terminal(keys.as_fd()) } else { Input::Stream(keys.as_fd()) };
    let mut console = stdout().lock();
    let outcome = Session { input, console: &mut console, log, limit, interrupts }.run(machine);
    drop(raw);
    outcome
}

/// Turns an outcome into a status, and says what is not as it should be.
fn conclude(outcome: &Outcome, is_command: bool, log: &Log) -> u8 {
    let (status, complaint) = match outcome {
        Outcome::Ended(Ending::PowerOff, Some(status)) if is_command => return *status,
        Outcome::Ended(Ending::PowerOff, None) if is_command => {
            (status::QEMU_ENDED, "the guest switched itself off and reported no status".to_owned())
        }
        Outcome::Ended(Ending::PowerOff, _) | Outcome::Quit => return 0,
        Outcome::Interrupted(signal) => return u8::try_from(128 + signal).unwrap_or(status::XTASK),
        other => describe(other),
    };
    log.show_tail();
    say!("{complaint}");
    status
}

/// The status and the sentence for an outcome that is nobody's wish.
pub fn describe(outcome: &Outcome) -> (u8, String) {
    match outcome {
        Outcome::Ended(Ending::PowerOff, Some(code)) => {
            (*code, format!("the command ended with status {code}"))
        }
        Outcome::Ended(Ending::PowerOff, None) => {
            (status::QEMU_ENDED, "the guest reported no status".to_owned())
        }
        Outcome::Ended(Ending::KernelPanic, _) => {
            (status::KERNEL_PANIC, "the kernel panicked".to_owned())
        }
        Outcome::Ended(Ending::LoaderRefused, _) => {
            (status::QEMU_ENDED, "the loader could not start the kernel".to_owned())
        }
        Outcome::Ended(Ending::Other(words), _) => (status::QEMU_ENDED, words.clone()),
        Outcome::TimedOut => {
            (status::TIMED_OUT, "the guest did not end in time and was stopped".to_owned())
        }
        Outcome::Quit => (status::QEMU_ENDED, "given up at the keyboard".to_owned()),
        Outcome::Interrupted(signal) => (status::QEMU_ENDED, format!("stopped by signal {signal}")),
    }
}

/// The kernel's log: to standard error with a command, to the file if there is one, and its end
/// kept for the case that a shell's machine ends badly.
struct Log {
    file: Option<File>,
    tail: Vec<u8>,
    is_shown: bool,
}

impl Log {
    fn show_tail(&self) {
        if !self.is_shown {
            // What cannot be shown is not worth another complaint.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_last_line_of_the_configuration() {
        let task = Task {
            command: Some("echo a\necho b"),
            lazy: Lazy::Off,
            mutant: Some("r1"),
            memory: "48M",
            additions: &[],
            relay: None,
        };
        assert_eq!(
            task.configuration(),
            "lazy=off\nmemory=48M\nmutant=r1\ncommand=echo a\necho b\n"
        );
        let shell = Task { command: None, mutant: None, ..task };
        assert_eq!(shell.configuration(), "lazy=off\nmemory=48M\n");
    }
}
