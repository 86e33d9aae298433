//! The command line. It is an interface that people and scripts rely on: nothing here changes
//! its meaning.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::status;

/// Everything that is done with Sloth: build it, boot it, test it, measure it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install what is missing: the guest's compilation target and QEMU. (Every command does so by
    /// itself.)
    Setup,
    /// Build loader, kernel and programs.
    Build,
    /// Boot Sloth: to a shell, or to run one command.
    #[command(after_help = status::HELP)]
    Run(RunArgs),
    /// Run the tests, on the host and in QEMU; the last line is `N passed, N failed`.
    Test(TestArgs),
    /// Measure, in instructions and bytes, beside the targets and what Linux needs.
    Bench(BenchArgs),
    /// Run other people's programs on Sloth and on Linux, and compare; the last line is `N passed,
    /// N failed, N skipped`.
    Foreign(ForeignArgs),
    /// Run the simulation, seed after seed, until one fails; that one is made smaller and printed.
    /// Ctrl-C ends it between two runs.
    Sim(SimArgs),
    /// Write the book's chapter "Is it invisible?" from the tests and how they last ended, and
    /// build the book.
    Book,
    /// Feed a decoder bytes that a coverage-guided engine makes up, and keep what covers more of
    /// it.
    Fuzz(FuzzArgs),
    /// What continuous integration runs: formatting, lints, all tests.
    Ci,
}

/// Laziness, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lazy {
    /// Reads map.
    On,
    /// Reads copy.
    Off,
}

impl Lazy {
    /// The word for the guest's configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// `run`'s options.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The machine's memory: a number with K, M or G.
    #[arg(long, default_value = "128M", value_parser = memory)]
    pub memory: String,
    /// Put a file or a folder into the root file system; by default where its path, seen from
    /// /root, points to. Repeatable.
    #[arg(long, value_name = "HOST[:GUEST]")]
    pub add: Vec<String>,
    /// Whether read(2) is lazy.
    #[arg(long, value_enum, default_value = "on")]
    pub lazy: Lazy,
    /// Let the guest's clock count instructions: the same in every run, and slower.
    #[arg(long)]
    pub icount: bool,
    /// Count what passes between kernel and wrapper (client), wrapper and base (base), and log
    /// every message (log): words with commas between. The figures come at the end, on standard
    /// error.
    #[arg(long, value_name = "WORDS")]
    pub relay: Option<String>,
    /// Write the kernel's log to a file too.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Wait for a debugger on port 1234 before the first instruction.
    #[arg(long)]
    pub gdb: bool,
    /// End the machine after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Break one rule on purpose: what the tests do to see themselves fail.
    #[arg(long, value_name = "NAME", hide = true)]
    pub mutant: Option<String>,
    /// A line of shell for the guest; its words are joined by spaces. Without it: a shell on the
    /// console.
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// `test`'s options.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Run only tests whose name contains this; the word `mutants` alone means `--mutants`.
    pub filter: Option<String>,
    /// Print the names of the tests, one a line, and run none.
    #[arg(long)]
    pub list: bool,
    /// Break the code on purpose, one rule at a time, and expect the rule's tests to fail.
    #[arg(long)]
    pub mutants: bool,
    /// Let the exercisers and tormentors run for many minutes rather than seconds.
    #[arg(long)]
    pub long: bool,
}

/// `fuzz`'s options.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// Which; all without it, one after the other.
    pub target: Option<String>,
    /// How long each.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// How long the tests that could go on for ever go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Seconds: every time.
    Short,
    /// Many minutes: now and then.
    Long,
}

impl TestArgs {
    /// The same as a length.
    pub fn length(&self) -> Length {
        if self.long { Length::Long } else { Length::Short }
    }
}

/// `foreign`'s options.
#[derive(Debug, Args)]
pub struct ForeignArgs {
    /// Run only cases whose name contains this.
    pub filter: Option<String>,
    /// Print the names of the cases, one a line, and run none.
    #[arg(long)]
    pub list: bool,
    /// Instead, measure what some of the programs ask for, what moves, and what it takes, with
    /// laziness on and off.
    #[arg(long)]
    pub profit: bool,
}

/// `bench`'s options.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Measure only what has this in its name.
    pub filter: Option<String>,
    /// Print a JSON array of objects with name, unit, value, target and peer.
    #[arg(long)]
    pub json: bool,
}

/// `sim`'s options.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// The first seed; without it, one that is drawn and printed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Steps in all, more or less: runs are carried to their end.
    #[arg(long, default_value_t = 10_000_000)]
    pub steps: u64,
    /// Keep a failure under this name, where the test suite replays it.
    #[arg(long, value_name = "NAME")]
    pub keep: Option<String>,
    /// Replay what was kept in a file, and print step by step what happens.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "keep"])]
    pub replay: Option<PathBuf>,
    /// Break one rule on purpose, to see it found.
    #[arg(long = "break", value_name = "MUTANT")]
    pub mutant: Option<String>,
}

/// Checks a memory size, which goes to QEMU as it is.
fn memory(text: &str) -> Result<String, String> {
    let digits = text.strip_suffix(['K', 'M', 'G']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("a size is a number with K, M or G behind it, as in 128M".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_after_the_dashes_are_the_command() {
        let cli = Cli::try_parse_from(["xtask", "run", "--memory", "48M", "--", "ls", "-l", "/"])
            .unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.command, ["ls", "-l", "/"]);
        assert_eq!(run.memory, "48M");
        assert_eq!(run.lazy, Lazy::On);
    }

    #[test]
    fn a_size_is_a_size() {
        assert!(memory("128M").is_ok());
        assert!(memory("1024").is_ok());
        for bad in ["", "M", "12x", "1 G", "-1M", "1M,slots=2"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }
}
