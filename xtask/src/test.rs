//! `test`: every test there is, one after the other, and one line at the end that says it all.

use std::io::{Write, stdout};
use std::time::Instant;

use anyhow::Result;

use crate::bench_tests::{self, BenchTest};
use crate::boot_tests::{self, BootTest};
use crate::cli::{Length, TestArgs};
use crate::console_tests::{self, ConsoleTest};
use crate::demo_tests::DemoTest;
use crate::foreign::ForeignTest;
use crate::guest::{Guest, Variant};
use crate::host_tests::{self, HostTest};
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::qemu_tests::{self, QemuTest};
use crate::verdict::Verdict;
use crate::{guest, say, setup};

/// A test of any kind.
enum Test {
    Host(HostTest),
    Bench(BenchTest),
    Boot(BootTest),
    Console(ConsoleTest),
    Demo(DemoTest),
    Foreign(ForeignTest),
    Qemu(QemuTest),
    /// One that has to fail, since its rule is broken.
    Mutant(QemuTest, String),
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
            Self::Qemu(test) => test.name.clone(),
            Self::Mutant(test, mutant) => format!("{} against {mutant}", test.name),
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
            Self::Qemu(test) => test.run(paths, guest, interrupts),
            Self::Mutant(test, mutant) => test.run_against(paths, guest, mutant, interrupts),
        }
    }
}

/// Runs the tests that match; the status is xtask's.
pub fn test(paths: &Paths, arguments: &TestArgs) -> Result<u8> {
    let toolchain = setup::ensure(paths)?;
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let length = arguments.length();
    let mut tests = if arguments.mutants { mutant_tests(paths, length)? } else { all_tests(paths, filter, length)? };
    tests.retain(|test| test.name().contains(filter));
    if arguments.list {
        let names: String = tests.iter().map(|test| test.name() + "\n").collect();
        stdout().write_all(names.as_bytes())?;
        return Ok(0);
    }
    let variant = if arguments.mutants { Variant::Mutants } else { Variant::Normal };
    let guest = guest::build(paths, &toolchain, variant)?;
    run_all(paths, &guest, &tests)
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
    tests.extend(bench_tests::TESTS.map(Test::Bench));
    tests.extend(qemu_tests::list(paths, length)?.into_iter().map(Test::Qemu));
    Ok(tests)
}

fn mutant_tests(paths: &Paths, length: Length) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for test in qemu_tests::list(paths, length)? {
        tests.extend(test.mutants.clone().into_iter().map(|mutant| Test::Mutant(test.clone(), mutant)));
    }
    Ok(tests)
}

fn run_all(paths: &Paths, guest: &Guest, tests: &[Test]) -> Result<u8> {
    let interrupts = Interrupts::listen()?;
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
        match verdict {
            Verdict::Passed => {
                println!("ok ({took:.2} s)");
                passed += 1;
            }
            Verdict::Failed(why) => {
                println!("FAILED ({took:.2} s)");
                println!("{}", indented(&why));
                failed.push(test.name());
            }
            Verdict::Skipped(why) => {
                println!("skipped: {why}");
                skipped.push(test.name());
            }
        }
    }
    for name in &skipped {
        println!("skipped: {name}");
    }
    for name in &failed {
        println!("failed: {name}");
    }
    println!("{passed} passed, {} failed", failed.len());
    Ok(u8::from(!failed.is_empty()))
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}\n")).collect()
}
