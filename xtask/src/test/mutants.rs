//! `test mutants`: the mutants of the code, and the tests that must fail for each.
//!
//! A mutant is caught by tests in the guest, each run once for every mutant that it names, or by
//! host tests that switch mutants on by themselves.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::test::in_guest;

/// The source file that lists the mutants.
const LIST: &str = "foundation/src/mutant.rs";
/// Host tests that switch mutants on, and the files that name these mutants.
const HOST: &[(&str, &str)] = &[
    ("each_mutant_is_found", "fsserver/tests/mutants.rs"),
    ("mutants_are_found", "kernel/tests/simulation/mutants.rs"),
    ("f8_a_server_that_never_waits_is_found", "kernel/src/mem/tests/ranks.rs"),
    ("unfair_mutants_are_noticed", "kernel/tests/fairness.rs"),
    ("mutants_of_write_back_are_noticed", "kernel/tests/mapped.rs"),
    ("mutants_of_tags_are_noticed", "kernel/src/mount/tags.rs"),
    ("mutants_of_what_is_known_are_noticed", "kernel/src/mount/known.rs"),
    (
        "a6_what_is_kept_of_a_program_is_forgotten_before_its_file_changes",
        "kernel/tests/shortage/main.rs",
    ),
    ("mutants_of_hand_over_are_noticed", "kernel/src/file/tests/socket.rs"),
];

/// A mutant: its variant in the source, and its name on command lines.
struct Mutant {
    variant: String,
    name: String,
}

/// Reads the list of mutants.
fn all(paths: &Paths) -> Result<Vec<Mutant>> {
    let text =
        fs::read_to_string(paths.root.join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let lines =
        text.lines().filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" = \""));
    Ok(lines
        .map(|(variant, name)| Mutant { variant: variant.to_owned(), name: name.to_owned() })
        .collect())
}

/// The number of mutants.
pub fn count(paths: &Paths) -> Result<usize> {
    Ok(all(paths)?.len())
}

/// Whether a host test switches mutants on.
pub fn uses_mutants(name: &str) -> bool {
    HOST.iter().any(|(test, _)| name.ends_with(test))
}

/// The names of the mutants that no test must catch.
pub fn untested(paths: &Paths) -> Result<Vec<String>> {
    let in_guest: BTreeSet<String> =
        in_guest::all(paths)?.into_iter().flat_map(|test| test.mutants).collect();
    let mut on_host = String::new();
    for (_, file) in HOST {
        on_host += &fs::read_to_string(paths.root.join(file))
            .with_context(|| format!("cannot read {file}"))?;
    }
    let is_tested = |mutant: &Mutant| {
        let variant = format!("Mutant::{}", mutant.variant);
        let ends = |end: &str| !end.starts_with(|next: char| next.is_alphanumeric());
        in_guest.contains(&mutant.name) || on_host.split(&variant).skip(1).any(ends)
    };
    let untested = all(paths)?.into_iter().filter(|mutant| !is_tested(mutant));
    Ok(untested.map(|mutant| mutant.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_a_test_that_must_catch_it() {
        let paths = Paths::find().unwrap();
        assert!(count(&paths).unwrap() > 40);
        assert_eq!(untested(&paths).unwrap(), Vec::<String>::new());
    }
}
