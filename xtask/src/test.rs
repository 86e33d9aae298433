//! `test`: every test there is, one after the other, and one line at the end that says it all.

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::time::Instant;

use anyhow::Result;

use crate::bench_tests::{self, BenchTest};
use crate::boot_tests::{self, BootTest};
use crate::cli::{Length, TestArgs};
use crate::console_tests::{self, ConsoleTest};
use crate::demo_tests::DemoTest;
use crate::foreign::{ForeignTest, ProfitTest};
use crate::guest::{Guest, Variant};
use crate::host_tests::{self, HostTest};
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::qemu_tests::{self, QemuTest};
use crate::record::{self, Record};
use crate::verdict::Verdict;
use crate::{breaks, guest, say, setup};

/// The word that asks for the deliberate breaks.
const MUTANTS: &str = "mutants";

/// A test of any kind.
enum Test {
    Host(HostTest),
    Bench(BenchTest),
    Boot(BootTest),
    Console(ConsoleTest),
    Demo(DemoTest),
    Foreign(ForeignTest),
    Profit(ProfitTest),
    Qemu(QemuTest),
    /// One that has to fail, since its rule is broken.
    Mutant(QemuTest, String),
    /// A deliberate break that no test is there to notice.
    Unnoticed(String),
}

impl Test {
    fn name(&self) -> String {
        match self {
            Self::Host(test) => test.name.clone(),
            Self::Bench(test) => test.name.to_owned(),
            Self::Boot(test) => test.name.to_owned(),
            Self::Console(test) => test.name.to_owned(),
            Self::Demo(test) => test.name().to_owned(),
            Self::Foreign(test) => test.name(),
            Self::Profit(test) => test.name().to_owned(),
            Self::Qemu(test) => test.name.clone(),
            Self::Mutant(test, mutant) => format!("{} against {mutant}", test.name),
            Self::Unnoticed(mutant) => format!("nothing against {mutant}"),
        }
    }

    /// The break of the code that it is there to notice.
    fn mutant(&self) -> Option<&str> {
        match self {
            Self::Mutant(_, mutant) | Self::Unnoticed(mutant) => Some(mutant),
            _ => None,
        }
    }

    fn run(&self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        match self {
            Self::Host(test) => test.run(paths, interrupts),
            Self::Bench(test) => test.run(paths, guest, interrupts),
            Self::Boot(test) => test.run(paths, guest, interrupts),
            Self::Console(test) => test.run(interrupts),
            Self::Demo(test) => test.run(paths, guest, interrupts),
            Self::Foreign(test) => test.run(paths, guest, interrupts),
            Self::Profit(test) => test.run(paths, guest, interrupts),
            Self::Qemu(test) => test.run(paths, guest, interrupts),
            Self::Mutant(test, mutant) => test.run_against(paths, guest, mutant, interrupts),
            Self::Unnoticed(_) => {
                Ok(Verdict::Failed("no test names this break of the code".to_owned()))
            }
        }
    }
}

/// Runs the tests that match; the status is xtask's.
pub fn test(paths: &Paths, arguments: &TestArgs) -> Result<u8> {
    let toolchain = setup::ensure(paths)?;
    let by_word = arguments.filter.as_deref() == Some(MUTANTS);
    let mutants = arguments.mutants || by_word;
    let filter = arguments.filter.as_deref().filter(|_| !by_word).unwrap_or_default();
    let length = arguments.length();
    let mut tests =
        if mutants { mutant_tests(paths, length)? } else { all_tests(paths, filter, length)? };
    tests.retain(|test| test.name().contains(filter));
    if arguments.list {
        let names: String = tests.iter().map(|test| test.name() + "\n").collect();
        stdout().write_all(names.as_bytes())?;
        return Ok(0);
    }
    let variant = if mutants { Variant::Mutants } else { Variant::Normal };
    let guest = guest::build(paths, &toolchain, variant)?;
    let complete = filter.is_empty();
    // What a complete run does not know is no test any more.
    let known = if complete && !mutants { Record::new() } else { record::load(paths) };
    let breaks = if complete && mutants { Some(breaks::count(paths)?) } else { None };
    run_all(paths, &guest, &tests, known, breaks)
}

fn all_tests(paths: &Paths, filter: &str, length: Length) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    // No host test matches a filter that asks for QEMU: no need to build them.
    if !filter.starts_with("qemu::") {
        say!("building the host tests");
        tests.extend(host_tests::list(paths)?.into_iter().map(Test::Host));
    }
    tests.extend(boot_tests::list().into_iter().map(Test::Boot));
    tests.extend(console_tests::list().into_iter().map(Test::Console));
    tests.extend(DemoTest::ALL.map(Test::Demo));
    tests.extend(ForeignTest::list().map(Test::Foreign));
    tests.extend(ProfitTest::ALL.map(Test::Profit));
    tests.extend(bench_tests::TESTS.map(Test::Bench));
    tests.extend(qemu_tests::list(paths, length)?.into_iter().map(Test::Qemu));
    Ok(tests)
}

fn mutant_tests(paths: &Paths, length: Length) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for test in qemu_tests::list(paths, length)? {
        tests.extend(
            test.mutants.clone().into_iter().map(|mutant| Test::Mutant(test.clone(), mutant)),
        );
    }
    say!("building the host tests");
    tests.extend(
        host_tests::list(paths)?
            .into_iter()
            .filter(|test| breaks::applies_breaks(&test.name))
            .map(Test::Host),
    );
    tests.extend(breaks::unnoticed(paths)?.into_iter().map(Test::Unnoticed));
    Ok(tests)
}

/// Runs tests and adds how they ended to what is known. Where all of so many `breaks` of the code
/// were applied, tells how many were caught.
fn run_all(
    paths: &Paths,
    guest: &Guest,
    tests: &[Test],
    mut known: Record,
    breaks: Option<usize>,
) -> Result<u8> {
    let interrupts = Interrupts::listen()?;
    let mut missed = BTreeSet::new();
    let mut passed = 0;
    let mut failed = Vec::new();
    let mut skipped = Vec::new();
    for test in tests {
        print!("test {} ... ", test.name());
        stdout().flush()?;
        let start = Instant::now();
        let verdict = test.run(paths, guest, &interrupts)?;
        if let Some(signal) = interrupts.pending() {
            println!("stopped");
            return Ok(u8::try_from(128 + signal).unwrap_or(1));
        }
        let took = start.elapsed().as_secs_f32();
        known.insert(test.name(), verdict.word().to_owned());
        match verdict {
            Verdict::Passed => {
                println!("ok ({took:.2} s)");
                passed += 1;
            }
            Verdict::Failed(why) => {
                println!("FAILED ({took:.2} s)");
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
    record::save(paths, &known)?;
    for name in &skipped {
        println!("skipped: {name}");
    }
    for name in &failed {
        println!("failed: {name}");
    }
    if let Some(breaks) = breaks {
        println!("{} of {breaks} deliberate breaks caught", breaks - missed.len());
    }
    println!("{passed} passed, {} failed", failed.len());
    Ok(u8::from(!failed.is_empty()))
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}\n")).collect()
}
