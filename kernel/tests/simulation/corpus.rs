//! Failures that were found once: each is replayed as it was told, and in other orders.

use crate::run::Failure;
use crate::script::Kept;
use crate::{campaign, sched};

/// Other orders in which each is tried.
const ORDERS: u64 = 30;

fn kept() -> Vec<(String, Kept)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulation/corpus");
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("the corpus can be listed").path();
        let text = std::fs::read_to_string(&path).expect("the corpus can be read");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let script = Kept::from_text(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        kept.push((name, script));
    }
    kept
}

#[test]
fn what_was_found_stays_fixed() {
    sched::register();
    let _alone = kernel::mem::host::exclusive();
    let kept = kept();
    assert!(!kept.is_empty(), "the corpus is empty");
    for (name, kept) in kept {
        if let Err(Failure { message, place, .. }) = campaign::replay(&kept, ORDERS) {
            panic!("{name}: {message} at {place}");
        }
    }
}
