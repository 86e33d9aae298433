//! The bytes of a regular file: sparse, in pages.
//!
//! Invariants: no page is at or beyond the end of the file, and the last page is zero beyond it, so
//! an extension changes no page. A change first makes the space that it takes and only then begins:
//! an error means that nothing has changed. A change of more than one run of pages proceeds run by
//! run, and reports how many bytes were done if the device fails.

use alloc::vec::Vec;
use core::ops::Range;

use crate::attributes::MAX_FILE_BYTES;
use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES};
use fsproto::Hole;

use super::mutants;
use super::page::{Needs, Page, Pages};
use super::parts::parts;
use super::shared::{Shared, Stored};
use super::spill::RUN_PAGES;
use super::tree::Tree;

const PAGE: u64 = PAGE_BYTES as u64;

/// The bytes of a regular file.
#[derive(Default)]
pub(super) struct Content {
    pub(super) pages: Tree,
    size: u64,
    /// Where the last read ended. A read from there on is probably sequential.
    pub(super) read_end: u64,
}

/// Pages of a file on the device.
pub(super) struct Run {
    pub pages: Range<u64>,
    /// The block of the first one; the others follow.
    pub block: u64,
}

/// Whether an allocation may extend the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extension {
    Allowed,
    Forbidden,
}

