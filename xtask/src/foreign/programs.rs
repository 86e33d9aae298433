//! Sources of foreign programs: the distribution's packages, the host's own programs with their
//! libraries, crates, and the tests of libraries.
//!
//! Nothing is installed; packages are unpacked and crates built below the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::library_tests::{self, LibraryTests};
use crate::guest::addition::Addition;
use crate::packages::Packages;
use crate::paths::Paths;
use crate::{cargo, process, say};

/// Folder of the programs in the guest.
pub const GUEST_BIN: &str = "opt/bin";

/// The source of a program.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A package of the distribution: its name, and the file in it.
    Package(&'static str, &'static str),
    /// A package, the file in it, and the packages of libraries that the host may not have.
    Linked(&'static str, &'static str, &'static [&'static str]),
    /// An installed program of the host, with its dynamic loader and libraries.
    Machine(&'static str),
    /// A crate from crates.io, linked statically: the crate's name.
    Crate(&'static str),
    /// A C program with which a library is tested.
    Test(LibraryTests),
    /// A program of the guest that also runs on Linux, so that both sides use the same one.
    Guest,
}

/// A foreign program and its source.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The program's name on the host and in the guest.
    pub name: &'static str,
    source: Source,
}

const fn program(name: &'static str, source: Source) -> Program {
    Program { name, source }
}

/// What rsync is linked with.
const RSYNC_LIBRARIES: &[&str] =
    &["libacl1", "liblz4-1", "libpopt0", "libssl3", "libxxhash0", "libzstd1", "zlib1g"];
/// What Ruby is linked with.
const RUBY_LIBRARIES: &[&str] = &["libruby3.1", "libgmp10", "libcrypt1", "zlib1g"];

/// What redis's programs are linked with and few hosts have.
const REDIS_LIBRARIES: &[&str] = &["libjemalloc2", "liblzf1"];

const fn redis(name: &'static str, path: &'static str) -> Program {
    program(name, Source::Linked("redis-tools", path, REDIS_LIBRARIES))
}

