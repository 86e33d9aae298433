//! What the guest does on a machine: its configuration, and the initrd that carries it.

use std::fs::File;

use anyhow::{Result, ensure};

use crate::cli::{Lazy, memory_bytes};
use crate::guest::Guest;
use crate::guest::addition::Addition;
use crate::guest::placing::PlacedFiles;
use crate::guest::ramdisk::Ramdisk;
use crate::guest::userland::{self, Userland};
use crate::machine::Disk;
use crate::paths::Paths;

/// The share of memory from which on a file is large. Smaller ones are in memory from the start.
const LARGE_SHARE: u64 = 16;
/// A machine of this size without a disk has no memory for programs that only tests run.
const SMALL_BYTES: u64 = 24 << 20;
/// Names of programs that only tests run.
const TEST_PROGRAMS: [&str; 2] = ["tests", "rules"];
/// The share of memory that all small files together may take, as long as there are some of
/// [`LEAST_PLACED_BYTES`].
const SMALL_FILES_SHARE: u64 = 2;
/// Files of this size stay in memory.
const LEAST_PLACED_BYTES: u64 = 64 << 10;
/// Bytes of memory that the guest needs for each block of large files, for its list of them.
const PLACED_BLOCK_BYTES: u64 = 5;
/// Bytes of memory for each such block, most of which are for other things.
const PLACED_SHARE: u64 = 8 * PLACED_BLOCK_BYTES;

/// What a machine is started with.
#[derive(Debug)]
pub struct MachineFiles {
    /// Kernel and root file system.
    pub initrd: File,
    /// The beginning of the disk for temporary data: large files.
    pub placed: File,
}

/// Where the standard input of the guest's shell comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Nowhere: it is at its end.
    None,
    /// The guest's console, on which the shell is interactive.
    Terminal,
    /// xtask, in frames ([`Input::Stream`](super::session::Input::Stream)).
    Host,
}

impl Stdin {
    /// The word for the guest's configuration.
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Terminal => "terminal",
            Self::Host => "host",
        }
    }
}

/// Where a person sees what the guest shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// On the serial line.
    Serial,
    /// On the screen, and on the serial line as well.
    Screen,
}

/// A guest's task and the settings that it runs with.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// A line for the guest's shell; without it the shell is interactive.
    pub command: Option<&'a str>,
    /// Where the shell's standard input comes from.
    pub input: Stdin,
    /// Whether read(2) is lazy.
    pub lazy: Lazy,
    /// A mutant to switch on.
    pub mutant: Option<&'a str>,
    /// Size of the machine's memory, as QEMU's option `-m` takes it.
    pub memory: &'a str,
    /// Where the shell is seen.
    pub console: Console,
    /// The distribution's programs, of which one is the shell on the console.
    pub userland: Option<&'a Userland>,
    /// Files and folders that are added to the root file system.
    pub additions: &'a [Addition],
    /// The machine's disk, which takes large additions.
    pub disk: Disk,
    /// Where relays count messages: `client`, `base` and `log`, separated by commas.
    pub relay: Option<&'a str>,
}

impl<'a> Task<'a> {
    /// A shell that reads nothing, on a machine with that much memory and no disk.
    pub fn new(memory: &'a str) -> Self {
        Self {
            command: None,
            input: Stdin::None,
            lazy: Lazy::On,
            mutant: None,
            memory,
            console: Console::Serial,
            userland: None,
            additions: &[],
            disk: Disk::None,
            relay: None,
        }
    }

    /// The text of `etc/sloth.conf`. The command is last, since it may contain line breaks.
    fn configuration(&self, placed_blocks: u64) -> String {
        let mut text = format!(
            "lazy={}\nmemory={}\ninput={}\n",
            self.lazy.word(),
            self.memory,
            self.input.word()
        );
        if placed_blocks > 0 {
            text.push_str(&format!("placed={placed_blocks}\n"));
        }
        if let Some(mutant) = self.mutant {
            text.push_str(&format!("mutant={mutant}\n"));
        }
        if self.userland.is_some() {
            text.push_str(&format!("shell=/{}\n", userland::SHELL));
        }
        let terminal = match self.console {
            Console::Serial => self.userland.and_then(|userland| userland.terminal.as_deref()),
            Console::Screen => Some(userland::SCREEN_TERMINAL),
        };
        if let Some(terminal) = terminal {
            text.push_str(&format!("terminal={terminal}\n"));
        }
        if let Some(relay) = self.relay {
            text.push_str(&format!("relay={relay}\n"));
        }
        if let Some(command) = self.command {
            text.push_str(&format!("command={command}\n"));
        }
        text
    }

