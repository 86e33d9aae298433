//! `foreign --suite DIR`: every program of a folder that the user names, on this host's Linux and
//! on Sloth. Programs that end differently are printed.
//!
//! The programs run in batches: one machine for each, and one set of namespaces on Linux. The
//! folder has the same path in the guest as on the host. What a program printed, and what the
//! kernel logged meanwhile, is kept in one file for each program and side.

mod elf;
mod known;
mod plan;
mod results;
mod sides;
mod tally;

use std::fs;
use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::{ForeignArgs, SuiteOptions};
use crate::guest::addition::Addition;
use crate::guest::userland::Userland;
use crate::guest::{self, Variant};
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::{filter, say, setup};
use known::Known;
use plan::{Plan, Program};
use sides::{Finding, Side, Sides};
use tally::{Tally, Verdict};

/// Runs the programs of a folder that match; returns the exit status.
pub fn suite(paths: &Paths, folder: &Path, arguments: &ForeignArgs) -> Result<u8> {
    let options = &arguments.suite_options;
    let known = options.known.as_deref().map(Known::read).transpose()?.unwrap_or_default();
    let mut plan = choose(Plan::read(folder)?, arguments, &known)?;
    if arguments.list {
        plan.programs.iter().for_each(|program| println!("{}", program.name));
        return Ok(0);
    }
    let mut additions = plan.additions()?;
    for text in &options.add {
        additions.push(Addition::parse(text)?);
    }
    let toolchain = setup::ensure(paths)?;
    let guest = guest::build(paths, &toolchain, Variant::Normal)?;
    let interrupts = Interrupts::listen()?;
    let programs = std::mem::take(&mut plan.programs);
    let sides = Sides {
        paths,
        guest: &guest,
        plan: &plan,
        additions,
        userland: Userland::find(paths, None),
        memory: &options.memory,
        lazy: options.lazy,
        limit: Duration::from_secs(options.limit),
        token: token()?,
        apart: Sides::apart(),
        interrupts: &interrupts,
    };
    let logs = Logs::create(paths, &plan.folder)?;
    say!("{} programs; what they print is kept in {}", programs.len(), logs.folder.display());
    let mut run = Run { sides, options, logs, known, tally: Tally::default(), done: 0 };
    for (name, why) in &plan.skipped {
        run.tally.skip(name, why);
    }
    let total = programs.len();
    for batch in programs.chunks(options.batch.into()) {
        run.batch(batch, total)?;
        if let Some(signal) = interrupts.pending() {
            println!("stopped after {} of {total} programs", run.done);
            run.tally.conclude();
            return Ok(u8::try_from(128 + signal).unwrap_or(1));
        }
    }
    Ok(run.tally.conclude())
}

/// Leaves out the programs that do not match, and those that the list of known ones excludes.
fn choose(mut plan: Plan, arguments: &ForeignArgs, known: &Known) -> Result<Plan> {
    let names: Vec<&str> = plan.programs.iter().map(|it| it.name.as_str()).collect();
    for stranger in known.strangers(&names) {
        say!("the list of known differences names {stranger}, which is no program of the folder");
    }
    let wanted = arguments.filter.as_deref().unwrap_or_default();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    filter::require_match("program", wanted, &names)?;
    plan.programs.retain(|program| program.name.contains(wanted));
    plan.skipped.retain(|(name, _)| name.contains(wanted));
    let (left_out, rest) =
        plan.programs.into_iter().partition(|it| known.left_out.contains_key(&it.name));
    plan.programs = rest;
    let left_out: Vec<Program> = left_out;
    let reasons = left_out.into_iter().map(|program| {
        let why = known.left_out.get(&program.name).cloned().unwrap_or_default();
        (program.name, why)
    });
    plan.skipped.extend(reasons);
    if plan.programs.is_empty() {
        bail!("the list of known differences leaves out every program");
    }
    Ok(plan)
}

/// A word that no program knows.
fn token() -> Result<String> {
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .context("cannot read random bytes")?;
    Ok(format!("suite-{:016x}", u64::from_le_bytes(bytes)))
}

