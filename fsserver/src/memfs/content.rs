//! The bytes of a regular file: sparse, in pages.
//!
//! Invariants. No page lies at or past the end of the file, and what a last page holds past the end is zero: an extension needs to change nothing.
//! Every change first makes sure of the pages that it needs, and only then begins.

use alloc::vec::Vec;
use core::ops::Range;

use fsproto::{Errno, Hole, PAGE_BYTES};

use super::page::{Page, Pages};
use super::tree::Tree;
use crate::server::Payload;

const PAGE: u64 = PAGE_BYTES as u64;

/// Bytes of a file, at most (as on Linux: offsets are signed).
pub(super) const MAX_SIZE: u64 = i64::MAX as u64;

/// A file's bytes.
#[derive(Default)]
pub(super) struct Content {
    pages: Tree,
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
        self.pages.pages()
    }

    /// Takes the bytes of an archive's member, which stay where they are.
    pub fn from_archive(bytes: &'static [u8], store: &mut Pages) -> Result<Self, Errno> {
        let mut pages = Tree::default();
        for (chunk, index) in bytes.chunks(PAGE_BYTES).zip(0..) {
            let page = store.archived(chunk);
            pages.insert(index, page, store)?;
        }
        Ok(Self { pages, size: bytes.len() as u64 })
    }

    /// Bytes from `offset` on, short at the end.
    pub fn read<'a>(&self, offset: u64, length: usize, store: &'a Pages) -> Payload<'a> {
        let mut payload = Payload::empty();
        let end = offset.saturating_add(length as u64).min(self.size);
        if offset >= end {
            return payload;
        }
        let pages = offset / PAGE..end.div_ceil(PAGE);
        payload.reserve((pages.end - pages.start) as usize);
        let mut next = offset;
        self.pages.for_each(&pages, |index, page| {
            let start = index * PAGE;
            let (begin, stop) = (start.max(offset), end.min(start + PAGE));
            let bytes = store.bytes(page);
            let stored = bytes.get((begin - start) as usize..bytes.len().min((stop - start) as usize)).unwrap_or_default();
            payload.push_zeros((begin - next) as usize);
            payload.push(stored);
            payload.push_zeros((stop - begin) as usize - stored.len());
            next = stop;
        });
        payload.push_zeros((end - next) as usize);
        payload
    }

    /// Pages that a change of these bytes needs beyond those that there are.
    fn needs(&self, range: Range<u64>, store: &Pages) -> u64 {
        parts(range).map(|part| self.pages.write_needs(part.page, store)).sum()
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
            if self.pages.get(part.page).is_none() {
                let page = store.allocate()?;
                self.pages.insert(part.page, page, store)?;
            }
            let page = self.pages.get_mut(part.page, store)?.ok_or(Errno::EIO)?;
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
            .filter(|page| !whole.contains(page) && self.pages.get(*page).is_some())
            .map(|page| (page, offset.saturating_sub(page * PAGE) as usize..(end - page * PAGE).min(PAGE) as usize))
            .collect();
        store.check(touched.iter().map(|(page, _)| self.pages.write_needs(*page, store)).sum())?;
        for (page, within) in touched {
            if let Some(page) = self.pages.get_mut(page, store)?
                && let Some(space) = store.writable(page)?.get_mut(within)
            {
                space.fill(0);
            }
        }
        if whole.is_empty() { Ok(()) } else { self.pages.remove(&whole, store) }
    }

    /// Lets go of everything.
    pub fn clear(&mut self, store: &mut Pages) {
        self.pages.clear(store);
        self.size = 0;
    }

    /// Fills holes with pages of zeros, and extends the file to the end of the range if asked to. EFBIG, ENOSPC: nothing was changed.
    pub fn fill(&mut self, offset: u64, length: u64, extend: bool, store: &mut Pages) -> Result<(), Errno> {
        let end = offset.checked_add(length).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        // What lies past the end of the file cannot be kept in store here.
        let stored_end = if extend { end } else { end.min(self.size) };
        if offset < stored_end {
            let pages = offset / PAGE..stored_end.div_ceil(PAGE);
            store.check(pages.end - pages.start - self.pages.count(&pages))?;
            let mut number = self.pages.next_absent(pages.start);
            while number < pages.end {
                let page = store.allocate()?;
                self.pages.insert(number, page, store)?;
                number = self.pages.next_absent(number + 1);
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
        while begin < end {
            // Past what is stored, to the next that is.
            let hole = (self.pages.next_absent(begin / PAGE) * PAGE).max(begin);
            let data = self.pages.next(hole / PAGE).map_or(end, |page| page * PAGE).min(end);
            if hole >= end {
                break;
            }
            if holes.len() == max {
                return (holes, hole);
            }
            holes.push(Hole { offset: hole, length: data - hole });
            begin = data;
        }
        (holes, offset.saturating_add(length))
    }

    /// The pages of a range, shared: what [`Self::put_clone`] takes. Costs the same for any length.
    pub fn share(&self, offset: u64, length: u64) -> Shared {
        let end = offset.saturating_add(length).min(self.size).max(offset);
        Shared { pages: self.pages.share(), range: offset..end, to_source_end: end == self.size }
    }

    /// Replaces bytes from `offset` on by what was shared; holes stay holes. Pages are shared where they lie alike in both, the rest is copied. EFBIG, ENOSPC:
    /// nothing was changed.
    pub fn put_clone(&mut self, offset: u64, shared: &Shared, store: &mut Pages) -> Result<(), Errno> {
        let length = shared.length();
        let end = offset.checked_add(length).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        if length == 0 {
            return Ok(());
        }
        // The last page may be shared as a whole where what it holds past the range is zero in the source, and past the end in the target.
        let ends_whole = shared.to_source_end && end >= self.size;
        let last = if ends_whole { end.div_ceil(PAGE) } else { end / PAGE };
        let whole = offset.div_ceil(PAGE)..last;
        if offset % PAGE != shared.range.start % PAGE || whole.is_empty() {
            let copy = self.plan_copy(offset..end, offset, shared, store);
            store.check(copy.needs)?;
            self.copy_in(copy, store)?;
        } else {
            let head = self.plan_copy(offset..whole.start * PAGE, offset, shared, store);
            let tail = self.plan_copy((whole.end * PAGE).min(end)..end, offset, shared, store);
            store.check(head.needs + tail.needs)?;
            let from = shared.range.start.div_ceil(PAGE);
            self.copy_in(head, store)?;
            self.pages.graft(whole.start, &shared.pages, &(from..from + (whole.end - whole.start)), store)?;
            self.copy_in(tail, store)?;
        }
        self.size = self.size.max(end);
        Ok(())
    }

    /// What it takes to copy the part of what was shared that goes to `range` of this file, where the whole goes to `offset`.
    fn plan_copy<'a>(&self, range: Range<u64>, offset: u64, shared: &'a Shared, store: &Pages) -> Copying<'a> {
        let runs = shared.runs(&range, offset, store);
        let mut needs = 0;
        if !range.is_empty() {
            // Stored to are the pages at both ends, and those that get something.
            let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
            let mut counted = first;
            needs += self.pages.write_needs(first, store);
            for (run, ..) in &runs {
                needs +=
                    parts(run.clone()).filter(|part| part.page > counted).map(|part| self.pages.write_needs(part.page, store)).sum::<u64>();
                counted = counted.max((run.end - 1) / PAGE);
            }
            if last > counted {
                needs += self.pages.write_needs(last, store);
            }
        }
        Copying { range, runs, needs }
    }

    /// Copies what cannot be shared; there is room. The source's pages are held, so nothing that is written here changes them.
    fn copy_in(&mut self, copying: Copying<'_>, store: &mut Pages) -> Result<(), Errno> {
        let Copying { range, runs, .. } = copying;
        self.punch(range.start, range.end - range.start, store)?;
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

/// Bytes to be copied from a page to a range of a file, the page, and where in it they begin.
type Run<'a> = (Range<u64>, &'a Page, usize);

