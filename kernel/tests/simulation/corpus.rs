//! Failures that were found and fixed: each is replayed with its choices, and in other orders.

use crate::run::Failure;
use crate::script::Case;
use crate::{campaign, sched};

/// Other orders in which each case is run.
const ORDERS: u64 = 30;

fn cases() -> Vec<(String, Case)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulation/corpus");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the corpus exists") {
        let path = entry.expect("the corpus can be listed").path();
        let text = std::fs::read_to_string(&path).expect("the corpus can be read");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let script = Case::from_text(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        cases.push((name, script));
    }
    cases
}

#[test]
fn known_failures_stay_fixed() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    let cases = cases();
    assert!(!cases.is_empty(), "the corpus is empty");
    for (name, case) in cases {
        if let Err(Failure { message, place, .. }) = campaign::replay(&case, ORDERS) {
            panic!("{name}: {message} at {place}");
        }
    }
}
