//! What came of a test.

/// Passed, or failed and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Not so; everything that helps to find out why.
    Failed(String),
    /// It could not be tried here, and why.
    Skipped(String),
}

impl Verdict {
    /// It in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// A verdict from a condition; `why` is only asked on failure.
    pub fn from_condition(holds: bool, why: impl FnOnce() -> String) -> Self {
        if holds { Self::Passed } else { Self::Failed(why()) }
    }
}
