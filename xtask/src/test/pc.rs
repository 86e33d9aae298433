//! A machine like a PC without serial lines: keys are typed, and the text on the screen is read,
//! through QEMU's monitor.
//!
//! The text is found by the font: a place of the screen shows a character if its pixels are those
//! of the character. So text that a person could not read is not found.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use rustix::event::{PollFd, PollFlags};

use crate::interrupts::Interrupts;
use crate::machine::in_option;
use crate::process;
use crate::setup::QEMU;

/// The console's font, and its grey on black.
const SIZE: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;
const GREY: u32 = 204;
/// Lines of pixels for which the font has its own size.
const PLAIN_HEIGHT: usize = 720;
/// What a place reads as that shows no character of the font.
const UNKNOWN: char = '\u{fffd}';
/// What the monitor writes when it has carried out a command.
const PROMPT: &[u8] = b"(qemu) ";
/// The time between two looks at the screen.
const LOOK: Duration = Duration::from_millis(300);

/// The machine. Dropping it kills QEMU.
pub struct Pc {
    child: Child,
    commands: ChildStdin,
    answers: ChildStdout,
    /// The file in which a picture of the screen is kept.
    picture: PathBuf,
    characters: HashMap<Vec<u8>, char>,
    deadline: Instant,
}

impl Drop for Pc {
    fn drop(&mut self) {
        process::kill(&mut self.child);
    }
}

