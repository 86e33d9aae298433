//! Which pages of mapped files were stored to and are not written to the file yet: the dirty pages.
//!
//! All together they are at most one of [`DIRTY_SHARE`] frames: writing them back needs their
//! server. A dirty page may be mapped writable, any other page of a mapped file is mapped
//! read-only. So each first store faults, and one beyond the limit waits there, with no lock held,
//! until some pages are written ([`write_back`](super::write_back)).
//!
//! The pages of one server's files have a [`Share`] of the limit. A store waits only for its own
//! server, so one that does not answer holds up its own clients only (X9). A server's own stores
//! never wait: it may wait for no other server.
//!
//! A page that the server does not take, because it has no space or its storage fails, stays dirty
//! and is tried again. Such *refused* pages do not keep others from storing: they take from the
//! limit, but not from what the share may still have. So that they do not become more and more, the
//! server has to agree before any other page of its files is stored to, while there are some: the
//! page is written to the file as it is, which gets it storage of its own. If that is refused, so
//! is the store (SIGBUS).
#![forbid(unsafe_code)]

use super::{Claim, OutOfMemory, Page, PageRange, fallible, frame, mutants};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use foundation::PageCount;

/// The limit is one of this many frames.
const DIRTY_SHARE: usize = 8;
/// Dirty pages that each server's files may have in any case, however many there are of others.
/// More than the pages that one instruction stores to.
const SHARE_MIN: usize = 16;
/// Pages among which those are that are written back together: what one page table maps.
const WINDOW: PageCount = PageCount(512);

/// All dirty pages.
static DIRTY: AtomicUsize = AtomicUsize::new(0);

/// Dirty pages of all mapped files.
pub fn dirty_pages() -> usize {
    DIRTY.load(Ordering::Relaxed)
}

/// What a store to a page of a mapped file waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Some dirty pages of its server's files are written, or refused.
    Space,
    /// The server agrees that this page becomes dirty.
    Consent {
        /// Its number in the file.
        page: u64,
    },
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

    fn add(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
        DIRTY.fetch_add(1, Ordering::Relaxed);
    }

    fn subtract(&self, pages: usize) {
        self.pages.fetch_sub(pages, Ordering::Relaxed);
        DIRTY.fetch_sub(pages, Ordering::Relaxed);
    }
}

/// Identifies the memory of a mapped file, as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryId(pub usize);

/// What becomes of a store to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// The page may be mapped writable.
    Noted,
    /// The thread waits for this, with no lock held, and tries again.
    Waits(Needed),
    /// The page is behind what can be mapped of the file.
    Beyond,
}

/// A set of pages of a file, one bit for each.
#[derive(Debug)]
struct Pages(Vec<u64>);

impl Pages {
    fn none_of(pages: PageCount) -> Result<Self, OutOfMemory> {
        Ok(Self(fallible::filled(0, pages.to_usize().div_ceil(64))?))
    }

    fn contains(&self, page: Page) -> bool {
        self.0.get((page.0 / 64) as usize).is_some_and(|word| word >> (page.0 % 64) & 1 == 1)
    }

    /// Changes whether the set contains a page. Returns whether it can: it is a page of the file.
    fn set(&mut self, page: Page, is_in: bool) -> bool {
        let Some(word) = self.0.get_mut((page.0 / 64) as usize) else { return false };
        *word = *word & !(1 << (page.0 % 64)) | u64::from(is_in) << (page.0 % 64);
        true
    }

    /// The first page from `from` on that the set contains.
    fn next(&self, from: Page) -> Option<Page> {
        let words = self.0.iter().enumerate().skip((from.0 / 64) as usize);
        let found = |(index, word): (usize, &u64)| {
            let start = index as u64 * 64;
            let ahead = word & u64::MAX << from.0.saturating_sub(start);
            (ahead != 0).then(|| Page(start + u64::from(ahead.trailing_zeros())))
        };
        words.into_iter().find_map(found)
    }
}

/// The dirty pages of a file.
#[derive(Debug)]
pub(super) struct Stored {
    share: Arc<Share>,
    /// Stored to since they were last taken for write-back.
    stored: Pages,
    /// Taken for write-back, and not written yet.
    leaving: Pages,
    /// Those pages of both sets that the server has refused.
    refused: Pages,
    refused_count: usize,
    /// Pages in `stored` or `leaving`.
    count: usize,
}

