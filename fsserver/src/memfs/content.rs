//! The bytes of a regular file: sparse, in pages.
//!
//! Invariants. No page lies at or past the end of the file, and what a last page holds past the end is zero: an extension needs to change nothing.
//! Every change first makes sure of the pages that it needs, and only then begins.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use fsproto::{Errno, Hole, PAGE_BYTES};

use super::page::{Page, Pages};
use crate::server::Payload;

const PAGE: u64 = PAGE_BYTES as u64;

/// Bytes of a file, at most (as on Linux: offsets are signed).
pub(super) const MAX_SIZE: u64 = i64::MAX as u64;

/// A file's bytes.
#[derive(Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Page>,
    size: u64,
}

/// The part of a page that a range of bytes covers.
struct Part {
    page: u64,
    within: Range<usize>,
}

/// A non-empty range of bytes, page by page.
fn parts(range: Range<u64>) -> impl Iterator<Item = Part> {
    (range.start / PAGE..range.end.div_ceil(PAGE)).map(move |page| {
        let begin = range.start.saturating_sub(page * PAGE);
        let end = (range.end - page * PAGE).min(PAGE);
        Part { page, within: begin as usize..end as usize }
    })
}

impl Content {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Pages in use.
    pub fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Takes the bytes of an archive's member, which stay where they are.
    pub fn from_archive(bytes: &'static [u8], store: &mut Pages) -> Self {
        let pages = bytes.chunks(PAGE_BYTES).zip(0..).map(|(chunk, index)| (index, store.archived(chunk))).collect();
        Self { pages, size: bytes.len() as u64 }
    }

