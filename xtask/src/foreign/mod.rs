//! `foreign`: other people's programs, unmodified, on Sloth and on Linux. Output, exit status and
//! files must be the same.
//!
//! A group of cases runs in one machine, driven by a script for busybox. The same script runs with
//! the same programs on the host as the oracle, twice, since a case whose result varies proves
//! nothing. Groups whose programs are not available are skipped.

mod cases;
mod console;
mod library_tests;
mod profit;
mod programs;
mod report;
mod suite;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cli::{ForeignArgs, Lazy};
use crate::guest::addition::Addition;
use crate::guest::{self, Guest, Variant};
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::process::{self, Ended};
use crate::test::qemu::{Expected, QemuTest};
use crate::test::verdict::Verdict;
use crate::{filter, say, setup};
use cases::{Case, GROUPS, Group};
pub use profit::ProfitTest;
use programs::{ForeignFolder, GUEST_BIN};
use report::Sections;

/// Folder of the cases in the guest.
const GUEST_CASES: &str = "opt/cases";
/// Folder of this project's sources in the guest.
const GUEST_TREE: &str = "opt/tree";
/// The script that runs the cases.
const DRIVER: &str = include_str!("driver.sh");
/// Folder of the unpacked packages in the guest.
const GUEST_PACKAGES: &str = "opt/packages";
/// Folders of this project that cases work on.
const TREE: [&str; 4] = ["fsproto", "fsserver", "kernel", "xtask"];
/// The settings that each case runs with.
const SETTINGS: [Lazy; 2] = [Lazy::On, Lazy::Off];

/// Runs the cases that match; returns the exit status.
pub fn foreign(paths: &Paths, arguments: &ForeignArgs) -> Result<u8> {
    if let Some(folder) = &arguments.suite {
        return suite::suite(paths, folder, arguments);
    }
    let filter = arguments.filter.as_deref().unwrap_or_default();
    filter::require_match("case", filter, &names(arguments.profit))?;
    let chosen = GROUPS.iter().filter_map(|group| {
        let mut cases = group.cases();
        cases.retain(|case| full_name(group, case).contains(filter));
        (!cases.is_empty()).then_some((group, cases))
    });
    if arguments.list {
        let names = names(arguments.profit);
        let chosen = names.iter().filter(|name| name.contains(filter));
        let lines: String = chosen.map(|name| format!("{name}\n")).collect();
        stdout().write_all(lines.as_bytes())?;
        return Ok(0);
    }
    let toolchain = setup::ensure(paths)?;
    let guest = guest::build(paths, &toolchain, Variant::Normal)?;
    let interrupts = Interrupts::listen()?;
    if arguments.profit {
        return profit::profit(paths, &guest, filter, &interrupts);
    }
    let mut count = Count::default();
    let store = ForeignFolder::open(paths)?;
    for case in console::CASES.iter().filter(|case| case.name().contains(filter)) {
        for (name, outcome) in case.run(&store, &interrupts)? {
            count.add(&name, &outcome)?;
        }
    }
    for (group, cases) in chosen {
        for (name, outcome) in run_group(paths, &guest, group, &cases, &SETTINGS, &interrupts)? {
            count.add(&name, &outcome)?;
        }
        if interrupts.pending().is_some() {
            println!("stopped");
            return Ok(1);
        }
    }
    Ok(count.conclude())
}

/// The names of all cases, or of those that are measured.
fn names(profit: bool) -> Vec<String> {
    if profit {
        return profit::names();
    }
    let in_group = |group: &Group| -> Vec<_> {
        group.cases().iter().map(|case| full_name(group, case)).collect()
    };
    let console = console::CASES.iter().map(|case| case.name().to_owned());
    GROUPS.iter().flat_map(in_group).chain(console).collect()
}

fn full_name(group: &Group, case: &Case) -> String {
    format!("foreign::{}::{}", group.name, case.name)
}

/// A group with one setting, as a test of `cargo xtask test`.
#[derive(Clone, Copy)]
pub struct ForeignTest {
    group: &'static Group,
    lazy: Lazy,
}

impl ForeignTest {
    /// The tests, two for each quick group.
    pub fn list() -> impl Iterator<Item = Self> {
        let quick = GROUPS.iter().filter(|group| group.is_quick);
        quick.flat_map(|group| SETTINGS.map(|lazy| Self { group, lazy }))
    }

    /// The test's full name.
    pub fn name(self) -> String {
        format!("qemu::foreign_{}_lazy_{}", self.group.name, self.lazy.word())
    }

    /// Runs the group; every case must pass.
    pub fn run(self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let outcomes =
            run_group(paths, guest, self.group, &self.group.cases(), &[self.lazy], interrupts)?;
        let mut failures = String::new();
        for (name, outcome) in &outcomes {
            match outcome {
                Verdict::Passed | Verdict::Reported(_) => {}
                Verdict::Failed(why) => failures.push_str(&format!("{name}: {why}\n")),
                Verdict::Skipped(why) => return Ok(Verdict::Skipped(why.clone())),
            }
        }
        Ok(Verdict::from_condition(failures.is_empty() && !outcomes.is_empty(), || failures))
    }
}

