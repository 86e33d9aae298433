//! Tests that run in QEMU, as data: the guest's command, its machine, and the expected result.
//!
//! A test that is a function in the guest's programs `tests` or `rules` has the attribute
//! `#[guest_test]` there. A test that is a line of shell is added to [`shell_tests`].

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cli::{Lazy, Length};
use crate::guest::Guest;
use crate::guest::addition::Addition;
use crate::interrupts::Interrupts;
use crate::machine::session::{Captured, Outcome, capture};
use crate::machine::task::Task;
use crate::machine::{Clock, Debugging, Disk, Ending, Hardware, Start};
use crate::paths::Paths;
use crate::test::verdict::Verdict;

/// Default size of the machine's memory.
pub const MEMORY: &str = "128M";
/// Default time limit in seconds.
pub const LIMIT_S: u64 = 60;
/// Bytes of each output, from its end, that are printed with a failure.
const SHOWN_BYTES: usize = 8192;

/// The expected result of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The command ends with this status.
    Status(u8),
    /// The command ends with 0 and writes exactly these bytes.
    Output(Vec<u8>),
    /// The command ends with 0 and writes these words, with any white space between them.
    Words(String),
    /// The command ends with 0, and the log's lines about traced reads match these patterns, in
    /// which `*` matches any text.
    Trace(Vec<String>),
    /// The kernel panics, with a report that contains these texts.
    Panic(&'static [&'static str]),
    /// The command does not end within the time limit.
    TimeOut,
}

/// A test that runs in a machine of its own.
#[derive(Debug, Clone)]
pub struct QemuTest {
    /// The full name, with the prefix `qemu::`.
    pub name: String,
    /// A line for the guest's shell.
    pub command: String,
    /// Size of the machine's memory, as QEMU's option `-m` takes it.
    pub memory: String,
    /// The machine's clock.
    pub clock: Clock,
    /// The machine's CPU, as QEMU's option `-cpu` takes it.
    pub cpu: String,
    /// The machine's disk.
    pub disk: Disk,
    /// Whether read(2) is lazy.
    pub lazy: Lazy,
    /// Time limit, boot included.
    pub limit: Duration,
    /// Files that are added to the root file system.
    pub additions: Vec<Addition>,
    /// The result that makes the test pass.
    pub expected: Expected,
    /// The rule that the test proves, printed with a failure.
    pub about: String,
    /// Whether the standard output of a run that passes is shown: it has figures.
    pub has_figures: bool,
    /// Mutants that must make the test fail.
    pub mutants: Vec<String>,
    /// Whether it needs the kernel that checks itself and can fail claims.
    pub checked: bool,
}

impl QemuTest {
    /// A test with default memory, time limit and laziness.
    pub fn new(name: &str, command: &str, expected: Expected) -> Self {
        Self {
            name: format!("qemu::{name}"),
            command: command.to_owned(),
            memory: MEMORY.to_owned(),
            clock: Clock::Host,
            cpu: Clock::Host.cpu().to_owned(),
            disk: Disk::Scratch,
            lazy: Lazy::On,
            limit: Duration::from_secs(LIMIT_S),
            additions: Vec::new(),
            expected,
            about: String::new(),
            has_figures: false,
            mutants: Vec::new(),
            checked: false,
        }
    }

    /// Boots a machine, runs the command and compares the result.
    pub fn run(&self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let seen = self.boot(paths, guest, &self.command, None, interrupts)?;
        Ok(if !self.is_met(&seen.outcome, &seen.console, &seen.log) {
            Verdict::Failed(self.explain(&seen))
        } else if self.has_figures {
            Verdict::Reported(String::from_utf8_lossy(&seen.console).into_owned())
        } else {
            Verdict::Passed
        })
    }

