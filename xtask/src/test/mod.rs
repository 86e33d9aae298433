//! `test`: runs the tests one after the other, and prints a summary as its last line.

pub mod added;
pub mod bench;
pub mod boot;
pub mod command;
pub mod console;
pub mod debugger;
pub mod demo;
pub mod disks;
pub mod fsx;
pub mod host;
pub mod image;
pub mod in_guest;
pub mod input;
pub mod lock_checks;
pub mod monitor;
pub mod mutants;
pub mod pc;
pub mod peer;
pub mod profile;
pub mod qemu;
pub mod results;
pub mod sizes;
pub mod storm;
pub mod suite;
pub mod verdict;

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::time::Instant;

use anyhow::Result;

use self::bench::BenchTest;
use self::boot::BootTest;
use self::command::CommandTest;
use self::console::ConsoleTest;
use self::demo::DemoTest;
use self::host::HostTest;
use self::image::ImageTest;
use self::peer::PeerTest;
use self::qemu::QemuTest;
use self::results::Results;
use self::verdict::Verdict;
use crate::cli::{Length, TestArgs};
use crate::foreign::{ForeignTest, ProfitTest};
use crate::guest::{Guest, Variant};
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::{filter, guest, setup};

/// The filter that is the same as `--mutants`.
const MUTANTS: &str = "mutants";
/// How the names of tests on the host begin.
const HOST: &str = "host::";
/// How the names of tests in a machine begin.
const GUEST: &str = "qemu::";

/// A test of any kind.
enum Test {
    Host(HostTest),
    Bench(BenchTest),
    Boot(BootTest),
    Command(CommandTest),
    Console(ConsoleTest),
    Demo(DemoTest),
    /// Large files in the root file system.
    Added,
    /// gdb, with its commands for the kernel.
    Debugger,
    Image(ImageTest),
    /// QEMU's monitor.
    Monitor,
    Foreign(ForeignTest),
    /// The program that measures Linux.
    Peer(PeerTest),
    /// The profiler against the bench.
    Profile,
    Profit(ProfitTest),
    Qemu(QemuTest),
    /// A foreign suite.
    Suite,
    /// A test that must fail with the mutant of this name.
    Mutant(QemuTest, String),
    /// A mutant that no test must catch; it always fails.
    Untested(String),
}

impl Test {
    fn name(&self) -> String {
        match self {
            Self::Host(test) => test.name.clone(),
            Self::Bench(test) => test.name.to_owned(),
            Self::Boot(test) => test.name.to_owned(),
            Self::Command(test) => test.name.to_owned(),
            Self::Console(test) => test.name.to_owned(),
            Self::Demo(test) => test.name().to_owned(),
            Self::Added => added::NAME.to_owned(),
            Self::Debugger => debugger::NAME.to_owned(),
            Self::Image(test) => test.name.to_owned(),
            Self::Monitor => monitor::NAME.to_owned(),
            Self::Foreign(test) => test.name(),
            Self::Peer(test) => test.name().to_owned(),
            Self::Profile => profile::NAME.to_owned(),
            Self::Profit(test) => test.name().to_owned(),
            Self::Qemu(test) => test.name.clone(),
            Self::Suite => suite::NAME.to_owned(),
            Self::Mutant(test, mutant) => format!("{} against {mutant}", test.name),
            Self::Untested(mutant) => format!("nothing against {mutant}"),
        }
    }

    /// The mutant that the test must catch.
    fn mutant(&self) -> Option<&str> {
        match self {
            Self::Mutant(_, mutant) | Self::Untested(mutant) => Some(mutant),
            _ => None,
        }
    }

    /// Whether it needs the kernel that checks itself and can fail claims.
    fn is_checked(&self) -> bool {
        matches!(self, Self::Qemu(test) if test.checked)
    }

    fn run(&self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        match self {
            Self::Host(test) => test.run(paths, interrupts),
            Self::Bench(test) => test.run(paths, guest, interrupts),
            Self::Boot(test) => test.run(paths, guest, interrupts),
            Self::Command(test) => test.run(paths, interrupts),
            Self::Console(test) => test.run(paths, interrupts),
            Self::Demo(test) => test.run(paths, guest, interrupts),
            Self::Added => added::run(paths, guest, interrupts),
            Self::Debugger => debugger::run(paths, interrupts),
            Self::Image(test) => test.run(paths, guest, interrupts),
            Self::Monitor => monitor::run(paths),
            Self::Foreign(test) => test.run(paths, guest, interrupts),
            Self::Peer(test) => test.run(paths, guest, interrupts),
            Self::Profile => profile::run(paths, guest, interrupts),
            Self::Profit(test) => test.run(paths, guest, interrupts),
            Self::Qemu(test) => test.run(paths, guest, interrupts),
            Self::Suite => suite::run(paths, interrupts),
            Self::Mutant(test, mutant) => test.run_against(paths, guest, mutant, interrupts),
            Self::Untested(_) => Ok(Verdict::Failed("no test names this mutant".to_owned())),
        }
    }
}