/// A run of a suite.
struct Run<'a> {
    sides: Sides<'a>,
    options: &'a SuiteOptions,
    logs: Logs,
    known: Known,
    tally: Tally,
    /// Number of programs that were compared.
    done: usize,
}

impl Run<'_> {
    /// Runs programs on both sides and compares them.
    fn batch(&mut self, programs: &[Program], total: usize) -> Result<()> {
        let last = programs.last().map_or("", |program| program.name.as_str());
        let range = format!("{} to {} of {total}", self.done + 1, self.done + programs.len());
        progress(&format!("{range} on Linux, up to {last}"));
        let wanted = self.sides.run(Side::Linux, programs)?;
        let again = match self.options.output {
            true => self.sides.run(Side::Linux, programs)?,
            false => Vec::new(),
        };
        progress(&format!("{range} on Sloth, up to {last}"));
        let found = self.sides.run(Side::Sloth, programs)?;
        progress("");
        for (index, program) in programs.iter().enumerate() {
            // After a signal, the last ones have no result.
            let (Some(wanted), Some(found)) = (wanted.get(index), found.get(index)) else { break };
            let files = [
                self.logs.write(Side::Linux, &program.name, wanted)?,
                self.logs.write(Side::Sloth, &program.name, found)?,
            ];
            let verdict = self.judge(program, wanted, again.get(index), found);
            self.tally.add(&program.name, &verdict, [&wanted.end, &found.end], &files);
            self.tally.note_output(&wanted.output);
            self.done += 1;
        }
        Ok(())
    }

    /// Compares a program's two results, and its two outputs if the second one on Linux, `again`,
    /// shows that it does not vary.
    fn judge(
        &self,
        program: &Program,
        wanted: &Finding,
        again: Option<&Finding>,
        found: &Finding,
    ) -> Verdict {
        let is_same = wanted.end == found.end;
        let text = |finding: &Finding| self.comparable(&finding.output);
        let is_same_output =
            again.is_none_or(|again| text(again) != text(wanted) || text(found) == text(wanted));
        match (is_same, is_same_output, self.known.differ.get(&program.name)) {
            (true, true, None) => Verdict::Agrees,
            (true, true, Some(_)) => Verdict::AgreesThoughKnown,
            (_, _, Some(reason)) => Verdict::Known(reason.clone()),
            (false, _, None) => Verdict::Differs,
            (true, false, None) => Verdict::OutputDiffers,
        }
    }

    /// Output without the paths that differ between the sides.
    fn comparable(&self, output: &[u8]) -> String {
        let text = String::from_utf8_lossy(output).into_owned();
        let folders = sides::scratch_folders(self.sides.paths);
        folders.iter().fold(text, |text, folder| text.replace(folder, "SCRATCH"))
    }
}

/// Says what is going on: in one line of a terminal, which an empty text clears.
fn progress(text: &str) {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
        let _ = stderr().flush();
    } else if !text.is_empty() {
        say!("{text}");
    }
}

/// The files of what programs print.
struct Logs {
    folder: PathBuf,
}

impl Logs {
    /// An empty folder, below `target/suite`, that has the name of the suite's folder.
    fn create(paths: &Paths, suite: &Path) -> Result<Self> {
        let folder = paths.work.with_file_name("suite").join(suite.file_name().unwrap_or_default());
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Writes the file of a program and a side; returns its path.
    fn write(&self, side: Side, name: &str, finding: &Finding) -> Result<PathBuf> {
        let file = self.folder.join(side.word()).join(format!("{name}.log"));
        fs::create_dir_all(file.parent().context("a log without a folder")?)?;
        let mut bytes = finding.output.clone();
        if !finding.log.trim_ascii().is_empty() {
            bytes.extend_from_slice(b"\n--- log\n");
            bytes.extend_from_slice(&finding.log);
        }
        bytes.extend_from_slice(format!("\n--- {}\n", finding.end).as_bytes());
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}
