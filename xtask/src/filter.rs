//! Filters on the command line that select things by name.

use anyhow::{Result, bail};

/// Similarity, of at most 1, from which a name is worth mentioning.
const NEAR: f64 = 0.75;
/// Names that are mentioned, at most.
const MENTIONED: usize = 5;

/// Fails if a filter selects none of the names: with the kind of thing that was meant, and with
/// the names that are most like the filter.
pub fn require_match(kind: &str, filter: &str, names: &[String]) -> Result<()> {
    if names.iter().any(|name| name.contains(filter)) {
        return Ok(());
    }
    match near(filter, names).as_slice() {
        [] => bail!("no {kind} matches {filter:?}; --list prints all names"),
        near => bail!("no {kind} matches {filter:?}; there is {}", near.join(", ")),
    }
}

/// The names that are most like the filter, the best first.
fn near<'a>(filter: &str, names: &'a [String]) -> Vec<&'a str> {
    let mut ranked: Vec<_> = names
        .iter()
        .map(|name| (similarity(filter, name), name.as_str()))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .collect();
    ranked.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    ranked.into_iter().take(MENTIONED).map(|(_, name)| name).collect()
}

/// The similarity of a filter and a name, or of the last part of the name's path.
fn similarity(filter: &str, name: &str) -> f64 {
    let last = name.rsplit("::").next().unwrap_or(name);
    strsim::jaro_winkler(filter, name).max(strsim::jaro_winkler(filter, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_without_a_match_is_an_error_that_names_near_ones() {
        let names =
            ["qemu::storm_32M_seed_1", "qemu::second_disk", "host::kernel::x"].map(str::to_owned);
        assert!(require_match("test", "storm", &names).is_ok());
        assert!(require_match("test", "", &names).is_ok());
        let error = require_match("test", "second_dsik", &names).unwrap_err().to_string();
        assert_eq!(error, "no test matches \"second_dsik\"; there is qemu::second_disk");
        let error = require_match("test", "zzz", &names).unwrap_err().to_string();
        assert_eq!(error, "no test matches \"zzz\"; --list prints all names");
        assert!(require_match("test", "", &[]).is_err());
    }
}