/// The files that a group of cases needs, on the host and in the guest.
struct Ready {
    bin: PathBuf,
    cases: PathBuf,
    tree: PathBuf,
    /// Folder of the unpacked packages, each in a folder of its name.
    packages: PathBuf,
    /// Where the host's dynamic loader must search, too.
    library_folders: BTreeSet<PathBuf>,
    additions: Vec<Addition>,
}

/// Runs cases of a group on Linux and, with each setting, on Sloth.
fn run_group(
    paths: &Paths,
    guest: &Guest,
    group: &'static Group,
    cases: &[Case],
    settings: &[Lazy],
    interrupts: &Interrupts,
) -> Result<Vec<(String, Verdict)>> {
    let store = ForeignFolder::open(paths)?;
    let all = |outcome: &dyn Fn() -> Verdict| -> Vec<(String, Verdict)> {
        cases
            .iter()
            .flat_map(|case| settings.iter().map(move |lazy| case_name(group, case, *lazy)))
            .map(|name| (name, outcome()))
            .collect()
    };
    let ready = match prepare(paths, &store, group, cases)? {
        Ok(ready) => ready,
        Err(why) => return Ok(all(&|| Verdict::Skipped(why.clone()))),
    };
    let oracle = || on_linux(paths, &store, group, &ready, interrupts);
    let (wanted, again) = (oracle()?, oracle()?);
    let mut outcomes = Vec::new();
    for &lazy in settings {
        let start = Instant::now();
        let (found, explanation) = on_sloth(paths, guest, group, &ready, lazy, interrupts)?;
        say!(
            "{} with laziness {}: {:.1} s",
            group.name,
            lazy.word(),
            start.elapsed().as_secs_f32()
        );
        for case in cases {
            let outcome = judge(
                wanted.get(&case.name),
                again.get(&case.name),
                found.get(&case.name),
                &explanation,
            );
            outcomes.push((case_name(group, case, lazy), outcome));
        }
    }
    Ok(outcomes)
}

fn case_name(group: &Group, case: &Case, lazy: Lazy) -> String {
    format!("{} lazy {}", full_name(group, case), lazy.word())
}

/// Compares the results of the three runs.
fn judge(
    wanted: Option<&String>,
    again: Option<&String>,
    found: Option<&String>,
    explanation: &str,
) -> Verdict {
    match (wanted, found) {
        (None, _) => Verdict::Failed(
            "it did not run on Linux: the driver or an earlier case is wrong".to_owned(),
        ),
        (Some(wanted), _) if again != Some(wanted) => {
            let why = report::difference(wanted, again.map(String::as_str).unwrap_or_default());
            Verdict::Failed(format!("its result on Linux varies: {why}"))
        }
        (Some(_), None) => Verdict::Failed(format!("it did not run on Sloth\n{explanation}")),
        (Some(wanted), Some(found)) if wanted == found => Verdict::Passed,
        (Some(wanted), Some(found)) => Verdict::Failed(report::difference(wanted, found)),
    }
}

/// Gets the programs and writes the cases, or returns what is not available.
fn prepare(
    paths: &Paths,
    store: &ForeignFolder,
    group: &Group,
    cases: &[Case],
) -> Result<Result<Ready, String>> {
    let mut additions = Vec::new();
    let mut library_folders = BTreeSet::new();
    let bin = store.fresh("bin")?;
    for name in ["busybox"].iter().chain(group.programs) {
        match store.get(name, &bin) {
            Ok(fetched) => {
                additions.extend(fetched.additions(name));
                library_folders.extend(fetched.library_folders().map(Path::to_owned));
            }
            Err(why) => return Ok(Err(format!("{name} is not available: {why}"))),
        }
    }
    let folder = store.fresh("cases")?;
    let mut list = String::new();
    for case in cases {
        fs::write(folder.join(&case.name), &case.text)?;
        list.push_str(&format!("{}\n", case.name));
    }
    fs::write(folder.join("list"), list)?;
    fs::write(folder.join("driver"), DRIVER)?;
    additions.push(Addition { host: folder.clone(), guest: GUEST_CASES.to_owned() });
    let tree = store.fresh("tree")?;
    if group.files.has_tree {
        for name in TREE {
            copy_tree(&paths.root.join(name), &tree.join(name))?;
        }
        additions.push(Addition { host: tree.clone(), guest: GUEST_TREE.to_owned() });
    }
    for (package, path) in group.files.packages {
        let unpacked = match store.packages.unpack(package) {
            Ok(unpacked) => unpacked,
            Err(why) => return Ok(Err(format!("{package} is not available: {why}"))),
        };
        additions.push(Addition {
            host: unpacked.join(path),
            guest: format!("{GUEST_PACKAGES}/{package}/{path}"),
        });
    }
    let here = |path: &&str| Addition {
        host: PathBuf::from(path),
        guest: path.trim_start_matches('/').to_owned(),
    };
    additions.extend(group.files.machine.iter().map(here));
    if let Some(missing) = additions.iter().find(|addition| !addition.host.exists()) {
        return Ok(Err(format!("there is no {}", missing.host.display())));
    }
    let packages = store.packages.folder();
    Ok(Ok(Ready { bin, cases: folder, tree, packages, library_folders, additions }))
}

