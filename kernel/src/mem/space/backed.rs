//! Pages that are backed by a snapshot: from the frame cache, or by a fetch.
#![forbid(unsafe_code)]

use super::mutants;
use super::{
    SpaceState,
    access::FaultError,
    compose::Composition,
    resolution::{Attempt, Awaited, FetchState, PageRequest, Resolution, SnapshotPage},
};
use crate::mem::{
    Frame, Page, PageRange,
    page_table::{EntryFlags, Filler},
    snapshot::cache::{self, Lookup},
    window,
};
use alloc::sync::Arc;
use foundation::PageCount;
use foundation::counter::{Counter, Counters};

impl SpaceState {
    /// Tries to make a page usable that is backed by a snapshot and not mapped.
    pub(super) fn look_backed(
        &mut self,
        lazy: &SnapshotPage,
        request: &PageRequest<'_>,
        held: Option<&Awaited>,
    ) -> Attempt {
        debug_assert!(lazy.region.contains(lazy.page) && lazy.window.contains(lazy.page));
        debug_assert!(self.table.get(lazy.page).is_none() && !request.overwrites());
        if lazy.snapshot.is_hole(lazy.wanted()) {
            return self.map_hole(lazy, request);
        }
        if let Some(composition) = Composition::of(lazy) {
            return self.look_composed(lazy, &composition, request, held);
        }
        loop {
            let looked = if request.stores() && !mutants::store_shared() {
                self.copy_cached(lazy, request, held)?
            } else {
                self.map_cached(lazy, request, held)?
            };
            match looked {
                Looked::Resolved(resolution) => return Ok(resolution),
                Looked::Fetch => return Ok(self.begin_fetch(lazy, request.counters)),
                Looked::Swapped(slot) => {
                    if let Some(pending) = self.restore_cached(lazy, slot)? {
                        return Ok(pending);
                    }
                }
            }
        }
    }

    fn map_hole(&mut self, lazy: &SnapshotPage, request: &PageRequest<'_>) -> Attempt {
        request.counters.add(Counter::PagesHole, 1);
        if request.stores() {
            let frame = Frame::zeroed_for(self.table.claim)?;
            self.map_private(lazy.page, frame, lazy.flags)?;
        } else {
            drop(self.table.map(lazy.page, Frame::zero_page(), lazy.flags)?);
        }
        Ok(Resolution::Done)
    }

    /// For a store: maps a private copy of the page if its frame is in memory.
    fn copy_cached(
        &mut self,
        lazy: &SnapshotPage,
        request: &PageRequest<'_>,
        held: Option<&Awaited>,
    ) -> Result<Looked, FaultError> {
        let mut original = None;
        let take = |_, frame: &Frame| original = Some(frame.clone());
        match cache::lookup(&lazy.snapshot, lazy.wanted(), PageCount(1), 0, take) {
            Lookup::Pending(fetch) if !mutants::fetch_twice() => {
                return Ok(Looked::Resolved(lazy.join(fetch)));
            }
            Lookup::Swapped(slot) => return Ok(Looked::Swapped(slot)),
            _ => {}
        }
        let held = held.filter(|held| lazy.is_of(held));
        // The cache may have refused the frame that was fetched.
        let Some(original) = original.or_else(|| held.and_then(Awaited::frame)) else {
            return Ok(Looked::Fetch);
        };
        request.counters.add(Counter::PagesCow, 1);
        self.map_private(lazy.page, original.duplicate(self.table.claim)?, lazy.flags)?;
        debug_assert!(self.is_usable(request), "the copy can be stored to");
        Ok(Looked::Resolved(Resolution::Done))
    }

