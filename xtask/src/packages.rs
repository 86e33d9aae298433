//! Packages of the distribution, downloaded and unpacked below the target folder. Nothing is
//! installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths::Paths;
use crate::{process, say};

/// Options with which apt-get gives up soon where no archive answers.
const SOON: [&str; 4] = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10"];

/// The folder of packages.
pub struct Packages {
    /// The archives as they were downloaded.
    archives: PathBuf,
    /// The unpacked packages, each in a folder of its name.
    unpacked: PathBuf,
}

impl Packages {
    /// Opens the folder, and creates it if necessary.
    pub fn open(paths: &Paths) -> std::io::Result<Self> {
        let folder = paths.work.with_file_name("packages");
        let packages =
            Self { archives: folder.join("archives"), unpacked: folder.join("unpacked") };
        fs::create_dir_all(&packages.archives)?;
        fs::create_dir_all(&packages.unpacked)?;
        Ok(packages)
    }

    /// Folder of the unpacked packages.
    pub fn folder(&self) -> PathBuf {
        self.unpacked.clone()
    }

    /// Downloads and unpacks a package, unless that has been done. Returns its folder, or why it is
    /// not available.
    pub fn unpack(&self, package: &str) -> Result<PathBuf, String> {
        let unpacked = self.unpacked.join(package);
        if unpacked.exists() {
            return Ok(unpacked);
        }
        let file = self.download(package)?;
        // Unpacked under another name first, so that the folder is complete once it exists.
        let unfinished = unpacked.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        process::check(Command::new("dpkg-deb").arg("-x").args([&file, &unfinished]))?;
        fs::rename(&unfinished, &unpacked).map_err(|error| error.to_string())?;
        Ok(unpacked)
    }

    /// Downloads a package, unless that has been done. Returns its file.
    pub fn download(&self, package: &str) -> Result<PathBuf, String> {
        if let Some(file) = self.downloaded(package)? {
            return Ok(file);
        }
        say!("downloading the package {package}");
        let mut download = Command::new("apt-get");
        download.args(SOON).args(["download", package]).current_dir(&self.archives);
        process::check(&mut download)?;
        self.downloaded(package)?.ok_or_else(|| "apt-get downloaded no such file".to_owned())
    }

    fn downloaded(&self, package: &str) -> Result<Option<PathBuf>, String> {
        let is_wanted = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&format!("{package}_")))
        };
        let files = fs::read_dir(&self.archives).map_err(|error| error.to_string())?;
        Ok(files.flatten().map(|entry| entry.path()).find(is_wanted))
    }

    /// A file of a package, which is downloaded if necessary.
    pub fn file(&self, package: &str, path: impl AsRef<Path>) -> Result<PathBuf, String> {
        Ok(self.unpack(package)?.join(path))
    }
}
