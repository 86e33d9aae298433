//! The program that makes disk images, which is built when the first image is made.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::firmware::Firmware;
use crate::guest::Guest;
use crate::machine::task::Task;
use crate::paths::Paths;
use crate::{cargo, process, setup};

/// The program.
pub struct Maker {
    program: PathBuf,
}

impl Maker {
    /// The folder of its products.
    fn folder(paths: &Paths) -> PathBuf {
        paths.work.join("image")
    }

    /// Whether it was built before.
    pub fn is_built(paths: &Paths) -> bool {
        Self::folder(paths).join("debug/image").exists()
    }

    /// Builds the program, and the loader in it. The first time this takes minutes.
    pub fn build(paths: &Paths) -> Result<Self> {
        setup::ensure_image_components(paths)?;
        let mut command = cargo::command(paths, "build");
        command.args(["--locked", "--manifest-path", "image/Cargo.toml", "--target-dir"]);
        command.arg(Self::folder(paths));
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        // The loader uses features of the compiler that are not stable.
        command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_UNSTABLE_JSON_TARGET_SPEC", "true");
        let artifacts =
            cargo::artifacts(command, "the loader of disk images (the first time takes minutes)")?;
        let program = artifacts.iter().find_map(cargo::executable);
        Ok(Self { program: program.context("cargo built no program for disk images")? })
    }

    /// Makes the image of a machine that carries out a task.
    pub fn make(
        &self,
        paths: &Paths,
        firmware: Firmware,
        guest: &Guest,
        task: &Task<'_>,
        image: &Path,
    ) -> Result<()> {
        let ramdisk =
            tempfile::NamedTempFile::new_in(&paths.work).context("cannot make a ramdisk")?;
        task.ramdisk(guest)?.write_alone(ramdisk.as_file())?;
        let mut command = Command::new(&self.program);
        command.arg(firmware.word()).args([&guest.kernel, ramdisk.path(), image]);
        command.env("TMPDIR", &paths.work);
        if !process::run(&mut command) {
            bail!("the disk image could not be made (see above)");
        }
        Ok(())
    }
}
