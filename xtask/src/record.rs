//! How each test ended when it last ran: a line a test, kept for the book. A run of some tests
//! leaves what is known of the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths::Paths;

/// A test's name, and how it ended: `passed`, `failed` or `skipped`.
pub type Record = BTreeMap<String, String>;

fn file(paths: &Paths) -> PathBuf {
    paths.work.join("tests.txt")
}

/// What is known; nothing where no test ran yet.
pub fn load(paths: &Paths) -> Record {
    let text = std::fs::read_to_string(file(paths)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(ended, name)| (name.to_owned(), ended.to_owned()))
        .collect()
}

/// Keeps what is known.
pub fn save(paths: &Paths, record: &Record) -> Result<()> {
    let text: String = record.iter().map(|(name, ended)| format!("{ended} {name}\n")).collect();
    let file = file(paths);
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}
