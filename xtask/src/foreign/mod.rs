//! `foreign`: other people's programs, unmodified, on Sloth and on Linux; output, status and files
//! have to be the same.
//!
//! A group of cases runs in one machine, driven by a script that busybox carries out; the same
//! script, with the same programs, runs on the host as the oracle, twice, since a case whose
//! outcome varies by itself proves nothing. What a program needs that cannot be had is skipped, by
//! name.

mod cases;
mod console;
mod profit;
mod programs;
mod report;

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::add::Addition;
use crate::child::{self, Ended};
use crate::cli::{ForeignArgs, Lazy};
use crate::guest::{self, Guest, Variant};
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::qemu_tests::{Expected, QemuTest};
use crate::verdict::Verdict;
use crate::{say, setup};
use cases::{Case, GROUPS, Group};
pub use profit::ProfitTest;
use programs::{GUEST_BIN, Store};
use report::Sections;

/// Where the cases lie in the guest.
const GUEST_CASES: &str = "opt/cases";
/// Where this project's sources lie in the guest.
const GUEST_TREE: &str = "opt/tree";
/// The script that runs cases.
const DRIVER: &str = include_str!("driver.sh");
/// Where packages' folders lie in the guest.
const GUEST_PACKAGES: &str = "opt/packages";
/// What there is of this project that cases work on.
const TREE: [&str; 4] = ["fsproto", "fsserver", "kernel", "xtask"];
/// Both settings.
const SETTINGS: [Lazy; 2] = [Lazy::On, Lazy::Off];

/// What came of a case.
#[derive(Clone)]
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Runs what matches; the status is xtask's.
pub fn foreign(paths: &Paths, arguments: &ForeignArgs) -> Result<u8> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let chosen = GROUPS.iter().filter_map(|group| {
        let mut cases = group.cases();
        cases.retain(|case| full_name(group, case).contains(filter));
        (!cases.is_empty()).then_some((group, cases))
    });
    if arguments.list {
        let names: String = chosen
            .flat_map(|(group, cases)| cases.into_iter().map(|case| full_name(group, &case) + "\n"))
            .collect();
        let at_the_console =
            console::CASES.iter().map(|case| case.name()).filter(|name| name.contains(filter));
        let names = names + &at_the_console.map(|name| name + "\n").collect::<String>();
        stdout().write_all(names.as_bytes())?;
        return Ok(0);
    }
    let toolchain = setup::ensure(paths)?;
    let guest = guest::build(paths, &toolchain, Variant::Normal)?;
    let interrupts = Interrupts::listen()?;
    if arguments.profit {
        return profit::profit(paths, &guest, filter, &interrupts);
    }
    let mut count = Count::default();
    let store = Store::open(paths)?;
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

fn full_name(group: &Group, case: &Case) -> String {
    format!("foreign::{}::{}", group.name, case.name)
}

/// The part that belongs to `cargo xtask test`: a group with one setting.
#[derive(Clone, Copy)]
pub struct ForeignTest {
    group: &'static Group,
    lazy: Lazy,
}

impl ForeignTest {
    /// All of them.
    pub fn list() -> impl Iterator<Item = Self> {
        let quick = GROUPS.iter().filter(|group| group.is_quick);
        quick.flat_map(|group| SETTINGS.map(|lazy| Self { group, lazy }))
    }

    /// Its name.
    pub fn name(self) -> String {
        format!("qemu::foreign_{}_lazy_{}", self.group.name, self.lazy.word())
    }

    /// Runs it: every case has to pass.
    pub fn run(self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let outcomes =
            run_group(paths, guest, self.group, &self.group.cases(), &[self.lazy], interrupts)?;
        let mut failures = String::new();
        for (name, outcome) in &outcomes {
            match outcome {
                Outcome::Passed => {}
                Outcome::Failed(why) => failures.push_str(&format!("{name}: {why}\n")),
                Outcome::Skipped(why) => return Ok(Verdict::Skipped(why.clone())),
            }
        }
        Ok(Verdict::from_condition(failures.is_empty() && !outcomes.is_empty(), || failures))
    }
}

/// What a group of cases needs, on the host and in the guest.
struct Ready {
    bin: PathBuf,
    cases: PathBuf,
    tree: PathBuf,
    /// Where packages are unpacked, each in a folder of its name.
    packages: PathBuf,
    additions: Vec<Addition>,
}