/// Copies a folder with its contents.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(from)?);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target)?;
        } else if entry.file_type().is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Runs the driver on the host, in a temporary folder, as the oracle.
fn on_linux(
    paths: &Paths,
    store: &ForeignFolder,
    group: &Group,
    ready: &Ready,
    interrupts: &Interrupts,
) -> Result<Sections> {
    let work = store.fresh("work")?;
    let mut command = Command::new(ready.bin.join("busybox"));
    command.arg("sh").arg(ready.cases.join("driver")).env_clear().current_dir(&work);
    let places = [
        ("BIN", &ready.bin),
        ("CASES", &ready.cases),
        ("TREE", &ready.tree),
        ("PACKAGES", &ready.packages),
        ("WORK", &work),
        ("HOME", &work),
    ];
    for (name, path) in places {
        command.env(name, path);
    }
    command.env("INTERPRETER", group.interpreter).envs(ENVIRONMENT);
    if !ready.library_folders.is_empty() {
        command.env("LD_LIBRARY_PATH", std::env::join_paths(&ready.library_folders)?);
    }
    let (ended, output) =
        process::capture(paths, command, Duration::from_secs(group.limit_s), interrupts)?;
    if matches!(ended, Ended::Stopped) {
        say!("{}: Linux did not finish in {} s", group.name, group.limit_s);
    }
    Ok(report::sections(output.as_bytes()))
}

/// Further environment of the cases.
const ENVIRONMENT: [(&str, &str); 3] = [("LC_ALL", "C"), ("TZ", "UTC"), ("PATH", "/nowhere")];

/// Runs the driver in a machine; also returns a report for cases that did not run.
fn on_sloth(
    paths: &Paths,
    guest: &Guest,
    group: &Group,
    ready: &Ready,
    lazy: Lazy,
    interrupts: &Interrupts,
) -> Result<(Sections, String)> {
    let environment: String =
        ENVIRONMENT.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let command = format!(
        "mkdir /tmp/work; env -i {environment}BIN=/{GUEST_BIN} CASES=/{GUEST_CASES} \
         TREE=/{GUEST_TREE} PACKAGES=/{GUEST_PACKAGES} WORK=/tmp/work HOME=/tmp/work \
         'INTERPRETER={}' /{GUEST_BIN}/busybox sh /{GUEST_CASES}/driver",
        group.interpreter
    );
    let mut test = QemuTest::new(group.name, &command, Expected::Status(0));
    test.memory = group.memory.to_owned();
    test.lazy = lazy;
    test.limit = Duration::from_secs(group.limit_s);
    test.additions.clone_from(&ready.additions);
    let seen = test.boot(paths, guest, &command, None, interrupts)?;
    Ok((report::sections(&seen.console), test.explain(&seen)))
}

/// Numbers of results so far.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
}

impl Count {
    fn add(&mut self, name: &str, outcome: &Verdict) -> Result<()> {
        let mut out = stdout().lock();
        match outcome {
            Verdict::Passed | Verdict::Reported(_) => {
                writeln!(out, "test {name} ... ok")?;
                self.passed += 1;
            }
            Verdict::Failed(why) => {
                let why: String = why.lines().map(|line| format!("    {line}\n")).collect();
                write!(out, "test {name} ... FAILED\n{why}")?;
                self.failed.push(name.to_owned());
            }
            Verdict::Skipped(why) => {
                writeln!(out, "test {name} ... skipped: {why}")?;
                self.skipped += 1;
            }
        }
        Ok(())
    }

    /// Prints the summary; returns the exit status.
    fn conclude(&self) -> u8 {
        for name in &self.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped);
        u8::from(!self.failed.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_passes_only_if_all_three_runs_agree() {
        let text = |text: &str| Some(text.to_owned());
        let is = |wanted: Option<String>, again: Option<String>, found: Option<String>| {
            matches!(judge(wanted.as_ref(), again.as_ref(), found.as_ref(), ""), Verdict::Passed)
        };
        assert!(is(text("a"), text("a"), text("a")));
        assert!(!is(text("a"), text("a"), text("b")));
        assert!(!is(text("a"), text("b"), text("a")));
        assert!(!is(text("a"), text("a"), None));
        assert!(!is(None, None, None));
    }

    #[test]
    fn a_skipped_case_is_not_counted_as_passed() {
        let mut count = Count::default();
        count.add("x", &Verdict::Skipped("no package".to_owned())).unwrap();
        assert_eq!((count.passed, count.failed.len(), count.skipped), (0, 0, 1));
        assert_eq!(count.conclude(), 0);
    }
}
