//! What a suite's folder holds: its programs, and what the guest needs so that they run there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::elf::{self, Kind};
use crate::guest::addition::Addition;
use crate::say;

/// A library that glibc loads by itself, when a thread is cancelled.
const LOADED_BY_GLIBC: &str = "libgcc_s.so.1";
/// Number of programs whose libraries are asked for at once.
const ASKED_AT_ONCE: usize = 100;

/// A program of the suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The path in the suite's folder.
    pub name: String,
    /// The path on the host and in the guest.
    pub path: PathBuf,
}

/// The contents of a suite's folder.
#[derive(Debug, Default)]
pub struct Plan {
    /// The folder, as an absolute path without links, which is the same in the guest.
    pub folder: PathBuf,
    /// The programs, by name.
    pub programs: Vec<Program>,
    /// Executable files that are not run, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Folders of the suite that hold shared libraries.
    library_folders: BTreeSet<PathBuf>,
    /// The scripts' interpreters, as they call them.
    interpreters: BTreeSet<PathBuf>,
    /// Number of files of any kind.
    files: usize,
}

impl Plan {
    /// Looks through a folder. It is an error if no program is there.
    pub fn read(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        let data = fs::metadata(folder).with_context(|| format!("--suite {shown}"))?;
        ensure!(data.is_dir(), "--suite {shown}: it is not a folder");
        let folder = folder.canonicalize().with_context(|| format!("--suite {shown}"))?;
        ensure!(folder != Path::new("/"), "--suite {shown}: name the folder of a suite");
        let mut plan = Self { folder, ..Self::default() };
        for entry in
            walkdir::WalkDir::new(plan.folder.clone()).follow_links(true).sort_by_file_name()
        {
            match entry {
                Ok(entry) if entry.file_type().is_file() => plan.take(entry.path())?,
                Ok(_) => {}
                // The programs may have the same trouble with it, on both systems.
                Err(error) => say!("left out: {error}"),
            }
        }
        if plan.files == 0 {
            bail!("--suite {shown}: the folder is empty");
        }
        if plan.programs.is_empty() {
            bail!(
                "--suite {shown}: none of the {} files is a program: an executable file that is an \
                 ELF program for x86_64 or begins with `#!`{}",
                plan.files,
                plan.skipped
                    .first()
                    .map_or(String::new(), |(name, why)| format!(" ({name}: {why})"))
            );
        }
        Ok(plan)
    }

    /// Sorts a file in.
    fn take(&mut self, path: &Path) -> Result<()> {
        self.files += 1;
        let name = path.strip_prefix(&self.folder)?.to_string_lossy().into_owned();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_library = file_name.ends_with(".so") || file_name.contains(".so.");
        if is_library {
            self.library_folders.extend(path.parent().map(Path::to_path_buf));
        }
        if fs::metadata(path)?.permissions().mode() & 0o111 == 0 {
            return Ok(());
        }
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(elf::START_BYTES).read_to_end(&mut start))
            .with_context(|| format!("cannot read {}", path.display()))?;
        match elf::kind(&start) {
            _ if name.contains(['\n', '\'']) || path.to_str().is_none() => {
                self.skipped.push((name.escape_debug().to_string(), "its name".to_owned()));
            }
            Kind::Program if is_library => {}
            Kind::Library => {}
            Kind::Program => self.programs.push(Program { name, path: path.to_path_buf() }),
            Kind::Script(words) => match interpreters(&words) {
                Ok(interpreters) => {
                    self.interpreters.extend(interpreters);
                    self.programs.push(Program { name, path: path.to_path_buf() });
                }
                Err(why) => self.skipped.push((name, why)),
            },
            Kind::Other(why) => self.skipped.push((name, why.to_owned())),
        }
        Ok(())
    }

    /// The environment of the programs, equal on both sides.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let joined = |first: &BTreeSet<PathBuf>, rest: &str| {
            let first = first.iter().map(|path| path.display().to_string());
            let all: Vec<String> = first
                .chain(rest.split(':').filter(|it| !it.is_empty()).map(str::to_owned))
                .collect();
            OsString::from(all.join(":"))
        };
        let own = BTreeSet::from([self.folder.clone()]);
        let path = joined(&own, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut environment = vec![
            ("PATH", path),
            ("LC_ALL", "C".into()),
            ("TZ", "UTC".into()),
            ("USER", "root".into()),
        ];
        if !self.library_folders.is_empty() {
            environment.push(("LD_LIBRARY_PATH", joined(&self.library_folders, "")));
        }
        environment
    }

    /// What the guest needs: the folder, the dynamic loaders and libraries of the programs, and the
    /// scripts' interpreters, each at the same path as on the host.
    pub fn additions(&self) -> Result<Vec<Addition>> {
        let mut asked: Vec<&Path> = self.programs.iter().map(|it| it.path.as_path()).collect();
        asked.extend(self.interpreters.iter().map(PathBuf::as_path));
        let mut files = BTreeSet::new();
        for some in asked.chunks(ASKED_AT_ONCE) {
            files.extend(self.libraries(some)?);
        }
        let loaded: Vec<PathBuf> = files
            .iter()
            .filter(|path| path.file_name().is_some_and(|name| name == "libc.so.6"))
            .map(|path| path.with_file_name(LOADED_BY_GLIBC))
            .filter(|path| path.exists())
            .collect();
        files.extend(loaded);
        files.extend(self.interpreters.iter().cloned());
        files.retain(|path| !path.starts_with(&self.folder));
        let same = |path: &Path| {
            let guest = path.to_string_lossy().trim_start_matches('/').to_owned();
            Addition { host: path.to_path_buf(), guest }
        };
        Ok(std::iter::once(same(&self.folder)).chain(files.iter().map(|it| same(it))).collect())
    }

    /// The loaders and libraries of programs, as `ldd` prints them.
    fn libraries(&self, programs: &[&Path]) -> Result<Vec<PathBuf>> {
        let mut command = Command::new("ldd");
        command.args(programs).stdin(Stdio::null());
        command.envs(self.environment().into_iter().filter(|(name, _)| name.starts_with("LD_")));
        let output = command.output().context("cannot run ldd, which lists shared libraries")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in text.lines().filter(|line| line.contains("not found")).collect::<BTreeSet<_>>()
        {
            say!("a library is missing on this host: {}", line.trim());
        }
        Ok(paths_of(&text).filter(|path| path.is_file()).collect())
    }
}