/// Runs cases of a group on Linux and, with each of the settings, on Sloth.
fn run_group(
    paths: &Paths,
    guest: &Guest,
    group: &'static Group,
    cases: &[Case],
    settings: &[Lazy],
    interrupts: &Interrupts,
) -> Result<Vec<(String, Outcome)>> {
    let store = Store::open(paths)?;
    let all = |outcome: &dyn Fn() -> Outcome| -> Vec<(String, Outcome)> {
        cases
            .iter()
            .flat_map(|case| settings.iter().map(move |lazy| case_name(group, case, *lazy)))
            .map(|name| (name, outcome()))
            .collect()
    };
    let ready = match prepare(paths, &store, group, cases)? {
        Ok(ready) => ready,
        Err(why) => return Ok(all(&|| Outcome::Skipped(why.clone()))),
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

/// Compares what the three runs left.
fn judge(
    wanted: Option<&String>,
    again: Option<&String>,
    found: Option<&String>,
    explanation: &str,
) -> Outcome {
    match (wanted, found) {
        (None, _) => Outcome::Failed(
            "Linux did not come to it: the driver or a case before it is wrong".to_owned(),
        ),
        (Some(wanted), _) if again != Some(wanted) => {
            let why = report::difference(wanted, again.map(String::as_str).unwrap_or_default());
            Outcome::Failed(format!("its outcome on Linux varies by itself: {why}"))
        }
        (Some(_), None) => Outcome::Failed(format!("Sloth did not come to it\n{explanation}")),
        (Some(wanted), Some(found)) if wanted == found => Outcome::Passed,
        (Some(wanted), Some(found)) => Outcome::Failed(report::difference(wanted, found)),
    }
}

/// Gets the programs and writes the cases, or says what is not to be had.
fn prepare(
    paths: &Paths,
    store: &Store,
    group: &Group,
    cases: &[Case],
) -> Result<Result<Ready, String>> {
    let mut additions = Vec::new();
    let bin = store.fresh("bin")?;
    for name in ["busybox"].iter().chain(group.programs) {
        match store.get(name, &bin) {
            Ok(fetched) => additions.extend(fetched.additions(name)),
            Err(why) => return Ok(Err(format!("{name} is not to be had: {why}"))),
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
        let unpacked = match store.unpack(package) {
            Ok(unpacked) => unpacked,
            Err(why) => return Ok(Err(format!("{package} is not to be had: {why}"))),
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
    Ok(Ok(Ready { bin, cases: folder, tree, packages: store.packages(), additions }))
}

/// Copies the sources below a folder.
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

/// The oracle: the driver on the host, in a scratch folder.
fn on_linux(
    paths: &Paths,
    store: &Store,
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
    let (ended, output) =
        child::run(paths, command, Duration::from_secs(group.limit_s), interrupts)?;
    if matches!(ended, Ended::Stopped) {
        say!("{}: Linux did not finish in {} s", group.name, group.limit_s);
    }
    Ok(report::sections(output.as_bytes()))
}

/// What the cases see besides.
const ENVIRONMENT: [(&str, &str); 3] = [("LC_ALL", "C"), ("TZ", "UTC"), ("PATH", "/nowhere")];

/// The driver in a machine; also what helps where a case was not come to.
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
        "mkdir /tmp/work; env -i {environment}BIN=/{GUEST_BIN} CASES=/{GUEST_CASES} TREE=/{GUEST_TREE} PACKAGES=/{GUEST_PACKAGES} WORK=/tmp/work HOME=/tmp/work \
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

/// What has come so far.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
}

impl Count {
    fn add(&mut self, name: &str, outcome: &Outcome) -> Result<()> {
        let mut out = stdout().lock();
        match outcome {
            Outcome::Passed => {
                writeln!(out, "test {name} ... ok")?;
                self.passed += 1;
            }
            Outcome::Failed(why) => {
                let why: String = why.lines().map(|line| format!("    {line}\n")).collect();
                write!(out, "test {name} ... FAILED\n{why}")?;
                self.failed.push(name.to_owned());
            }
            Outcome::Skipped(why) => {
                writeln!(out, "test {name} ... skipped: {why}")?;
                self.skipped += 1;
            }
        }
        Ok(())
    }

    /// Says it all in one line; the status is xtask's.
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
    fn a_case_passes_only_where_all_three_runs_agree() {
        let text = |text: &str| Some(text.to_owned());
        let is = |wanted: Option<String>, again: Option<String>, found: Option<String>| {
            matches!(judge(wanted.as_ref(), again.as_ref(), found.as_ref(), ""), Outcome::Passed)
        };
        assert!(is(text("a"), text("a"), text("a")));
        assert!(!is(text("a"), text("a"), text("b")));
        assert!(!is(text("a"), text("b"), text("a")));
        assert!(!is(text("a"), text("a"), None));
        assert!(!is(None, None, None));
    }

    #[test]
    fn what_is_skipped_has_not_passed() {
        let mut count = Count::default();
        count.add("x", &Outcome::Skipped("no package".to_owned())).unwrap();
        assert_eq!((count.passed, count.failed.len(), count.skipped), (0, 0, 1));
        assert_eq!(count.conclude(), 0);
    }
}