    /// Runs the test with a mutant, which must make it fail. The configuration switches the mutant
    /// on in the servers; the test's program or the shell switches it on in the kernel, and first
    /// prints its name, so that a kernel without this mutant is not taken for a failing test. The
    /// test itself must fail, not the check for leaks after it, except in tests about leaks.
    pub fn run_against(
        &self,
        paths: &Paths,
        guest: &Guest,
        mutant: &str,
        interrupts: &Interrupts,
    ) -> Result<Verdict> {
        let command = self.command_with(mutant);
        let seen = self.boot(paths, guest, &command, Some(mutant), interrupts)?;
        let is_active = seen.console.starts_with(format!("{mutant}\n").as_bytes());
        Ok(if !is_active {
            Verdict::Failed(format!(
                "the guest did not switch the mutant on\n{}",
                self.explain(&seen)
            ))
        } else if self.is_met(&seen.outcome, &seen.console, &seen.log) {
            Verdict::Failed(format!(
                "the test passed in spite of the mutant\n{}",
                self.explain(&seen)
            ))
        } else {
            Verdict::Passed
        })
    }

    /// The command that switches a mutant on and runs the test.
    fn command_with(&self, mutant: &str) -> String {
        const KNOB: &str = "/proc/sys/lazy/mutant";
        let is_about_leaks = self.name.ends_with("nothing_leaks");
        let command =
            if is_about_leaks { &self.command } else { self.command.trim_start_matches("leaks ") };
        if command.contains("rules ") {
            command.replacen("rules ", &format!("rules --mutant {mutant} "), 1)
        } else {
            format!("echo {mutant} > {KNOB}; cat {KNOB}; {command}")
        }
    }

    /// Boots the test's machine with `command` in place of its own.
    pub fn boot(
        &self,
        paths: &Paths,
        guest: &Guest,
        command: &str,
        mutant: Option<&str>,
        interrupts: &Interrupts,
    ) -> Result<Seen> {
        let task = Task {
            command: Some(command),
            lazy: self.lazy,
            mutant,
            additions: &self.additions,
            disk: self.disk,
            ..Task::new(&self.memory)
        };
        let files = Start::Initrd(task.files(paths, guest)?);
        let hardware = Hardware {
            memory: self.memory.clone(),
            clock: self.clock,
            cpu: self.cpu.clone(),
            disk: self.disk,
            debugging: Debugging::default(),
        };
        let start = Instant::now();
        let Captured { outcome, console, log } =
            capture(guest, &files, &hardware, self.limit, interrupts)?;
        Ok(Seen { outcome, console, log, took: start.elapsed() })
    }

    /// Whether the result is the expected one.
    pub fn is_met(&self, outcome: &Outcome, console: &[u8], log: &[u8]) -> bool {
        match (&self.expected, outcome) {
            (Expected::Status(wanted), Outcome::Ended(Ending::PowerOff, Some(status))) => {
                wanted == status
            }
            (Expected::Output(wanted), Outcome::Ended(Ending::PowerOff, Some(0))) => {
                wanted == console
            }
            (Expected::Words(wanted), Outcome::Ended(Ending::PowerOff, Some(0))) => {
                let console = String::from_utf8_lossy(console);
                console.split_whitespace().eq(wanted.split_whitespace())
            }
            (Expected::Trace(wanted), Outcome::Ended(Ending::PowerOff, Some(0))) => {
                let log = String::from_utf8_lossy(log);
                let traced: Vec<&str> = log.lines().filter_map(traced_read).collect();
                traced.len() == wanted.len()
                    && traced.iter().zip(wanted).all(|(line, pattern)| matches(line, pattern))
            }
            (Expected::Panic(texts), Outcome::Ended(Ending::KernelPanic, _)) => {
                let log = String::from_utf8_lossy(log);
                texts.iter().all(|text| log.contains(text))
            }
            (Expected::TimeOut, Outcome::TimedOut) => true,
            _ => false,
        }
    }

