//! The command line. People and scripts rely on it: options are not removed and keep their meaning.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::exit_status;

/// Build, boot, test and measure Sloth.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `cargo xtask`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install the guest's compilation target and QEMU if they are missing. Every command does so.
    Setup,
    /// Build the loader, the kernel and the programs.
    Build,
    /// Boot Sloth to a shell, or to run one command.
    #[command(after_help = exit_status::HELP)]
    Run(RunArgs),
    /// Make raw disk images that boot on a PC, by BIOS and by UEFI.
    Image(ImageArgs),
    /// Run the tests, on the host and in QEMU; the last line is `N passed, N failed`.
    Test(TestArgs),
    /// Measure instructions and bytes, and show the targets and the figures of Linux.
    Bench(BenchArgs),
    /// Show where the instructions of a row of the bench, or of a command, are executed: a flame
    /// graph of client, kernel and servers, as SVG.
    Profile(ProfileArgs),
    /// Run other people's programs on Sloth and on Linux, and compare the results; the last line is
    /// `N passed, N failed, N skipped`.
    Foreign(ForeignArgs),
    /// Run the simulation with one seed after the other until one fails. The failure is minimised
    /// and printed. Ctrl-C ends the simulation after the current run.
    Sim(SimArgs),
    /// Write the book's chapter "Is it invisible?" from the tests and their last results, and
    /// build the book.
    Book,
    /// Fuzz the decoders with a coverage-guided engine, and keep the inputs that cover more code.
    Fuzz(FuzzArgs),
    /// Start gdb with the kernel's symbols, connected to `cargo xtask run --gdb`. It has commands
    /// for the memory of a process, page tables, live snapshots, message queues and held locks.
    Gdb(GdbArgs),
    /// Run the checks of continuous integration: formatting, lints, style, layers, documentation,
    /// all tests.
    Ci,
}

impl Cli {
    /// Exits with a hint if the guest's command was written without the dashes before it.
    pub fn exit_if_dashes_are_missing(&self) {
        if let Command::Run(RunArgs { words, command, .. }) = &self.command
            && !words.is_empty()
        {
            let line = words.iter().chain(command).map(String::as_str).collect::<Vec<_>>();
            let hint = format!(
                "a command for the guest follows two dashes: cargo xtask run -- {}",
                line.join(" ")
            );
            Self::command().error(ErrorKind::UnknownArgument, hint).exit();
        }
    }
}

/// Whether read(2) is lazy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lazy {
    /// read(2) maps snapshots.
    On,
    /// read(2) copies bytes.
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

