//! The text of the chapter.

use std::fmt::Write;

use super::rules::{Rule, SECTIONS};
use crate::guest_tests::GuestTest;
use crate::record::Record;

const INTRODUCTION: &str = "\
# Is it invisible?

<!-- Written by `cargo xtask book` from the rules, the tests and how they last ended. Do not edit. -->

A program must not be able to tell a lazy read from an eager one, nor a write by reference from one by bytes. That is a promise about everything a program
can do, so it is cut into rules, and every rule has tests that bear its name. `qemu` tests run in a machine of their own; `host` tests run the same kernel and
server code in a process. A *break* is a deliberate fault, built in behind a flag, that a rule's test must notice: `cargo xtask test mutants` applies each.

Beside them stand the simulation (`cargo xtask sim`: several programs and machines, a wire that delays, reorders and drops, a store that fails, eviction at any moment, plain bytes as
the oracle), `fsx`, and the tests that throw random system calls and messages at kernel and servers. Every test in the guest ends with a look at what must be given back.
";

/// A test that proves a rule, and how it ended.
struct Proof<'a> {
    name: &'a str,
    ended: &'a str,
}

/// The chapter, from how each test ended and the guest's tests of rules.
pub fn chapter(record: &Record, guest_tests: &[GuestTest]) -> String {
    let mut record = record.clone();
    for test in guest_tests {
        record.entry(format!("qemu::{}", test.name)).or_insert_with(|| "not run".to_owned());
    }
    let mut text = INTRODUCTION.to_owned();
    let (mut tests, mut failed) = (0, 0);
    for (title, rules) in SECTIONS {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n## {title}\n\n| rule | what it means | tests | breaks | status |\n|---|---|---|---|---|\n"
        );
        for rule in *rules {
            let proofs: Vec<Proof<'_>> = proofs(&record, rule).collect();
            tests += proofs.len();
            failed += proofs.iter().filter(|proof| proof.ended != "passed").count();
            let _ = writeln!(text, "{}", row(rule, &proofs, guest_tests));
        }
    }
    let _ = write!(
        text,
        "\nIn all {tests} tests bear a rule's name; in the last run {} of them passed.\n",
        tests - failed
    );
    text
}

/// The tests whose last word begins with the rule's number.
fn proofs<'a>(record: &'a Record, rule: &Rule) -> impl Iterator<Item = Proof<'a>> {
    let prefix = format!("{}_", rule.id.to_lowercase());
    let proves =
        move |name: &str| name.rsplit("::").next().is_some_and(|last| last.starts_with(&prefix));
    let tests = record.iter().filter(|(name, _)| !name.contains(" against "));
    tests.filter(move |(name, _)| proves(name)).map(|(name, ended)| Proof { name, ended })
}

fn row(rule: &Rule, proofs: &[Proof<'_>], guest_tests: &[GuestTest]) -> String {
    let tests: Vec<String> = proofs.iter().map(|proof| format!("`{}`", proof.name)).collect();
    let breaks: Vec<String> =
        breaks(rule, guest_tests).iter().map(|name| format!("`{name}`")).collect();
    let passed = proofs.iter().filter(|proof| proof.ended == "passed").count();
    let mut status = match proofs.len() {
        0 => "no test".to_owned(),
        all if all == passed => format!("{all} passed"),
        all => format!("**{passed} of {all} passed**"),
    };
    if !rule.missing.is_empty() {
        status = format!("not done: {}", rule.missing);
    }
    let cells = [
        format!("**{}** {}", rule.id, rule.name),
        rule.meaning.to_owned(),
        tests.join(" "),
        breaks.join(" "),
        status,
    ];
    format!("| {} |", cells.join(" | "))
}

/// The deliberate breaks that tests of a rule must notice.
fn breaks<'a>(rule: &Rule, guest_tests: &'a [GuestTest]) -> Vec<&'a str> {
    let prefix = format!("{}_", rule.id.to_lowercase());
    let mut names: Vec<&str> = guest_tests
        .iter()
        .filter(|test| test.name.starts_with(&prefix))
        .flat_map(|test| test.mutants.iter().map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_tests;
    use crate::paths::Paths;

    fn guest_rules() -> Vec<GuestTest> {
        guest_tests::rules(&Paths::find().unwrap()).unwrap()
    }

    #[test]
    fn a_rule_lists_its_own_tests_and_says_which_failed() {
        let ended = |name: &str, ended: &str| (name.to_owned(), ended.to_owned());
        let record = Record::from([
            ended("qemu::r1_one_instant", "passed"),
            ended("qemu::r1_one_instant against skip-rescue", "passed"),
            ended("host::fsserver::rules::r1_more", "failed"),
            ended("host::kernel::r10_holes", "passed"),
        ]);
        let text = chapter(&record, &guest_rules());
        let row = text.lines().find(|line| line.starts_with("| **R1** ")).unwrap();
        assert!(
            row.contains("`qemu::r1_one_instant`")
                && row.contains("`host::fsserver::rules::r1_more`"),
            "{row}"
        );
        assert!(
            row.contains("**1 of ") && row.contains("`skip-rescue`") && !row.contains("r10"),
            "{row}"
        );
        assert!(text.ends_with("in the last run 2 of them passed.\n"));
        let other = text.lines().find(|line| line.starts_with("| **R3** ")).unwrap();
        assert!(
            other.contains("`qemu::r3_nothing_past_n`") && other.contains("**0 of 1 passed**"),
            "{other}"
        );
    }

    #[test]
    fn every_rule_has_one_row_and_every_test_in_the_guest_a_rule() {
        let rules: Vec<&Rule> = SECTIONS.iter().flat_map(|(_, rules)| *rules).collect();
        for rule in &rules {
            assert_eq!(rules.iter().filter(|other| other.id == rule.id).count(), 1, "{}", rule.id);
        }
        for test in guest_rules() {
            let id = test.name.split('_').next().unwrap_or_default().to_uppercase();
            assert!(rules.iter().any(|rule| rule.id == id), "{}", test.name);
        }
    }

    /// The chapter that is kept in the tree knows every test in the guest.
    #[test]
    fn the_chapter_is_not_older_than_the_tests() {
        let kept = include_str!("../../../docs/src/invisible.md");
        for test in guest_rules() {
            assert!(
                kept.contains(&format!("::{}`", test.name)),
                "docs/src/invisible.md lacks {}: cargo xtask test, cargo xtask book",
                test.name
            );
        }
    }
}
