//! `--peer linux`: measures Linux on the machine of the bench.
//!
//! The kernel is the distribution's, from its package. The first process is the program `peer`,
//! which runs rows of the program `bench` on a FUSE server of its own, in all of FUSE's ways
//! (`user/peer`). In each row the best way counts. Since nothing of this changes from run to run,
//! the figures are kept, by the kernel's version and the programs.

mod initramfs;
mod kernel;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::initramfs::Initramfs;
use self::kernel::Kernel;
use super::{Figure, figure, hardware};
use crate::guest::{self, Guest};
use crate::interrupts::Interrupts;
use crate::machine::session::{Input, Outcome, Session};
use crate::machine::{Debugging, Disk, Ending, Hardware, Machine, Start};
use crate::paths::Paths;
use crate::say;
use crate::setup::Toolchain;

/// The kernel's log goes to the second serial line. Without mitigations, as Sloth has none.
const COMMAND_LINE: &str = "console=ttyS1 quiet mitigations=off panic=-1";
/// Time limit for all rows in all ways.
const LIMIT: Duration = Duration::from_secs(3600);
/// Rows of the guest that Linux has under another name: it has no wrapper.
const SAME: [(&str, &str); 1] = [("base.rtt", "server.rtt")];
/// Programs of the guest that `peer` starts.
const PROGRAMS: [&str; 2] = ["bench", "true"];

/// What Linux takes.
#[derive(Debug, PartialEq)]
pub struct Peer {
    /// The version of the kernel's package.
    pub version: String,
    /// The best way of each row, by the row's name.
    best: BTreeMap<String, Best>,
}

/// The best way of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// The figure, in the row's unit.
    pub value: f64,
    /// How FUSE was used; `.huge` with large pages.
    pub way: String,
}

impl Peer {
    /// The best way of a row; `None` if Linux cannot do the same.
    pub fn find(&self, row: &str) -> Option<&Best> {
        let same = SAME.iter().find(|(name, _)| *name == row).map(|(_, other)| *other);
        self.best.get(same.unwrap_or(row))
    }

    /// Measures Linux, or reads the figures of an earlier run.
    pub fn get(
        paths: &Paths,
        toolchain: &Toolchain,
        guest: &Guest,
        interrupts: &Interrupts,
    ) -> Result<Self> {
        let kernel = Kernel::get(paths)?;
        let root = Root::new(paths, toolchain, guest, &kernel)?;
        let kept = paths.work.with_file_name("peer").join(format!("{}.json", root.name(&kernel)?));
        if let Ok(text) = fs::read_to_string(&kept) {
            return Self::parse(&text).with_context(|| {
                format!("{} is damaged; remove it to measure again", kept.display())
            });
        }
        say!(
            "measuring Linux {} (once, for many minutes; the boot alone takes one)",
            kernel.version
        );
        let (output, log) = run(paths, guest, &kernel, &root, interrupts)?;
        let peer = Self {
            best: best(&output).inspect_err(|_| eprint!("{log}"))?,
            version: kernel.version,
        };
        fs::write(&kept, peer.text())?;
        Ok(peer)
    }

    fn text(&self) -> String {
        let rows = self
            .best
            .iter()
            .map(|(name, best)| json!({ "name": name, "value": best.value, "way": best.way }));
        let rows: Vec<Value> = rows.collect();
        format!("{:#}\n", json!({ "version": self.version, "rows": rows }))
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let row = |row: &Value| {
            let (name, way) = (row["name"].as_str()?, row["way"].as_str()?);
            let best = Best { value: row["value"].as_f64()?, way: way.to_owned() };
            Some((name.to_owned(), best))
        };
        let rows = value["rows"].as_array().context("there are no rows")?;
        let best: Option<BTreeMap<_, _>> = rows.iter().map(row).collect();
        let version = value["version"].as_str().context("there is no version")?;
        Ok(Self { version: version.to_owned(), best: best.context("a row is incomplete")? })
    }
}

/// The files of the root file system.
struct Root {
    /// Paths and contents.
    files: Vec<(String, Vec<u8>)>,
}

impl Root {
    fn new(paths: &Paths, toolchain: &Toolchain, guest: &Guest, kernel: &Kernel) -> Result<Self> {
        let read =
            |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        let mut files = vec![
            ("init".to_owned(), read(&guest::build_peer(paths, toolchain)?)?),
            ("fuse.ko".to_owned(), read(&kernel.module)?),
        ];
        for name in PROGRAMS {
            let program = guest.programs.iter().find(|(known, _)| known == name);
            let (_, file) = program.with_context(|| format!("the program {name} is missing"))?;
            files.push((format!("bin/{name}"), read(file)?));
        }
        Ok(Self { files })
    }

    /// A name for what is measured: it changes with anything that the figures depend on.
    fn name(&self, kernel: &Kernel) -> Result<String> {
        let mut hash = Sha256::new();
        let options = machine().options().join(" ");
        let texts = [options.as_bytes(), COMMAND_LINE.as_bytes(), kernel.version.as_bytes()];
        for part in texts.into_iter().chain(self.files.iter().map(|(_, data)| data.as_slice())) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("linux-{}-{}", kernel.version, &digits[..16]))
    }

    fn write(&self, to: &File) -> io::Result<()> {
        let mut archive = Initramfs::new(BufWriter::new(to));
        for folder in ["bin", "dev", "sys", "tmp"] {
            archive.folder(folder)?;
        }
        archive.device("dev/console", [5, 1])?;
        archive.device("dev/fuse", [10, 229])?;
        archive.device("dev/ttyS0", [4, 64])?;
        for (path, data) in &self.files {
            archive.file(path, data)?;
        }
        archive.finish()
    }
}

