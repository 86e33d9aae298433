//! `profile`: where instructions are executed, as a flame graph.
//!
//! The machine is that of the bench. A plugin of QEMU (package `profiler`) counts executed blocks
//! of instructions by call stack between two marks; here the blocks get the names of programs and
//! functions. So a row's profile is exact: its sum is what the bench counts.

mod names;
mod stacks;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use inferno::flamegraph::{self, Options};

use self::names::Names;
use self::stacks::Stacks;
use crate::bench::{self, MEMORY};
use crate::cli::ProfileArgs;
use crate::guest::{self, Guest, Variant};
use crate::interrupts::Interrupts;
use crate::machine::task::Task;
use crate::machine::{Debugging, in_option};
use crate::paths::Paths;
use crate::{cargo, say, setup};

/// Functions in the table that is printed.
const PRINTED: usize = 20;

/// Profiles a row or a command, writes the picture and prints the functions that execute most;
/// returns the exit status.
pub fn profile(paths: &Paths, arguments: &ProfileArgs) -> Result<u8> {
    let (title, command) = task(arguments)?;
    let file = arguments.out.clone().unwrap_or_else(|| {
        let name: String = title.chars().map(|it| if is_plain(it) { it } else { '-' }).collect();
        paths.root.join("target").join(format!("profile-{name}.svg"))
    });
    let mut picture =
        File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
    let toolchain = setup::ensure(paths)?;
    let guest = guest::build(paths, &toolchain, Variant::Normal)?;
    let interrupts = Interrupts::listen()?;
    let profile = match count(paths, &guest, &command, &interrupts)? {
        Ok(profile) => profile,
        Err((status, complaint)) => {
            say!("{complaint}");
            return Ok(status);
        }
    };
    draw(&profile, &title, &mut picture)?;
    stdout().write_all(profile.table(PRINTED).as_bytes())?;
    say!("{}: {} instructions", file.display(), profile.total());
    Ok(0)
}

/// A title, and the guest's command.
fn task(arguments: &ProfileArgs) -> Result<(String, String)> {
    match &arguments.row {
        Some(row) => {
            ensure!(row.chars().all(is_plain), "a row's name has letters, digits, dots and dashes");
            Ok((row.clone(), format!("bench ={row}")))
        }
        None => {
            let line = arguments.command.join(" ");
            Ok((line.clone(), format!("bench --run '{}'", line.replace('\'', r"'\''"))))
        }
    }
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || ".-_".contains(character)
}

/// Instructions by call stack.
pub struct Profile {
    /// The functions of a stack, outermost first, separated by semicolons.
    stacks: Vec<(String, u64)>,
}

impl Profile {
    /// All instructions.
    pub fn total(&self) -> u64 {
        self.stacks.iter().map(|(_, count)| count).sum()
    }

    /// Instructions of the stacks that contain a function whose name contains these words.
    pub fn below(&self, words: &str) -> u64 {
        let found = self.stacks.iter().filter(|(stack, _)| stack.contains(words));
        found.map(|(_, count)| count).sum()
    }

    /// The functions that execute most by themselves.
    fn table(&self, count: usize) -> String {
        let mut functions = std::collections::BTreeMap::<&str, u64>::new();
        for (stack, count) in &self.stacks {
            let function = stack.rsplit(';').next().unwrap_or_default();
            *functions.entry(function).or_default() += count;
        }
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let total = self.total().max(1) as f64;
        let line = |&(function, count): &(&str, u64)| {
            format!("{count:>12} {:>5.1} %  {function}\n", 100.0 * count as f64 / total)
        };
        functions.iter().take(count).map(line).collect()
    }
}

/// Runs a command of the guest that marks what is counted. The error is an exit status and a
/// complaint.
pub fn count(
    paths: &Paths,
    guest: &Guest,
    command: &str,
    interrupts: &Interrupts,
) -> Result<Result<Profile, (u8, String)>> {
    let plugin = plugin(paths)?;
    let counts = tempfile::NamedTempFile::new_in(&paths.work).context("cannot make a file")?;
    let plugin = format!("{},out={}", in_option(&plugin), in_option(counts.path()));
    let debugging = Debugging { plugin: Some(plugin), ..Debugging::default() };
    say!("counting (this takes a while)");
    let seen = bench::run(paths, guest, command, Task::new(MEMORY), debugging, interrupts)?;
    if let Some((status, complaint)) = seen.outcome.failure() {
        let log = String::from_utf8_lossy(&seen.log);
        return Ok(Err((status, format!("{complaint}\n{log}"))));
    }
    let mut stacks = Stacks::default();
    for line in BufReader::new(File::open(counts.path())?).lines() {
        let line = line?;
        stacks.add(&line).with_context(|| format!("the plugin wrote {line:?}"))?;
    }
    let stacks = stacks.resolve(&mut Names::of(guest)?);
    ensure!(!stacks.is_empty(), "nothing was executed between the marks");
    Ok(Ok(Profile { stacks }))
}

/// Builds the plugin.
fn plugin(paths: &Paths) -> Result<PathBuf> {
    let mut command = cargo::command(paths, "build");
    command.args(["--release", "--package", "profiler"]);
    for artifact in cargo::artifacts(command, "the profiler")? {
        let files = artifact["filenames"].as_array().into_iter().flatten();
        let mut files = files.filter_map(|file| file.as_str());
        if let Some(file) = files.find(|file| file.ends_with("libprofiler.so")) {
            return Ok(PathBuf::from(file));
        }
    }
    bail!("cargo built no plugin")
}

fn draw(profile: &Profile, title: &str, to: &mut File) -> Result<()> {
    let mut options = Options::default();
    options.title = format!("{title}: {} instructions", profile.total());
    options.count_name = "instructions".to_owned();
    let lines: Vec<String> =
        profile.stacks.iter().map(|(stack, count)| format!("{stack} {count}")).collect();
    let mut to = BufWriter::new(to);
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut to)
        .context("the picture cannot be drawn")?;
    to.flush().context("the picture cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_sums_up() {
        let stacks = [("a;b", 2), ("a;c;b", 5), ("a", 1)];
        let stacks = stacks.map(|(stack, count)| (stack.to_owned(), count)).to_vec();
        let profile = Profile { stacks };
        assert_eq!((profile.total(), profile.below(";b"), profile.below("c")), (8, 7, 5));
        assert_eq!(profile.table(1), "           7  87.5 %  b\n");
    }

    #[test]
    fn a_command_is_quoted() {
        let arguments = ProfileArgs {
            row: None,
            out: None,
            command: vec!["echo".to_owned(), "'a b'".to_owned()],
        };
        let (title, command) = task(&arguments).unwrap();
        assert_eq!(title, "echo 'a b'");
        assert_eq!(command, r"bench --run 'echo '\''a b'\'''");
    }
}
