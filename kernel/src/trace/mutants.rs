//! Wrong code for testing the tests of tracing. Neutral stubs without the feature `mutants`.

use super::read::Pages;
use alloc::vec::Vec;

/// E4: a read is forgotten when the first of its pages is replaced. Returns whether it was.
#[cfg(feature = "mutants")]
pub(super) fn trace_forgets(pages: &mut Vec<Pages>) -> bool {
    let forgets = foundation::mutant::active(foundation::mutant::Mutant::TraceForgets);
    if forgets {
        pages.clear();
    }
    forgets
}

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(super) fn trace_forgets(_: &mut Vec<Pages>) -> bool {
    false
}