/// All programs that cases use.
pub const PROGRAMS: &[Program] = &[
    program("busybox", Source::Package("busybox-static", "bin/busybox")),
    program("bash", Source::Package("bash-static", "bin/bash-static")),
    program("mksh", Source::Package("mksh", "usr/lib/x86_64-linux-musl/bin/mksh")),
    program("lksh", Source::Package("mksh", "bin/lksh")),
    program("zsh", Source::Package("zsh-static", "bin/zsh-static")),
    program("tcc", Source::Package("tcc", "usr/bin/tcc")),
    program("lua5.4", Source::Package("lua5.4", "usr/bin/lua5.4")),
    program("python3.11", Source::Package("python3.11-minimal", "usr/bin/python3.11")),
    program("cc1", Source::Package("cpp-12", "usr/lib/gcc/x86_64-linux-gnu/12/cc1")),
    program("rg", Source::Crate("ripgrep")),
    program("fsx", Source::Crate("fsx")),
    program("gron", Source::Package("gron", "usr/bin/gron")),
    // One program is the server as well, by its name.
    redis("redis-server", "usr/bin/redis-check-rdb"),
    redis("redis-cli", "usr/bin/redis-cli"),
    redis("redis-benchmark", "usr/bin/redis-benchmark"),
    program("fzf", Source::Package("fzf", "usr/bin/fzf")),
    program("ptyrun", Source::Guest),
    program("mdb_load", Source::Package("lmdb-utils", "usr/bin/mdb_load")),
    program("mdb_dump", Source::Package("lmdb-utils", "usr/bin/mdb_dump")),
    program("mdb_stat", Source::Package("lmdb-utils", "usr/bin/mdb_stat")),
    program("mdb_copy", Source::Package("lmdb-utils", "usr/bin/mdb_copy")),
    program("mtest", Source::Test(library_tests::LMDB)),
    program("mtest2", Source::Test(library_tests::LMDB)),
    program("mtest3", Source::Test(library_tests::LMDB)),
    program("mtest4", Source::Test(library_tests::LMDB)),
    program("mtest5", Source::Test(library_tests::LMDB)),
    program("gdbmtool", Source::Package("gdbmtool", "usr/bin/gdbmtool")),
    program("gdbm_load", Source::Package("gdbmtool", "usr/bin/gdbm_load")),
    program("gdbm_dump", Source::Package("gdbmtool", "usr/bin/gdbm_dump")),
    program("db5.3_load", Source::Package("db5.3-util", "usr/bin/db5.3_load")),
    program("db5.3_dump", Source::Package("db5.3-util", "usr/bin/db5.3_dump")),
    program("db5.3_stat", Source::Package("db5.3-util", "usr/bin/db5.3_stat")),
    program("db5.3_verify", Source::Package("db5.3-util", "usr/bin/db5.3_verify")),
    program("db5.3_recover", Source::Package("db5.3-util", "usr/bin/db5.3_recover")),
    program("db5.3_archive", Source::Package("db5.3-util", "usr/bin/db5.3_archive")),
    program("db5.3_checkpoint", Source::Package("db5.3-util", "usr/bin/db5.3_checkpoint")),
    program("db5.3_printlog", Source::Package("db5.3-util", "usr/bin/db5.3_printlog")),
    program("sqlite3", Source::Machine("sqlite3")),
    program("grep", Source::Machine("grep")),
    program("sort", Source::Machine("sort")),
    program("cat", Source::Machine("cat")),
    program("cp", Source::Machine("cp")),
    program("dd", Source::Machine("dd")),
    program("ls", Source::Machine("ls")),
    program("md5sum", Source::Machine("md5sum")),
    program("tar", Source::Machine("tar")),
    program("gzip", Source::Machine("gzip")),
    program("sed", Source::Machine("sed")),
    program("cmp", Source::Machine("cmp")),
    program("diff", Source::Machine("diff")),
    program("find", Source::Machine("find")),
    program("perl", Source::Machine("perl")),
    program("xz", Source::Machine("xz")),
    program("mv", Source::Machine("mv")),
    program("rm", Source::Machine("rm")),
    program("mawk", Source::Machine("mawk")),
    program("dash", Source::Machine("dash")),
    program("openssl", Source::Machine("openssl")),
    program("git", Source::Linked("git", "usr/bin/git", &["libpcre2-8-0", "zlib1g"])),
    program("make", Source::Package("make", "usr/bin/make")),
    program("ninja", Source::Linked("ninja-build", "usr/bin/ninja", &["libstdc++6"])),
    program("rsync", Source::Linked("rsync", "usr/bin/rsync", RSYNC_LIBRARIES)),
    program("ruby3.1", Source::Linked("ruby3.1", "usr/bin/ruby3.1", RUBY_LIBRARIES)),
    program("file", Source::Machine("file")),
    program("as", Source::Machine("as")),
    program("ld", Source::Machine("ld")),
];

/// A program that has been fetched, with its libraries.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The executable file.
    pub file: PathBuf,
    /// Dynamic loader and libraries, each at the path where it is searched.
    pub libraries: Vec<PathBuf>,
    /// Further libraries, from packages.
    packaged: Vec<Packaged>,
}

/// A library in an unpacked package.
#[derive(Debug, Clone)]
struct Packaged {
    file: PathBuf,
    /// Where it would be installed, without the leading slash.
    installed: String,
}

/// Folders of libraries in packages.
const LIBRARY_FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// The folder of everything that is fetched or built.
pub struct ForeignFolder {
    /// The distribution's packages.
    pub packages: Packages,
    root: PathBuf,
    /// Folder of the guest's own programs.
    guest: PathBuf,
}

impl ForeignFolder {
    /// Opens the folder, and creates it if necessary.
    pub fn open(paths: &Paths) -> std::io::Result<Self> {
        let root = paths.work.with_file_name("foreign");
        fs::create_dir_all(&root)?;
        Ok(Self { packages: Packages::open(paths)?, root, guest: paths.work.join("guest") })
    }

