//! Reads of a file's bytes: the pages are loaded from the devices first, then lent to the reply.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{Errno, PAGE_BYTES};

use super::content::Content;
use super::entries::Storage;
use super::page::{Page, Pages};
use super::slab::Run;
use crate::server::Payload;

const PAGE: u64 = PAGE_BYTES as u64;

/// The pages that a range of bytes touches, as page numbers.
fn pages_of(bytes: &Range<u64>) -> Range<u64> {
    bytes.start / PAGE..bytes.end.div_ceil(PAGE)
}

/// Appends a run of pages that ends at byte `end` of `bytes`, and makes space for the segments that
/// may follow.
fn push_run<'a>(
    run: Option<Run>,
    end: u64,
    bytes: &Range<u64>,
    store: &'a Pages,
    payload: &mut Payload<'a>,
) {
    if let Some(run) = run {
        payload.push(store.run_bytes(&run));
    }
    payload.reserve(pages_of(&(end..bytes.end)).count());
}

impl Pages {
    /// Adds a page to a run, or begins one with it. False where it does not follow the others in
    /// memory.
    #[inline]
    fn extend(&self, run: &mut Option<Run>, page: &Page) -> bool {
        let Some(&Storage::Slab(place)) =
            self.entries.get(page.entry()).map(|entry| &entry.storage)
        else {
            return false;
        };
        match run {
            Some(run) => run.push(place),
            None => {
                *run = Some(Run::of(place));
                true
            }
        }
    }

    /// The bytes of a run of pages.
    fn run_bytes(&self, run: &Run) -> &[u8] {
        self.slabs.run_bytes(run).unwrap_or_default()
    }
}

impl Content {
    /// Reads bytes, fewer than `length` at the end of the file. EIO if the device fails.
    ///
    /// Once per page, so it visits each page only once: the tree skips holes as a whole.
    pub fn read<'a>(
        &mut self,
        offset: u64,
        length: usize,
        store: &'a mut Pages,
    ) -> Result<Payload<'a>, Errno> {
        let mut payload = Payload::empty();
        let end = offset.saturating_add(length as u64).min(self.size());
        if offset >= end {
            return Ok(payload);
        }
        let pages = pages_of(&(offset..end));
        if store.has_away() {
            self.bring_in(offset, self.pages_of(&pages), pages.end, store)?;
        }
        self.read_end = end;
        self.lend(&(offset..end), store, &mut payload)?;
        Ok(payload)
    }

    /// Reads several ranges, one after the other. EINVAL where one ends beyond the end of the file,
    /// EIO if the device fails.
    pub fn read_ranges<'a>(
        &mut self,
        ranges: impl Iterator<Item = Range<u64>> + Clone,
        store: &'a mut Pages,
    ) -> Result<Payload<'a>, Errno> {
        let mut payload = Payload::empty();
        if ranges.clone().any(|range| range.end > self.size()) {
            return Err(Errno::EINVAL);
        }
        let count = ranges.clone().map(|range| pages_of(&range)).map(|run| run.end - run.start);
        payload.reserve(count.sum::<u64>() as usize);
        if store.has_away()
            && let Some(last) = ranges.clone().last()
        {
            let pages = ranges.clone().flat_map(|range| self.pages_of(&pages_of(&range)));
            // Not taken for a sequential read.
            self.bring_in(u64::MAX, pages.collect(), pages_of(&last).end, store)?;
        }
        for range in ranges {
            self.lend(&range, store, &mut payload)?;
        }
        Ok(payload)
    }

    /// Appends the bytes of a range, whose pages are loaded, to a reply: whole pages that are
    /// adjacent in memory as one segment.
    fn lend<'a>(
        &self,
        bytes: &Range<u64>,
        store: &'a Pages,
        payload: &mut Payload<'a>,
    ) -> Result<(), Errno> {
        let mut next = bytes.start;
        let mut run: Option<Run> = None;
        let mut outcome = Ok(());
        self.pages.for_each(&pages_of(bytes), |index, page| {
            let start = index * PAGE;
            if start == next && start + PAGE <= bytes.end && store.extend(&mut run, page) {
                next = start + PAGE;
                return;
            }
            let (begin, stop) = (start.max(bytes.start), bytes.end.min(start + PAGE));
            let is_whole = stop - begin == PAGE;
            let finished = core::mem::take(&mut run);
            push_run(finished, next, bytes, store, payload);
            payload.push_zeros((begin - next) as usize);
            next = stop;
            if is_whole && store.extend(&mut run, page) {
                return;
            }
            let stored = store.bytes(page).unwrap_or_else(|error| {
                outcome = Err(error);
                &[]
            });
            let stored = stored
                .get((begin - start) as usize..stored.len().min((stop - start) as usize))
                .unwrap_or_default();
            payload.push(stored);
            payload.push_zeros((stop - begin) as usize - stored.len());
        });
        push_run(run, next, bytes, store, payload);
        payload.push_zeros((bytes.end - next) as usize);
        outcome
    }

    /// Loads the pages that a read from `offset` on wants. If it continues the last one, loads some
    /// of the pages from `behind` on too.
    fn bring_in(
        &self,
        offset: u64,
        wanted: Vec<&Page>,
        behind: u64,
        store: &mut Pages,
    ) -> Result<(), Errno> {
        if !wanted.iter().any(|page| store.is_away(page)) {
            return Ok(());
        }
        let mut pages = wanted.clone();
        if self.read_end == offset {
            // Placed pages do not stay.
            let ahead = self.pages_of(&(behind..behind + store.batch()));
            pages.extend(ahead.into_iter().filter(|page| store.is_on_disk(page)));
        }
        store.make_space(pages.iter().filter(|page| store.is_on_disk(page)).count() as u64)?;
        // An error with pages that were not requested is ignored.
        store.load(&pages).or_else(|_| store.load(&wanted))
    }
}
