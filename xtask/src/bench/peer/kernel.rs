//! The distribution's kernel: a package that is downloaded, and of which two files are unpacked.

use std::fs::{self, File};
use std::io::{Read, copy};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::Packages;
use crate::paths::Paths;
use crate::process;

/// The package that depends on that of the newest kernel.
const NEWEST: &str = "linux-image-amd64";
/// How the names of kernels' packages begin.
const KERNEL: &str = "linux-image-";

/// A kernel, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The package's version, as in `6.1.192-3`.
    pub version: String,
    /// The kernel's file.
    pub image: PathBuf,
    /// The module of FUSE, not compressed.
    pub module: PathBuf,
}

impl Kernel {
    /// Gets the kernel, from the network if it is not there.
    pub fn get(paths: &Paths) -> Result<Self> {
        let packages = Packages::open(paths)?;
        let fetch = |name: &str| {
            packages.download(name).map_err(anyhow::Error::msg).with_context(|| {
                format!("Linux cannot be measured without the package {name} (apt-get update?)")
            })
        };
        let newest = fetch(NEWEST)?;
        let package = kernel_package(&field(&newest, "Depends")?)?;
        let archive = fetch(&package)?;
        let folder = paths.work.with_file_name("peer").join(&package);
        let kernel = Self {
            version: field(&archive, "Version")?,
            image: folder.join("vmlinuz"),
            module: folder.join("fuse.ko"),
        };
        if !kernel.image.exists() || !kernel.module.exists() {
            fs::create_dir_all(&folder)?;
            kernel.unpack(&archive)?;
        }
        Ok(kernel)
    }

    /// Unpacks the two files.
    fn unpack(&self, archive: &Path) -> Result<()> {
        let mut unpacker = Command::new("dpkg-deb");
        unpacker.arg("--fsys-tarfile").arg(archive).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = process::spawn_bound(&mut unpacker)?;
        let output = child.stdout.take().context("dpkg-deb has no output")?;
        let mut found = [false; 2];
        for entry in tar::Archive::new(output).entries()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            let Some((member, suffix)) = member(&name) else { continue };
            let file = [&self.image, &self.module][member];
            let packed = file.with_extension("unfinished");
            copy(&mut entry, &mut File::create(&packed)?)?;
            decompress(&packed, suffix)?;
            fs::rename(&packed, file)?;
            found[member] = true;
        }
        ensure!(child.wait()?.success(), "dpkg-deb cannot unpack {}", archive.display());
        ensure!(found == [true; 2], "{} has no kernel or no fuse.ko", archive.display());
        Ok(())
    }
}

/// Which of the two files a file of the package is, and how it is compressed.
fn member(path: &str) -> Option<(usize, &str)> {
    let name = path.rsplit('/').next()?;
    if path.trim_start_matches("./").starts_with("boot/vmlinuz-") {
        return Some((0, ""));
    }
    Some((1, name.strip_prefix("fuse.ko")?))
}

/// Decompresses a file in place, as the ending of its name demands.
fn decompress(file: &Path, suffix: &str) -> Result<()> {
    let program = match suffix {
        "" => return Ok(()),
        ".xz" => "xz",
        ".zst" => "zstd",
        ".gz" => "gzip",
        other => bail!("fuse.ko{other} is compressed in an unknown way"),
    };
    let mut command = Command::new(program);
    command.arg("-dc").stdin(File::open(file)?).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    ensure!(output.status.success(), "{program} cannot decompress fuse.ko{suffix}");
    Ok(fs::write(file, output.stdout)?)
}

/// A field of a package's description.
fn field(archive: &Path, name: &str) -> Result<String> {
    let mut query = Command::new("dpkg-deb");
    let output = query.arg("--field").arg(archive).arg(name).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "dpkg-deb cannot read {}", archive.display());
    let mut text = String::new();
    output.stdout.as_slice().read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// The kernel's package among dependencies, as in `linux-image-6.1.0-57-amd64 (= 6.1.192-3)`.
fn kernel_package(dependencies: &str) -> Result<String> {
    let mut words = dependencies.split([' ', ',', '|']);
    let package = words.find(|word| word.starts_with(KERNEL));
    package.map(str::to_owned).with_context(|| format!("{NEWEST} depends on no kernel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_newest_depends_on() {
        let package = kernel_package("foo, linux-image-6.1.0-57-amd64 (= 6.1.192-3)").unwrap();
        assert_eq!(package, "linux-image-6.1.0-57-amd64");
        assert!(kernel_package("foo, bar").is_err());
    }

    #[test]
    fn two_files_of_the_package_are_wanted() {
        assert_eq!(member("./boot/vmlinuz-6.1.0-57-amd64"), Some((0, "")));
        assert_eq!(member("./lib/modules/6.1.0-57-amd64/kernel/fs/fuse/fuse.ko"), Some((1, "")));
        assert_eq!(member("./usr/lib/modules/x/fuse.ko.xz"), Some((1, ".xz")));
        for other in ["./boot/config-6.1.0-57-amd64", "./lib/modules/x/virtiofs.ko", "./"] {
            assert_eq!(member(other), None, "{other}");
        }
    }
}
