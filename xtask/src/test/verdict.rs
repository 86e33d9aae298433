//! The result of a test.

/// Whether a test passed, with the reason if it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The test ended as expected.
    Passed,
    /// The test ended as expected; the text says what it did.
    Reported(String),
    /// It did not; the text helps to find the cause.
    Failed(String),
    /// The test cannot run on this machine, for the reason given.
    Skipped(String),
}

impl Verdict {
    /// The word that is recorded for the book.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed | Self::Reported(_) => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// A verdict from a condition; `why` is called only on failure.
    pub fn from_condition(holds: bool, why: impl FnOnce() -> String) -> Self {
        if holds { Self::Passed } else { Self::Failed(why()) }
    }
}
