//! What the guest does on a machine: its configuration, and the initrd that carries it.

use std::fs::File;

use anyhow::Result;

use crate::cli::Lazy;
use crate::guest::Guest;
use crate::guest::addition::Addition;
use crate::guest::ramdisk::Ramdisk;
use crate::paths::Paths;

/// A guest's task and the settings that it runs with.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// A line for the guest's shell; without it the shell is interactive.
    pub command: Option<&'a str>,
    /// Whether read(2) is lazy.
    pub lazy: Lazy,
    /// A mutant to switch on.
    pub mutant: Option<&'a str>,
    /// Size of the machine's memory, as QEMU's option `-m` takes it.
    pub memory: &'a str,
    /// Files and folders that are added to the root file system.
    pub additions: &'a [Addition],
    /// Where relays count messages: `client`, `base` and `log`, separated by commas.
    pub relay: Option<&'a str>,
}

impl Task<'_> {
    /// The text of `etc/sloth.conf`. The command is last, since it may contain line breaks.
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

    /// Writes the initrd with kernel, programs, additions and configuration.
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
