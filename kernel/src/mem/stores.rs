//! How many pages of mapped files were stored to and are not written to the file yet: the dirty
//! pages.
//!
//! All together they are at most one of [`DIRTY_SHARE`] frames: writing them back needs their
//! server. A dirty page may be mapped writable, any other page of a mapped file is mapped
//! read-only. So each first store faults, and one beyond the limit waits there, with no lock held,
//! until some pages are written.
//!
//! The pages of one server's files have a [`Share`] of the limit. A store waits only for its own
//! server, so one that does not answer holds up its own clients only (X9).
//!
//! A page that the server does not take, because its storage fails, stays dirty and is tried again.
//! Such *refused* pages do not keep others from storing: they take from the limit, but not from
//! what the share may still have. When they have used up the limit, the next store to a clean page
//! of that server fails (SIGBUS).
#![forbid(unsafe_code)]

use super::{frame, mutants};
use core::sync::atomic::{AtomicUsize, Ordering};

/// The limit is one of this many frames.
const DIRTY_SHARE: usize = 8;
/// Dirty pages that each server's files may have in any case, however many there are of others.
/// More than the pages that one instruction stores to.
const SHARE_MIN: usize = 16;

/// All dirty pages.
static DIRTY: AtomicUsize = AtomicUsize::new(0);

/// Dirty pages of all mapped files.
pub fn dirty_pages() -> usize {
    DIRTY.load(Ordering::Relaxed)
}

/// The number of dirty pages of one server's files. Changed under the lock of the memory that they
/// belong to.
#[derive(Debug, Default)]
pub struct Share {
    pages: AtomicUsize,
    refused: AtomicUsize,
}

impl Share {
    /// Dirty pages of the server's files.
    pub fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }

    /// Those of them that the server has refused to take.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether there may be one more: up to half of what the others leave of the limit, so that
    /// another server can always have as many. Refused pages count as others'.
    pub fn has_space(&self) -> bool {
        let limit = frame::stats().total / DIRTY_SHARE;
        let refused = if mutants::refused_pages_count() { 0 } else { self.refused() };
        let own = self.pages() - refused;
        let others = dirty_pages().saturating_sub(own);
        own < (limit.saturating_sub(others) / 2).max(SHARE_MIN) || mutants::many_dirty_pages()
    }

    /// Whether refused pages have used up the limit: then nobody may store to others of this
    /// server.
    pub fn is_exhausted(&self) -> bool {
        self.refused() > 0 && dirty_pages() >= frame::stats().total / DIRTY_SHARE
    }

    /// Whether a page may become dirty.
    pub fn admits(&self) -> bool {
        self.has_space() && !self.is_exhausted()
    }

    pub(super) fn add(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
        DIRTY.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, pages: usize) {
        self.pages.fetch_sub(pages, Ordering::Relaxed);
        DIRTY.fetch_sub(pages, Ordering::Relaxed);
    }

    pub(super) fn add_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subtract_refused(&self, pages: usize) {
        self.refused.fetch_sub(pages, Ordering::Relaxed);
    }
}
