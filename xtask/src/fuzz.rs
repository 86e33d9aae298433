//! `fuzz`: runs one decoder under a coverage-guided engine, and keeps what it found.
//!
//! The engine is libFuzzer, on the pinned stable compiler: LLVM's coverage pass is asked for by
//! flags. Its products lie apart, so that no other build is disturbed. What covers something that
//! nothing else does is merged into `fuzz/corpus`, which the host tests replay.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cli::FuzzArgs;
use crate::paths::Paths;
use crate::{guest, process, say, setup};

/// What makes LLVM count the edges that are taken, and tell the engine of comparisons; and what
/// makes Rust check what release builds do not.
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

/// Bytes of an input, at most: every decoder's interesting part fits, and what is kept stays small.
const MAX_INPUT_BYTES: usize = 1024;

/// Runs a target, or all; the status is xtask's.
pub fn fuzz(paths: &Paths, arguments: &FuzzArgs) -> Result<u8> {
    setup::ensure(paths)?;
    let corpus = paths.root.join("fuzz/corpus");
    let all = targets(&corpus)?;
    let chosen: Vec<_> = all
        .iter()
        .filter(|name| arguments.target.as_ref().is_none_or(|wanted| wanted == *name))
        .collect();
    ensure!(!chosen.is_empty(), "there is no such target; there are: {}", all.join(" "));
    let program = build(paths)?;
    for name in chosen {
        run(paths, &program, name, &corpus.join(name), arguments.seconds)?;
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
        .context("rustc does not tell its host")?;
    let folder = paths.work.join("fuzz");
    let mut command = Command::new(guest::cargo());
    // With a target named, build scripts and macros are built without the flags.
    command
        .args([
            "build",
            "--package",
            "fuzz",
            "--release",
            "--quiet",
            "--target",
            host,
            "--target-dir",
        ])
        .arg(&folder);
    command
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
        .current_dir(&paths.root);
    say!("building the fuzzer");
    ensure!(process::run(&mut command), "the fuzzer could not be built (see above)");
    Ok(folder.join(host).join("release/fuzz"))
}

/// The names of the targets: each has a folder of what is kept for it.
fn targets(corpus: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(corpus).with_context(|| format!("cannot list {}", corpus.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn run(paths: &Paths, program: &Path, name: &str, kept: &Path, seconds: u64) -> Result<()> {
    let (found, least) =
        (paths.work.join("fuzz-found").join(name), tempfile::tempdir_in(&paths.work)?);
    let crashes = paths.work.join("fuzz-crashes");
    for folder in [&found, &crashes, &kept.to_path_buf()] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
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
        &[&found, kept],
    ) {
        bail!("{name}: an input was found that hurts; it lies in {}", crashes.display());
    }
    ensure!(
        engine(&["-merge=1".to_owned(), "-verbosity=0".to_owned()], &[least.path(), &found, kept]),
        "{name}: cannot merge what was found"
    );
    replace(kept, least.path())
}

/// Makes one folder hold what the other holds.
fn replace(kept: &Path, least: &Path) -> Result<()> {
    for entry in fs::read_dir(kept)? {
        fs::remove_file(entry?.path())?;
    }
    let mut count = 0;
    for entry in fs::read_dir(least)? {
        let entry = entry?;
        fs::copy(entry.path(), kept.join(entry.file_name()))?;
        count += 1;
    }
    say!("{} inputs are kept in {}", count, kept.display());
    Ok(())
}
