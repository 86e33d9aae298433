//! Tests that run in QEMU, as data: what the guest runs, on which machine, and what must come of
//! it.
//!
//! To add one that is a function in the guest's programs `tests` or `rules`: a function with the
//! attribute `#[guest_test]` there. To add one that is a line of shell: a row in [`shell_tests`].

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::add::Addition;
use crate::cli::{Lazy, Length};
use crate::guest::Guest;
use crate::interrupts::Interrupts;
use crate::machine::{Clock, Debugger, Ending, Hardware, Machine};
use crate::paths::Paths;
use crate::run::{Task, describe};
use crate::session::{Input, Outcome, Session};
use crate::verdict::Verdict;

/// The machine's memory unless a test says otherwise.
pub const MEMORY: &str = "128M";
/// Seconds a test may take unless it says otherwise.
pub const LIMIT_S: u64 = 60;
/// Bytes of the log that are shown with a failure.
const SHOWN_BYTES: usize = 8192;

/// What must come of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The command ends with this status.
    Status(u8),
    /// It ends with 0 and writes exactly this.
    Output(Vec<u8>),
    /// It ends with 0 and writes these words, however they are spaced.
    Words(String),
    /// It ends with 0, and the log's lines on what became of traced reads are these; `*` stands for
    /// anything.
    Trace(Vec<String>),
    /// The kernel panics.
    Panic,
    /// The machine has to be stopped.
    TimeOut,
}

/// One test.
#[derive(Debug, Clone)]
pub struct QemuTest {
    /// Its name.
    pub name: String,
    /// The line of shell that the guest runs.
    pub command: String,
    /// The machine's memory.
    pub memory: String,
    /// Whether reads are lazy.
    pub lazy: Lazy,
    /// How long it may take.
    pub limit: Duration,
    /// What the root file system holds besides the programs.
    pub additions: Vec<Addition>,
    /// What must come of it.
    pub expected: Expected,
    /// What it proves, for whoever sees it fail.
    pub about: String,
    /// The deliberate breaks of its rule; each must make it fail.
    pub mutants: Vec<String>,
}

impl QemuTest {
    /// A test of the usual kind.
    pub fn new(name: &str, command: &str, expected: Expected) -> Self {
        Self {
            name: format!("qemu::{name}"),
            command: command.to_owned(),
            memory: MEMORY.to_owned(),
            lazy: Lazy::On,
            limit: Duration::from_secs(LIMIT_S),
            additions: Vec::new(),
            expected,
            about: String::new(),
            mutants: Vec::new(),
        }
    }

    /// Runs it.
    pub fn run(&self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let seen = self.boot(paths, guest, &self.command, None, interrupts)?;
        Ok(Verdict::from_condition(self.is_met(&seen.outcome, &seen.console, &seen.log), || {
            self.explain(&seen)
        }))
    }

    /// Runs it with its rule broken: it has to fail. The servers are broken from the start, the
    /// kernel by the test's program itself, or by the shell, which says first which rule that is,
    /// so that one which knows no such mutant is not taken for one that fails. It has to see the
    /// break by itself, and not only what is left behind, unless that is what it is about.
    pub fn run_against(
        &self,
        paths: &Paths,
        guest: &Guest,
        mutant: &str,
        interrupts: &Interrupts,
    ) -> Result<Verdict> {
        let command = self.broken_command(mutant);
        let seen = self.boot(paths, guest, &command, Some(mutant), interrupts)?;
        let is_broken = seen.console.starts_with(format!("{mutant}\n").as_bytes());
        Ok(if !is_broken {
            Verdict::Failed(format!("the guest did not break the rule\n{}", self.explain(&seen)))
        } else if self.is_met(&seen.outcome, &seen.console, &seen.log) {
            Verdict::Failed(format!(
                "the rule was broken and the test did not see it\n{}",
                self.explain(&seen)
            ))
        } else {
            Verdict::Passed
        })
    }

