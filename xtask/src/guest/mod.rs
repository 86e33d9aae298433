//! Builds the guest: loader, kernel and programs, and the stripped copies that are booted.

pub mod addition;
pub mod core_library;
pub mod ramdisk;
mod strip;

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde_json::Value;

use crate::paths::Paths;
use crate::say;
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
    /// The programs, stripped, by name.
    pub programs: Vec<(String, PathBuf)>,
    /// Names of the tools that the program [`TOOLS`] contains.
    pub tools: Vec<String>,
}

/// The cargo that started xtask, or the one in PATH.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Prepares cargo to compile the guest's crates.
pub fn cargo_for_guest(paths: &Paths, toolchain: &Toolchain, subcommand: &str) -> Command {
    let mut command = Command::new(cargo());
    command.arg(subcommand).args(["--release", "--target", GUEST_TARGET]);
    for name in CRATES {
        command.args(["--package", name]);
    }
    command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    if let Some(source) = &toolchain.library_source {
        core_library::configure(&mut command, source);
    }
    command.current_dir(&paths.root).stdin(Stdio::null());
    command
}

/// Variants of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The guest without mutants.
    Normal,
    /// The guest without mutants, whose kernel checks its lock order.
    LockChecks,
    /// The guest with all mutants compiled in; one can be switched on at run time.
    Mutants,
}

/// Builds loader, kernel and programs.
pub fn build(paths: &Paths, toolchain: &Toolchain, variant: Variant) -> Result<Guest> {
    let mut command = cargo_for_guest(paths, toolchain, "build");
    let mut folder = paths.work.join("guest");
    if variant == Variant::LockChecks {
        folder = paths.work.join("guest-lock-checks");
        command.args(["--features", "kernel/lock-checks"]);
    }
    if variant == Variant::Mutants {
        // A separate target folder, so that neither variant overwrites the other.
        folder = paths.work.join("guest-mutants");
        command.arg("--target-dir").arg(paths.work.join("mutants"));
        command.args([
            "--package",
            "fsproto",
            "--features",
            "foundation/mutants,kernel/mutants,programs/mutants,proof/mutants",
        ]);
    }
    command.args(["--quiet", "--message-format=json-render-diagnostics"]).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let artifacts = follow(BufReader::new(output))?;
    if !child.wait()?.success() {
        bail!("the guest could not be built (see above)");
    }
    collect(&folder, artifacts)
}

/// A program that cargo built.
struct Artifact {
    crate_name: String,
    name: String,
    file: PathBuf,
}

/// Shows cargo's progress and collects the programs.
fn follow(output: impl BufRead) -> Result<Vec<Artifact>> {
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner.set_message("checking the guest");
    let mut announced = !spinner.is_hidden();
    let mut artifacts = Vec::new();
    for line in output.lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        if message["fresh"] == false {
            if !announced {
                say!("building the guest");
                announced = true;
            }
            spinner.set_message(format!(
                "building the guest: {}",
                message["target"]["name"].as_str().unwrap_or("")
            ));
        }
        artifacts.extend(artifact(&message));
    }
    spinner.finish_and_clear();
    Ok(artifacts)
}

fn artifact(message: &Value) -> Option<Artifact> {
    let file = PathBuf::from(message["executable"].as_str()?);
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
            ("programs" | "proof", name) => {
                let stripped = strip::cached(&artifact.file, &folder.join(format!("user-{name}")))?;
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