/// Bytes that are about to be copied into a file.
struct Copying<'a> {
    range: Range<u64>,
    /// What is stored in the source; what lies between is zero.
    runs: Vec<Run<'a>>,
    /// Pages that the store must have for it.
    needs: u64,
}

/// Pages of a range of a file, as they were when it was taken.
pub(super) struct Shared {
    pages: Tree,
    range: Range<u64>,
    to_source_end: bool,
}

impl Shared {
    /// Bytes of the range.
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// What is stored of the part that goes to `target`, where the whole goes to a range from `offset` on.
    fn runs(&self, target: &Range<u64>, offset: u64, store: &Pages) -> Vec<Run<'_>> {
        let from = |byte: u64| byte - offset + self.range.start;
        let wanted = from(target.start)..from(target.end);
        let mut runs = Vec::new();
        self.pages.for_each(&(wanted.start / PAGE..wanted.end.div_ceil(PAGE)), |index, page| {
            let begin = (index * PAGE).max(wanted.start);
            let end = (index * PAGE + store.bytes(page).len() as u64).min(wanted.end);
            let at = |byte: u64| target.start + (byte - wanted.start);
            if begin < end {
                runs.push((at(begin)..at(end), page, (begin - index * PAGE) as usize));
            }
        });
        runs
    }

    /// Gives the pages back.
    pub fn release(mut self, store: &mut Pages) {
        self.pages.clear(store);
    }
}
