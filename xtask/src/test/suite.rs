//! `foreign --suite` with a folder of small programs: one passes, one differs, one hangs, and one
//! ends what runs it. The last one shows that the others cost only themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::process::{self, Ended};
use crate::test::verdict::Verdict;

/// The test's full name.
pub const NAME: &str = "qemu::suite_shows_what_differs";

/// Time limit; a build may be part of it.
const LIMIT: Duration = Duration::from_secs(180);

/// The scripts. What hangs or differs does so on Sloth only. Process 1 of a namespace cannot be
/// killed from inside, so the parent of `ends_all` survives on Linux.
const SCRIPTS: [(&str, &str); 4] = [
    ("differs", "case $(uname -r) in *sloth*) exit 7;; esac"),
    ("ends_all", "kill -9 $PPID; exit 0"),
    ("hangs", "case $(uname -r) in *sloth*) sleep 1000;; esac"),
    ("inner/is_alone", "[ -z \"$(ls)\" ] && [ \"$(pwd)\" = \"$TMPDIR\" ] && touch x; exit 3"),
];
/// A dynamic program of the host.
const PASSES: &str = "/bin/true";

/// What the report says.
const REPORT: &[&str] = &[
    "\ndiffers: differs: exit status 0 on Linux, exit status 7 on Sloth\n",
    "\ndiffers: hangs: exit status 0 on Linux, time limit on Sloth\n",
    "known: ends_all: ",
    "skipped: text: ",
    "suite/suite-test/sloth/hangs.log\n",
    "\n2 agree, 2 differ, 1 skipped\n",
];

/// Runs the test.
pub fn run(paths: &Paths, interrupts: &Interrupts) -> Result<Verdict> {
    let folder = paths.work.join("suite-test");
    make_suite(&folder)?;
    let known = tempfile::NamedTempFile::new_in(&paths.work)?;
    fs::write(known.path(), "ends_all: Sloth has no namespaces\n")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["foreign", "--limit", "5", "--suite"]).arg(&folder);
    command.arg("--known").arg(known.path()).stderr(Stdio::null());
    let (ended, output) = process::capture(paths, command, LIMIT, interrupts)?;
    let Ended::ByItself(status) = ended else {
        return Ok(Verdict::Failed(format!("stopped: it did not end\n{output}")));
    };
    let missing = REPORT.iter().find(|text| !output.contains(*text));
    Ok(Verdict::from_condition(status.code() == Some(1) && missing.is_none(), || {
        format!("{status}; missing: {missing:?}\n{output}")
    }))
}

/// Creates the suite's folder.
fn make_suite(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder.join("inner"))?;
    for (name, text) in SCRIPTS {
        fs::write(folder.join(name), format!("#!/bin/sh\n{text}\n"))?;
    }
    fs::copy(PASSES, folder.join("passes"))?;
    fs::write(folder.join("text"), "no program\n")?;
    for name in SCRIPTS.iter().map(|(name, _)| *name).chain(["passes", "text"]) {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
