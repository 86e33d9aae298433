//! `bench`: costs in instructions and bytes, which are the same in every run.
//!
//! The guest's program `bench` measures and prints lines `name value unit`. Boot is measured by the
//! program `first`, which runs in place of init on a separate machine and writes `bench: name value
//! unit` to the log. The report adds the targets.

mod compare;
pub mod peer;
mod report;
mod saved;
mod targets;

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::compare::Comparison;
use self::peer::Peer;
use self::saved::Saved;
use crate::cli::{self, BenchArgs, Lazy};
use crate::guest::addition::Addition;
use crate::guest::{Guest, Variant};
use crate::interrupts::Interrupts;
use crate::machine::session::{Captured, Outcome, capture};
use crate::machine::task::Task;
use crate::machine::{Clock, Debugging, Disk, Hardware, Start};
use crate::paths::Paths;
use crate::{filter, guest, say, setup};

/// Memory of the machine that Linux was measured on.
pub const MEMORY: &str = "1G";
/// Time limit for all benchmarks together, on an emulator that counts instructions.
const LIMIT: Duration = Duration::from_secs(900);
/// The row for the boot of the machine.
const BOOT: &str = "boot";
/// Prefix of a figure in the log.
const LOG_MARK: &str = "bench: ";

/// A line of the report.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
}

/// Measures the rows that match; returns the exit status.
pub fn bench(paths: &Paths, arguments: &BenchArgs) -> Result<u8> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    if !filter.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        bail!("a filter consists of letters, digits, dots, underscores and dashes");
    }
    // What is wrong with the files is said before anything is measured.
    let old = arguments.against.as_deref().map(Saved::read).transpose()?;
    if let Some(file) = &arguments.save {
        saved::ensure_folder(file)?;
    }
    let toolchain = setup::ensure(paths)?;
    let guest = guest::build(paths, &toolchain, Variant::Normal)?;
    let interrupts = Interrupts::listen()?;
    let peer = match arguments.peer {
        Some(cli::Peer::Linux) => Some(Peer::get(paths, &toolchain, &guest, &interrupts)?),
        None => None,
    };
    say!("measuring (this takes a while)");
    let mut runs = Vec::new();
    if BOOT.contains(filter) {
        let (_, first) = guest
            .programs
            .iter()
            .find(|(name, _)| name == "first")
            .context("the program `first` is missing")?;
        let init = Addition { host: first.clone(), guest: "sbin/init".to_owned() };
        runs.push(measure(paths, &guest, "first", &[init], &interrupts)?);
    }
    if filter != BOOT {
        runs.push(measure(paths, &guest, format!("bench {filter}").trim(), &[], &interrupts)?);
    }
    let mut figures: Vec<Figure> = runs.iter().flat_map(Run::figures).collect();
    figures.retain(|figure| figure.name.contains(filter));
    if figures.is_empty() && runs.iter().all(|run| run.outcome.failure().is_none()) {
        let known = targets::TARGETS.iter().map(|target| target.name.to_owned());
        filter::require_match("row", filter, &known.collect::<Vec<_>>())?;
        bail!("the row {filter} gave no figure");
    }
    let comparison = old.map(|old| Comparison::new(&old, &figures, arguments.tolerance));
    let report = match (&comparison, arguments.json) {
        (None, false) => report::as_table(&figures, peer.as_ref()),
        (Some(comparison), false) => comparison.as_table(),
        (comparison, true) => report::as_json(&figures, peer.as_ref(), comparison.as_ref()),
    };
    stdout().write_all(report.as_bytes())?;
    for run in &runs {
        if let Some((status, complaint)) = run.outcome.failure() {
            eprint!("{}", run.log);
            say!("{complaint}; the figures above were measured before, and are not saved");
            return Ok(status);
        }
    }
    if let Some(file) = &arguments.save {
        Saved::now(paths, &figures).write(file)?;
    }
    Ok(comparison.map_or(0, |comparison| comparison.conclude(filter)))
}

/// The figures of the rows whose name contains `filter`, or how the machine ended.
pub fn figures(
    paths: &Paths,
    guest: &Guest,
    filter: &str,
    interrupts: &Interrupts,
) -> Result<std::result::Result<Figures, String>> {
    let run = measure(paths, guest, &format!("bench {filter}"), &[], interrupts)?;
    if let Some((_, complaint)) = run.outcome.failure() {
        return Ok(Err(format!("{complaint}\n{}", run.log)));
    }
    Ok(Ok(run.figures().map(|figure| (figure.name, figure.value)).collect()))
}

/// Values by the names of the rows.
pub type Figures = BTreeMap<String, f64>;

/// The output of a machine that measures.
struct Run {
    outcome: Outcome,
    console: String,
    log: String,
}

impl Run {
    fn figures(&self) -> impl Iterator<Item = Figure> {
        let in_log = self.log.lines().filter_map(|line| Some(line.split_once(LOG_MARK)?.1));
        in_log.chain(self.console.lines()).filter_map(figure)
    }
}

/// Runs a command on the machine that counts instructions; returns its output and the log.
pub fn counted(
    paths: &Paths,
    guest: &Guest,
    command: &str,
    lazy: Lazy,
    additions: &[Addition],
    interrupts: &Interrupts,
) -> Result<(String, String)> {
    let run = measure_with(paths, guest, command, lazy, additions, interrupts)?;
    Ok((run.console, run.log))
}

fn measure(
    paths: &Paths,
    guest: &Guest,
    command: &str,
    additions: &[Addition],
    interrupts: &Interrupts,
) -> Result<Run> {
    measure_with(paths, guest, command, Lazy::On, additions, interrupts)
}

fn measure_with(
    paths: &Paths,
    guest: &Guest,
    command: &str,
    lazy: Lazy,
    additions: &[Addition],
    interrupts: &Interrupts,
) -> Result<Run> {
    let task = Task { lazy, additions, ..Task::new(MEMORY) };
    let seen = run(paths, guest, command, task, Debugging::default(), interrupts)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Run { outcome: seen.outcome, console: text(&seen.console), log: text(&seen.log) })
}

/// Runs a command on the machine that counts instructions.
pub fn run(
    paths: &Paths,
    guest: &Guest,
    command: &str,
    task: Task<'_>,
    debugging: Debugging,
    interrupts: &Interrupts,
) -> Result<Captured> {
    let task = Task { command: Some(command), memory: MEMORY, disk: Disk::Scratch, ..task };
    let start = Start::Initrd(task.files(paths, guest)?);
    capture(guest, &start, &hardware(debugging), LIMIT, interrupts)
}

/// The machine that counts instructions.
fn hardware(debugging: Debugging) -> Hardware {
    Hardware {
        memory: MEMORY.to_owned(),
        clock: Clock::Instructions,
        cpu: Clock::Instructions.cpu().to_owned(),
        disk: Disk::Scratch,
        debugging,
    }
}

/// Parses a line `name value unit`; other lines are not figures.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.split_whitespace();
    let (name, value, unit) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    words.next().is_none().then(|| Figure { name: name.to_owned(), value, unit: unit.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_three_words() {
        let null =
            Figure { name: "null".to_owned(), value: 120.0, unit: "instructions".to_owned() };
        assert_eq!(figure("null 120 instructions"), Some(null));
        for bad in ["", "null", "null x instructions", "null 120", "null 120 instructions or so"] {
            assert_eq!(figure(bad), None);
        }
    }
}