/// Runs the tests that match; returns the exit status.
pub fn test(paths: &Paths, arguments: &TestArgs) -> Result<u8> {
    let toolchain = setup::ensure(paths)?;
    let by_word = arguments.filter.as_deref() == Some(MUTANTS);
    let mutants = arguments.mutants || by_word;
    let filter = arguments.filter.as_deref().filter(|_| !by_word).unwrap_or_default();
    let length = arguments.length();
    let mut tests =
        if mutants { mutant_tests(paths, length)? } else { all_tests(paths, filter, length)? };
    let names: Vec<_> = tests.iter().map(Test::name).collect();
    filter::require_match("test", filter, &names)?;
    tests.retain(|test| test.name().contains(filter));
    if arguments.list {
        let names: String = tests.iter().map(|test| test.name() + "\n").collect();
        stdout().write_all(names.as_bytes())?;
        return Ok(0);
    }
    let variant = match length {
        _ if mutants => Variant::Mutants,
        Length::Long => Variant::Checked,
        Length::Short => Variant::Normal,
    };
    let is_extra = variant == Variant::Normal && tests.iter().any(Test::is_checked);
    // First, so that the files in the target folder are those of the other guest afterwards.
    let checked =
        is_extra.then(|| guest::build(paths, &toolchain, Variant::Checked)).transpose()?;
    let guest = guest::build(paths, &toolchain, variant)?;
    let guest_of = |test: &Test| checked.as_ref().filter(|_| test.is_checked()).unwrap_or(&guest);
    let complete = filter.is_empty();
    // A complete run drops the results of tests that no longer exist.
    let known = if complete && !mutants { Results::new() } else { results::load(paths) };
    let mutants = if complete && mutants { Some(mutants::count(paths)?) } else { None };
    run_all(paths, guest_of, &tests, known, mutants)
}

/// The tests, host tests first. A kind that cannot match the filter is not listed, because that
/// would build it.
fn all_tests(paths: &Paths, filter: &str, length: Length) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    if !filter.starts_with(HOST) {
        tests.extend(guest_tests(paths, filter, length)?);
    }
    if !filter.starts_with(GUEST) && !tests.iter().any(|test| is_whole_name(filter, &test.name())) {
        tests.splice(..0, host::list(paths)?.into_iter().map(Test::Host));
    }
    Ok(tests)
}

/// Whether a filter is a test's name, with or without the kind.
fn is_whole_name(filter: &str, name: &str) -> bool {
    name == filter || name.strip_prefix(GUEST) == Some(filter)
}

fn guest_tests(paths: &Paths, filter: &str, length: Length) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    tests.extend(boot::list().into_iter().map(Test::Boot));
    tests.extend(command::TESTS.iter().cloned().map(Test::Command));
    tests.extend(console::list().into_iter().map(Test::Console));
    tests.extend([Test::Added, Test::Debugger, Test::Monitor, Test::Profile, Test::Suite]);
    tests.push(Test::Qemu(lock_checks::test()));
    tests.extend(DemoTest::ALL.map(Test::Demo));
    tests.extend(image::list(filter, length).map(Test::Image));
    tests.extend(ForeignTest::list().map(Test::Foreign));
    tests.extend(ProfitTest::ALL.map(Test::Profit));
    tests.extend(bench::TESTS.map(Test::Bench));
    tests.extend(PeerTest::list(length).iter().copied().map(Test::Peer));
    tests.extend(qemu::list(paths, length)?.into_iter().map(Test::Qemu));
    Ok(tests)
}

fn mutant_tests(paths: &Paths, length: Length) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for test in qemu::list(paths, length)? {
        tests.extend(
            test.mutants.clone().into_iter().map(|mutant| Test::Mutant(test.clone(), mutant)),
        );
    }
    tests.extend(
        host::list(paths)?
            .into_iter()
            .filter(|test| mutants::uses_mutants(&test.name))
            .map(Test::Host),
    );
    tests.extend(mutants::untested(paths)?.into_iter().map(Test::Untested));
    Ok(tests)
}

/// Runs tests and adds their results to the recorded ones. With a number of `mutants`, all of which
/// the tests must catch, it also prints how many were caught.
fn run_all<'a>(
    paths: &Paths,
    guest_of: impl Fn(&Test) -> &'a Guest,
    tests: &[Test],
    mut known: Results,
    mutants: Option<usize>,
) -> Result<u8> {
    let interrupts = Interrupts::listen()?;
    let mut missed = BTreeSet::new();
    let mut passed = 0;
    let mut failed = Vec::new();
    let mut skipped = Vec::new();
    for (number, test) in (1..).zip(tests) {
        print!("test {} ... ", test.name());
        stdout().flush()?;
        let start = Instant::now();
        let verdict = test.run(paths, guest_of(test), &interrupts)?;
        if let Some(signal) = interrupts.pending() {
            println!("stopped");
            return Ok(u8::try_from(128 + signal).unwrap_or(1));
        }
        let took =
            format!("({:.2} s) [{number} of {}]", start.elapsed().as_secs_f32(), tests.len());
        known.insert(test.name(), verdict.word().to_owned());
        match verdict {
            Verdict::Passed => {
                println!("ok {took}");
                passed += 1;
            }
            Verdict::Reported(figures) => {
                println!("ok {took}");
                print!("{}", indented(&figures));
                passed += 1;
            }
            Verdict::Failed(why) => {
                println!("FAILED {took}");
                println!("{}", indented(&why));
                failed.push(test.name());
                missed.extend(test.mutant());
            }
            Verdict::Skipped(why) => {
                println!("skipped: {why}");
                skipped.push(test.name());
            }
        }
    }
    results::save(paths, &known)?;
    for name in &skipped {
        println!("skipped: {name}");
    }
    for name in &failed {
        println!("failed: {name}");
    }
    if let Some(mutants) = mutants {
        println!("{} of {mutants} mutants caught", mutants - missed.len());
    }
    println!("{passed} passed, {} failed", failed.len());
    Ok(u8::from(!failed.is_empty()))
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}\n")).collect()
}
