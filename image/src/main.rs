//! Makes a raw disk image with the loader of crate `bootloader`, a kernel and a ramdisk.
//!
//! A program of its own, and no member of the workspace: see `Cargo.toml`. `cargo xtask image`
//! builds and starts it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bootloader::{BootConfig, DiskImageBuilder};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [firmware, kernel, ramdisk, image] = arguments else {
        bail!("usage: image bios|uefi KERNEL RAMDISK IMAGE");
    };
    let mut config = BootConfig::default();
    // The serial line and the screen are the kernel's; the firmware chooses the screen's mode.
    config.frame_buffer_logging = false;
    config.serial_logging = false;
    let mut builder = DiskImageBuilder::new(PathBuf::from(kernel));
    builder.set_ramdisk(PathBuf::from(ramdisk)).set_boot_config(&config);
    match firmware.as_str() {
        "bios" => builder.create_bios_image(Path::new(image)),
        "uefi" => builder.create_uefi_image(Path::new(image)),
        other => bail!("no such firmware: {other}"),
    }
    .with_context(|| format!("cannot make {image}"))
}
