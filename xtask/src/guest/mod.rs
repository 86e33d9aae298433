//! Builds the guest: loader, kernel and programs, and the stripped copies that are booted.

pub mod addition;
pub mod core_library;
pub mod placing;
pub mod ramdisk;
mod strip;
pub mod userland;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use crate::paths::Paths;
use crate::setup::{GUEST_TARGET, Toolchain};

/// The crates that make up the guest.
const CRATES: [&str; 4] = ["boot", "kernel", "programs", "proof"];

/// The multi-call binary, which behaves as the tool by whose name it is called.
pub const TOOLS: &str = "tools";

/// Flags for all guest code: fixed addresses, and frame pointers for backtraces.
const RUSTFLAGS: [&str; 2] = ["-Crelocation-model=static", "-Cforce-frame-pointers=yes"];

/// The files of a built guest.
#[derive(Debug, Default)]
pub struct Guest {
    /// The PVH loader, which QEMU starts.
    pub boot: PathBuf,
    /// The stripped kernel, which is booted.
    pub kernel: PathBuf,
    /// The unstripped kernel, for debuggers.
    pub kernel_symbols: PathBuf,
    /// The console of machines with a screen, stripped; it is not among the programs.
    pub console: PathBuf,
    /// The programs, stripped, by name.
    pub programs: Vec<(String, PathBuf)>,
    /// The programs, unstripped, by name.
    pub program_symbols: Vec<(String, PathBuf)>,
    /// Names of the tools that the program [`TOOLS`] contains.
    pub tools: Vec<String>,
}

/// Prepares cargo to compile the guest's crates.
pub fn cargo_for_guest(paths: &Paths, toolchain: &Toolchain, subcommand: &str) -> Command {
    cargo_for(paths, toolchain, subcommand, &CRATES)
}

fn cargo_for(paths: &Paths, toolchain: &Toolchain, subcommand: &str, packages: &[&str]) -> Command {
    let mut command = cargo::command(paths, subcommand);
    command.args(["--target", GUEST_TARGET]);
    for name in packages {
        command.args(["--package", name]);
    }
    command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    if let Some(source) = &toolchain.library_source {
        core_library::configure(&mut command, source);
    }
    command
}

/// Variants of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The guest without mutants.
    Normal,
    /// The guest without mutants, whose kernel checks its lock order and can fail claims.
    Checked,
    /// The guest without mutants, whose kernel checks its lock order, for gdb: with full debugging
    /// information.
    Debugger,
    /// The guest with all mutants compiled in; one can be switched on at run time.
    Mutants,
}

/// Builds loader, kernel and programs.
pub fn build(paths: &Paths, toolchain: &Toolchain, variant: Variant) -> Result<Guest> {
    let mut command = cargo_for_guest(paths, toolchain, "build");
    let profile = if variant == Variant::Debugger { "debugger" } else { "release" };
    command.args(["--profile", profile]);
    let folder = match variant {
        Variant::Normal => "guest",
        Variant::Checked => {
            command.args(["--features", "kernel/lock-checks,kernel/failing-claims"]);
            "guest-checked"
        }
        Variant::Debugger => {
            command.args(["--features", "kernel/lock-checks"]);
            "guest-debugger"
        }
        Variant::Mutants => {
            // A separate target folder, so that neither variant overwrites the other.
            command.arg("--target-dir").arg(paths.work.join("mutants"));
            command.args([
                "--package",
                "fsproto",
                "--features",
                "foundation/mutants,programs/mutants,proof/mutants",
                "--features",
                "kernel/mutants,kernel/failing-claims",
            ]);
            "guest-mutants"
        }
    };
    let folder = paths.work.join(folder);
    let artifacts = cargo::artifacts(command, "the guest")?.iter().filter_map(artifact).collect();
    let mut guest = collect(&folder, artifacts)?;
    if variant == Variant::Checked {
        // The next build of another variant replaces the file in the target folder.
        let symbols = folder.join("kernel-symbols");
        std::fs::copy(&guest.kernel_symbols, &symbols)?;
        guest.kernel_symbols = symbols;
    }
    Ok(guest)
}

/// Builds the program that measures Linux. It runs there only, as programs for the guest do.
pub fn build_peer(paths: &Paths, toolchain: &Toolchain) -> Result<PathBuf> {
    const PEER: &str = "peer";
    let mut command = cargo_for(paths, toolchain, "build", &[PEER]);
    command.arg("--release");
    let messages = cargo::artifacts(command, "the program that measures Linux")?;
    let mut programs = messages.iter().filter_map(artifact).filter(|it| it.name == PEER);
    let program = programs.next().context("cargo built no such program")?;
    let folder = paths.work.join("guest");
    std::fs::create_dir_all(&folder)?;
    strip::cached(&program.file, &folder.join(PEER))
}

/// A program that cargo built.
struct Artifact {
    crate_name: String,
    name: String,
    file: PathBuf,
}

fn artifact(message: &Value) -> Option<Artifact> {
    let file = cargo::executable(message)?;
    let name = message["target"]["name"].as_str()?.to_owned();
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let crate_name = manifest.parent()?.file_name()?.to_str()?.to_owned();
    Some(Artifact { crate_name, name, file })
}

/// The names of the tools, as the program that contains them lists them. Programs for the guest run
/// on Linux as well.
fn tools(programs: &[(String, PathBuf)]) -> Result<Vec<String>> {
    let (_, file) =
        programs.iter().find(|(name, _)| name == TOOLS).context("cargo built no tools")?;
    let output = Command::new(file).arg("--list").stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{} does not list its tools", file.display());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Sorts the programs and strips those that run in the guest.
fn collect(folder: &Path, artifacts: Vec<Artifact>) -> Result<Guest> {
    std::fs::create_dir_all(folder)?;
    let mut guest = Guest::default();
    for artifact in artifacts {
        match (artifact.crate_name.as_str(), artifact.name.as_str()) {
            ("boot", "boot") => guest.boot = artifact.file,
            ("kernel", "kernel") => {
                guest.kernel = strip::cached(&artifact.file, &folder.join("kernel"))?;
                guest.kernel_symbols = artifact.file;
            }
            ("programs", "console") => {
                guest.console = strip::cached(&artifact.file, &folder.join("user-console"))?;
            }
            ("programs" | "proof", name) => {
                let stripped = strip::cached(&artifact.file, &folder.join(format!("user-{name}")))?;
                guest.program_symbols.push((artifact.name.clone(), artifact.file));
                guest.programs.push((artifact.name, stripped));
            }
            _ => {}
        }
    }
    guest.programs.sort();
    guest.tools = tools(&guest.programs)?;
    if guest.boot.as_os_str().is_empty() || guest.kernel.as_os_str().is_empty() {
        bail!("cargo built no loader or no kernel");
    }
    Ok(guest)
}
