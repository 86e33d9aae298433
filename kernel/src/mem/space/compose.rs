//! Incongruent reads: a page of the buffer has bytes of two pages of the file. The file's pages are
//! fetched as they are, which costs no server a copy, and are cached for all readers; the page is
//! composed of them once, here.
//!
//! Invariants: only file pages that lie in the snapshot are fetched, so windows with the first or
//! the last page of a snapshot are composed by the server, as are small windows, for which two
//! messages would cost more than a copy. A composed page is clean: it is not cached itself, and
//! is composed again after it was dropped.
//!
//! Lock: that of the space. The cache is locked only to collect references to the file's pages.
#![forbid(unsafe_code)]

use super::{
    SpaceState,
    access::FaultError,
    mutants,
    resolution::{Attempt, Awaited, FetchState, PageRequest, Resolution, SnapshotPage},
};
use crate::mem::{
    Frame, PAGE_BYTES, Page, PageRange,
    page_table::Filler,
    snapshot::{
        SnapshotSource,
        cache::{self, Lookup},
    },
};
use foundation::counter::Counter;
use foundation::{ByteCount, PageCount, SnapshotOffset, knob};

/// File pages of the largest window.
const MAX_PARTS: usize = knob::MAX_FAULT_AROUND as usize + 1;

/// A window whose pages are composed.
pub(super) struct Composition {
    /// The pages.
    window: PageRange,
    /// Position in the snapshot of the file page with the first byte of the window.
    first: SnapshotOffset,
    /// Bytes of that file page in front of the window's first byte, not 0.
    skipped: usize,
}

/// File pages of a window, as far as they are in memory; one more than the window's pages.
struct Parts<'a> {
    /// What a fetch brought, which the cache may have refused.
    brought: &'a [Frame],
    /// The number of the first of them among the file pages of the window.
    first: isize,
    /// From the cache.
    cached: [Option<Frame>; MAX_PARTS],
}

impl Composition {
    /// How the window of a page is composed; `None` where the server composes the page, or nothing
    /// has to be composed.
    #[inline]
    pub fn of(lazy: &SnapshotPage) -> Option<Self> {
        let SnapshotSource::File { offset, .. } = lazy.snapshot.source else { return None };
        let skipped = (offset.0.wrapping_add(lazy.first.0) % PAGE_BYTES as u64) as usize;
        if skipped == 0 || lazy.window.pages().0 < knob::COMPOSE_PAGES.get() {
            return None;
        }
        Self::within(lazy, skipped)
    }

    /// The same, where both parts of all pages lie in the snapshot.
    fn within(lazy: &SnapshotPage, skipped: usize) -> Option<Self> {
        let SnapshotPage { window, region, first, .. } = *lazy;
        let skipped_bytes = ByteCount::of_len(skipped);
        // The first page of the region whose first part lies in the snapshot, and the page behind
        // the last one whose second part does.
        let before = (skipped_bytes.saturating_sub(ByteCount(first.0))).0.div_ceil(PAGE);
        let parts_end = (lazy.snapshot.len.0 + skipped_bytes.0).checked_sub(first.0)? / PAGE;
        let composed = PageRange {
            start: region.start + PageCount(before),
            end: region.start + PageCount(parts_end.checked_sub(1)?),
        };
        if window.intersect(composed) != window {
            return None;
        }
        let first = lazy.byte_of(window.start).0 - skipped_bytes.0;
        Some(Self { window, first: SnapshotOffset(first), skipped })
    }

    /// Number of file pages.
    fn parts(&self) -> usize {
        self.window.pages().to_usize() + 1
    }

    /// The number of a fetch's first page among the file pages; `None` where they are of another
    /// snapshot.
    fn first_of(&self, lazy: &SnapshotPage, held: &Awaited) -> Option<isize> {
        let fetch = &held.fetch;
        let distance = fetch.offset.0.wrapping_sub(self.first.0) as isize;
        let is_its = fetch.is_of(&lazy.snapshot);
        (is_its && distance % PAGE_BYTES as isize == 0).then_some(distance / PAGE_BYTES as isize)
    }

    /// Position in the snapshot of a file page.
    fn part_at(&self, index: usize) -> SnapshotOffset {
        self.first + PageCount::of_len(index).bytes()
    }
}

const PAGE: u64 = PAGE_BYTES as u64;

impl<'a> Parts<'a> {
    fn new(brought: &'a [Frame], first: isize) -> Self {
        Self { brought, first, cached: [const { None }; MAX_PARTS] }
    }

    #[inline]
    fn get(&self, part: usize) -> Option<&Frame> {
        let brought = self.brought.get((part as isize - self.first) as usize);
        brought.or_else(|| self.cached.get(part)?.as_ref())
    }

    fn add(&mut self, part: usize, frame: &Frame) {
        if self.get(part).is_none()
            && let Some(place) = self.cached.get_mut(part)
        {
            *place = Some(frame.clone());
        }
    }

    /// The two file pages of a page of the window.
    #[inline]
    fn pair(&self, index: usize) -> Option<(&Frame, &Frame)> {
        let (one, two) = (self.get(index)?, self.get(index + 1)?);
        Some((one, if mutants::compose_of_one_page() { one } else { two }))
    }
}