    /// Creates an empty folder of this name.
    pub fn fresh(&self, name: &str) -> std::io::Result<PathBuf> {
        let folder = self.root.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Gets a program and copies it to the folder `bin`, or returns why it is not available.
    pub fn get(&self, name: &str, bin: &Path) -> Result<Fetched, String> {
        let program = PROGRAMS
            .iter()
            .find(|program| program.name == name)
            .ok_or_else(|| format!("{name} is not a known program"))?;
        let packaged = match program.source {
            Source::Linked(_, _, packages) => packages,
            _ => &[],
        };
        let file = match program.source {
            Source::Package(package, path) | Source::Linked(package, path, _) => {
                self.packages.file(package, path)?
            }
            Source::Machine(name) => find_on_machine(name)?,
            Source::Crate(crate_name) => self.build(crate_name, name)?,
            Source::Test(tests) => tests.build(&self.root, &self.packages, name)?,
            Source::Guest => self.guest.join(format!("user-{name}")),
        };
        let here = bin.join(name);
        fs::copy(&file, &here).map_err(|error| format!("{}: {error}", file.display()))?;
        let folders = self.library_folders(packaged)?;
        let (mut libraries, mut packaged) = (Vec::new(), Vec::new());
        for file in find_libraries(&here, &folders)? {
            match file.strip_prefix(self.packages.folder()) {
                // Behind the package's name.
                Ok(path) => packaged.push(Packaged {
                    installed: path.components().skip(1).collect::<PathBuf>().display().to_string(),
                    file,
                }),
                Err(_) => libraries.push(file),
            }
        }
        Ok(Fetched { libraries, file: here, packaged })
    }

    /// The folders of libraries in packages.
    fn library_folders(&self, packages: &[&str]) -> Result<Vec<PathBuf>, String> {
        let mut folders = Vec::new();
        for package in packages {
            let unpacked = self.packages.unpack(package)?;
            folders.extend(LIBRARY_FOLDERS.map(|folder| unpacked.join(folder)));
        }
        folders.retain(|folder| folder.exists());
        Ok(folders)
    }

    /// Builds a crate's program, unless that has been done.
    fn build(&self, crate_name: &str, program: &str) -> Result<PathBuf, String> {
        let root = self.root.join("cargo");
        let file = root.join("bin").join(program);
        if !file.exists() {
            say!("building {crate_name}");
            let mut command = Command::new(cargo::program());
            command
                .args(["install", "--quiet", "--target", "x86_64-unknown-linux-gnu", "--root"])
                .arg(&root)
                .arg(crate_name);
            command
                .env("CARGO_TARGET_DIR", self.root.join("build"))
                .env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
            command.env_remove("CARGO_ENCODED_RUSTFLAGS").current_dir(&self.root);
            process::check(&mut command)?;
        }
        Ok(file)
    }
}

impl Fetched {
    /// The additions that copy the program and its libraries to the guest.
    pub fn additions(&self, name: &str) -> Vec<Addition> {
        let program = Addition { host: self.file.clone(), guest: format!("{GUEST_BIN}/{name}") };
        let libraries = self.libraries.iter().map(|path| Addition {
            host: path.clone(),
            guest: path.to_string_lossy().trim_start_matches('/').to_owned(),
        });
        let packaged = self.packaged.iter().map(|library| Addition {
            host: library.file.clone(),
            guest: library.installed.clone(),
        });
        std::iter::once(program).chain(libraries).chain(packaged).collect()
    }

    /// Folders where the host's dynamic loader must search, too.
    pub fn library_folders(&self) -> impl Iterator<Item = &Path> {
        self.packaged.iter().filter_map(|library| library.file.parent())
    }
}

fn find_on_machine(name: &str) -> Result<PathBuf, String> {
    let folders = ["/usr/bin", "/bin"].map(Path::new);
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| format!("this machine has no {name}"))
}

/// The dynamic loader and the libraries of a program, as `ldd` prints them; none for a static one.
/// They are searched in `folders` first.
fn find_libraries(program: &Path, folders: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let path = std::env::join_paths(folders).map_err(|error| error.to_string())?;
    let output = Command::new("ldd")
        .arg(program)
        .env("LD_LIBRARY_PATH", path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ldd: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("not found") {
        return Err(format!("a library is missing: {text}"));
    }
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}