impl Content {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.pages.pages()
    }

    /// The contents of an archive's member, whose bytes stay in the archive.
    pub fn from_archive(bytes: &'static [u8], store: &mut Pages) -> Result<Self, Errno> {
        let mut pages = Tree::default();
        for (chunk, index) in bytes.chunks(PAGE_BYTES).zip(0..) {
            let page = store.archived(chunk)?;
            pages.insert(index, page, store)?;
        }
        Ok(Self { pages, size: bytes.len() as u64, read_end: 0 })
    }

    /// The contents of a file of `size` bytes that is on the device: pages `run.pages` are in the
    /// blocks from `run.block` on, and the rest is holes. ENOSPC without memory for the tree,
    /// EINVAL for a block that the device has not.
    pub fn from_device(
        size: u64,
        runs: impl Iterator<Item = Run>,
        store: &mut Pages,
    ) -> Result<Self, Errno> {
        let mut pages = Tree::default();
        let mut place = |run: Run, store: &mut Pages| {
            store.make_metadata_space(Tree::bytes_for(run.pages.end - run.pages.start))?;
            for (page, block) in run.pages.zip(run.block..) {
                pages.insert(page, store.placed(block).ok_or(Errno::EINVAL)?, store)?;
            }
            Ok(())
        };
        let mut runs = runs;
        if let Err(error) = runs.try_for_each(|run| place(run, store)) {
            pages.clear(store);
            return Err(error);
        }
        Ok(Self { pages, size, read_end: 0 })
    }

    pub(super) fn pages_of(&self, range: &Range<u64>) -> Vec<&Page> {
        let mut pages = Vec::new();
        self.pages.for_each(range, |_, page| pages.push(page));
        pages
    }

    /// The pages at the ends of a range that a change of the range changes partly.
    fn edges(&self, range: &Range<u64>) -> Vec<&Page> {
        let ends =
            [range.start, range.end].map(|end| (!end.is_multiple_of(PAGE)).then_some(end / PAGE));
        ends.into_iter().flatten().filter_map(|page| self.pages.get(page)).collect()
    }

    /// Makes the space that a change of a range takes, and loads `others` and the pages that the
    /// change changes partly.
    fn prepare(
        &self,
        range: &Range<u64>,
        needs: Needs,
        others: &[&Page],
        store: &mut Pages,
    ) -> Result<(), Errno> {
        let mut kept = self.edges(range);
        kept.extend(others);
        let away = kept.iter().filter(|page| store.is_on_disk(page)).count() as u64;
        store.prepare(needs + Needs { pages: 0, places: away })?;
        store.load(&kept)
    }

    /// What a change of a range takes from the page store.
    fn needs(&self, range: &Range<u64>, store: &Pages) -> Needs {
        parts(range.clone()).map(|part| self.pages.write_needs(part.page, store)).sum()
    }

    /// Writes bytes, extending the file if needed. On an error (EFBIG, ENOSPC, EIO) nothing has
    /// changed.
    pub fn write(&mut self, offset: u64, data: &[u8], store: &mut Pages) -> Result<(), Errno> {
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|&end| end <= MAX_FILE_BYTES)
            .ok_or(Errno::EFBIG)?;
        if data.is_empty() {
            return Ok(());
        }
        self.prepare(&(offset..end), self.needs(&(offset..end), store), &[], store)?;
        self.put(offset, data, store)?;
        self.size = self.size.max(end);
        Ok(())
    }

    /// Writes bytes; the space that this takes was made.
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
            let is_whole = bytes.len() == PAGE_BYTES;
            let space = if is_whole { store.replaceable(page)? } else { store.writable(page)? };
            space.get_mut(part.within).ok_or(Errno::EIO)?.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Truncates the file, or extends it by a hole. On an error (EFBIG, ENOSPC, EIO) nothing has
    /// changed.
    pub fn resize(&mut self, size: u64, store: &mut Pages) -> Result<(), Errno> {
        if size > MAX_FILE_BYTES {
            return Err(Errno::EFBIG);
        }
        if size < self.size {
            self.punch(size, self.size - size, store)?;
        }
        self.size = size;
        Ok(())
    }

    /// Turns a range into a hole; bytes beyond the end are not affected. On an error (ENOSPC if a
    /// part of a shared page is kept, EIO) nothing has changed.
    pub fn punch(&mut self, offset: u64, length: u64, store: &mut Pages) -> Result<(), Errno> {
        let Some(cut) = self.plan_cut(offset, offset.saturating_add(length)) else { return Ok(()) };
        let needs = cut.parts.iter().map(|(page, _)| self.pages.write_needs(*page, store)).sum();
        let pages = cut.range.start / PAGE..cut.range.end.div_ceil(PAGE);
        if self.pages.copies_nodes(&pages) {
            store.make_metadata_space(0)?;
        }
        self.prepare(&cut.range, needs, &[], store)?;
        self.cut(cut, store)
    }

    /// Plans how a range becomes a hole; `None` if it contains no bytes of the file.
    fn plan_cut(&self, offset: u64, end: u64) -> Option<Cut> {
        let end = end.min(self.size);
        if offset >= end {
            return None;
        }
        // The last page is zero beyond the end, so it can be removed as a whole.
        let end = if end == self.size { end.next_multiple_of(PAGE) } else { end };
        let whole = offset.div_ceil(PAGE)..end / PAGE;
        let (first, last) = (offset / PAGE, (end - 1) / PAGE);
        let edges = [Some(first), Some(last).filter(|&last| last != first)].into_iter().flatten();
        let parts = edges
            .filter(|page| !whole.contains(page) && self.pages.get(*page).is_some())
            .map(|page| {
                (
                    page,
                    offset.saturating_sub(page * PAGE) as usize
                        ..(end - page * PAGE).min(PAGE) as usize,
                )
            })
            .collect();
        Some(Cut { range: offset..end, whole, parts })
    }

    /// Turns a range into a hole; the space that this takes was made.
    fn cut(&mut self, cut: Cut, store: &mut Pages) -> Result<(), Errno> {
        for (page, within) in cut.parts {
            if let Some(page) = self.pages.get_mut(page, store)?
                && let Some(space) = store.writable(page)?.get_mut(within)
            {
                space.fill(0);
            }
        }
        if cut.whole.is_empty() { Ok(()) } else { self.pages.remove(&cut.whole, store) }
    }

    /// Releases all pages.
    pub fn clear(&mut self, store: &mut Pages) {
        self.pages.clear(store);
        self.size = 0;
    }

    /// Gives each page of a range storage of its own: holes are filled with zeros, and what is
    /// shared, placed or in the archive is copied. So a write to the range takes no more space.
    /// Extends the file to the end of the range if that is allowed. On an error (EFBIG, ENOSPC,
    /// EIO) neither bytes nor size have changed.
    pub fn fill(
        &mut self,
        offset: FileOffset,
        length: ByteCount,
        extension: Extension,
        store: &mut Pages,
    ) -> Result<(), Errno> {
        let end = offset.checked_add(length).ok_or(Errno::EFBIG)?.0;
        if end > MAX_FILE_BYTES {
            return Err(Errno::EFBIG);
        }
        let offset = offset.0;
        let extend = extension == Extension::Allowed;
        // A file has no pages beyond its end.
        let stored_end = if extend { end } else { end.min(self.size) };
        if offset < stored_end {
            let pages = offset / PAGE..stored_end.div_ceil(PAGE);
            store.check(self.space_for(&pages, store))?;
            if let Err(error) = pages.clone().try_for_each(|page| self.own_page(page, store)) {
                let past_end = self.size.div_ceil(PAGE).max(pages.start)..pages.end;
                self.pages.remove(&past_end, store)?;
                return Err(error);
            }
        }
        if extend {
            self.size = self.size.max(end);
        }
        Ok(())
    }

    /// Number of further pages that a change of all pages of a range takes. More than are free
    /// need not be counted.
    pub fn space_for(&self, pages: &Range<u64>, store: &Pages) -> u64 {
        let mut needed = pages.end - pages.start - self.pages.count(pages);
        let mut present = self.pages.next(pages.start).filter(|page| pages.contains(page));
        while let Some(page) = present
            && needed <= store.free()
        {
            needed += self.pages.write_needs(page, store).pages;
            present = self.pages.next(page + 1).filter(|page| pages.contains(page));
        }
        needed
    }

    /// Gives a page storage of its own.
    fn own_page(&mut self, number: u64, store: &mut Pages) -> Result<(), Errno> {
        let Some(page) = self.pages.get(number) else {
            store.prepare(Needs { pages: 1, places: 1 })?;
            let page = store.allocate()?;
            return self.pages.insert(number, page, store);
        };
        if mutants::keep_shared() || self.pages.has_own_storage(number, store) {
            return Ok(());
        }
        let bytes = number * PAGE..(number + 1) * PAGE;
        self.prepare(&bytes, self.pages.write_needs(number, store), &[page], store)?;
        if let Some(page) = self.pages.get_mut(number, store)? {
            store.writable(page)?;
        }
        Ok(())
    }

    /// The holes of a range within the file, at most `max`, and the position up to which the list
    /// is complete.
    pub fn holes(&self, offset: u64, length: u64, max: usize) -> (Vec<Hole>, u64) {
        let end = offset.saturating_add(length).min(self.size);
        let mut holes = Vec::new();
        let mut begin = offset;
        if offset >= end {
            return (holes, offset.saturating_add(length));
        }
        while begin < end {
            // From the next absent page to the next present one.
            let hole = (self.pages.next_absent(begin / PAGE) * PAGE).max(begin);
            let data = self.pages.next(hole / PAGE).map_or(end, |page| page * PAGE).min(end);
            if hole >= end {
                break;
            }
            if holes.len() == max {
                return (holes, hole);
            }
            holes.push(Hole { offset: hole, length: ByteCount(data - hole) });
            begin = data;
        }
        (holes, offset.saturating_add(length))
    }

    /// Shares the pages of a range, for [`Self::put_clone`]. The cost does not depend on the
    /// length.
    pub fn share(&self, offset: u64, length: u64) -> Shared {
        let end = offset.saturating_add(length).min(self.size).max(offset);
        Shared { pages: self.pages.share(), range: offset..end, to_source_end: end == self.size }
    }

    /// Replaces bytes from `offset` on by those that were shared; holes stay holes. Pages with the
    /// same alignment in both files are shared, the rest is copied. Returns how many bytes were
    /// replaced: fewer than all only if the device fails. On an error (EFBIG, ENOSPC, EIO) nothing
    /// has changed.
    pub fn put_clone(
        &mut self,
        offset: u64,
        shared: &Shared,
        store: &mut Pages,
    ) -> Result<u64, Errno> {
        let length = shared.length();
        let end =
            offset.checked_add(length).filter(|&end| end <= MAX_FILE_BYTES).ok_or(Errno::EFBIG)?;
        if length == 0 {
            return Ok(0);
        }
        // The last page can be shared as a whole if beyond the range it is zero in the source, and
        // beyond the end of the target.
        let ends_whole = shared.to_source_end && end >= self.size;
        let last = if ends_whole { end.div_ceil(PAGE) } else { end / PAGE };
        let whole = offset.div_ceil(PAGE)..last;
        if offset % PAGE != shared.range.start % PAGE || whole.is_empty() {
            store.check(self.plan_copy(&(offset..end), offset, shared, store).needs.pages)?;
            return Ok(self.copy_in(offset..end, offset, shared, store)? - offset);
        }
        let (header, tail) = (offset..whole.start * PAGE, (whole.end * PAGE).min(end)..end);
        let ends =
            [&header, &tail].map(|range| self.plan_copy(range, offset, shared, store).needs.pages);
        store.check(ends.iter().sum())?;
        let from = shared.range.start.div_ceil(PAGE);
        let grafted = from..from + (whole.end - whole.start);
        let most = store.free_metadata();
        store.make_metadata_space(shared.pages.graft_bytes(whole.start, &grafted, most))?;
        self.copy_in(header, offset, shared, store)?;
        self.pages.graft(whole.start, &shared.pages, &grafted, store)?;
        self.size = self.size.max(tail.start);
        // Everything before the tail is done, even if the tail fails.
        Ok(self.copy_in(tail.clone(), offset, shared, store).unwrap_or(tail.start) - offset)
    }

    /// Plans the copy of that part of the shared bytes that goes to `range` of this file; the whole
    /// goes to `offset`.
    fn plan_copy<'a>(
        &self,
        range: &Range<u64>,
        offset: u64,
        shared: &'a Shared,
        store: &Pages,
    ) -> Copying<'a> {
        let runs = shared.runs(range, offset, store);
        let mut needs = Needs::default();
        if !range.is_empty() {
            // The pages at both ends are written, and those that receive bytes.
            let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
            let mut counted = first;
            needs += self.pages.write_needs(first, store);
            for (run, ..) in &runs {
                needs += parts(run.clone())
                    .filter(|part| part.page > counted)
                    .map(|part| self.pages.write_needs(part.page, store))
                    .sum();
                counted = counted.max((run.end - 1) / PAGE);
            }
            if last > counted {
                needs += self.pages.write_needs(last, store);
            }
        }
        Copying { runs, needs }
    }

    /// Copies what cannot be shared, some pages at a time; the number of pages was checked. Returns
    /// the end of what was copied: before the end of the range only if the device fails. The
    /// source's pages are held, so these writes do not change them.
    fn copy_in(
        &mut self,
        range: Range<u64>,
        offset: u64,
        shared: &Shared,
        store: &mut Pages,
    ) -> Result<u64, Errno> {
        let mut at = range.start;
        while at < range.end {
            let end = ((at / PAGE + RUN_PAGES as u64) * PAGE).min(range.end);
            match self.copy_run(at..end, offset, shared, store) {
                Ok(()) => at = end,
                Err(error) if at == range.start => return Err(error),
                Err(_) => break,
            }
            self.size = self.size.max(at);
        }
        Ok(at)
    }

    /// Copies all bytes or none.
    fn copy_run(
        &mut self,
        range: Range<u64>,
        offset: u64,
        shared: &Shared,
        store: &mut Pages,
    ) -> Result<(), Errno> {
        let Copying { runs, needs } = self.plan_copy(&range, offset, shared, store);
        let sources: Vec<&Page> = runs.iter().map(|(_, page, _)| *page).collect();
        self.prepare(&range, needs, &sources, store)?;
        if let Some(cut) = self.plan_cut(range.start, range.end) {
            self.cut(cut, store)?;
        }
        let mut copy = [0; PAGE_BYTES];
        for (run, page, within) in runs {
            let length = (run.end - run.start) as usize;
            let copy = copy.get_mut(..length).ok_or(Errno::EIO)?;
            copy.copy_from_slice(
                store.bytes(page)?.get(within..within + length).ok_or(Errno::EIO)?,
            );
            self.put(run.start, copy, store)?;
        }
        Ok(())
    }
}

/// The plan of turning a range into a hole.
struct Cut {
    range: Range<u64>,
    /// Pages that are removed.
    whole: Range<u64>,
    /// Pages of which a part is zeroed.
    parts: Vec<(u64, Range<usize>)>,
}

/// The plan of copying bytes to a file.
struct Copying<'a> {
    /// The stored runs of the source; the ranges between them are zero.
    runs: Vec<Stored<'a>>,
    /// What the copy takes from the page store.
    needs: Needs,
}
