//! The house rules that a program can check, on every source file of the workspace.
//!
//! Formatting and lints are rustfmt's and clippy's; here is what they do not see.

use std::fs;
use std::path::{Path, PathBuf};

/// A file tells one story. Few are longer than 500 lines, none than this; its unit tests do not
/// count.
const MAX_LINES: usize = 700;

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let hidden_or_target =
        |name: &str| name == "target" || (name.starts_with('.') && name.len() > 2);
    walkdir::WalkDir::new(root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !entry.file_name().to_str().is_some_and(hidden_or_target))
        .flatten()
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// Complains about every file for which `rule` has a complaint.
fn check(rule: impl Fn(&str) -> Option<String>) {
    let files = sources();
    assert!(files.len() > 20, "the sources were not found");
    let complaint = |path: &PathBuf| {
        Some(format!("{}: {}", path.display(), rule(&fs::read_to_string(path).ok()?)?))
    };
    let complaints: Vec<String> = files.iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    check(|text| (!text.starts_with("//! ")).then(|| "does not begin with `//! `".to_owned()));
}

#[test]
fn no_file_is_too_long() {
    check(|text| {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        (lines > MAX_LINES).then(|| format!("{lines} lines, more than {MAX_LINES}"))
    });
}

#[test]
fn nothing_is_left_to_do() {
    // Put together, so that this file does not complain about itself.
    let words = ["TO\u{44}O", "FIX\u{4d}E", "to\u{64}o!", "unimplemented\u{21}"];
    check(|text| words.iter().find(|word| text.contains(*word)).map(|word| format!("says {word}")));
}
