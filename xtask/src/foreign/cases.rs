//! What foreign programs are asked to do: groups of cases, each group with a machine of its own.
//!
//! To add a case: a paragraph in one of the files below `xtask/foreign/`, headed `## NAME`. It runs in an empty folder.

/// Cases that share a machine.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// What runs a case's text.
    pub interpreter: &'static str,
    /// The programs that are needed besides busybox.
    pub programs: &'static [&'static str],
    /// The cases.
    text: &'static str,
    /// The machine's memory.
    pub memory: &'static str,
    /// Seconds that it may take.
    pub limit_s: u64,
    /// Other files: `TREE` is this project's own sources, and packages' folders.
    pub files: Files,
    /// Whether `cargo xtask test` runs it too.
    pub is_quick: bool,
}

/// What a group finds besides its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Nothing.
    None,
    /// This project's sources, in the folder that `TREE` names.
    Tree,
    /// What a C compiler needs.
    Compiler,
}

/// A case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

const fn group(name: &'static str, interpreter: &'static str, programs: &'static [&'static str], text: &'static str) -> Group {
    Group { name, interpreter, programs, text, memory: "128M", limit_s: 300, files: Files::None, is_quick: false }
}

/// All of them.
pub const GROUPS: &[Group] = &[
    Group { is_quick: true, ..group("busybox", "busybox sh", &[], include_str!("../../foreign/busybox.cases")) },
    Group { is_quick: true, ..group("ash", "busybox sh", &[], include_str!("../../foreign/scripts.cases")) },
    group("bash", "bash", &["bash"], concat!(include_str!("../../foreign/scripts.cases"), include_str!("../../foreign/bash.cases"))),
    group("mksh", "mksh", &["mksh"], include_str!("../../foreign/scripts.cases")),
    group("lksh", "lksh", &["lksh"], include_str!("../../foreign/scripts.cases")),
    group("zsh", "zsh --emulate sh", &["zsh"], include_str!("../../foreign/scripts.cases")),
    Group { is_quick: true, ..group("hazards", "busybox sh", &[], include_str!("../../foreign/hazards.cases")) },
    group(
        "dynamic",
        // busybox's shell prefers its own programs.
        "bash",
        &["bash", "cat", "cp", "dd", "sort", "grep", "sed", "tar", "gzip", "md5sum", "cmp", "diff", "find", "ls", "perl", "xz"],
        include_str!("../../foreign/dynamic.cases"),
    ),
    group("sqlite", "busybox sh", &["sqlite3"], include_str!("../../foreign/sqlite.cases")),
    // A file that does not fit into memory, and as much again where a journal keeps what was before.
    Group { limit_s: 1200, ..group("sqlite_large", "busybox sh", &["sqlite3"], include_str!("../../foreign/sqlite_large.cases")) },
    Group { files: Files::Tree, ..group("tree", "busybox sh", &["rg"], include_str!("../../foreign/tree.cases")) },
    Group { limit_s: 900, ..group("fsx", "busybox sh", &["fsx"], include_str!("../../foreign/fsx.cases")) },
    Group { files: Files::Compiler, ..group("compiler", "busybox sh", &["tcc"], include_str!("../../foreign/compiler.cases")) },
];

/// The programs whose profit is measured; not a group that is compared with anything.
pub const PROFIT: Group = group(
    "profit",
    "",
    &["cat", "cp", "dd", "grep", "cmp", "diff", "md5sum", "sort", "tar", "perl", "sqlite3", "rg"],
    include_str!("../../foreign/profit.cases"),
);

impl Group {
    /// Its cases. A name that comes again goes on where it left off under another name.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        for line in self.text.lines() {
            match (line.strip_prefix("## "), cases.last_mut()) {
                (Some(name), _) => {
                    let again = cases.iter().filter(|case| case.name == name).count();
                    let name = if again == 0 { name.to_owned() } else { format!("{name}_{}", self.name) };
                    cases.push(Case { name, text: String::new() });
                }
                (None, Some(case)) => {
                    case.text.push_str(line);
                    case.text.push('\n');
                }
                (None, None) => {}
            }
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_of_their_own_and_do_something() {
        for group in GROUPS {
            let cases = group.cases();
            assert!(!cases.is_empty(), "{}", group.name);
            for (index, case) in cases.iter().enumerate() {
                assert!(!case.text.trim().is_empty(), "{}::{}", group.name, case.name);
                assert!(cases[..index].iter().all(|other| other.name != case.name), "{}::{}", group.name, case.name);
                assert!(case.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{}", case.name);
            }
        }
    }
}
