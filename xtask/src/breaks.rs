//! `test mutants`: the deliberate breaks of the code, and the tests that have to notice them.
//!
//! A break is noticed by tests in the guest, each run once for each break that it names, or by the
//! host tests that apply breaks by themselves.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::guest_tests;
use crate::paths::Paths;

/// Where the breaks are listed.
const LIST: &str = "foundation/src/mutant.rs";
/// Host tests that apply breaks, and the files that say which.
const HOST: &[(&str, &str)] = &[
    ("each_break_is_found", "fsserver/tests/mutants.rs"),
    ("breaks_are_found", "kernel/tests/simulation/breaks.rs"),
];

/// A break: the name of its variant, and its own.
struct Break {
    variant: String,
    name: String,
}

/// All breaks that there are.
fn all(paths: &Paths) -> Result<Vec<Break>> {
    let text =
        fs::read_to_string(paths.root.join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let lines =
        text.lines().filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" = \""));
    Ok(lines
        .map(|(variant, name)| Break { variant: variant.to_owned(), name: name.to_owned() })
        .collect())
}

/// How many breaks there are.
pub fn count(paths: &Paths) -> Result<usize> {
    Ok(all(paths)?.len())
}

/// Whether a host test applies breaks.
pub fn applies_breaks(name: &str) -> bool {
    HOST.iter().any(|(test, _)| name.ends_with(test))
}

/// Breaks that no test names.
pub fn unnoticed(paths: &Paths) -> Result<Vec<String>> {
    let in_guest: BTreeSet<String> =
        guest_tests::rules(paths)?.into_iter().flat_map(|test| test.mutants).collect();
    let mut on_host = String::new();
    for (_, file) in HOST {
        on_host += &fs::read_to_string(paths.root.join(file))
            .with_context(|| format!("cannot read {file}"))?;
    }
    let named = |found: &Break| {
        in_guest.contains(&found.name) || on_host.contains(&format!("Mutant::{},", found.variant))
    };
    Ok(all(paths)?.into_iter().filter(|found| !named(found)).map(|found| found.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_break_has_a_test_that_must_notice_it() {
        let paths = Paths::find().unwrap();
        assert!(count(&paths).unwrap() > 40);
        assert_eq!(unnoticed(&paths).unwrap(), Vec::<String>::new());
    }
}
