//! The two systems that a suite runs on. A run that ends before the last program is charged to the
//! program that was running, and another one starts behind it.

use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::plan::{Plan, Program};
use super::results::{self, End};
use crate::cli::Lazy;
use crate::guest::Guest;
use crate::guest::addition::Addition;
use crate::guest::userland::Userland;
use crate::interrupts::Interrupts;
use crate::machine::session::{Input, Outcome, Session};
use crate::machine::task::Task;
use crate::machine::{Clock, Debugging, Disk, Ending, Hardware, Machine, Start};
use crate::paths::Paths;
use crate::process::{self, Ended};
use crate::say;

/// The program that runs the suite's programs, on both sides.
const RUNNER: &str = "suiterun";
/// How long a system may do nothing beyond a program's time limit: a machine boots, and the runner
/// ends processes and removes files.
const GRACE: Duration = Duration::from_secs(60);
/// Folder of the list in the guest, and of the programs' scratch folders.
const GUEST_LISTS: &str = "opt/suite";
const GUEST_SCRATCH: &str = "/tmp/suite";

/// How programs are kept apart from the host: a process-id namespace, whose end ends them all, and
/// namespaces for mounts, the host's name and System V's objects.
const NAMESPACES: [&str; 7] =
    ["--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--uts", "--ipc"];

/// A system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The host's.
    Linux,
    /// A machine with Sloth.
    Sloth,
}

impl Side {
    /// The name of the folder of its logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Sloth => "sloth",
        }
    }
}

/// What a program did on one side.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How it ended.
    pub end: End,
    /// What it printed.
    pub output: Vec<u8>,
    /// What the kernel logged meanwhile, and anything else on standard error.
    pub log: Vec<u8>,
}

/// What one run of the runner gave.
struct Ran {
    console: Vec<u8>,
    log: Vec<u8>,
    /// How it ended, if not by itself.
    failure: String,
}

/// Everything that a run of the suite needs.
pub struct Sides<'a> {
    /// Folders of the host.
    pub paths: &'a Paths,
    /// The guest's files.
    pub guest: &'a Guest,
    /// The suite.
    pub plan: &'a Plan,
    /// What the guest needs beside the distribution's programs.
    pub additions: Vec<Addition>,
    /// The distribution's bash and busybox.
    pub userland: Option<Userland>,
    /// Size of a machine's memory.
    pub memory: &'a str,
    /// Whether read(2) is lazy.
    pub lazy: Lazy,
    /// Time limit of each program.
    pub limit: Duration,
    /// A word that no program prints.
    pub token: String,
    /// How programs on Linux are kept apart: the command and its arguments.
    pub apart: Vec<&'static str>,
    /// Signals to xtask.
    pub interrupts: &'a Interrupts,
}