    /// A report that helps to find the cause of a failure.
    pub fn explain(&self, seen: &Seen) -> String {
        let (_, sentence) = seen.outcome.describe();
        let end = |bytes: &[u8]| {
            let shown = bytes.len().saturating_sub(SHOWN_BYTES);
            String::from_utf8_lossy(bytes.get(shown..).unwrap_or_default()).into_owned()
        };
        let mut text = format!(
            "{sentence} (after {:.1} s of {} s)\n",
            seen.took.as_secs_f32(),
            self.limit.as_secs()
        );
        if !self.about.is_empty() {
            text.push_str(&format!("rule: {}\n", self.about));
        }
        text.push_str(&format!("expected: {}\n", shown(&self.expected)));
        text.push_str(&format!(
            "--- standard output\n{}\n--- log\n{}\n",
            end(&seen.console),
            end(&seen.log)
        ));
        text.push_str(&format!(
            "--- again: cargo xtask run --memory {} --lazy {}",
            self.memory,
            self.lazy.word()
        ));
        if self.clock == Clock::Instructions {
            text.push_str(" --icount");
        }
        match self.disk {
            Disk::Scratch => {}
            Disk::Second => text.push_str(" --second-disk"),
            Disk::Full => text.push_str(" --full-disk"),
            Disk::None => text.push_str(" --no-disk"),
        }
        for addition in &self.additions {
            text.push_str(&format!(" --add {}:/{}", addition.host.display(), addition.guest));
        }
        text.push_str(&format!(" -- '{}'", self.command));
        text
    }
}

/// The result of a run.
pub struct Seen {
    /// How the machine ended.
    pub outcome: Outcome,
    /// Standard output of the command.
    pub console: Vec<u8>,
    /// The command's standard error and the kernel's log.
    pub log: Vec<u8>,
    took: Duration,
}

/// The part of a line of the log that reports a traced process's read or its pages.
fn traced_read(line: &str) -> Option<&str> {
    let (_, report) = line.split_once("trace ")?.1.split_once(": ")?;
    ["read #", "pages fetched", "bytes copied", "by reference"]
        .iter()
        .any(|mark| report.contains(mark))
        .then_some(report.trim_end())
}

/// Whether a text matches a pattern, in which `*` matches any text.
fn matches(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| matches(text, rest)))
        }),
    }
}

fn shown(expected: &Expected) -> String {
    match expected {
        Expected::Status(status) => format!("status {status}"),
        Expected::Output(bytes) => {
            format!("status 0 and the output {:?}", String::from_utf8_lossy(bytes))
        }
        Expected::Words(words) => format!("status 0 and the words {words:?}"),
        Expected::Trace(lines) => format!("status 0 and, in the log,\n{}", lines.join("\n")),
        Expected::Panic(texts) => format!("a kernel panic with {texts:?}"),
        Expected::TimeOut => "no end within the time limit".to_owned(),
    }
}

/// A text file in place of the first program: the kernel cannot start it.
pub fn no_first_program(paths: &Paths) -> Addition {
    Addition { host: paths.root.join("Cargo.toml"), guest: "sbin/init".to_owned() }
}

/// Tests that are a line of shell. They check what the help of `cargo xtask run` promises.
fn shell_tests(paths: &Paths) -> Vec<QemuTest> {
    let output = |text: &str| Expected::Output(text.as_bytes().to_vec());
    let mut hang = QemuTest::new("run_a_hang_is_stopped", "sleep 1000", Expected::TimeOut);
    hang.limit = Duration::from_secs(6);
    // What runs, and a backtrace with names.
    const REPORT: &[&str] =
        &["kernel panic: ", "no thread runs yet", " start (kernel/src/boot.rs:"];
    let mut panic = QemuTest::new("run_a_panic_is_reported", "true", Expected::Panic(REPORT));
    panic.additions = vec![no_first_program(paths)];
    vec![
        QemuTest::new(
            "run_output_is_exact",
            "echo one; echo two >&2; echo three",
            output("one\nthree\n"),
        ),
        QemuTest::new("run_status_is_the_commands", "exit 7", Expected::Status(7)),
        QemuTest::new("run_false_is_1", "false", Expected::Status(1)),
        QemuTest::new("run_no_such_command_is_127", "no-such-command", Expected::Status(127)),
        panic,
        QemuTest::new(
            "trace_changes_nothing",
            "seq 3 > f; trace cat f; trace on $$; cat f; trace off $$; trace false; echo $?",
            output("1\n2\n3\n1\n2\n3\n1\n"),
        ),
        QemuTest::new("run_starts_in_root", "pwd", output("/root\n")),
        QemuTest::new(
            "run_limits",
            "ulimit -n; ulimit -Hn 100; ulimit -Sn 50; ulimit -n 60 && ulimit -n; ulimit -Hn; \
             sh -c 'ulimit -n'; ulimit -f 1; ulimit; ulimit -v unlimited; ulimit -v; \
             ulimit -St 7; ulimit -t; ulimit -Ht; ulimit -x; echo $?; ulimit -Sn 70; echo $?",
            output("1024\n60\n60\n60\n1\nunlimited\n7\nunlimited\n2\n1\n"),
        ),
        QemuTest::new("run_pipes", "echo 'a b c' | wc -w | cat", Expected::Words("3".to_owned())),
        hang,
    ]
}