impl SpaceState {
    /// Tries to make a page usable that is composed of two pages of the file.
    pub(super) fn look_composed(
        &mut self,
        lazy: &SnapshotPage,
        composition: &Composition,
        request: &PageRequest<'_>,
        held: Option<&Awaited>,
    ) -> Attempt {
        let wanted = (lazy.page - composition.window.start).to_usize();
        debug_assert!(composition.parts() <= MAX_PARTS && wanted + 1 < composition.parts());
        // Looked up here, because what a fetch brought is under a lock.
        let wanted = [wanted, wanted + 1]
            .map(|part| (part, lazy.snapshot.is_hole(composition.part_at(part))));
        if let Some(held) = held
            && let Some(first) = composition.first_of(lazy, held)
        {
            let looked = held.fetch.frames(|brought| {
                self.compose_of(Parts::new(brought, first), wanted, lazy, composition, request)
            });
            if let Some(looked) = looked {
                return looked;
            }
        }
        self.compose_of(Parts::new(&[], 0), wanted, lazy, composition, request)
    }

    /// The same with what was brought, and what is cached. `wanted` are the two file pages of the
    /// wanted page, and whether they are holes.
    fn compose_of(
        &mut self,
        mut parts: Parts<'_>,
        wanted: [(usize, bool); 2],
        lazy: &SnapshotPage,
        composition: &Composition,
        request: &PageRequest<'_>,
    ) -> Attempt {
        for (index, is_hole) in wanted {
            let at = composition.part_at(index);
            if parts.get(index).is_some() {
                continue;
            }
            if is_hole {
                parts.add(index, &Frame::zero_page());
                continue;
            }
            let count = PageCount::of_len(composition.parts());
            let take = |part: usize, frame: &Frame| parts.add(part, frame);
            match cache::lookup(&lazy.snapshot, composition.first, count, index, take) {
                Lookup::Ready => {}
                Lookup::Pending(fetch) => {
                    let state = FetchState::UnderWay;
                    let (wanted, window) = (at, lazy.window);
                    return Ok(Resolution::Fetch(Awaited { fetch, state, wanted, window }));
                }
                Lookup::Absent | Lookup::Swapped(_) => {
                    return Ok(fetch_parts(lazy, composition, &parts, at, request));
                }
            }
        }
        let end = self.compose(lazy, composition, &parts, request)?;
        self.note(lazy, end, end - composition.window.start);
        Ok(Resolution::Done)
    }

    /// Composes the wanted page, and for a load those of its window whose parts are there. Returns
    /// the end of what can be composed without a gap.
    fn compose(
        &mut self,
        lazy: &SnapshotPage,
        composition: &Composition,
        parts: &Parts<'_>,
        request: &PageRequest<'_>,
    ) -> Result<Page, FaultError> {
        let Composition { window, skipped, .. } = *composition;
        let claim = self.table.claim;
        let composed = |page: Page| {
            let (one, two) = parts.pair((page - window.start).to_usize())?;
            let (_, front) = one.bytes().split_at_checked(skipped)?;
            let (back, _) = two.bytes().split_at_checked(skipped)?;
            Some(Frame::joined(claim, front, back))
        };
        let frame = composed(lazy.page).ok_or(FaultError::Bus)??;
        if request.stores() {
            request.counters.add(Counter::PagesCow, 1);
            self.map_private(lazy.page, frame, lazy.flags)?;
            return Ok(lazy.page.next());
        }
        let mut filler = Filler::new(&mut self.table, lazy.flags);
        let mut mapped = u64::from(filler.put_made(lazy.page, || Some(frame))?);
        let mut end = lazy.page;
        for page in window.iter() {
            // Without a frame, only the wanted page fails, which came first.
            let mut is_there = true;
            let made = filler.put_made(page, || {
                let frame = composed(page).and_then(Result::ok);
                is_there = frame.is_some();
                frame
            });
            let Ok(is_new) = made else { break };
            mapped += u64::from(is_new);
            if is_there {
                end = page.next();
            } else if page > lazy.page {
                break;
            }
        }
        request.counters.add(Counter::PagesMapped, mapped);
        // The wanted page is mapped, even if there was no table for one before it.
        Ok(end.max(lazy.page.next()))
    }
}

/// Begins to fetch the file page at `wanted`, and with it the others of the window.
fn fetch_parts(
    lazy: &SnapshotPage,
    composition: &Composition,
    parts: &Parts<'_>,
    wanted: SnapshotOffset,
    request: &PageRequest<'_>,
) -> Resolution {
    let mut first = composition.first;
    let mut count = PageCount::of_len(composition.parts());
    if count.0 > knob::MAX_FAULT_AROUND {
        // One more than a message brings. In sequential access, the first one is there already.
        if parts.get(0).is_some() && wanted > first {
            first += PageCount(1).bytes();
        }
        count = PageCount(knob::MAX_FAULT_AROUND);
    }
    if wanted >= first + count.bytes() {
        first = wanted;
        count = PageCount(1);
    }
    let fetch = cache::begin(&lazy.snapshot, first, count, wanted, 0, request.counters);
    let window = lazy.window;
    Resolution::Fetch(Awaited { fetch, state: FetchState::New, wanted, window })
}
