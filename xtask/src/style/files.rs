//! A rule about dead files: each is compiled, or a page of the book, or referred to.

use super::modules::{contexts, unreached};
use super::{SourceFile, TREE, Violation, report};

/// Files that programs find by their fixed name or by listing their folder, and who that is. A
/// folder's name ends with a slash.
const FOUND_BY_NAME: &[(&str, &str)] = &[
    (".cargo/config.toml", "cargo"),
    (".ci/run", "continuous integration"),
    (".editorconfig", "editors"),
    (".gitignore", "git"),
    (".vscode/", "Visual Studio Code"),
    ("CHANGELOG.md", "people"),
    ("CONTRIBUTING.md", "people"),
    ("Cargo.lock", "cargo"),
    ("Cargo.toml", "cargo"),
    ("LICENSE-APACHE", "people"),
    ("LICENSE-MIT", "people"),
    ("README.md", "people"),
    ("docs/book.toml", "mdBook"),
    ("docs/src/SUMMARY.md", "mdBook"),
    ("fuzz/corpus/", "fuzz/tests/replay.rs and `cargo xtask fuzz`"),
    ("kernel/tests/simulation/corpus/", "kernel/tests/simulation"),
    ("rust-toolchain.toml", "rustup"),
    ("rustfmt.toml", "rustfmt"),
];

/// Pages of the book that its table of contents leaves out.
fn pages_left_out(files: &[SourceFile]) -> Vec<Violation> {
    const FOLDER: &str = "docs/src/";
    let summary = files.iter().find(|file| file.path == "docs/src/SUMMARY.md");
    let summary = summary.map_or("", |file| file.text.as_str());
    let pages = files.iter().filter(|file| {
        file.is_markdown() && file.path.starts_with(FOLDER) && !file.path.ends_with("SUMMARY.md")
    });
    pages
        .filter(|file| !summary.contains(&format!("({})", &file.path[FOLDER.len()..])))
        .map(|file| file.violation(1, "is not in SUMMARY.md"))
        .collect()
}

/// Other files that nothing refers to by name.
fn unreferenced(files: &[SourceFile]) -> Vec<Violation> {
    let is_found = |path: &str| {
        FOUND_BY_NAME
            .iter()
            .any(|(known, _)| path == *known || (known.ends_with('/') && path.starts_with(known)))
    };
    let is_manifest = |path: &str| {
        path.strip_suffix("/Cargo.toml").is_some_and(|folder| {
            let workspace = files.iter().find(|file| file.path == "Cargo.toml");
            workspace.is_some_and(|file| file.text.contains(&format!("\"{folder}\"")))
        })
    };
    let is_referred_to = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        files.iter().any(|file| file.path != path && file.text.contains(name))
    };
    files
        .iter()
        .filter(|file| !file.is_rust() && !file.path.starts_with("docs/src/"))
        .filter(|file| {
            !is_found(&file.path) && !is_manifest(&file.path) && !is_referred_to(&file.path)
        })
        .map(|file| file.violation(1, "nothing refers to this file"))
        .collect()
}

#[test]
fn source_files_are_compiled() {
    let dead = unreached(&TREE, &contexts());
    assert!(dead.is_empty(), "no target reaches {dead:#?}");
}

#[test]
fn pages_are_in_the_book() {
    report(&pages_left_out(&TREE));
}

#[test]
fn other_files_are_referred_to() {
    report(&unreferenced(&TREE));
}

#[test]
fn files_found_by_name_are_there() {
    for (known, _) in FOUND_BY_NAME {
        assert!(TREE.iter().any(|file| file.path.starts_with(known)), "there is no {known}");
    }
}

#[test]
fn a_dead_page_is_reported() {
    let files = [
        SourceFile::new("docs/src/SUMMARY.md", "- [One](one.md)"),
        SourceFile::new("docs/src/one.md", ""),
        SourceFile::new("docs/src/two.md", ""),
    ];
    let found = pages_left_out(&files);
    assert_eq!(
        found.iter().map(|found| found.path.as_str()).collect::<Vec<_>>(),
        ["docs/src/two.md"]
    );
}

#[test]
fn a_dead_file_is_reported() {
    let files = [
        SourceFile::new("Cargo.toml", "members = [\"a\"]"),
        SourceFile::new("a/Cargo.toml", ""),
        SourceFile::new("b/Cargo.toml", ""),
        SourceFile::new("a/src/lib.rs", "include_str!(\"used.txt\")"),
        SourceFile::new("a/src/used.txt", ""),
        SourceFile::new("a/src/dead.txt", "dead.txt"),
    ];
    let found: Vec<String> = unreferenced(&files).into_iter().map(|found| found.path).collect();
    assert_eq!(found, ["b/Cargo.toml", "a/src/dead.txt"]);
}
