//! Pages change hands between processes without being copied (A8).
#![forbid(unsafe_code)]

use super::{
    Access, FaultError, Space, SpaceState, access::base_flags, copy::completed,
    resolution::Coverage,
};
use crate::mem::{
    Backing, Frame, PAGE_BYTES, Page, PageRange, Prot, UserSlice, fallible,
    page_table::{EntryFlags, Filler, Flush},
    reclaim,
    snapshot::Frames,
};
use alloc::vec::Vec;
use core::iter::Peekable;
use foundation::PageCount;

/// Whole pages of a server's memory that are the payload of a reply, before they are lent.
#[derive(Clone, Copy, Debug)]
pub struct LentPages<'a> {
    space: &'a Space,
    parts: &'a [UserSlice],
    pages: PageCount,
}

impl<'a> LentPages<'a> {
    /// The pages of ranges in the memory of the process that sends the reply. `None` where not all
    /// ranges consist of whole pages.
    pub fn new(space: &'a Space, parts: &'a [UserSlice]) -> Option<Self> {
        let is_whole = |part: &UserSlice| {
            part.addr().is_page_aligned() && part.len().is_multiple_of(PAGE_BYTES)
        };
        let pages = parts.iter().map(|part| part.bytes().whole_pages()).sum();
        parts.iter().all(is_whole).then_some(Self { space, parts, pages })
    }

    /// The number of pages.
    pub fn pages(&self) -> PageCount {
        self.pages
    }

    /// References to the frames, as [`Space::lend`] returns them. Never waits: `None` where not all
    /// pages are private and in memory, or there is no memory for a list of them.
    pub fn take(&self) -> Option<Frames> {
        let mut frames = Frames::with_capacity(self.pages).ok()?;
        let mut state = self.space.inner.lock();
        for part in self.parts {
            let stale = state.table.lend_private(part.touched_pages(), |frame| frames.push(frame));
            stale.flush(&state.table);
        }
        drop(state);
        (PageCount::of_len(frames.len()) == self.pages).then_some(frames)
    }
}

impl Space {
    /// References to the frames of whole pages, as they are now: every writable mapping of them
    /// becomes copy-on-write first. May wait.
    pub fn lend(&self, range: PageRange) -> Result<Vec<Frame>, FaultError> {
        let mut frames = Vec::new();
        self.lend_into(range, &mut frames)?;
        Ok(frames)
    }

    /// The same, at the end of `frames`. After an error, some may be there.
    pub fn lend_into(&self, range: PageRange, frames: &mut Vec<Frame>) -> Result<(), FaultError> {
        fallible::reserve_exact(frames, range.pages().to_usize())?;
        let mut rest = range;
        while !rest.is_empty() {
            let before = frames.len();
            // The first page is made usable; those behind it that are mapped already are lent in
            // the same step.
            self.resolve(rest.start, Access::Read, Coverage::Partial, |state| {
                state.lend(rest, frames)
            })??;
            debug_assert!(before < frames.len());
            rest.start = rest.start + PageCount::of_len(frames.len() - before);
        }
        Ok(())
    }

    /// Replaces whole pages from `first` on by frames, copy-on-write, as far as writable private
    /// memory reaches. Returns for how many pages; an error only for none. May wait.
    pub fn accept(
        &self,
        first: Page,
        frames: impl IntoIterator<Item = Frame>,
    ) -> Result<PageCount, FaultError> {
        reclaim::keep_margin(self.policy.claim())?;
        let mut done = 0;
        let result = self.with(|state| state.accept(first, frames, &mut done));
        let done = result.map_or_else(|error| completed(done, error), |()| Ok(done));
        done.map(PageCount::of_len)
    }
}

impl SpaceState {
    /// Lends the first page of a range, which is mapped, and those behind it in its region that are
    /// mapped too.
    fn lend(&mut self, range: PageRange, frames: &mut Vec<Frame>) -> Result<(), FaultError> {
        let (found, region) = self.regions.find(range.start).ok_or(FaultError::Segv)?;
        if region.backing.is_shared() {
            // The owners of shared memory go on writing to the frame.
            let entry = self.table.get(range.start).ok_or(FaultError::Segv)?;
            frames.push(entry.frame().duplicate(self.table.claim)?);
        } else {
            let stale = self.table.lend(range.intersect(found), |frame| frames.push(frame));
            self.flush.merge(stale);
        }
        Ok(())
    }

    fn accept(
        &mut self,
        first: Page,
        frames: impl IntoIterator<Item = Frame>,
        done: &mut usize,
    ) -> Result<(), FaultError> {
        let mut frames = frames.into_iter().peekable();
        while frames.peek().is_some() {
            self.accept_in_region(first + PageCount::of_len(*done), &mut frames, done)?;
        }
        Ok(())
    }

    /// Replaces pages from `start` on, up to the end of the region; where an association may end,
    /// one page, because the region may change then.
    fn accept_in_region(
        &mut self,
        start: Page,
        frames: &mut Peekable<impl Iterator<Item = Frame>>,
        done: &mut usize,
    ) -> Result<(), FaultError> {
        let (range, region) = self.regions.find_mut(start).ok_or(FaultError::Segv)?;
        let is_shared = region.backing.is_shared() || matches!(region.backing, Backing::Beyond);
        if is_shared || !region.prot.contains(Prot::WRITE) {
            return Err(FaultError::Segv);
        }
        if !region.associated.is_zero() {
            // The association may end.
            fallible::reserve(&mut self.garbage, 1)?;
        }
        region.touched = true;
        let flags = base_flags(region.prot) | EntryFlags::PRIVATE;
        let one = PageCount(1);
        let pages = if region.associated.is_zero() { range.end - start } else { one };
        let mut was_private = true;
        let mut filler = Filler::new(&mut self.table, flags);
        let part = PageRange::new(start, pages);
        for (page, frame) in part.iter().zip(frames.by_ref().take(pages.to_usize())) {
            let write = if frame.is_shared() { EntryFlags::empty() } else { EntryFlags::WRITE };
            let old = filler.replace(page, frame, flags | write)?;
            if let Some((_, old_flags)) = &old {
                self.flush.merge(Flush::page(page));
                was_private &= old_flags.contains(EntryFlags::PRIVATE);
            } else {
                was_private = false;
            }
            *done += 1;
        }
        if !was_private {
            self.end_association(start);
        }
        Ok(())
    }
}