/// The paths in the output of `ldd`; lines that end with a colon name the programs.
fn paths_of(text: &str) -> impl Iterator<Item = PathBuf> + '_ {
    text.lines()
        .filter(|line| !line.ends_with(':'))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
}

/// What a script's first line calls: its interpreter, and what `env` starts.
fn interpreters(words: &[String]) -> Result<Vec<PathBuf>, String> {
    let first = words.first().ok_or("it names no interpreter")?;
    let mut found = vec![PathBuf::from(first)];
    if first.ends_with("/env")
        && let Some(name) = words.iter().skip(1).find(|word| !word.starts_with('-'))
    {
        let folders = ["/usr/local/bin", "/usr/bin", "/bin"].map(Path::new);
        found.extend(folders.map(|it| it.join(name)).into_iter().find(|path| path.exists()));
    }
    match found.iter().find(|path| !path.is_file()) {
        Some(missing) => Err(format!("this host has no {}", missing.display())),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn executables_are_found_in_all_folders() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("inner")).unwrap();
        executable(&at("inner/script"), "#!/bin/sh\nexit 0\n");
        executable(&at("lost"), "#!/no/such/interpreter\n");
        executable(&at("text"), "text\n");
        fs::write(at("data"), "#!/bin/sh\n").unwrap();
        fs::write(at("inner/libx.so.1"), "").unwrap();
        fs::copy(std::env::current_exe().unwrap(), at("program")).unwrap();
        let plan = Plan::read(folder.path()).unwrap();
        let names: Vec<&str> = plan.programs.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["inner/script", "program"]);
        let skipped: Vec<&str> = plan.skipped.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(skipped, ["lost", "text"]);
        let environment = plan.environment();
        let libraries = environment.iter().find(|(name, _)| *name == "LD_LIBRARY_PATH").unwrap();
        assert!(libraries.1.to_string_lossy().ends_with("/inner"));
        let added: Vec<String> =
            plan.additions().unwrap().into_iter().map(|addition| addition.guest).collect();
        assert!(added.contains(&"bin/sh".to_owned()), "{added:?}");
        assert!(added.iter().any(|path| path.ends_with("/libc.so.6")), "{added:?}");
    }

    #[test]
    fn a_folder_without_programs_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| format!("{:#}", Plan::read(path).unwrap_err());
        assert!(error(folder.path()).contains("the folder is empty"));
        assert!(error(&folder.path().join("none")).contains("No such file"));
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        assert!(error(&file).contains("not a folder"));
        assert!(error(folder.path()).contains("none of the 1 files is a program"));
    }

    #[test]
    fn the_output_of_ldd_has_loaders_and_libraries() {
        let text = "/x/program:\n\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\
            \t/lib64/ld.so (0x3)\n/x/other:\n\tnot a dynamic executable\n\tliby.so => not found\n";
        let paths: Vec<PathBuf> = paths_of(text).collect();
        assert_eq!(paths, [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld.so")]);
    }

    #[test]
    fn env_is_followed_to_the_interpreter() {
        let words = ["/usr/bin/env", "-S", "sh"].map(str::to_owned);
        let found = interpreters(&words).unwrap();
        assert!(found.len() == 2 && found[1].ends_with("sh"), "{found:?}");
    }
}