    /// Writes the initrd with kernel, programs, additions and configuration; and large additions to
    /// the machine's disk, if it has one.
    pub fn files(&self, paths: &Paths, guest: &Guest) -> Result<MachineFiles> {
        let mut placed = PlacedFiles::new(paths.scratch_file()?);
        let initrd = paths.scratch_file()?;
        let disk = (self.disk != Disk::None).then_some(&mut placed);
        self.fill(guest, disk)?.write_initrd(&guest.kernel, &initrd)?;
        Ok(MachineFiles { initrd, placed: placed.image })
    }

    /// The root file system, with programs, additions and configuration.
    pub fn ramdisk(&self, guest: &Guest) -> Result<Ramdisk> {
        self.fill(guest, None)
    }

    /// The root file system, whose large files are on the disk if there is one.
    fn fill(&self, guest: &Guest, disk: Option<&mut PlacedFiles>) -> Result<Ramdisk> {
        let mut ramdisk = Ramdisk::new(guest)?;
        if self.console == Console::Screen {
            ramdisk.add_console(guest)?;
        }
        if let Some(userland) = self.userland {
            ramdisk.add_userland(userland)?;
        }
        for addition in self.additions {
            ramdisk.add(addition)?;
        }
        let memory_bytes = memory_bytes(self.memory);
        if self.disk == Disk::None && memory_bytes <= SMALL_BYTES {
            let command = self.command.unwrap_or_default();
            let unused = TEST_PROGRAMS.iter().filter(|name| !command.contains(*name));
            unused.for_each(|name| ramdisk.leave_out(name));
        }
        let mut blocks = 0;
        if let Some(disk) = disk {
            let mut large_bytes = memory_bytes / LARGE_SHARE;
            ramdisk.place(large_bytes, disk)?;
            // Many smaller files may be too much for memory, too.
            while ramdisk.data_bytes()? > memory_bytes / SMALL_FILES_SHARE
                && large_bytes > LEAST_PLACED_BYTES
            {
                large_bytes /= 2;
                ramdisk.place(large_bytes, disk)?;
            }
            blocks = disk.blocks;
        }
        ramdisk.add_text("etc/sloth.conf", self.configuration(blocks).into_bytes())?;
        let data_bytes = ramdisk.data_bytes()? + blocks * PLACED_BLOCK_BYTES;
        ensure!(
            data_bytes < memory_bytes / 4 * 3 && blocks < memory_bytes / PLACED_SHARE,
            "the files for the guest do not fit into a machine of {}: {} MiB are for its memory, \
             and lists of {} MiB on its disk; add less, or use --memory {}M",
            self.memory,
            data_bytes >> 20,
            blocks >> 8,
            ((data_bytes >> 20).div_ceil(3) * 4 + 64).max((blocks * PLACED_SHARE) >> 20)
        );
        Ok(ramdisk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_last_line_of_the_configuration() {
        let task = Task {
            command: Some("echo a\necho b"),
            input: Stdin::Host,
            lazy: Lazy::Off,
            mutant: Some("r1"),
            ..Task::new("48M")
        };
        assert_eq!(
            task.configuration(0),
            "lazy=off\nmemory=48M\ninput=host\nmutant=r1\ncommand=echo a\necho b\n"
        );
        let shell = Task { command: None, input: Stdin::Terminal, mutant: None, ..task };
        assert_eq!(shell.configuration(0), "lazy=off\nmemory=48M\ninput=terminal\n");
        let userland = Userland {
            additions: Vec::new(),
            applets: Vec::new(),
            terminal: Some("xterm".to_owned()),
        };
        let bash = Task { userland: Some(&userland), ..shell };
        assert_eq!(
            bash.configuration(9),
            "lazy=off\nmemory=48M\ninput=terminal\nplaced=9\nshell=/bin/bash\nterminal=xterm\n"
        );
    }
}
