//! The style rules that a program can check, applied to every tracked file.
//!
//! `cargo test -p xtask style` reports every violation with its place. rustfmt checks formatting
//! and clippy lints; this test checks what they do not. Each rule is a function from a file, or
//! from the whole tree, to its violations, and has a test that a bad input is reported.

mod commands;
mod docs;
mod editor;
mod files;
mod modules;
mod rust;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// A file of the tree.
struct SourceFile {
    /// Relative to the workspace's root, with `/` between components.
    path: String,
    /// Its contents; empty for a file that is not UTF-8.
    text: String,
}

impl SourceFile {
    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// Source code or prose, for which the rules about lines and words hold.
    fn is_prose(&self) -> bool {
        self.path == ".ci/run"
            || [".rs", ".md", ".toml", ".sh"].iter().any(|suffix| self.path.ends_with(suffix))
    }

    fn violation(&self, line: usize, what: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, what: what.into() }
    }
}

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Violation {
    path: String,
    /// Counted from 1.
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every tracked file, and every new one that git does not ignore.
static TREE: LazyLock<Vec<SourceFile>> = LazyLock::new(|| {
    let files: Vec<SourceFile> = paths()
        .into_iter()
        .filter_map(|path| {
            let bytes = fs::read(root().join(&path)).ok()?;
            Some(SourceFile { path, text: String::from_utf8(bytes).unwrap_or_default() })
        })
        .collect();
    assert!(files.len() > 100, "the sources were not found");
    files
});

/// The paths that git knows; outside a repository, those that are neither hidden nor products.
fn paths() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    if let Ok(output) = listed
        && output.status.success()
    {
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        return names.split_terminator('\0').map(str::to_owned).collect();
    }
    let is_ours = |entry: &walkdir::DirEntry| {
        !matches!(entry.file_name().to_str(), Some("target" | ".git" | ".jj"))
    };
    let found = walkdir::WalkDir::new(root()).sort_by_file_name().into_iter();
    found
        .filter_entry(is_ours)
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| Some(entry.path().strip_prefix(root()).ok()?.to_str()?.to_owned()))
        .collect()
}

/// Fails with the list of all violations, if there are any.
fn report(violations: &[Violation]) {
    let text: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
    assert!(violations.is_empty(), "{} violations\n{text}", violations.len());
}

/// Applies a rule about single files to every file.
fn check(rule: impl Fn(&SourceFile) -> Vec<Violation>) {
    report(&TREE.iter().flat_map(rule).collect::<Vec<_>>());
}