/// Which dirty pages are taken for write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Fresh and refused ones.
    All,
    /// Those that the server has not refused.
    Fresh,
    /// Refused ones only.
    Refused,
}

impl Stored {
    /// No dirty pages, of a file with so many pages.
    pub fn new(share: Arc<Share>, pages: PageCount) -> Result<Self, OutOfMemory> {
        let (stored, leaving) = (Pages::none_of(pages)?, Pages::none_of(pages)?);
        let refused = Pages::none_of(pages)?;
        Ok(Self { share, stored, leaving, refused, refused_count: 0, count: 0 })
    }

    /// Bytes that the kernel keeps for so many pages.
    pub fn bytes(pages: PageCount) -> usize {
        pages.to_usize() * 3 / 8
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a page may be mapped writable.
    pub fn contains(&self, page: Page) -> bool {
        self.stored.contains(page)
    }

    /// Notes that `claim` stores to a page.
    pub fn note(&mut self, page: Page, claim: Claim) -> Store {
        if self.stored.contains(page) {
            return Store::Noted;
        }
        if claim == Claim::Program && !self.leaving.contains(page) {
            if !self.share.has_space() {
                return Store::Waits(Needed::Space);
            }
            if self.share.refused() > 0 && page < self.pages() {
                return Store::Waits(Needed::Consent { page: page.0 });
            }
        }
        self.add(page)
    }

    /// The server has agreed that a page becomes dirty, if there is space for it.
    pub fn agree(&mut self, page: Page) {
        if self.share.has_space() {
            self.add(page);
        }
    }

    /// The first page behind those of the file.
    fn pages(&self) -> Page {
        Page(self.stored.0.len() as u64 * 64)
    }

    fn add(&mut self, page: Page) -> Store {
        let is_new = !self.stored.contains(page) && !self.leaving.contains(page);
        if !self.stored.set(page, true) {
            return Store::Beyond;
        }
        if is_new {
            self.share.add();
            self.count += 1;
        }
        Store::Noted
    }

    /// The first page from `from` on that can be taken.
    fn next(&self, mut from: Page, which: Taken) -> Option<Page> {
        loop {
            let page = self.stored.next(from)?;
            let is_wanted = match which {
                Taken::All => true,
                Taken::Fresh => !self.refused.contains(page),
                Taken::Refused => self.refused.contains(page),
            };
            if is_wanted {
                return Some(page);
            }
            from = page.next();
        }
    }

    /// Takes up to `most` pages for write-back, from `from` on. Returns a range around them.
    pub fn take(&mut self, from: Page, most: usize, which: Taken) -> Option<PageRange> {
        let first = self.next(from, which).filter(|_| most > 0)?;
        let mut taken = PageRange { start: first, end: first };
        for _ in 0..most {
            let next = self.next(taken.end, which).filter(|&next| next < first + WINDOW);
            let Some(page) = next else { break };
            self.stored.set(page, false);
            self.leaving.set(page, true);
            taken.end = page.next();
        }
        Some(taken)
    }

    /// The first page from `from` on that was taken and is not written.
    pub fn next_leaving(&self, from: Page) -> Option<Page> {
        self.leaving.next(from)
    }

    /// Whether the server has refused pages of the file.
    pub fn has_refused(&self) -> bool {
        self.refused_count > 0
    }

    /// Whether the server has refused a page.
    pub fn is_refused(&self, page: Page) -> bool {
        self.refused.contains(page)
    }

    /// The server refuses a page that was taken: it stays dirty.
    pub fn refuse(&mut self, page: Page) {
        self.keep(PageRange::single(page));
        if !self.refused.contains(page) && self.refused.set(page, true) {
            self.refused_count += 1;
            self.share.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A page that was taken is written.
    pub fn written(&mut self, page: Page) {
        self.leaving.set(page, false);
        if self.refused.contains(page) {
            self.refused.set(page, false);
            self.refused_count -= 1;
            self.share.refused.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.stored.contains(page) {
            self.share.subtract(1);
            self.count -= 1;
        }
    }

    /// Pages of a range that were taken are not written.
    pub fn keep(&mut self, range: PageRange) {
        while let Some(page) = self.leaving.next(range.start).filter(|&page| range.contains(page)) {
            self.leaving.set(page, false);
            self.stored.set(page, true);
        }
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.share.subtract(self.count);
        self.share.refused.fetch_sub(self.refused_count, Ordering::Relaxed);
    }
}
