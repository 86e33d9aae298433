//! The experiment as a test: every byte is correct, the lazy run is lazy, the eager run is not, and
//! both have the same hash.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::cli::Lazy;
use crate::guest::Guest;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::test::qemu::{Expected, QemuTest};
use crate::test::verdict::Verdict;

/// Size of the experiment's file, far more than the machine's 128 MiB could copy.
const FULL_BYTES: u64 = 16 << 30;
/// Size that fits into memory, for the run that copies.
const FITTING_BYTES: u64 = 32 << 20;
/// Time limit; even the emulated machine needs only seconds.
const LIMIT: Duration = Duration::from_secs(180);

/// Hash and counters that a run of `demo` printed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    hash: String,
    counters: BTreeMap<String, u64>,
}

impl Report {
    /// Reads `hash H` and `counter NAME: N`.
    fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["hash", hash] => report.hash = (*hash).to_owned(),
                ["counter", name, value] => {
                    report
                        .counters
                        .insert(name.trim_end_matches(':').to_owned(), value.parse().unwrap_or(0));
                }
                _ => {}
            }
        }
        report
    }

    /// The value of a counter; `demo` omits those that are zero.
    fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// There was one lazy read of all pages, and less than the file was moved.
    fn is_lazy(&self, size_bytes: u64) -> bool {
        self.count("reads_lazy") == 1
            && self.count("pages_lazy") == size_bytes / 4096
            && self.count("bytes_fetched") > 0
            && self.count("bytes_fetched") < size_bytes
            && self.count("bytes_read_eager") < 1 << 20
    }

    /// There was no lazy read, and every byte was moved.
    fn is_eager(&self, size_bytes: u64) -> bool {
        self.count("reads_lazy") == 0 && self.count("bytes_read_eager") >= size_bytes
    }
}

/// The two tests of the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoTest {
    /// 16 GiB on a machine of 128 MiB.
    Full,
    /// A size that fits, lazily and eagerly.
    BothWays,
}

impl DemoTest {
    /// Every test of the experiment.
    pub const ALL: [Self; 2] = [Self::Full, Self::BothWays];

    /// The test's full name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "qemu::demo_16_gib_on_128_mib",
            Self::BothWays => "qemu::demo_lazy_and_eager_agree",
        }
    }

    /// Runs the experiment and checks what it reports.
    pub fn run(self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let run = |size_bytes, lazy| experiment(paths, guest, interrupts, size_bytes, lazy);
        match self {
            Self::Full => Ok(match run(FULL_BYTES, Lazy::On)? {
                Ok(lazy) => Verdict::from_condition(lazy.is_lazy(FULL_BYTES), || {
                    format!("it was not lazy: {lazy:#?}")
                }),
                Err(why) => Verdict::Failed(why),
            }),
            Self::BothWays => {
                Ok(match (run(FITTING_BYTES, Lazy::On)?, run(FITTING_BYTES, Lazy::Off)?) {
                    (Ok(lazy), Ok(eager)) => agree(&lazy, &eager),
                    (Err(why), _) | (_, Err(why)) => Verdict::Failed(why),
                })
            }
        }
    }
}

fn agree(lazy: &Report, eager: &Report) -> Verdict {
    let is_good = !lazy.hash.is_empty()
        && lazy.hash == eager.hash
        && lazy.is_lazy(FITTING_BYTES)
        && eager.is_eager(FITTING_BYTES);
    Verdict::from_condition(is_good, || format!("lazy: {lazy:#?}\neager: {eager:#?}"))
}

/// Runs the experiment once; returns its report, or why it failed.
fn experiment(
    paths: &Paths,
    guest: &Guest,
    interrupts: &Interrupts,
    size_bytes: u64,
    lazy: Lazy,
) -> Result<std::result::Result<Report, String>> {
    let mut test = QemuTest::new("demo", &format!("demo --size {size_bytes}"), Expected::Status(0));
    test.lazy = lazy;
    test.limit = LIMIT;
    let seen = test.boot(paths, guest, &test.command, None, interrupts)?;
    if !test.is_met(&seen.outcome, &seen.console, &seen.log) {
        return Ok(Err(test.explain(&seen)));
    }
    Ok(Ok(Report::parse(&String::from_utf8_lossy(&seen.console))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_show_laziness() {
        let lazy = Report::parse(
            "read 1\ncounter  reads_lazy: 1\ncounter pages_lazy: 8192\n\
             counter bytes_fetched: 4096\nhash  abc\n",
        );
        assert_eq!(lazy.hash, "abc");
        assert!(lazy.is_lazy(FITTING_BYTES) && !lazy.is_eager(FITTING_BYTES));
        let eager = Report::parse("counter bytes_read_eager: 33554432\nhash abc\n");
        assert!(eager.is_eager(FITTING_BYTES) && !eager.is_lazy(FITTING_BYTES));
        assert_eq!(agree(&lazy, &eager), Verdict::Passed);
        for (one, other) in [(&lazy, &lazy), (&eager, &eager), (&Report::default(), &eager)] {
            assert_ne!(agree(one, other), Verdict::Passed);
        }
    }
}
