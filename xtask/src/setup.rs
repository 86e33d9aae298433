//! Set-up: what a fresh machine lacks, installed or asked for.
//!
//! Each check is cheap enough to be made by every command, so there is no stamp that could lie.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::fallback;
use crate::paths::Paths;
use crate::say;

/// The guest's compilation target.
pub const GUEST_TARGET: &str = "x86_64-unknown-none";
/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";

/// What set-up found or made.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// Where the source of the core library lies, if the guest is built with a library of its own.
    pub library_source: Option<PathBuf>,
}

/// Makes sure that the guest can be built and started.
pub fn ensure(paths: &Paths) -> Result<Toolchain> {
    let toolchain = ensure_target(paths)?;
    ensure_qemu()?;
    Ok(toolchain)
}

/// Makes sure that a component of the toolchain is there.
pub fn ensure_component(paths: &Paths, component: &str, probe: &[&str]) -> Result<()> {
    let cargo = crate::guest::cargo();
    if succeeds(Command::new(cargo).args(probe).current_dir(&paths.root)) {
        return Ok(());
    }
    say!("set-up: adding {component} to the toolchain (rustup component add {component})");
    let mut rustup = Command::new("rustup");
    if run(rustup.args(["component", "add", component]).current_dir(&paths.root)) {
        return Ok(());
    }
    bail!(
        "{component} is missing and rustup could not add it; give: rustup component add {component}"
    )
}

fn ensure_target(paths: &Paths) -> Result<Toolchain> {
    if target_installed(paths) {
        return Ok(Toolchain { library_source: None });
    }
    if let Some(source) = fallback::present(paths) {
        return Ok(Toolchain { library_source: Some(source) });
    }
    say!("set-up: adding the guest's target (rustup target add {GUEST_TARGET})");
    let mut rustup = Command::new("rustup");
    if run(rustup.args(["target", "add", GUEST_TARGET]).current_dir(&paths.root))
        && target_installed(paths)
    {
        return Ok(Toolchain { library_source: None });
    }
    say!("set-up: rustup could not; building the core library from its source instead");
    let source = fallback::fetch(paths).with_context(|| {
        format!("the target is missing; give: rustup target add {GUEST_TARGET}")
    })?;
    Ok(Toolchain { library_source: Some(source) })
}

fn target_installed(paths: &Paths) -> bool {
    let query = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", GUEST_TARGET])
        .current_dir(&paths.root)
        .stderr(Stdio::null())
        .output();
    let Ok(output) = query else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn ensure_qemu() -> Result<()> {
    if succeeds(Command::new(QEMU).arg("--version")) {
        return Ok(());
    }
    const INSTALL: [&str; 4] = ["install", "-y", "--no-install-recommends", "qemu-system-x86"];
    let mut last = false;
    for arguments in [&["update"][..], &INSTALL[..]] {
        let Some(mut command) = privileged("apt-get") else { break };
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        say!("set-up: QEMU is missing (apt-get {})", arguments.join(" "));
        // An index that could not be renewed may still be good enough: the last step decides.
        last = run(&mut command);
    }
    if last && succeeds(Command::new(QEMU).arg("--version")) {
        return Ok(());
    }
    bail!("{QEMU} is missing; give: sudo apt-get {}", INSTALL.join(" "))
}

/// A command with root's rights, if they are to be had without a question.
fn privileged(program: &str) -> Option<Command> {
    if rustix::process::geteuid().is_root() {
        return Some(Command::new(program));
    }
    succeeds(Command::new("sudo").args(["-n", "true"])).then(|| {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        command
    })
}

/// Runs a command silently.
fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs a command whose output is for the user; standard output belongs to the guest, so it goes to
/// standard error.
pub fn run(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr())).status();
    status.is_ok_and(|status| status.success())
}