/// Options of `cargo xtask run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Size of the machine's memory, a number with K, M or G.
    #[arg(long, default_value = "128M", value_parser = memory)]
    pub memory: String,
    /// Add a file or a folder to the root file system, by default at the same path relative to
    /// /root. Large files are put on the machine's disk, without their holes. Repeatable.
    #[arg(long, value_name = "HOST[:GUEST]")]
    pub add: Vec<String>,
    /// Leave out the distribution's bash and busybox, which otherwise are downloaded once and added
    /// to machines of 128 MiB and more: bash is then the shell on the console.
    #[arg(long)]
    pub plain: bool,
    /// Whether read(2) is lazy.
    #[arg(long, value_enum, default_value = "on")]
    pub lazy: Lazy,
    /// Let the guest's clock count instructions; runs are reproducible, and slower.
    #[arg(long)]
    pub icount: bool,
    /// Give the machine no disk: memory is all there is for temporary files and programs' pages.
    #[arg(long)]
    pub no_disk: bool,
    /// Put a disk of the user's before the machine's own, as `/dev/vda`. It is new in every run.
    #[arg(long, conflicts_with = "no_disk")]
    pub second_disk: bool,
    /// Have each write to the machine's disk fail, as on a host that has no space left.
    #[arg(long, conflicts_with_all = ["no_disk", "second_disk"])]
    pub full_disk: bool,
    /// Count messages between kernel and wrapper (client) and between wrapper and base (base), and
    /// log each (log); separate the words by commas. The figures are printed at the end, on
    /// standard error.
    #[arg(long, value_name = "WORDS")]
    pub relay: Option<String>,
    /// Also write the kernel's log to a file.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Boot from a disk image, by BIOS, as a PC does: with a screen and a keyboard beside the
    /// serial line. The first time builds the loader, for minutes.
    #[arg(long, conflicts_with = "uefi")]
    pub bios: bool,
    /// The same by UEFI.
    #[arg(long)]
    pub uefi: bool,
    /// Where QEMU shows the screen, in the words of its own option, such as gtk or vnc=:0.
    #[arg(long, value_name = "WHERE", default_value = "none")]
    pub display: String,
    /// Wait for a debugger (`cargo xtask gdb`) before the first instruction. The guest is built
    /// for it, with all arguments and locals, and is slower.
    #[arg(long, conflicts_with = "mutant")]
    pub gdb: bool,
    /// Let QEMU's monitor listen on a socket, whose path is printed. Its command `nmi` makes the
    /// kernel log what each thread waits for.
    #[arg(long)]
    pub monitor: bool,
    /// Stop the machine after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Switch a mutant on.
    #[arg(long, value_name = "NAME", hide = true)]
    pub mutant: Option<String>,
    /// Words before the dashes, which are a mistake.
    #[arg(hide = true)]
    pub words: Vec<String>,
    /// A line for the guest's shell; its words are joined by spaces. Without it, a shell runs on
    /// the console.
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// Options of `cargo xtask image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Only the image for BIOS.
    #[arg(long)]
    pub bios: bool,
    /// Only the image for UEFI.
    #[arg(long)]
    pub uefi: bool,
    /// The image's file; of two images, each has its firmware in the name.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Add a file or a folder to the root file system, as `run` does. Repeatable.
    #[arg(long, value_name = "HOST[:GUEST]")]
    pub add: Vec<String>,
    /// Leave out the distribution's bash and busybox.
    #[arg(long)]
    pub plain: bool,
}

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Run only tests whose name contains this; the word `mutants` alone means `--mutants`.
    pub filter: Option<String>,
    /// Print the names of the tests, one per line, and run none.
    #[arg(long)]
    pub list: bool,
    /// Switch on one mutant after the other, and expect the tests of its rule to fail.
    #[arg(long)]
    pub mutants: bool,
    /// Let exercisers and stress workers run for minutes rather than seconds, and let the kernel
    /// check its lock order.
    #[arg(long)]
    pub long: bool,
}

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// The target to fuzz; without it, each target in turn.
    pub target: Option<String>,
    /// Duration for each target, in seconds.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// Options of `cargo xtask gdb`.
#[derive(Debug, Args)]
pub struct GdbArgs {
    /// More arguments for gdb, after two dashes: `cargo xtask gdb -- -ex 'break syscall'`.
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// Length of the tests that have no natural end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Seconds, for every run of the tests.
    Short,
    /// Many minutes, with `--long`.
    Long,
}

impl TestArgs {
    /// The length that the options select.
    pub fn length(&self) -> Length {
        if self.long { Length::Long } else { Length::Short }
    }
}

/// Options of `cargo xtask foreign`.
#[derive(Debug, Args)]
pub struct ForeignArgs {
    /// Run only cases whose name contains this.
    pub filter: Option<String>,
    /// Print the names of the cases, one per line, and run none.
    #[arg(long)]
    pub list: bool,
    /// Instead, measure for some of the programs the bytes requested, the bytes moved and the
    /// instructions, with laziness on and off.
    #[arg(long)]
    pub profit: bool,
    /// Instead, run each program of this folder, such as LTP's testcases/bin, on this host's Linux
    /// and on Sloth, and print which end differently. The last line is `N agree, N differ, N
    /// skipped`.
    #[arg(long, value_name = "DIR", conflicts_with = "profit")]
    pub suite: Option<PathBuf>,
    /// The options that concern `--suite`.
    #[command(flatten)]
    pub suite_options: SuiteOptions,
}

