//! `image`: raw disk images that boot on a PC, by BIOS or by UEFI, with the loader of crate
//! `bootloader` and the same kernel.

pub mod firmware;
mod maker;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cli::ImageArgs;
use crate::guest::addition::Addition;
use crate::guest::userland::{self, Userland};
use crate::guest::{self, Guest, Variant};
use crate::machine::task::{Console, Stdin, Task};
use crate::paths::Paths;
use crate::{say, setup};
use firmware::Firmware;
pub use maker::Maker;

/// The memory that an image is made for. It runs with more, too.
const MEMORY: &str = "128M";

/// Makes the images that are asked for.
pub fn image(paths: &Paths, arguments: &ImageArgs) -> Result<()> {
    let additions =
        arguments.add.iter().map(|text| Addition::parse(text)).collect::<Result<Vec<_>>>()?;
    let toolchain = setup::ensure(paths)?;
    let maker = Maker::build(paths)?;
    let guest = guest::build(paths, &toolchain, Variant::Normal)?;
    let userland = if arguments.plain { None } else { Userland::find(paths, Some(TERMINAL)) };
    let task = Task {
        input: Stdin::Terminal,
        console: Console::Screen,
        userland: userland.as_ref(),
        additions: &additions,
        ..Task::new(MEMORY)
    };
    let wanted = match (arguments.bios, arguments.uefi) {
        (true, false) => &[Firmware::Bios][..],
        (false, true) => &[Firmware::Uefi],
        _ => &[Firmware::Bios, Firmware::Uefi],
    };
    for firmware in wanted {
        let image = match &arguments.out {
            Some(file) if wanted.len() == 1 => file.clone(),
            Some(file) => with_word(file, firmware.word()),
            None => paths.work.join(format!("sloth-{}.img", firmware.word())),
        };
        maker.make(paths, *firmware, &guest, &task, &image)?;
        let mib = std::fs::metadata(&image)?.len().div_ceil(1 << 20);
        say!("{}: {mib} MiB, boots by {}", image.display(), firmware.name());
    }
    say!("to write one to a disk, which loses what is on it: dd if=IMAGE of=/dev/DISK bs=1M");
    Ok(())
}

/// The type of the terminal that the console of a machine with a screen is.
pub const TERMINAL: &str = userland::SCREEN_TERMINAL;

/// A disk image for one run, as an unlinked file.
pub fn for_one_run(
    paths: &Paths,
    firmware: Firmware,
    guest: &Guest,
    task: &Task<'_>,
) -> Result<File> {
    let maker = Maker::build(paths)?;
    let file = tempfile::NamedTempFile::new_in(&paths.work).context("cannot make a file")?;
    maker.make(paths, firmware, guest, task, file.path())?;
    Ok(file.reopen()?)
}

/// A file's name with a word before its extension.
fn with_word(file: &Path, word: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = match file.extension() {
        Some(extension) => format!("{stem}-{word}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{word}"),
    };
    file.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_images_have_two_names() {
        let name = |file: &str| with_word(Path::new(file), "bios");
        assert_eq!(name("a/b.img"), Path::new("a/b-bios.img"));
        assert_eq!(name("b"), Path::new("b-bios"));
    }
}