impl Pc {
    /// Starts a machine with an image's disk, a screen and a keyboard.
    pub fn start(
        image: &Path,
        firmware: Option<&Path>,
        memory: &str,
        limit: Duration,
        interrupts: &Interrupts,
    ) -> Result<Self> {
        let mut command = Command::new(QEMU);
        command.args(["-M", "q35", "-nodefaults", "-accel", "tcg", "-cpu", "max", "-no-reboot"]);
        command.args(["-display", "none", "-device", "VGA", "-monitor", "stdio", "-m", memory]);
        command.arg("-drive").arg(format!("format=raw,file={}", in_option(image)));
        if let Some(firmware) = firmware {
            command.arg("-bios").arg(firmware);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = process::spawn_bound(&mut command)?;
        let commands = child.stdin.take().context("QEMU has no standard input")?;
        let answers = child.stdout.take().context("QEMU has no standard output")?;
        let picture = image.with_extension("ppm");
        let deadline = Instant::now() + limit;
        let characters = characters();
        let mut pc = Self { child, commands, answers, picture, characters, deadline };
        pc.wait_for_prompt(interrupts)?;
        Ok(pc)
    }

    /// Has the monitor carry out a command.
    fn command(&mut self, command: &str, interrupts: &Interrupts) -> Result<()> {
        writeln!(self.commands, "{command}")?;
        self.wait_for_prompt(interrupts)
    }

    /// Waits until the monitor has written a prompt in a line of its own: it does so at its start,
    /// and after the line in which it repeats a command.
    fn wait_for_prompt(&mut self, interrupts: &Interrupts) -> Result<()> {
        let mut text = Vec::new();
        let is_done = |text: &[u8]| {
            let end = text.iter().position(|&byte| byte == b'\n');
            end.is_some_and(|end| text[end..].ends_with(PROMPT))
        };
        while !is_done(&text) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero() && interrupts.pending().is_none(), "QEMU does not answer");
            let mut waiting =
                [PollFd::new(&self.answers, PollFlags::IN), PollFd::new(interrupts, PollFlags::IN)];
            process::poll(&mut waiting, Some(left))?;
            if waiting[0].revents().is_empty() {
                continue;
            }
            let mut buffer = [0; 4096];
            let count = self.answers.read(&mut buffer)?;
            ensure!(count > 0, "QEMU has ended");
            text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    /// Types letters, digits, spaces and ends of lines.
    pub fn type_keys(&mut self, keys: &str, interrupts: &Interrupts) -> Result<()> {
        for key in keys.chars() {
            let name = match key {
                ' ' => "spc".to_owned(),
                '\n' => "ret".to_owned(),
                'a'..='z' | '0'..='9' => key.to_string(),
                _ => bail!("no key is known for {key:?}"),
            };
            self.command(&format!("sendkey {name}"), interrupts)?;
        }
        Ok(())
    }

    /// Waits until the screen shows these lines, one below the other. Returns false at the
    /// deadline.
    pub fn shows(&mut self, lines: &[&str], interrupts: &Interrupts) -> Result<bool> {
        while Instant::now() < self.deadline && interrupts.pending().is_none() {
            if self.screen(interrupts)?.windows(lines.len()).any(|window| window == lines) {
                return Ok(true);
            }
            std::thread::sleep(LOOK);
        }
        Ok(false)
    }

    /// Waits until the machine has switched itself off. Returns false at the deadline.
    pub fn ends(&mut self, interrupts: &Interrupts) -> Result<bool> {
        while Instant::now() < self.deadline && interrupts.pending().is_none() {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(LOOK);
        }
        Ok(false)
    }

    /// The text on the screen, without spaces at the ends of lines.
    pub fn screen(&mut self, interrupts: &Interrupts) -> Result<Vec<String>> {
        let picture = self.picture.clone();
        self.command(&format!("screendump {}", picture.display()), interrupts)?;
        let bytes = std::fs::read(&picture).context("QEMU made no picture of the screen")?;
        text(&bytes, &self.characters).context("QEMU's picture of the screen is not understood")
    }
}

/// The characters of the font by their pixels, as the console draws them.
fn characters() -> HashMap<Vec<u8>, char> {
    let pixels = |character| {
        let rows = get_raster(character, WEIGHT, SIZE)?.rows();
        Some(rows.flatten().map(|&level| (u32::from(level) * GREY / 255) as u8).collect())
    };
    (' '..='~').filter_map(|character| Some((pixels(character)?, character))).collect()
}

/// The text in a picture (netpbm's binary form of 24-bit pictures).
fn text(picture: &[u8], characters: &HashMap<Vec<u8>, char>) -> Option<Vec<String>> {
    let mut parts = picture.splitn(4, |&byte| byte == b'\n');
    let (b"P6", size, b"255", pixels) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?)
    else {
        return None;
    };
    let (width, height) = std::str::from_utf8(size).ok()?.split_once(' ')?;
    let (width, height): (usize, usize) = (width.parse().ok()?, height.parse().ok()?);
    let (columns, rows) = (get_raster_width(WEIGHT, SIZE), SIZE.val());
    // Each of the font's pixels is several on a large screen, of which one is looked at.
    let scale = (height / PLAIN_HEIGHT).max(1);
    let place = |top: usize, left: usize| {
        let mut levels = Vec::with_capacity(columns * rows);
        for y in top..top + rows {
            for x in left..left + columns {
                let pixel = pixels.get(3 * scale * (y * width + x)..)?.get(..3)?;
                levels.push(*pixel.first()?);
            }
        }
        Some(characters.get(&levels).copied().unwrap_or(UNKNOWN))
    };
    (0..height / (rows * scale))
        .map(|row| {
            let line: Option<String> = (0..width / (columns * scale))
                .map(|column| place(row * rows, column * columns))
                .collect();
            line.map(|line| line.trim_end().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_from_a_picture() {
        let characters = characters();
        assert_eq!(characters.len(), 95);
        let columns = get_raster_width(WEIGHT, SIZE);
        let mut picture = format!("P6\n{} {}\n255\n", 2 * columns, SIZE.val()).into_bytes();
        let [a, b] = ['A', 'b'].map(|it| get_raster(it, WEIGHT, SIZE).unwrap());
        for (a, b) in a.rows().zip(b.rows()) {
            for &level in a.iter().chain(b) {
                picture.extend([(u32::from(level) * GREY / 255) as u8; 3]);
            }
        }
        assert_eq!(text(&picture, &characters), Some(vec!["Ab".to_owned()]));
        let start = picture.len() - 9;
        picture[start..].fill(1);
        assert_eq!(text(&picture, &characters), Some(vec![format!("A{UNKNOWN}")]));
        picture.pop();
        assert_eq!(text(&picture, &characters), None);
    }
}
