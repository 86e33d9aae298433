//! C programs with which a library's authors test it, linked with the distribution's library.
//!
//! Their sources are in a crate that carries the library's source. They are not changed; only
//! time(2) always returns the same there, since it is the seed of their random numbers and their
//! output could not be compared otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages::Packages;
use crate::{cargo, process, say};

/// A library's test programs.
#[derive(Debug, Clone, Copy)]
pub struct LibraryTests {
    /// The crate with their sources, and its version.
    crate_name: &'static str,
    version: &'static str,
    /// Folder of the sources in the crate.
    folder: &'static str,
    /// The package with the library's header and the archive to link with.
    package: &'static str,
    archive: &'static str,
}

/// Those of LMDB. The version of the sources is that of the distribution's library.
pub const LMDB: LibraryTests = LibraryTests {
    crate_name: "lmdb-rkv-sys",
    version: "0.11.2",
    folder: "lmdb/libraries/liblmdb",
    package: "liblmdb-dev",
    archive: "usr/lib/x86_64-linux-gnu/liblmdb.a",
};

/// What is called in place of time(2).
const FIXED_TIME: &str = "long __wrap_time(long *seconds) { (void)seconds; return 1; }\n";

impl LibraryTests {
    /// Builds a test program in the folder `root`, unless that has been done.
    pub fn build(
        &self,
        root: &Path,
        packages: &Packages,
        program: &str,
    ) -> Result<PathBuf, String> {
        let root = root.join(self.crate_name);
        let file = root.join(program);
        if file.exists() {
            return Ok(file);
        }
        let package = packages.unpack(self.package)?;
        let sources = self.sources(&root)?;
        say!("building {program} of {}", self.package);
        let time = root.join("time.c");
        fs::write(&time, FIXED_TIME).map_err(|error| format!("{}: {error}", time.display()))?;
        let unfinished = file.with_extension("unfinished");
        let mut command = Command::new("cc");
        command.arg("-O2").arg("-I").arg(package.join("usr/include"));
        command.arg("-Wl,--wrap=time").arg("-pthread").arg("-o").arg(&unfinished);
        command.arg(sources.join(format!("{program}.c"))).arg(time);
        command.arg(package.join(self.archive));
        process::check(&mut command)?;
        fs::rename(&unfinished, &file).map_err(|error| error.to_string())?;
        Ok(file)
    }

    /// The folder of the sources, which cargo downloads as the dependency of an empty crate.
    fn sources(&self, root: &Path) -> Result<PathBuf, String> {
        let vendored = root.join("vendor");
        let sources = vendored.join(self.crate_name).join(self.folder);
        if sources.exists() {
            return Ok(sources);
        }
        let manifest = format!(
            "[package]\nname = \"sources\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
             [dependencies]\n{} = \"={}\"\n[workspace]\n",
            self.crate_name, self.version
        );
        fs::create_dir_all(root.join("src"))
            .and_then(|()| fs::write(root.join("src/lib.rs"), ""))
            .and_then(|()| fs::write(root.join("Cargo.toml"), manifest))
            .map_err(|error| format!("{}: {error}", root.display()))?;
        let mut vendor = Command::new(cargo::program());
        vendor.args(["vendor", "--quiet"]).arg(&vendored).current_dir(root);
        process::check(&mut vendor)?;
        Ok(sources)
    }
}
