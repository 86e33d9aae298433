//! `book`: writes the chapter "Is it invisible?" from the rules, the tests there are and how they
//! last ended, and lets mdBook make pages of it all.

mod chapter;
mod rules;

use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::{guest_tests, record, say, setup};

/// The generated chapter, within the project.
const CHAPTER: &str = "docs/src/invisible.md";

/// Writes the chapter, and the pages where mdBook is there; the status is xtask's.
pub fn book(paths: &Paths) -> Result<u8> {
    let file = paths.root.join(CHAPTER);
    std::fs::write(&file, chapter::chapter(&record::load(paths), &guest_tests::rules(paths)?))
        .with_context(|| format!("cannot write {}", file.display()))?;
    say!("wrote {CHAPTER}");
    let pages = paths.work.join("book");
    let mut command = Command::new("mdbook");
    command.arg("build").arg(paths.root.join("docs")).arg("--dest-dir").arg(&pages);
    if Command::new("mdbook").arg("--version").output().is_err() {
        say!("for pages of it, install mdBook: cargo install mdbook");
    } else if setup::run(&mut command) {
        say!("the book is in {}", pages.display());
    } else {
        return Ok(1);
    }
    Ok(0)
}
