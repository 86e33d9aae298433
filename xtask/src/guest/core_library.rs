//! Core library for the guest from Debian's source package, if rustup cannot install the target.
//!
//! Cargo builds the library as part of the guest. The package comes from the Debian archive that
//! the machine uses; apt's settings are not changed. All files are in one folder below `target`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::{process, say};

/// Release of the compiler, which the source must match.
const RELEASE: &str = "1.95.0";
/// Debian's suite with newer compilers than its release.
const SUITE: &str = "trixie-backports";
/// Debian's keyring, with which apt verifies the archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

fn folder(paths: &Paths) -> PathBuf {
    paths.work.join("rust-src")
}

/// The library's source, if it has been fetched before.
pub fn present(paths: &Paths) -> Option<PathBuf> {
    let source = folder(paths).join(format!("root/usr/src/rustc-{RELEASE}/library"));
    source.join("core").is_dir().then_some(source)
}

/// Adds the arguments and environment with which cargo builds the library as well.
pub fn configure(cargo: &mut Command, source: &Path) {
    cargo
        .args([
            "-Zbuild-std=core,alloc,compiler_builtins",
            "-Zbuild-std-features=compiler-builtins-mem",
        ])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", source);
}

/// Downloads and unpacks the library's source.
pub fn fetch(paths: &Paths) -> Result<PathBuf> {
    let folder = folder(paths);
    for part in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(folder.join(part))?;
    }
    let archive = archive_address()?;
    let sources = folder.join("debian.sources");
    let text = format!(
        "Types: deb\nURIs: {archive}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYRING}\n"
    );
    std::fs::write(&sources, text)?;

    say!(
        "set-up: fetching the source of Rust's core library (apt-get download rust-src={RELEASE}*)"
    );
    let apt = |arguments: &[&str]| {
        let option = |name: &str, value: &Path| format!("-o{name}={}", value.display());
        let mut command = Command::new("apt-get");
        command
            .arg(option("Dir::Etc::sourcelist", &sources))
            .arg("-oDir::Etc::sourceparts=-")
            .arg(option("Dir::State::Lists", &folder.join("lists")))
            .arg(option("Dir::Cache", &folder.join("cache")))
            .arg("-oAPT::Sandbox::User=root")
            .args(arguments)
            .current_dir(&folder);
        process::run(&mut command)
    };
    let wanted = format!("rust-src={RELEASE}*");
    if !apt(&["update"]) || !apt(&["download", &wanted]) {
        bail!("the source of Rust's core library could not be fetched from Debian either");
    }
    let package = std::fs::read_dir(&folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    let mut unpack = Command::new("dpkg");
    if !process::run(unpack.arg("-x").arg(&package).arg(folder.join("root"))) {
        bail!("the package with Rust's core library could not be unpacked");
    }
    std::fs::remove_file(package)?;
    present(paths).context("the package with Rust's core library does not contain the library")
}

/// The address of the Debian archive that this machine uses.
fn archive_address() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"])
        .stderr(Stdio::null())
        .output()
        .context("this machine has no apt-get")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    first.map(str::to_owned).context("apt-get knows no Debian archive")
}
