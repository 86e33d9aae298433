//! Attempts to allocate are marked: the kernel makes them by its module `fallible` only.

use std::fs;
use std::path::{Path, PathBuf};

/// What an attempt without the mark looks like.
const UNMARKED: [&str; 2] = [".try_reserve(", ".try_reserve_exact("];
/// The module that marks them.
const MARKS: &str = "mem/fallible.rs";

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn q8_attempts_are_marked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    assert!(found.len() > 100, "{} files are not all", found.len());
    for path in found.iter().filter(|path| !path.ends_with(MARKS)) {
        let text = fs::read_to_string(path).expect("a source");
        for (line, text) in (1..).zip(text.lines()) {
            let is_unmarked = UNMARKED.iter().any(|call| text.contains(call));
            assert!(!is_unmarked, "{}:{line}: an attempt without the mark", path.display());
        }
    }
}
