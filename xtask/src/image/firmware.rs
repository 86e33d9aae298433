//! The firmware of a PC.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use crate::packages::Packages;
use crate::paths::Paths;

/// The firmware that a disk image boots with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// That of old PCs. QEMU brings one.
    Bios,
    /// That of new ones.
    Uefi,
}

impl Firmware {
    /// The word on command lines and in names of files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        }
    }

    /// The file that QEMU needs beside its own, which is downloaded once.
    pub fn file(self, paths: &Paths) -> Result<Option<PathBuf>> {
        match self {
            Self::Bios => Ok(None),
            Self::Uefi => ovmf(paths).map(Some),
        }
    }
}

/// OVMF: as the machine has it, or else from the distribution's package.
fn ovmf(paths: &Paths) -> Result<PathBuf> {
    const FILE: &str = "usr/share/ovmf/OVMF.fd";
    let installed = PathBuf::from("/").join(FILE);
    if installed.is_file() {
        return Ok(installed);
    }
    Packages::open(paths)?.file("ovmf", FILE).map_err(|why| {
        anyhow!("UEFI for QEMU is missing ({why}); run: sudo apt-get install -y ovmf")
    })
}