    /// Bytes from `offset` on, short at the end.
    pub fn read<'a>(&self, offset: u64, length: usize, store: &'a Pages) -> Payload<'a> {
        let mut payload = Payload::empty();
        let end = offset.saturating_add(length as u64).min(self.size);
        if offset >= end {
            return payload;
        }
        for part in parts(offset..end) {
            let bytes = self.pages.get(&part.page).map_or(&[][..], |page| store.bytes(page));
            let stored = bytes.get(part.within.start..part.within.end.min(bytes.len())).unwrap_or_default();
            payload.push(stored);
            payload.push_zeros(part.within.len() - stored.len());
        }
        payload
    }

    /// Pages that a change of these bytes needs beyond those that there are.
    fn needs(&self, range: Range<u64>, store: &Pages) -> u64 {
        parts(range).map(|part| store.write_needs(self.pages.get(&part.page))).sum()
    }

    /// Changes bytes, extending the file where they lie past its end. EFBIG, ENOSPC: nothing was changed.
    pub fn write(&mut self, offset: u64, data: &[u8], store: &mut Pages) -> Result<(), Errno> {
        let end = offset.checked_add(data.len() as u64).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        if data.is_empty() {
            return Ok(());
        }
        store.check(self.needs(offset..end, store))?;
        self.put(offset, data, store)?;
        self.size = self.size.max(end);
        Ok(())
    }

    /// Stores bytes; there is room.
    fn put(&mut self, offset: u64, data: &[u8], store: &mut Pages) -> Result<(), Errno> {
        let mut rest = data;
        for part in parts(offset..offset + data.len() as u64) {
            let (bytes, behind) = rest.split_at_checked(part.within.len()).ok_or(Errno::EIO)?;
            rest = behind;
            let page = match self.pages.entry(part.page) {
                alloc::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                alloc::collections::btree_map::Entry::Vacant(entry) => entry.insert(store.allocate()?),
            };
            if let Some(space) = store.writable(page)?.get_mut(part.within) {
                space.copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// Cuts the file off, or extends it by a hole. EFBIG, ENOSPC: nothing was changed.
    pub fn resize(&mut self, size: u64, store: &mut Pages) -> Result<(), Errno> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        if size < self.size {
            self.punch(size, self.size - size, store)?;
        }
        self.size = size;
        Ok(())
    }

    /// Makes bytes into a hole; what lies past the end is left alone. ENOSPC where part of a shared page has to be kept: nothing was changed.
    pub fn punch(&mut self, offset: u64, length: u64, store: &mut Pages) -> Result<(), Errno> {
        let end = offset.saturating_add(length).min(self.size);
        if offset >= end {
            return Ok(());
        }
        // The rest of the last page holds zeros, so it may go as a whole.
        let end = if end == self.size { end.next_multiple_of(PAGE) } else { end };
        let whole = offset.div_ceil(PAGE)..end / PAGE;
        let (first, last) = (offset / PAGE, (end - 1) / PAGE);
        let edges = [Some(first), Some(last).filter(|&last| last != first)].into_iter().flatten();
        let touched: Vec<(u64, Range<usize>)> = edges
            .filter(|page| !whole.contains(page) && self.pages.contains_key(page))
            .map(|page| (page, offset.saturating_sub(page * PAGE) as usize..(end - page * PAGE).min(PAGE) as usize))
            .collect();
        store.check(touched.iter().map(|(page, _)| store.write_needs(self.pages.get(page))).sum())?;
        for (page, within) in touched {
            if let Some(page) = self.pages.get_mut(&page)
                && let Some(space) = store.writable(page)?.get_mut(within)
            {
                space.fill(0);
            }
        }
        self.drop_pages(whole, store);
        Ok(())
    }

    /// Lets go of whole pages.
    fn drop_pages(&mut self, pages: Range<u64>, store: &mut Pages) {
        if pages.is_empty() {
            return;
        }
        self.pages.extract_if(pages, |_, _| true).for_each(|(_, page)| store.release(page));
    }

    /// Lets go of everything.
    pub fn clear(&mut self, store: &mut Pages) {
        core::mem::take(&mut self.pages).into_values().for_each(|page| store.release(page));
        self.size = 0;
    }

    /// Fills holes with pages of zeros, and extends the file to the end of the range if asked to. EFBIG, ENOSPC: nothing was changed.
    pub fn fill(&mut self, offset: u64, length: u64, extend: bool, store: &mut Pages) -> Result<(), Errno> {
        let end = offset.checked_add(length).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        // What lies past the end of the file cannot be kept in store here.
        let stored_end = if extend { end } else { end.min(self.size) };
        if offset < stored_end {
            let pages = offset / PAGE..stored_end.div_ceil(PAGE);
            let present = self.pages.range(pages.clone()).count() as u64;
            store.check(pages.end - pages.start - present)?;
            for page in pages {
                if let alloc::collections::btree_map::Entry::Vacant(entry) = self.pages.entry(page) {
                    entry.insert(store.allocate()?);
                }
            }
        }
        if extend {
            self.size = self.size.max(end);
        }
        Ok(())
    }

    /// The holes of a range within the file, `max` at most, and the byte up to which they are all.
    pub fn holes(&self, offset: u64, length: u64, max: usize) -> (Vec<Hole>, u64) {
        let end = offset.saturating_add(length).min(self.size);
        let mut holes = Vec::new();
        let mut begin = offset;
        if offset >= end {
            return (holes, offset.saturating_add(length));
        }
        let pages = self.pages.range(offset / PAGE..end.div_ceil(PAGE)).map(|(&page, _)| page * PAGE..(page + 1) * PAGE);
        for data in pages.chain(core::iter::once(end..end)) {
            if begin < data.start {
                if holes.len() == max {
                    return (holes, begin);
                }
                holes.push(Hole { offset: begin, length: data.start.min(end) - begin });
            }
            begin = data.end;
        }
        (holes, offset.saturating_add(length))
    }

    /// The pages of a range, shared: what [`Self::put_clone`] takes.
    pub fn share(&self, offset: u64, length: u64, store: &mut Pages) -> Shared {
        let end = offset.saturating_add(length).min(self.size).max(offset);
        let pages = self.pages.range(offset / PAGE..end.div_ceil(PAGE)).map(|(&page, bytes)| (page, store.share(bytes))).collect();
        Shared { pages, range: offset..end, to_source_end: end == self.size }
    }

    /// Replaces bytes from `offset` on by what was shared; holes stay holes. EFBIG, ENOSPC: nothing was changed.
    pub fn put_clone(&mut self, offset: u64, shared: &Shared, store: &mut Pages) -> Result<(), Errno> {
        let length = shared.range.end - shared.range.start;
        let end = offset.checked_add(length).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        if length == 0 {
            return Ok(());
        }
        // A page may be shared as a whole where what it holds past the range is zero in the source, and past the end in the target.
        let ends_whole = end.is_multiple_of(PAGE) || (shared.to_source_end && end >= self.size);
        if offset.is_multiple_of(PAGE) && shared.range.start.is_multiple_of(PAGE) && ends_whole {
            let first = offset / PAGE;
            self.drop_pages(first..end.div_ceil(PAGE), store);
            let moved = shared.pages.iter().map(|(page, bytes)| (page - shared.range.start / PAGE + first, store.share(bytes)));
            self.pages.extend(moved);
        } else {
            self.copy_in(offset, shared, store)?;
        }
        self.size = self.size.max(end);
        Ok(())
    }

    /// Copies what cannot be shared. The source's pages are held, so nothing that is written here changes them.
    fn copy_in(&mut self, offset: u64, shared: &Shared, store: &mut Pages) -> Result<(), Errno> {
        let runs = shared.runs(offset, store);
        let mut needed = store.write_needs(self.pages.get(&(offset / PAGE)));
        let mut last_counted = offset / PAGE;
        let end = offset + (shared.range.end - shared.range.start);
        for (run, ..) in &runs {
            for part in parts(run.clone()).filter(|part| part.page > last_counted) {
                needed += store.write_needs(self.pages.get(&part.page));
            }
            last_counted = last_counted.max((run.end - 1) / PAGE);
        }
        if (end - 1) / PAGE > last_counted {
            needed += store.write_needs(self.pages.get(&((end - 1) / PAGE)));
        }
        store.check(needed)?;
        self.punch(offset, end - offset, store)?;
        let mut copy = [0; PAGE_BYTES];
        for (run, page, within) in runs {
            let length = (run.end - run.start) as usize;
            let copy = copy.get_mut(..length).ok_or(Errno::EIO)?;
            copy.copy_from_slice(store.bytes(page).get(within..within + length).ok_or(Errno::EIO)?);
            self.put(run.start, copy, store)?;
        }
        Ok(())
    }
}

/// Pages of a range of a file, as they were when it was taken.
pub(super) struct Shared {
    pages: Vec<(u64, Page)>,
    range: Range<u64>,
    to_source_end: bool,
}

impl Shared {
    /// Bytes of the range.
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// What is stored: where it goes in a target from `target` on, the page it is in, and where in that. What lies between is zero.
    fn runs(&self, target: u64, store: &Pages) -> Vec<(Range<u64>, &Page, usize)> {
        let stored = self.pages.iter().filter_map(|(index, page)| {
            let begin = (index * PAGE).max(self.range.start);
            let end = (index * PAGE + store.bytes(page).len() as u64).min(self.range.end);
            let at = |byte: u64| target + (byte - self.range.start);
            (begin < end).then(|| (at(begin)..at(end), page, (begin - index * PAGE) as usize))
        });
        stored.collect()
    }

    /// Gives the pages back.
    pub fn release(self, store: &mut Pages) {
        self.pages.into_iter().for_each(|(_, page)| store.release(page));
    }
}
