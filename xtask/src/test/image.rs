//! Disk images: each boots on a machine like a PC.
//!
//! Building their loader takes minutes, so these tests are skipped unless it has been built, the
//! filter names them, or the run is a long one.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::cli::Length;
use crate::guest::Guest;
use crate::guest::addition::Addition;
use crate::image::Maker;
use crate::image::firmware::Firmware;
use crate::interrupts::Interrupts;
use crate::machine::task::{Console, Stdin, Task};
use crate::paths::Paths;
use crate::test::console::{Step, play_within};
use crate::test::pc::Pc;
use crate::test::qemu::no_first_program;
use crate::test::verdict::Verdict;

/// The firmware reads the image at the speed of an emulated disk.
const LIMIT: Duration = Duration::from_secs(240);
/// The part of the tests' names that builds the loader.
const WORD: &str = "image";

/// A boot from an image, and what is done then.
#[derive(Debug, Clone)]
pub struct ImageTest {
    /// The test's full name.
    pub name: &'static str,
    firmware: Firmware,
    kind: Kind,
    may_build: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A machine with a screen, a keyboard and the image's disk, and nothing else.
    Screen,
    /// The same without a first program that the kernel could start, so it panics.
    Panic,
    /// `cargo xtask run`, with keys from the serial line.
    Run,
}

/// The tests. `filter` is the one for the tests' names.
pub fn list(filter: &str, length: Length) -> [ImageTest; 5] {
    let may_build = filter.contains(WORD) || matches!(length, Length::Long);
    let test = |name, firmware, kind| ImageTest { name, firmware, kind, may_build };
    [
        test("qemu::image_bios_shows_a_shell_on_the_screen", Firmware::Bios, Kind::Screen),
        test("qemu::image_uefi_shows_a_shell_on_the_screen", Firmware::Uefi, Kind::Screen),
        test("qemu::image_bios_shows_a_panic_on_the_screen", Firmware::Bios, Kind::Panic),
        test("qemu::image_bios_runs_on_the_serial_line", Firmware::Bios, Kind::Run),
        test("qemu::image_uefi_runs_on_the_serial_line", Firmware::Uefi, Kind::Run),
    ]
}

/// What the machine without a serial line is used for: (typed keys, lines that appear).
const DIALOGUE: [(&str, &[&str]); 3] = [
    ("", &["`help` lists the commands and says what to try; `demo` runs the experiment."]),
    ("seq 41 43\n", &["41", "42", "43"]),
    // More than the screen has lines.
    ("seq 300\n", &["298", "299", "300"]),
];

/// What a panic shows, line by line.
const PANIC: &[&str] = &[
    "the first process could not be made: Exec format error",
    "no thread runs yet",
    "backtrace (newest first):",
];

const SCRIPT: [Step; 6] = [
    Step::See("# "),
    Step::Type("ls /dev/fb0 /dev/serio_raw0; echo he''llo\r"),
    Step::See("/dev/serio_raw0\r\nhello"),
    Step::See("# "),
    Step::Type("exit 5\r"),
    Step::End,
];

impl ImageTest {
    /// Boots an image and uses the shell on it.
    pub fn run(&self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        if !self.may_build && !Maker::is_built(paths) {
            return Ok(Verdict::Skipped(format!(
                "the loader of disk images is not built; cargo xtask test qemu::{WORD} builds it"
            )));
        }
        match self.kind {
            Kind::Screen => self.use_screen(paths, guest, interrupts),
            Kind::Panic => self.panic(paths, guest, interrupts),
            Kind::Run => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["run", "--plain", &format!("--{}", self.firmware.word())]);
                play_within(LIMIT, command, &SCRIPT, 5, interrupts)
            }
        }
    }

    /// Starts a machine with a screen from a new image, with these files added.
    fn start(
        &self,
        paths: &Paths,
        guest: &Guest,
        additions: &[Addition],
        interrupts: &Interrupts,
    ) -> Result<(Pc, TempDir)> {
        let task = Task {
            input: Stdin::Terminal,
            console: Console::Screen,
            additions,
            ..Task::new("64M")
        };
        let folder = tempfile::tempdir_in(&paths.work)?;
        let image = folder.path().join("image");
        Maker::build(paths)?.make(paths, self.firmware, guest, &task, &image)?;
        let firmware = self.firmware.file(paths)?;
        let pc = Pc::start(&image, firmware.as_deref(), task.memory, LIMIT, interrupts)?;
        Ok((pc, folder))
    }

    fn panic(&self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let additions = [no_first_program(paths)];
        let (mut pc, _folder) = self.start(paths, guest, &additions, interrupts)?;
        let is_shown = pc.shows(PANIC, interrupts)?;
        let screen = pc.screen(interrupts)?.join("\n");
        Ok(Verdict::from_condition(is_shown, || format!("no panic is shown, but:\n{screen}")))
    }

    fn use_screen(&self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let (mut pc, _folder) = self.start(paths, guest, &[], interrupts)?;
        for (keys, lines) in DIALOGUE {
            pc.type_keys(keys, interrupts)?;
            if !pc.shows(lines, interrupts)? {
                return Ok(Verdict::Failed(format!(
                    "the screen does not show {lines:?}, but:\n{}",
                    pc.screen(interrupts)?.join("\n")
                )));
            }
        }
        pc.type_keys("poweroff\n", interrupts)?;
        Ok(Verdict::from_condition(pc.ends(interrupts)?, || {
            "the machine does not switch itself off".to_owned()
        }))
    }
}