/// Options of `cargo xtask foreign --suite`.
#[derive(Debug, Clone, Args)]
pub struct SuiteOptions {
    /// Compare the programs' output as well, except where it varies on Linux.
    #[arg(long, requires = "suite")]
    pub output: bool,
    /// A file of known differences, which are not counted as such: in each line a program's name
    /// and a reason. `!NAME REASON` leaves the program out.
    #[arg(long, value_name = "FILE", requires = "suite")]
    pub known: Option<PathBuf>,
    /// Time limit of each program, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "suite")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub limit: u64,
    /// Number of programs that share a machine.
    #[arg(long, value_name = "N", default_value_t = 50, requires = "suite")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Size of the machine's memory, a number with K, M or G.
    #[arg(long, default_value = "512M", value_parser = memory, requires = "suite")]
    pub memory: String,
    /// Whether read(2) is lazy.
    #[arg(long, value_enum, default_value = "on", requires = "suite")]
    pub lazy: Lazy,
    /// Add a file or a folder that the programs need to the guest, as `run` does. Repeatable.
    #[arg(long, value_name = "HOST[:GUEST]", requires = "suite")]
    pub add: Vec<String>,
}

/// A kernel that Sloth is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Linux with a minimal FUSE server, in the best way of each row.
    Linux,
}

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Measure only rows whose name contains this.
    pub filter: Option<String>,
    /// Print a JSON array of objects with name, unit, value, target and peer; with `--against`, of
    /// old and ratio, too.
    #[arg(long)]
    pub json: bool,
    /// Measure another kernel on the same machine, too, in place of the figures that were measured
    /// once: the distribution's, from its package. The first time takes many minutes; the figures
    /// are kept below `target/peer`.
    #[arg(long, value_enum)]
    pub peer: Option<Peer>,
    /// Keep the figures in a file, as JSON, with the commit and the machine.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Compare with the figures of a file that `--save` has written, or with the output of
    /// `--json`. The exit status is 1 if a row has become worse.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// By how many percent a figure may rise before its row counts as worse.
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, requires = "against")]
    #[arg(value_parser = percent)]
    pub tolerance: f64,
}

/// Options of `cargo xtask profile`.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The name of a row.
    #[arg(required_unless_present = "command", conflicts_with = "command")]
    pub row: Option<String>,
    /// The picture; without it, `target/profile-ROW.svg`.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// A line for the guest's shell in place of a row.
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// Options of `cargo xtask sim`.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// The first seed; without it, a random seed is chosen and printed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Number of steps in total; the last run is completed.
    #[arg(long, default_value_t = 10_000_000)]
    pub steps: u64,
    /// Keep a failure under this name; the test suite replays it.
    #[arg(long, value_name = "NAME")]
    pub keep: Option<String>,
    /// Replay a kept failure from a file, and print each step.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "keep"])]
    pub replay: Option<PathBuf>,
    /// Switch a mutant on, which the simulation should find.
    #[arg(long, value_name = "NAME", alias = "break")]
    pub mutant: Option<String>,
}

/// Parses a tolerance in percent.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err("a tolerance is a number of percent from 0 to 1000, as in 2 or 0.5".to_owned()),
    }
}

/// Checks a memory size, which is passed to QEMU unchanged.
fn memory(text: &str) -> Result<String, String> {
    let digits = text.strip_suffix(['K', 'M', 'G']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Err("a size is a number followed by K, M or G, as in 128M".to_owned())
    } else if memory_bytes(text) < 1 << 20 {
        Err("a machine has at least 1M of memory".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// The number of bytes of a memory size. As for QEMU, a number alone is in MiB.
pub fn memory_bytes(size: &str) -> u64 {
    let shift = match size.bytes().last() {
        Some(b'K') => 10,
        Some(b'G') => 30,
        _ => 20,
    };
    let digits = size.trim_end_matches(['K', 'M', 'G']);
    digits.parse::<u64>().map_or(0, |number| number.saturating_mul(1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_mutant_has_an_old_name_too() {
        for option in ["--mutant", "--break"] {
            let cli = Cli::try_parse_from(["xtask", "sim", option, "skip-rescue"]).unwrap();
            let Command::Sim(sim) = cli.command else { panic!("not sim") };
            assert_eq!(sim.mutant.as_deref(), Some("skip-rescue"));
        }
    }

    #[test]
    fn a_tolerance_is_a_number_of_percent() {
        assert_eq!((percent("2"), percent("0.5%")), (Ok(2.0), Ok(0.5)));
        for bad in ["", "-1", "two", "NaN", "1001", "1 %"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_sizes_are_rejected() {
        assert!(memory("128M").is_ok());
        assert!(memory("1024").is_ok());
        for bad in
            ["", "0", "0G", "1023K", "99999999999999999999", "M", "12x", "1 G", "-1M", "1M,slots=2"]
        {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }
}
