//! The last result of each test, kept for the book as one line per test. A run of some tests keeps
//! the results of the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths::Paths;

/// Results by the tests' names: `passed`, `failed` or `skipped`.
pub type Results = BTreeMap<String, String>;

fn file(paths: &Paths) -> PathBuf {
    paths.work.join("tests.txt")
}

/// Reads the results; none if no test has run yet.
pub fn load(paths: &Paths) -> Results {
    let text = std::fs::read_to_string(file(paths)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(result, name)| (name.to_owned(), result.to_owned()))
        .collect()
}

/// Writes the results.
pub fn save(paths: &Paths, results: &Results) -> Result<()> {
    let text: String = results.iter().map(|(name, result)| format!("{result} {name}\n")).collect();
    let file = file(paths);
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}