/// All tests that run a command in a machine.
pub fn list(paths: &Paths, length: Length) -> Result<Vec<QemuTest>> {
    let mut tests = shell_tests(paths);
    tests.extend(super::in_guest::list(paths, length)?);
    tests.extend(super::fsx::list(length));
    tests.extend(super::input::list(paths)?);
    tests.extend(super::sizes::list());
    tests.extend(super::storm::list(length));
    tests.extend(super::disks::list());
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_or_the_shell_switches_a_mutant_on() {
        let command =
            |name, command| QemuTest::new(name, command, Expected::Status(0)).command_with("m");
        assert_eq!(command("x", "leaks rules r1"), "rules --mutant m r1");
        assert_eq!(command("x5_nothing_leaks", "leaks rules r1"), "leaks rules --mutant m r1");
        assert!(command("x", "leaks fsx f").ends_with("; fsx f"));
    }

    #[test]
    fn only_the_expected_result_passes() {
        let ended = |status| Outcome::Ended(Ending::PowerOff, status);
        let words = QemuTest::new("x", "wc", Expected::Words("1 2".to_owned()));
        assert!(words.is_met(&ended(Some(0)), b"  1\t2\n", b""));
        assert!(!words.is_met(&ended(Some(1)), b"1 2", b""));
        assert!(!words.is_met(&ended(None), b"1 2", b""));
        let exact = QemuTest::new("x", "echo", Expected::Output(b"a\n".to_vec()));
        assert!(!exact.is_met(&ended(Some(0)), b"a\r\n", b""));
        let status = QemuTest::new("x", "exit 7", Expected::Status(7));
        assert!(!status.is_met(&Outcome::Ended(Ending::KernelPanic, Some(7)), b"", b""));
        let trace = QemuTest::new(
            "x",
            "trace",
            Expected::Trace(["read(*) = 4  read #1, *", "read #1: *"].map(str::to_owned).to_vec()),
        );
        let log = "[1.0] trace 7: read(0, 0x10, 4) = 4  read #1, 3 pages lazy\n\
                   [1.1] trace 7: close(3) = 0\n[1.2] trace 7: read #1: of 3\n";
        assert!(trace.is_met(&ended(Some(0)), b"", log.as_bytes()));
        assert!(
            !trace.is_met(&ended(Some(0)), b"", format!("{log}trace 7: read #2: of 3").as_bytes()),
            "one line too many"
        );
        assert!(
            !trace.is_met(&ended(Some(0)), b"", log.replace("#1: of", "#2: of").as_bytes()),
            "another read"
        );
        let panic = QemuTest::new("x", "boom", Expected::Panic(&["kernel panic", "f()"]));
        let panicked = Outcome::Ended(Ending::KernelPanic, None);
        assert!(panic.is_met(&panicked, b"", b"kernel panic: bug\n  0x1 f()\n"));
        assert!(!panic.is_met(&panicked, b"", b"kernel panic: bug\n  0x1\n"));
    }
}
