//! The text of the chapter "Is it invisible?".

use std::fmt::Write;

use super::rules::{Rule, SECTIONS};
use crate::test::in_guest::GuestTest;
use crate::test::results::Results;

const INTRODUCTION: &str = "\
# Is it invisible?

<!-- Written by `cargo xtask book` from the rules, the tests and their results. Do not edit. -->

A program cannot distinguish a lazy read from an eager one, nor a write by reference from a write
of bytes. This promise covers everything that a program can do, so it is divided into rules, and
every rule has tests that bear its name. `qemu` tests run in a virtual machine each; `host` tests
run the same kernel and server code in a process. A *mutant* is a fault that is compiled in behind
a feature and that a test of its rule must catch: `cargo xtask test mutants` runs each.

Further evidence comes from the simulation (`cargo xtask sim`: several programs and machines, a
transport that delays, reorders and drops messages, a device that fails, eviction at any time, with
plain bytes as the oracle), from `fsx`, and from tests that send random system calls and messages
to the kernel and the servers. Every test in the guest ends with a check for leaks.
";

/// A test of a rule, and its last result.
struct Proof<'a> {
    name: &'a str,
    result: &'a str,
}

/// The text of the chapter for the given results and the guest's tests of rules.
pub fn chapter(results: &Results, guest_tests: &[GuestTest]) -> String {
    let mut results = results.clone();
    for test in guest_tests {
        results.entry(format!("qemu::{}", test.name)).or_insert_with(|| "not run".to_owned());
    }
    let mut text = INTRODUCTION.to_owned();
    let (mut tests, mut failed) = (0, 0);
    for (title, rules) in SECTIONS {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n## {title}\n\n| rule | meaning | tests | mutants | status |\n|---|---|---|---|---|\n"
        );
        for rule in *rules {
            let proofs: Vec<Proof<'_>> = proofs(&results, rule).collect();
            tests += proofs.len();
            failed += proofs.iter().filter(|proof| proof.result != "passed").count();
            let _ = writeln!(text, "{}", row(rule, &proofs, guest_tests));
        }
    }
    let _ = write!(
        text,
        "\nIn total {tests} tests bear a rule's name; {} of them passed in their last run.\n",
        tests - failed
    );
    text
}

/// The tests whose function's name begins with the rule's number, or with what the rule names.
fn proofs<'a>(results: &'a Results, rule: &Rule) -> impl Iterator<Item = Proof<'a>> {
    let prefix = format!("{}_", rule.id.to_lowercase());
    let also = rule.also;
    let proves = move |name: &str| {
        let function = name.rsplit("::").next().unwrap_or_default();
        let is_named = |start: &&str| function.starts_with(*start) && name.starts_with("qemu::");
        function.starts_with(&prefix) || also.iter().any(is_named)
    };
    let tests = results.iter().filter(|(name, _)| !name.contains(" against "));
    tests.filter(move |(name, _)| proves(name)).map(|(name, result)| Proof { name, result })
}

fn row(rule: &Rule, proofs: &[Proof<'_>], guest_tests: &[GuestTest]) -> String {
    let tests: Vec<String> = proofs.iter().map(|proof| format!("`{}`", proof.name)).collect();
    let mutants: Vec<String> =
        mutants(rule, guest_tests).iter().map(|name| format!("`{name}`")).collect();
    let passed = proofs.iter().filter(|proof| proof.result == "passed").count();
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
        mutants.join(" "),
        status,
    ];
    format!("| {} |", cells.join(" | "))
}

/// The mutants that tests of a rule must catch.
fn mutants<'a>(rule: &Rule, guest_tests: &'a [GuestTest]) -> Vec<&'a str> {
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
    use crate::paths::Paths;
    use crate::test::in_guest;

    fn guest_rules() -> Vec<GuestTest> {
        in_guest::rules(&Paths::find().unwrap()).unwrap()
    }

    #[test]
    fn a_rule_lists_its_own_tests_and_their_results() {
        let entry = |name: &str, result: &str| (name.to_owned(), result.to_owned());
        let results = Results::from([
            entry("qemu::r1_one_instant", "passed"),
            entry("qemu::r1_one_instant against skip-rescue", "passed"),
            entry("host::fsserver::rules::r1_more", "failed"),
            entry("host::kernel::r10_holes", "passed"),
        ]);
        let text = chapter(&results, &guest_rules());
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
        assert!(text.ends_with("2 of them passed in their last run.\n"));
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

    #[test]
    fn the_chapter_is_not_older_than_the_tests() {
        let chapter = include_str!("../../../docs/src/invisible.md");
        for test in guest_rules() {
            assert!(
                chapter.contains(&format!("::{}`", test.name)),
                "docs/src/invisible.md lacks {}; run cargo xtask test, then cargo xtask book",
                test.name
            );
        }
    }
}
