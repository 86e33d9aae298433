//! Reads of a file's bytes: the pages are loaded from the devices first, then lent to the reply.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{Errno, PAGE_BYTES};

use super::content::Content;
use super::page::{Page, Pages};
use crate::server::Payload;

const PAGE: u64 = PAGE_BYTES as u64;

/// The pages that a range of bytes touches, as page numbers.
fn pages_of(bytes: &Range<u64>) -> Range<u64> {
    bytes.start / PAGE..bytes.end.div_ceil(PAGE)
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
        payload.reserve((pages.end - pages.start) as usize);
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

    /// Appends the bytes of a range, whose pages are loaded, to a reply.
    fn lend<'a>(
        &self,
        bytes: &Range<u64>,
        store: &'a Pages,
        payload: &mut Payload<'a>,
    ) -> Result<(), Errno> {
        let mut next = bytes.start;
        let mut outcome = Ok(());
        self.pages.for_each(&pages_of(bytes), |index, page| {
            let start = index * PAGE;
            let (begin, stop) = (start.max(bytes.start), bytes.end.min(start + PAGE));
            let stored = store.bytes(page).unwrap_or_else(|error| {
                outcome = Err(error);
                &[]
            });
            let stored = stored
                .get((begin - start) as usize..stored.len().min((stop - start) as usize))
                .unwrap_or_default();
            payload.push_zeros((begin - next) as usize);
            payload.push(stored);
            payload.push_zeros((stop - begin) as usize - stored.len());
            next = stop;
        });
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
