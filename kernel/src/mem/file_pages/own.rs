//! A page gets a frame that nobody but its mappings refers to, so that it can be stored to.
#![forbid(unsafe_code)]

use super::{COPYING, DIRTY, FilePages, OWN, Pages, USED, WRITING, kept_flags, mutants};
use crate::mem::{Claim, Page, PageRange, file_pages::Treatment, page_table::Held};
use foundation::Errno;

/// Why the server will take the page when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// It was just asked to reserve space. The caller holds the file's lock since.
    Reserved,
    /// It did so when the page became dirty, and the page is dirty, or being written, ever since.
    Kept,
}

impl FilePages {
    /// Whether the server has to be asked before a store to a page: it is clean.
    pub fn needs_reservation(&self, page: Page) -> bool {
        let pages = self.inner.lock();
        let state = pages.tree.get(page).map(|entry| entry.flags());
        !pages.is_changing(page) && state.is_some_and(|flags| !flags.intersects(DIRTY | WRITING))
    }

    /// Makes a page dirty, with a copy of its frame that is its own. Does nothing where the page
    /// has changed, or may not be stored to now: the caller looks again. May wait for other
    /// threads, but for no server.
    pub fn make_own(&self, page: Page, space: Space, claim: Claim) -> Result<(), Errno> {
        {
            let mut pages = self.inner.lock();
            if !pages.can_be_copied(page, space) {
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
            Ok(()) if pages.can_be_copied(page, space) => pages.copy(page, claim),
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

    fn can_be_copied(&self, page: Page, space: Space) -> bool {
        let Some(entry) = self.tree.get(page) else { return false };
        let is_promised = space == Space::Reserved || entry.flags().intersects(DIRTY | WRITING);
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
