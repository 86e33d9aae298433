//! A page gets a frame that nobody but its mappings refers to, so that it can be stored to.
#![forbid(unsafe_code)]

use super::{COPYING, DIRTY, FilePages, OWN, Pages, USED, WRITING, kept_flags, mutants};
use crate::arch::clock;
use crate::mem::{Claim, Page, PageRange, file_pages::Treatment, page_table::Held};
use foundation::{Errno, PageCount};

/// How long a reservation holds for pages that are not dirty yet. The time of a file is that of the
/// last reservation, so that of a store can be wrong by as much: no more than the clock of files is
/// on other systems.
const HOLDS_NS: u64 = 4_000_000;
/// Pages for which space is reserved at once, at most.
const MAX_RESERVED: u64 = 64;

/// Pages for which space was reserved together.
#[derive(Clone, Copy)]
pub(super) struct Reserved {
    pages: PageRange,
    /// Until when they can become dirty without another request, in nanoseconds since boot.
    until_ns: u64,
}

impl Default for Reserved {
    fn default() -> Self {
        Self { pages: PageRange { start: Page(0), end: Page(0) }, until_ns: 0 }
    }
}

impl Reserved {
    fn holds(&self, page: Page) -> bool {
        self.pages.contains(page) && clock::now_ns() < self.until_ns
    }
}

/// Why the server will take the page when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// It was just asked to reserve space. The caller holds the file's lock since.
    Made,
    /// It did so when the page became dirty, and the page is dirty, or being written, ever since;
    /// or a moment ago, together with others.
    Kept,
}

impl FilePages {
    /// Whether the server has to be asked before a store to a page, or some pages have to be
    /// written first: it is clean.
    pub fn needs_reservation(&self, page: Page) -> bool {
        let pages = self.inner.lock();
        let state = pages.tree.get(page).map(|entry| entry.flags());
        let is_reserved = pages.reserved.holds(page) && self.share.admits();
        !pages.is_changing(page)
            && !is_reserved
            && state.is_some_and(|flags| !flags.intersects(DIRTY | WRITING))
    }

    /// The pages for which the server is to reserve space when a program stores to `page`: more
    /// than this one where stores are sequential, as far as pages are in memory and clean.
    pub fn to_reserve(&self, page: Page) -> PageRange {
        let pages = self.inner.lock();
        let last = pages.reserved.pages;
        let wanted = if page == last.end { 2 * last.pages().0 } else { 1 };
        let wanted = PageRange::new(page, PageCount(wanted.clamp(1, MAX_RESERVED)));
        let is_clean = |&page: &Page| {
            let entry = pages.tree.get(page);
            entry.is_some_and(|entry| !entry.flags().intersects(DIRTY | WRITING))
        };
        let others = PageRange { start: page.next(), ..wanted };
        let others = others.iter().take_while(is_clean).count();
        PageRange { start: page, end: page.next() + PageCount::of_len(others) }
    }

    /// The server has reserved space for these pages. The caller holds the file's lock.
    pub fn note_reserved(&self, pages: PageRange) {
        let until_ns = clock::now_ns() + HOLDS_NS;
        self.inner.lock().reserved = Reserved { pages, until_ns };
    }

    /// Makes a page dirty, with a copy of its frame that is its own. Does nothing where the page
    /// has changed, or may not be stored to now: the caller looks again. May wait for other
    /// threads, but for no server.
    pub fn make_own(
        &self,
        page: Page,
        reservation: Reservation,
        claim: Claim,
    ) -> Result<(), Errno> {
        {
            let mut pages = self.inner.lock();
            if !pages.can_be_copied(page, reservation) {
                return Ok(());
            }
            pages.copying += 1;
            pages.set(page, |flags| flags | COPYING);
        }
        // Nobody maps the page from here on. So all programs will see the copy, or none.
        let unmapped = self.treat(PageRange::single(page), Treatment::Unmap);
        let mut pages = self.inner.lock();
        pages.copying -= 1;
        pages.set(page, |flags| flags - COPYING);
        let copied = match unmapped {
            Ok(()) if pages.can_be_copied(page, reservation) => pages.copy(page, claim),
            Ok(()) => Ok(false),
            Err(interrupted) => Err(interrupted.into()),
        };
        if copied == Ok(true) {
            self.share.add();
        }
        drop(pages);
        self.settled.wake_all();
        copied.map(drop)
    }
}

impl Pages {
    /// Changes the flags of a page.
    pub(super) fn set(
        &mut self,
        page: Page,
        change: impl FnOnce(super::EntryFlags) -> super::EntryFlags,
    ) {
        if let Some(entry) = self.tree.get(page) {
            self.tree.set_flags(page, change(kept_flags(entry)));
        }
    }

    fn can_be_copied(&self, page: Page, reservation: Reservation) -> bool {
        let Some(entry) = self.tree.get(page) else { return false };
        let is_promised = reservation == Reservation::Made
            || entry.flags().intersects(DIRTY | WRITING)
            || self.reserved.holds(page);
        is_promised
            && !entry.flags().intersects(OWN | COPYING)
            && !self.is_changing(page)
            && !self.is_protecting
    }

    /// Copies a page that can be. Returns whether it became dirty now.
    fn copy(&mut self, page: Page, claim: Claim) -> Result<bool, Errno> {
        let Some(entry) = self.tree.get(page) else { return Ok(false) };
        if !mutants::store_to_lent() {
            let copy = entry.frame().duplicate(claim)?;
            self.tree.replace(page, Held::Frame(copy));
        }
        self.tree.set_flags(page, kept_flags(entry) | DIRTY | OWN | USED);
        let is_new = !entry.flags().intersects(DIRTY | WRITING);
        self.dirty += usize::from(is_new);
        Ok(is_new)
    }
}