    /// Maps the page and its neighbours, as far as their frames are in memory.
    fn map_cached(
        &mut self,
        lazy: &SnapshotPage,
        request: &PageRequest<'_>,
        held: Option<&Awaited>,
    ) -> Result<Looked, FaultError> {
        let write = if request.stores() { EntryFlags::WRITE } else { EntryFlags::empty() };
        let flags = lazy.flags | write;
        // After a wait for this very page, the frames are at hand without a lookup.
        if let Some(mapped) = held.and_then(|held| self.map_fetched(lazy, flags, held)) {
            request.counters.add(Counter::PagesMapped, mapped?.0);
            return Ok(Looked::Resolved(Resolution::Done));
        }
        let window = window::mapped_along(lazy.window, lazy.page, lazy.region);
        debug_assert!(window.contains(lazy.page));
        let wanted = (lazy.page - window.start).to_usize();
        let mut filler = Filler::new(&mut self.table, flags);
        let mut mapped = Ok(0);
        let take = |index: usize, frame: &Frame| {
            // Without a frame for a table, only the wanted page fails, which comes first.
            match filler.put(window.start + PageCount::of_len(index), frame) {
                Ok(new) => mapped = mapped.map(|mapped| mapped + u64::from(new)),
                Err(error) if mapped == Ok(0) => mapped = Err(error),
                Err(_) => {}
            }
        };
        let first = lazy.byte_of(window.start);
        match cache::lookup(&lazy.snapshot, first, window.pages(), wanted, take) {
            Lookup::Ready => {
                let mapped = mapped?;
                debug_assert!(self.is_usable(request), "the wanted page is mapped first");
                request.counters.add(Counter::PagesMapped, mapped);
                self.note(lazy, window.end, PageCount(mapped).min(lazy.window.pages()));
                Ok(Looked::Resolved(Resolution::Done))
            }
            Lookup::Pending(fetch) if !mutants::fetch_twice() => {
                Ok(Looked::Resolved(lazy.join(fetch)))
            }
            Lookup::Swapped(slot) => Ok(Looked::Swapped(slot)),
            Lookup::Pending(_) | Lookup::Absent => Ok(Looked::Fetch),
        }
    }

    /// Maps what a fetch brought, if it was for this very page of this very snapshot (F3). Returns
    /// how many pages were mapped.
    fn map_fetched(
        &mut self,
        lazy: &SnapshotPage,
        flags: EntryFlags,
        held: &Awaited,
    ) -> Option<Result<PageCount, FaultError>> {
        if !lazy.is_of(held) {
            return None;
        }
        let before = held.fetch.pages_before(held.wanted);
        held.fetch.frames(|frames| {
            debug_assert_eq!(PageCount::of_len(frames.len()), held.fetch.pages);
            let mut filler = Filler::new(&mut self.table, flags);
            let frame = frames.get(before.to_usize()).ok_or(FaultError::Bus)?;
            let mut mapped = PageCount(u64::from(filler.put(lazy.page, frame)?));
            // Those before the page and behind it, as far as they lie in the region.
            let start = before.min(lazy.page - lazy.region.start);
            let end = before + (lazy.region.end - lazy.page).min(held.fetch.pages - before);
            let others = frames.get((before - start).to_usize()..end.to_usize());
            let first = Page(lazy.page.0 - start.0);
            if held.fetch.pages > PageCount(1) {
                mapped += filler.put_all(first, others.unwrap_or_default());
            }
            Ok(mapped)
        })
    }

    /// Begins to fetch a page, and with it others of its window that are not mapped, as far as
    /// there is no hole.
    fn begin_fetch(&mut self, lazy: &SnapshotPage, counters: &Arc<Counters>) -> Resolution {
        debug_assert!(self.table.get(lazy.page).is_none(), "a mapped page is not fetched");
        let mut window = lazy.window;
        if window.pages() > PageCount(1) && lazy.snapshot.has_holes() {
            let is_data = |&other: &Page| !lazy.snapshot.is_hole(lazy.byte_of(other));
            let before = PageRange { start: window.start, end: lazy.page };
            let behind = PageRange { start: lazy.page.next(), end: window.end };
            let before = before.iter().rev().take_while(is_data).count();
            let behind = behind.iter().take_while(is_data).count();
            window.start = Page(lazy.page.0 - before as u64);
            window.end = lazy.page.next() + PageCount::of_len(behind);
        }
        let mut mapped = 0;
        if window.pages() > PageCount(1) {
            self.table.for_each(window, |page, _| mapped |= 1 << (page - window.start).0);
        }
        let (first, wanted) = (lazy.byte_of(window.start), lazy.wanted());
        let pages = window.pages();
        let fetch = cache::begin(&lazy.snapshot, first, pages, wanted, mapped, counters);
        let window = lazy.window;
        Resolution::Fetch(Awaited { fetch, state: FetchState::New, wanted, window })
    }

    /// Records how the region's pages are accessed: `brought` pages up to `end`.
    pub(super) fn note(&mut self, lazy: &SnapshotPage, end: Page, brought: PageCount) {
        if let Some((_, region)) = self.regions.find_mut(lazy.page) {
            region.habit.note(end, lazy.window.pages(), brought);
        }
    }
}

/// The result of a look into the frame cache.
enum Looked {
    /// The page is mapped, or a fetch of it is under way.
    Resolved(Resolution),
    /// The page has to be fetched.
    Fetch,
    /// The page was swapped out of the cache, to the slot of this number.
    Swapped(u32),
}