    fn broken_command(&self, mutant: &str) -> String {
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

    /// Boots a machine that runs `command` in place of the test's own.
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
            memory: &self.memory,
            additions: &self.additions,
            relay: None,
        };
        let initrd = task.initrd(paths, guest)?;
        let hardware =
            Hardware { memory: self.memory.clone(), clock: Clock::Host, debugger: Debugger::None };
        let start = Instant::now();
        let machine = Machine::start(guest, &initrd, &hardware)?;
        let (mut console, mut log) = (Vec::new(), Vec::new());
        let limit = Some(self.limit);
        let session =
            Session { input: Input::None, console: &mut console, log: &mut log, limit, interrupts };
        let outcome = session.run(machine)?;
        Ok(Seen { outcome, console, log, took: start.elapsed() })
    }

    /// Whether what came is what was expected.
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
                let told: Vec<&str> = log.lines().filter_map(told_of_pages).collect();
                told.len() == wanted.len()
                    && told.iter().zip(wanted).all(|(told, wanted)| is_like(told, wanted))
            }
            (Expected::Panic, Outcome::Ended(Ending::KernelPanic, _))
            | (Expected::TimeOut, Outcome::TimedOut) => true,
            _ => false,
        }
    }

    /// Everything that helps to find out why it failed.
    pub fn explain(&self, seen: &Seen) -> String {
        let (_, sentence) = describe(&seen.outcome);
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
        for addition in &self.additions {
            text.push_str(&format!(" --add {}:/{}", addition.host.display(), addition.guest));
        }
        text.push_str(&format!(" -- '{}'", self.command));
        text
    }
}

/// What a run has shown.
pub struct Seen {
    /// How it ended.
    pub outcome: Outcome,
    /// Standard output.
    pub console: Vec<u8>,
    /// Standard error and the kernel's log.
    pub log: Vec<u8>,
    took: Duration,
}

/// What a line of the log tells of a traced process's reads and their pages, if anything.
fn told_of_pages(line: &str) -> Option<&str> {
    let (_, told) = line.split_once("trace ")?.1.split_once(": ")?;
    ["read #", "pages fetched", "bytes copied", "by reference"]
        .iter()
        .any(|mark| told.contains(mark))
        .then_some(told.trim_end())
}

/// Whether a text is like a pattern, in which `*` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| is_like(text, rest)))
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
        Expected::Trace(lines) => format!("status 0 and in the log\n{}", lines.join("\n")),
        Expected::Panic => "a kernel panic".to_owned(),
        Expected::TimeOut => "no end".to_owned(),
    }
}

/// Tests that are a line of shell: that `run` keeps what its help says.
fn shell_tests(paths: &Paths) -> Vec<QemuTest> {
    let output = |text: &str| Expected::Output(text.as_bytes().to_vec());
    let mut hang = QemuTest::new("run_a_hang_is_stopped", "sleep 1000", Expected::TimeOut);
    hang.limit = Duration::from_secs(6);
    // A first program that is none: the kernel has nothing to run.
    let no_program =
        Addition { host: paths.root.join("Cargo.toml"), guest: "sbin/init".to_owned() };
    let mut panic = QemuTest::new("run_a_panic_is_told", "true", Expected::Panic);
    panic.additions = vec![no_program];
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
        QemuTest::new("run_pipes", "echo 'a b c' | wc -w | cat", Expected::Words("3".to_owned())),
        hang,
    ]
}

/// All of them.
pub fn list(paths: &Paths, length: Length) -> Result<Vec<QemuTest>> {
    let mut tests = shell_tests(paths);
    tests.extend(crate::guest_tests::list(paths, length)?);
    tests.extend(crate::fsx_tests::list(length));
    tests.extend(crate::input_tests::list(paths)?);
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_broken_by_the_program_or_by_the_shell() {
        let command =
            |name, command| QemuTest::new(name, command, Expected::Status(0)).broken_command("m");
        assert_eq!(command("x", "leaks rules r1"), "rules --mutant m r1");
        assert_eq!(command("x5_nothing_leaks", "leaks rules r1"), "leaks rules --mutant m r1");
        assert!(command("x", "leaks fsx f").ends_with("; fsx f"));
    }

    #[test]
    fn what_is_expected_is_what_counts() {
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
        let log = "[1.0] trace 7: read(0, 0x10, 4) = 4  read #1, 3 pages lazy\n[1.1] trace 7: close(3) = 0\n[1.2] trace 7: read #1: of 3\n";
        assert!(trace.is_met(&ended(Some(0)), b"", log.as_bytes()));
        assert!(
            !trace.is_met(&ended(Some(0)), b"", format!("{log}trace 7: read #2: of 3").as_bytes()),
            "a line too many"
        );
        assert!(
            !trace.is_met(&ended(Some(0)), b"", log.replace("#1: of", "#2: of").as_bytes()),
            "another read"
        );
        let panic = QemuTest::new("x", "boom", Expected::Panic);
        assert!(panic.is_met(&Outcome::Ended(Ending::KernelPanic, None), b"", b""));
    }
}