/// The machine of the bench, without a disk.
fn machine() -> Hardware {
    Hardware { disk: Disk::None, ..hardware(Debugging::default()) }
}

/// Runs the machine. Returns its output and the kernel's log.
fn run(
    paths: &Paths,
    guest: &Guest,
    kernel: &Kernel,
    root: &Root,
    interrupts: &Interrupts,
) -> Result<(String, String)> {
    let initrd = paths.scratch_file()?;
    root.write(&initrd)?;
    let command_line = COMMAND_LINE.to_owned();
    let start = Start::Linux { kernel: kernel.image.clone(), initrd, command_line };
    let machine = Machine::start(guest, &start, &machine())?;
    let (mut console, mut log) = (Progress::default(), Vec::new());
    let (limit, input) = (Some(LIMIT), Input::None);
    let (console_to, log_to) = (&mut console, &mut log);
    let session =
        Session { input, console: console_to, log: log_to, limit, silence: None, interrupts };
    let outcome = session.run(machine)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
    let (output, log) = (text(&console.output), text(&log));
    if !matches!(outcome, Outcome::Ended(Ending::PowerOff, _)) {
        eprint!("{log}");
        bail!("Linux did not measure: {}", why(&outcome, &log));
    }
    Ok((output, log))
}

/// Why the machine ended before its time.
fn why(outcome: &Outcome, log: &str) -> String {
    let panic = log.lines().find_map(|line| Some(line.split_once("Kernel panic")?.1));
    match (panic, outcome) {
        (Some(panic), _) => format!("its kernel panicked{panic}"),
        (None, Outcome::TimedOut) => {
            format!("it took more than {} minutes and was stopped", LIMIT.as_secs() / 60)
        }
        (None, outcome) => outcome.describe().1,
    }
}

/// The best way of each row in the program's output. Says which rows failed.
fn best(output: &str) -> Result<BTreeMap<String, Best>> {
    let mut best: BTreeMap<String, Best> = BTreeMap::new();
    for line in output.lines().map(str::trim) {
        if let Some(failure) = line.strip_prefix("failed ") {
            ensure!(!failure.starts_with("everything"), "Linux did not measure: {failure}");
            say!("on Linux failed {failure}");
        }
        let Some((way, row)) = line.strip_prefix("figure ").and_then(|it| it.split_once(' '))
        else {
            continue;
        };
        let Some(Figure { name, value, .. }) = figure(row) else { continue };
        if best.get(&name).is_none_or(|known| value < known.value) {
            best.insert(name, Best { value, way: way.to_owned() });
        }
    }
    ensure!(output.lines().any(|line| line.trim() == "done"), "Linux did not measure to the end");
    Ok(best)
}

/// Keeps a machine's output and says what it is measuring.
#[derive(Default)]
struct Progress {
    output: Vec<u8>,
    /// Where the line begins that is not complete.
    line: usize,
}

impl Write for Progress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        while let Some(end) = self.output[self.line..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.output[self.line..self.line + end]);
            if let Some(mode) = line.trim().strip_prefix("mode ") {
                say!("measuring Linux: {mode}");
            }
            self.line += end + 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The figures of an output, for tests of reports.
#[cfg(test)]
pub fn of_output(output: &str) -> Peer {
    Peer { version: "6.1".to_owned(), best: best(output).unwrap() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "figure alone boot 9 instructions\r\nmode direct\r\n\
        figure direct null 325 instructions\r\nfailed direct exec status 1\r\n\
        figure direct.huge null 324 instructions\r\nfigure cached null x instructions\r\n\
        figure cached server.rtt 16000 instructions\r\ndone\r\n";

    #[test]
    fn the_best_way_counts() {
        let peer = of_output(OUTPUT);
        assert_eq!(peer.best["null"], Best { value: 324.0, way: "direct.huge".to_owned() });
        assert_eq!(peer.find("base.rtt"), peer.find("server.rtt"));
        assert_eq!((peer.find("exec"), peer.find("boot").unwrap().value), (None, 9.0));
        assert_eq!(Peer::parse(&peer.text()).unwrap(), peer);
    }

    #[test]
    fn an_end_before_the_end_is_an_error() {
        assert!(best(OUTPUT.strip_suffix("done\r\n").unwrap()).is_err());
        let failed = best("failed everything loading fuse.ko: ENOEXEC\ndone\n").unwrap_err();
        assert!(failed.to_string().contains("loading fuse.ko"));
        let panic = "[1.0] Kernel panic - not syncing: VFS: Unable to mount root fs";
        let reason = why(&Outcome::Ended(Ending::Other(String::new()), None), panic);
        assert_eq!(reason, "its kernel panicked - not syncing: VFS: Unable to mount root fs");
        assert!(why(&Outcome::TimedOut, "").contains("60 minutes"));
    }

    #[test]
    fn progress_is_said_once_a_line_is_complete() {
        let mut progress = Progress::default();
        for piece in ["mo", "de a\nfigure", " a null 1 instructions\n"] {
            progress.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(progress.line, progress.output.len());
    }
}
