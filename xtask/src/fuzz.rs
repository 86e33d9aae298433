//! `fuzz`: runs the decoders under a coverage-guided engine, and keeps the inputs that it found.
//!
//! The engine is libFuzzer. It is built with the pinned stable compiler, whose flags select LLVM's
//! coverage pass, in a target folder of its own. The corpus of each target is one tar archive in
//! `fuzz/corpus`, which the host tests replay. It is unpacked before a run; afterwards the smallest
//! set of inputs with the same coverage is packed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cli::FuzzArgs;
use crate::paths::Paths;
use crate::{cargo, process, say, setup};

/// Flags that make LLVM count edges and report comparisons to the engine, and that enable checks
/// which release builds omit.
const RUSTFLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// Limit for an input in bytes. It covers what the decoders distinguish and keeps the corpus small.
const MAX_INPUT_BYTES: usize = 1024;
/// Extension of a target's archive.
const ARCHIVE: &str = "tar";

/// Fuzzes one target, or each in turn; returns the exit status.
pub fn fuzz(paths: &Paths, arguments: &FuzzArgs) -> Result<u8> {
    setup::ensure(paths)?;
    let corpus = paths.root.join("fuzz/corpus");
    let all = targets(&corpus)?;
    let chosen: Vec<_> = all
        .iter()
        .filter(|name| arguments.target.as_ref().is_none_or(|wanted| wanted == *name))
        .collect();
    ensure!(!chosen.is_empty(), "there is no such target; the targets are: {}", all.join(" "));
    let program = build(paths)?;
    for name in chosen {
        let archive = corpus.join(name).with_extension(ARCHIVE);
        run(paths, &program, name, &archive, arguments.seconds)?;
    }
    Ok(0)
}

fn build(paths: &Paths) -> Result<PathBuf> {
    let version = Command::new("rustc")
        .arg("-vV")
        .current_dir(&paths.root)
        .output()
        .context("cannot start rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not report its host")?;
    let folder = paths.work.join("fuzz");
    let mut command = cargo::command(paths, "build");
    // With an explicit target, build scripts and macros are built without the flags.
    command
        .args(["--package", "fuzz", "--release", "--quiet"])
        .args(["--target", host, "--target-dir"])
        .arg(&folder)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    say!("building the fuzzer");
    ensure!(process::run(&mut command), "the fuzzer could not be built (see above)");
    Ok(folder.join(host).join("release/fuzz"))
}

/// The names of the targets, each of which has an archive.
fn targets(corpus: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(corpus).with_context(|| format!("cannot list {}", corpus.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ARCHIVE) {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn run(paths: &Paths, program: &Path, name: &str, archive: &Path, seconds: u64) -> Result<()> {
    let kept = tempfile::tempdir_in(&paths.work)?;
    let least = tempfile::tempdir_in(&paths.work)?;
    let found = paths.work.join("fuzz-found").join(name);
    let crashes = paths.work.join("fuzz-crashes");
    for folder in [&found, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    unpack(archive, kept.path())?;
    let engine = |options: &[String], folders: &[&Path]| {
        let mut command = Command::new(program);
        command
            .env("FUZZ_TARGET", name)
            .arg(format!("-max_len={MAX_INPUT_BYTES}"))
            .args(options)
            .args(folders);
        process::run(&mut command)
    };
    say!("fuzzing {name} for {seconds} s");
    let prefix = format!("-artifact_prefix={}/{name}-", crashes.display());
    if !engine(
        &[
            format!("-max_total_time={seconds}"),
            prefix,
            "-print_final_stats=0".to_owned(),
            "-verbosity=0".to_owned(),
        ],
        &[&found, kept.path()],
    ) {
        bail!("{name}: an input makes the target fail; it is in {}", crashes.display());
    }
    let merge = ["-set_cover_merge=1".to_owned(), "-verbosity=0".to_owned()];
    ensure!(
        engine(&merge, &[least.path(), kept.path(), &found]),
        "{name}: cannot merge the inputs found"
    );
    let count = pack(least.path(), archive)?;
    say!("{count} inputs are in {}", archive.display());
    Ok(())
}

/// Unpacks a target's archive.
fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let file =
        fs::File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    tar::Archive::new(file)
        .unpack(folder)
        .with_context(|| format!("cannot unpack {}", archive.display()))
}

/// Packs the inputs of a folder in the order of their names; returns their number. The same inputs
/// always give the same archive.
fn pack(folder: &Path, archive: &Path) -> Result<usize> {
    let mut inputs = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        inputs.insert(entry.file_name(), fs::read(entry.path())?);
    }
    let file =
        fs::File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    let mut builder = tar::Builder::new(file);
    for (name, input) in &inputs {
        let mut header = tar::Header::new_ustar();
        header.set_size(input.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, input.as_slice())?;
    }
    builder.finish()?;
    Ok(inputs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_inputs_are_unpacked_unchanged() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inputs: [(&str, &[u8]); 3] = [("a", b""), ("b", b"\0\xff"), ("c", &[7; 1024])];
        for (name, input) in inputs {
            fs::write(from.path().join(name), input).unwrap();
        }
        let archive = to.path().join("x.tar");
        assert_eq!(pack(from.path(), &archive).unwrap(), inputs.len());
        assert_eq!(targets(to.path()).unwrap(), ["x"]);
        let unpacked = tempfile::tempdir().unwrap();
        unpack(&archive, unpacked.path()).unwrap();
        for (name, input) in inputs {
            assert_eq!(fs::read(unpacked.path().join(name)).unwrap(), input);
        }
    }
}
