//! `book`: writes the chapter "Is it invisible?" from the rules, the tests and their last results,
//! and builds the book with mdBook.

mod chapter;
mod rules;

use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::test::{in_guest, results};
use crate::{process, say};

/// The generated chapter, relative to the workspace's root.
const CHAPTER: &str = "docs/src/invisible.md";

/// Writes the chapter, and builds the book if mdBook is installed; returns the exit status.
pub fn book(paths: &Paths) -> Result<u8> {
    let file = paths.root.join(CHAPTER);
    let rules = in_guest::rules(paths)?;
    std::fs::write(&file, chapter::chapter(&results::load(paths), &rules))
        .with_context(|| format!("cannot write {}", file.display()))?;
    say!("wrote {CHAPTER}");
    let pages = paths.work.join("book");
    let mut command = Command::new("mdbook");
    command.arg("build").arg(paths.root.join("docs")).arg("--dest-dir").arg(&pages);
    if Command::new("mdbook").arg("--version").output().is_err() {
        say!("to build the book, install mdBook: cargo install mdbook");
    } else if process::run(&mut command) {
        say!("the book is in {}", pages.display());
    } else {
        return Ok(1);
    }
    Ok(0)
}
