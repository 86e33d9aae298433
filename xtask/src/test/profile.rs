//! The profiler against the bench: two ways to count the same instructions.

use anyhow::{Context, Result};

use crate::guest::Guest;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::test::verdict::Verdict;
use crate::{bench, profile};

/// The test's full name.
pub const NAME: &str = "qemu::profile_counts_what_the_bench_counts";

/// A row in which the client, the kernel and both servers work.
const ROW: &str = "read64m.touch1";
/// Instructions of the marks, and of reading the counter, of a thousand.
const SLACK_PERMILLE: f64 = 10.0;
/// What works in this row, and the least share in percent.
const SHARES: [(&str, u64); 4] =
    [(";kernel;", 20), ("fsserver::snapfs", 5), ("fsserver::memfs", 2), ("bench;", 2)];

/// Runs the row twice.
pub fn run(paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
    let row = format!("={ROW}");
    let figures = match bench::figures(paths, guest, &row, interrupts)? {
        Ok(figures) => figures,
        Err(complaint) => return Ok(Verdict::Failed(complaint)),
    };
    let measured = *figures.get(ROW).context("the bench has no such row")?;
    let profile = match profile::count(paths, guest, &format!("bench {row}"), interrupts)? {
        Ok(profile) => profile,
        Err((_, complaint)) => return Ok(Verdict::Failed(complaint)),
    };
    let total = profile.total();
    if (total as f64 - measured).abs() * 1000.0 > measured * SLACK_PERMILLE {
        return Ok(Verdict::Failed(format!("the bench counts {measured}, the profile {total}")));
    }
    for (words, percent) in SHARES {
        let below = profile.below(words);
        if below * 100 < total * percent {
            return Ok(Verdict::Failed(format!("{words} has {below} of {total} instructions")));
        }
    }
    Ok(Verdict::Passed)
}
