//! gdb, with its commands for the kernel.

use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::guest::{self, Variant};
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::test::verdict::Verdict;
use crate::{process, setup};

/// The test's full name.
pub const NAME: &str = "qemu::debugger_shows_the_kernel";

/// Time limit, without the build of the debugger's guest.
const LIMIT: Duration = Duration::from_secs(120);

/// Commands, and the constant parts of what gdb must show then, in this order.
const DIALOGUE: &[(&str, &[&str])] = &[
    ("walk $pc", &["paging is off"]),
    ("locks", &["the kernel does not run yet"]),
    ("tbreak kernel::syscall::io::sync", &[]),
    ("continue", &["kernel::syscall::io::sync ("]),
    ("backtrace", &["kernel/src/syscall/entry.rs:"]),
    // What the compiler leaves out where it is not used is an argument here.
    ("frame function kernel::syscall::entry::system_call", &["current=0x"]),
    ("info args", &["current = 0x"]),
    ("frame 0", &["kernel::syscall::io::sync ("]),
    ("walk $pc", &["level 4, entry 511: 0x", "level 1, entry", " p--a--x", "physical 0x"]),
    ("walk 0", &["level 4, entry   0: 0x", "not mapped"]),
    ("locks", &["no lock is held"]),
    ("regions 1", &["process 1 init: ", " r-x anonymous", "[stack]"]),
    ("regions 99", &["there is no process 99"]),
    ("snapshots", &["snapshots live", "bytes of File { mount: "]),
    ("queues", &["/: 0 requests in flight", "snapfs, descriptor 5: 0 messages queued"]),
    ("tbreak kernel::mem::space::SpaceState::look", &[]),
    ("continue", &["SpaceState::look (self="]),
    ("locks", &["Space at 0xffff", "the interrupted code"]),
    ("regions 1", &["the spin lock Space is held here"]),
];

/// Runs a command in the guest, and gdb beside it.
pub fn run(paths: &Paths, interrupts: &Interrupts) -> Result<Verdict> {
    guest::build(paths, &setup::ensure(paths)?, Variant::Debugger)?;
    let xtask = std::env::current_exe()?;
    let mut output = paths.scratch_file()?;
    let mut machine = Command::new(&xtask);
    machine.args(["run", "--gdb", "--", "sync; echo done"]).stdin(Stdio::null());
    machine.stdout(output.try_clone()?).stderr(output.try_clone()?);
    let mut machine = process::spawn_bound(&mut machine)?;
    let mut gdb = Command::new(&xtask);
    gdb.args(["gdb", "--", "-batch"]);
    // It waits until QEMU listens.
    for (command, _) in DIALOGUE {
        gdb.args(["-ex", command]);
    }
    let (ended, shown) = process::capture(paths, gdb, LIMIT, interrupts)?;
    if !matches!(ended, process::Ended::ByItself(status) if status.success()) {
        process::kill(&mut machine);
    }
    let status = machine.wait()?;
    let mut text = String::new();
    output.rewind()?;
    output.read_to_string(&mut text)?;
    let missing = missing(&shown);
    let good = status.success() && text.contains("\ndone\n") && missing.is_none();
    Ok(Verdict::from_condition(good, || {
        format!("missing: {missing:?}\ngdb:\n{shown}\nmachine ({status}):\n{text}")
    }))
}

/// The first expected text that gdb did not show, or not in its place.
fn missing(shown: &str) -> Option<&'static str> {
    let mut rest = shown;
    let texts = DIALOGUE.iter().flat_map(|(_, texts)| *texts);
    texts.copied().find(|text| match rest.split_once(text) {
        Some((_, behind)) => {
            rest = behind;
            false
        }
        None => true,
    })
}