impl Sides<'_> {
    /// The best way in which this host keeps programs apart from itself.
    pub fn apart() -> Vec<&'static str> {
        let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
        for way in ways {
            let command: Vec<&str> =
                [&["unshare"], way, &NAMESPACES[..]].into_iter().flatten().copied().collect();
            if process::succeeds(Command::new("unshare").args(&command[1..]).arg("true")) {
                return command;
            }
        }
        say!(
            "this host has no namespaces for its user: a program that kills every process on Linux \
             kills those of this user"
        );
        Vec::new()
    }

    /// Runs programs on one side; returns a finding for each. A signal to xtask ends it early.
    pub fn run(&self, side: Side, programs: &[Program]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        while findings.len() < programs.len() && self.interrupts.pending().is_none() {
            let rest = &programs[findings.len()..];
            let ran = match side {
                Side::Linux => self.on_linux(rest)?,
                Side::Sloth => self.on_sloth(rest)?,
            };
            if self.interrupts.pending().is_some() {
                break;
            }
            let new = evaluate(&self.token, &ran, rest.len());
            if new.is_empty() {
                bail!(
                    "no program was started on {}: {}\n{}",
                    side.word(),
                    ran.failure,
                    String::from_utf8_lossy(&ran.log)
                );
            }
            findings.extend(new);
        }
        Ok(findings)
    }

    /// Writes the list of programs to a new folder.
    fn list(&self, programs: &[Program]) -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir_in(&self.paths.work)?;
        let lines: String =
            programs.iter().map(|program| format!("{}\n", program.path.display())).collect();
        fs::write(folder.path().join("list"), lines)?;
        Ok(folder)
    }

    fn runner(&self) -> Result<&Path> {
        let programs = &self.guest.programs;
        let found = programs.iter().find(|(name, _)| name == RUNNER);
        found.map(|(_, file)| file.as_path()).context("cargo built no runner")
    }

    /// Runs programs on this host.
    fn on_linux(&self, programs: &[Program]) -> Result<Ran> {
        let folder = self.list(programs)?;
        let scratch = linux_scratch(self.paths);
        fs::create_dir_all(&scratch)?;
        let mut words: Vec<&std::ffi::OsStr> = self.apart.iter().map(|it| (*it).as_ref()).collect();
        words.push(self.runner()?.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&self.token).arg(self.limit.as_secs().to_string());
        command.arg(folder.path().join("list")).arg(&scratch);
        command.env_clear().envs(self.plan.environment()).current_dir(&scratch);
        let [mut console, mut log] = [self.paths.scratch_file()?, self.paths.scratch_file()?];
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(log.try_clone()?);
        let count = u32::try_from(programs.len())?;
        let limit = (self.limit + Duration::from_secs(10)) * count + GRACE;
        let failure = match process::finish(command, limit, self.interrupts)? {
            Ended::ByItself(status) => format!("end of the programs' runner with {status}"),
            Ended::Stopped => "the runner did not end".to_owned(),
        };
        // Something that cannot be removed stays, as it would after the program alone.
        let _ = fs::remove_dir_all(&scratch);
        let read = |file: &mut fs::File| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Ok(Ran { console: read(&mut console)?, log: read(&mut log)?, failure })
    }

    /// Runs programs in a machine.
    fn on_sloth(&self, programs: &[Program]) -> Result<Ran> {
        let folder = self.list(programs)?;
        let mut additions = self.additions.clone();
        additions.push(Addition::new(folder.path().to_path_buf(), GUEST_LISTS));
        let variables: String = self
            .plan
            .environment()
            .iter()
            .map(|(name, value)| format!("'{name}={}' ", value.to_string_lossy()))
            .collect();
        let command = format!(
            "mkdir {GUEST_SCRATCH}; cd {GUEST_SCRATCH}; exec env -i {variables} /bin/{RUNNER} {} \
             {} /{GUEST_LISTS}/list {GUEST_SCRATCH}",
            self.token,
            self.limit.as_secs()
        );
        let task = Task {
            command: Some(&command),
            lazy: self.lazy,
            userland: self.userland.as_ref(),
            additions: &additions,
            disk: Disk::Scratch,
            ..Task::new(self.memory)
        };
        let start = Start::Initrd(task.files(self.paths, self.guest)?);
        let hardware = Hardware {
            memory: self.memory.to_owned(),
            clock: Clock::Host,
            cpu: Clock::Host.cpu().to_owned(),
            disk: Disk::Scratch,
            debugging: Debugging::default(),
        };
        let machine = Machine::start(self.guest, &start, &hardware)?;
        drop(start);
        let (mut console, mut log) = (Vec::new(), Vec::new());
        let session = Session {
            input: Input::None,
            console: &mut console,
            log: &mut log,
            limit: None,
            silence: Some(self.limit + GRACE),
            interrupts: self.interrupts,
        };
        let failure = match session.run(machine)? {
            Outcome::TimedOut => "the machine hung".to_owned(),
            Outcome::Ended(Ending::PowerOff, Some(status)) => {
                format!("end of the programs' runner with status {status}")
            }
            outcome => outcome.describe().1,
        };
        Ok(Ran { console, log, failure })
    }
}

/// The folder on the host in which the programs' scratch folders are.
fn linux_scratch(paths: &Paths) -> PathBuf {
    paths.work.join("suite-scratch")
}

/// The scratch folders of both sides, as they may appear in output.
pub fn scratch_folders(paths: &Paths) -> [String; 2] {
    [linux_scratch(paths).display().to_string(), GUEST_SCRATCH.to_owned()]
}

/// The findings about the first of `count` programs, as far as the run came. The last one may be
/// about a program that did not end.
fn evaluate(token: &str, ran: &Ran, count: usize) -> Vec<Finding> {
    let mut logs = results::parts(token, &ran.log);
    let mut findings = Vec::new();
    for (index, part) in results::parts(token, &ran.console) {
        if index != findings.len() || index >= count {
            break;
        }
        let log = logs.remove(&index).map(|part| part.output).unwrap_or_default();
        let is_last = part.end.is_none();
        let end = part.end.unwrap_or_else(|| End::Lost(ran.failure.clone()));
        findings.push(Finding { end, output: part.output, log });
        if is_last {
            break;
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(console: &str, log: &str) -> Ran {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Ran { console: bytes(console), log: bytes(log), failure: "the kernel panicked".to_owned() }
    }

    #[test]
    fn the_program_that_was_running_is_charged() {
        let console = "\nT start 0\n\nT end 0 exit 0\n\nT start 1\nhalf";
        let log = "boot\nT start 0\nlogged\nT end 0 exit 0\n\nT start 1\nkernel panic\n";
        let findings = evaluate("T", &ran(console, log), 5);
        assert_eq!(findings.len(), 2);
        assert_eq!((&findings[0].end, &findings[0].log[..]), (&End::Exit(0), &b"logged"[..]));
        assert_eq!(findings[1].end, End::Lost("the kernel panicked".to_owned()));
        assert_eq!(findings[1].output, b"half");
        assert_eq!(findings[1].log, b"kernel panic\n");
    }

    #[test]
    fn a_run_that_started_nothing_has_no_findings() {
        assert!(evaluate("T", &ran("sh: no such command\n", ""), 5).is_empty());
        assert!(evaluate("T", &ran("\nT start 1\n", ""), 5).is_empty());
    }
}
