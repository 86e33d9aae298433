//! Set-up: installs missing tools, or says which command installs them.
//!
//! The checks are cheap, so every command makes them and no state is kept.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::guest::core_library;
use crate::paths::Paths;
use crate::process::{run, succeeds};
use crate::say;

/// The guest's compilation target, as rustc names it.
pub const GUEST_TARGET: &str = "x86_64-unknown-none";
/// The emulator's program.
pub const QEMU: &str = "qemu-system-x86_64";

/// The debugger's program.
pub const GDB: &str = "gdb";

/// The toolchain that set-up found or installed.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// Source of the core library, if the guest has to build the library itself.
    pub library_source: Option<PathBuf>,
}

/// Ensures that the guest can be built and started.
pub fn ensure(paths: &Paths) -> Result<Toolchain> {
    let toolchain = ensure_target(paths)?;
    ensure_qemu()?;
    Ok(toolchain)
}

/// Ensures that a component of the toolchain is installed.
pub fn ensure_component(paths: &Paths, component: &str, probe: &[&str]) -> Result<()> {
    let cargo = crate::cargo::program();
    if succeeds(Command::new(cargo).args(probe).current_dir(&paths.root)) {
        return Ok(());
    }
    say!("set-up: adding {component} to the toolchain (rustup component add {component})");
    let mut rustup = Command::new("rustup");
    if run(rustup.args(["component", "add", component]).current_dir(&paths.root)) {
        return Ok(());
    }
    bail!(
        "{component} is missing and rustup could not add it; run: rustup component add {component}"
    )
}

/// Ensures that the loader of disk images can be built: it builds the core library for targets of
/// its own, and copies parts out of ELF files.
pub fn ensure_image_components(paths: &Paths) -> Result<()> {
    let are_present = || {
        let mut query = Command::new("rustc");
        query.args(["--print", "sysroot"]).current_dir(&paths.root).stderr(Stdio::null());
        let Ok(output) = query.output() else { return false };
        let library =
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("lib/rustlib");
        let host_tools = std::fs::read_dir(&library).into_iter().flatten().flatten();
        library.join("src/rust/library/core").is_dir()
            && host_tools.into_iter().any(|it| it.path().join("bin/llvm-objcopy").exists())
    };
    if are_present() {
        return Ok(());
    }
    const ADD: [&str; 4] = ["component", "add", "rust-src", "llvm-tools"];
    let command = format!("rustup {}", ADD.join(" "));
    say!("set-up: adding what disk images need ({command})");
    let mut rustup = Command::new("rustup");
    if run(rustup.args(ADD).current_dir(&paths.root)) && are_present() {
        return Ok(());
    }
    bail!("the toolchain lacks what disk images need; run: {command}")
}

fn ensure_target(paths: &Paths) -> Result<Toolchain> {
    if target_installed(paths) {
        return Ok(Toolchain { library_source: None });
    }
    if let Some(source) = core_library::present(paths) {
        return Ok(Toolchain { library_source: Some(source) });
    }
    say!("set-up: adding the guest's target (rustup target add {GUEST_TARGET})");
    let mut rustup = Command::new("rustup");
    if run(rustup.args(["target", "add", GUEST_TARGET]).current_dir(&paths.root))
        && target_installed(paths)
    {
        return Ok(Toolchain { library_source: None });
    }
    say!("set-up: rustup failed; building the core library from its source instead");
    let source = core_library::fetch(paths)
        .with_context(|| format!("the target is missing; run: rustup target add {GUEST_TARGET}"))?;
    Ok(Toolchain { library_source: Some(source) })
}

/// The toolchain's folder.
pub fn sysroot(paths: &Paths) -> Result<PathBuf> {
    let mut query = Command::new("rustc");
    let output = query.args(["--print", "sysroot"]).current_dir(&paths.root).output()?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
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

/// Ensures that gdb is installed.
pub fn ensure_gdb() -> Result<()> {
    ensure_program(GDB, "gdb")
}

fn ensure_qemu() -> Result<()> {
    ensure_program(QEMU, "qemu-system-x86")
}

/// Ensures that a program of the distribution is installed.
fn ensure_program(program: &str, package: &str) -> Result<()> {
    if succeeds(Command::new(program).arg("--version")) {
        return Ok(());
    }
    let install = ["install", "-y", "--no-install-recommends", package];
    let mut last = false;
    for arguments in [&["update"][..], &install[..]] {
        let Some(mut command) = privileged("apt-get") else { break };
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        say!("set-up: {program} is missing (apt-get {})", arguments.join(" "));
        // The old index may be good enough if the update fails, so only the last step counts.
        last = run(&mut command);
    }
    if last && succeeds(Command::new(program).arg("--version")) {
        return Ok(());
    }
    bail!("{program} is missing; run: sudo apt-get {}", install.join(" "))
}

/// A command that runs as root, if that needs no password.
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
