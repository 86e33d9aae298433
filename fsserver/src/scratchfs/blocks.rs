//! Which blocks of the device are in use, and which page of a file lies in which block. Pure data.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use fsproto::Errno;

/// One bit for each block.
#[derive(Debug)]
pub struct Blocks {
    bits: Vec<u64>,
    count: u64,
    free: u64,
    /// Where the search goes on.
    next: u64,
}

impl Blocks {
    /// So many blocks, all free.
    pub fn new(count: u64) -> Result<Self, Errno> {
        let words = usize::try_from(count.div_ceil(64)).map_err(|_| Errno::ENOMEM)?;
        let mut bits = Vec::new();
        bits.try_reserve_exact(words).map_err(|_| Errno::ENOMEM)?;
        bits.resize(words, 0);
        Ok(Self { bits, count, free: count, next: 0 })
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn free(&self) -> u64 {
        self.free
    }

    fn is_free(&self, block: u64) -> bool {
        block < self.count && self.bits.get((block / 64) as usize).is_some_and(|word| word >> (block % 64) & 1 == 0)
    }

    /// Takes a free block: `wanted` if it is one.
    pub fn take(&mut self, wanted: Option<u64>) -> Result<u64, Errno> {
        if self.free == 0 {
            return Err(Errno::ENOSPC);
        }
        let found = wanted.filter(|&block| self.is_free(block)).or_else(|| self.search()).ok_or(Errno::ENOSPC)?;
        if let Some(word) = self.bits.get_mut((found / 64) as usize) {
            *word |= 1 << (found % 64);
        }
        self.free -= 1;
        self.next = found + 1;
        Ok(found)
    }

    fn search(&self) -> Option<u64> {
        (self.next..self.count).chain(0..self.next.min(self.count)).find(|&block| self.is_free(block))
    }

    /// Gives blocks back.
    pub fn give(&mut self, first: u64, count: u64) {
        for block in first..first + count {
            if let Some(word) = self.bits.get_mut((block / 64) as usize) {
                self.free += *word >> (block % 64) & 1;
                *word &= !(1 << (block % 64));
            }
        }
    }
}

/// Pages in a row that lie in blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    block: u64,
    pages: u64,
}

/// Where a file's pages lie: extents by their first page, none of which continues another.
#[derive(Debug, Default)]
pub struct Map {
    extents: BTreeMap<u64, Extent>,
    pages: u64,
}

impl Map {
    /// Pages that have a block.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The block of a page.
    pub fn get(&self, page: u64) -> Option<u64> {
        let (&first, extent) = self.extents.range(..=page).next_back()?;
        (page - first < extent.pages).then(|| extent.block + (page - first))
    }

    /// The first page from `page` on that has a block, and the first behind it that has none.
    pub fn next(&self, page: u64) -> Option<(u64, u64)> {
        let start = if self.get(page).is_some() { page } else { *self.extents.range(page..).next()?.0 };
        let mut end = start;
        while let Some((&first, extent)) = self.extents.range(..=end).next_back()
            && end - first < extent.pages
        {
            end = first + extent.pages;
        }
        Some((start, end))
    }

    /// Gives a page that has none a block.
    pub fn put(&mut self, page: u64, block: u64) {
        self.pages += 1;
        let mut extent = Extent { block, pages: 1 };
        let mut first = page;
        if let Some(after) = self.extents.get(&(page + 1)).copied().filter(|after| after.block == block + 1) {
            self.extents.remove(&(page + 1));
            extent.pages += after.pages;
        }
        if let Some((&before_first, before)) = self.extents.range(..page).next_back()
            && before_first + before.pages == page
            && before.block + before.pages == block
        {
            (first, extent.block) = (before_first, before.block);
            extent.pages += before.pages;
        }
        self.extents.insert(first, extent);
    }

    /// Takes the blocks of pages `start..end` away, and tells which those were: first block, and how many.
    pub fn remove(&mut self, start: u64, end: u64, mut freed: impl FnMut(u64, u64)) {
        while let Some((&first, &extent)) = self.extents.range(..end).next_back().filter(|(first, extent)| *first + extent.pages > start) {
            self.extents.remove(&first);
            let (from, to) = (start.max(first), end.min(first + extent.pages));
            if first < from {
                self.extents.insert(first, Extent { pages: from - first, ..extent });
            }
            if to < first + extent.pages {
                self.extents.insert(to, Extent { block: extent.block + (to - first), pages: first + extent.pages - to });
            }
            self.pages -= to - from;
            freed(extent.block + (from - first), to - from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_given_once() {
        let mut blocks = Blocks::new(70).unwrap();
        assert_eq!(blocks.take(Some(5)), Ok(5));
        assert_eq!((blocks.take(Some(5)), blocks.take(None)), (Ok(6), Ok(7)));
        assert!((0..67).all(|_| blocks.take(None).is_ok()));
        assert_eq!((blocks.take(None), blocks.free()), (Err(Errno::ENOSPC), 0));
        blocks.give(64, 6);
        assert_eq!((blocks.free(), blocks.take(None), blocks.take(Some(200))), (6, Ok(64), Ok(65)));
    }

    #[test]
    fn a_map_is_what_an_array_is() {
        let mut map = Map::default();
        let mut model = [None; 64];
        let mut state = 7_u64;
        let mut blocks = Blocks::new(64).unwrap();
        for _ in 0..5000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            let (page, length) = ((state >> 33) % 64, (state >> 50) % 9);
            let end = (page + length).min(64);
            if state >> 60 & 1 == 0 {
                for page in page..end {
                    if map.get(page).is_none() {
                        let block = blocks.take(map.get(page.wrapping_sub(1)).map(|block| block + 1)).unwrap();
                        map.put(page, block);
                        model[page as usize] = Some(block);
                    }
                }
            } else {
                map.remove(page, end, |first, count| blocks.give(first, count));
                model[page as usize..end as usize].fill(None);
            }
            (0..64).for_each(|page| assert_eq!(map.get(page), model[page as usize]));
            assert_eq!(map.pages(), model.iter().flatten().count() as u64);
            assert_eq!(blocks.free(), 64 - map.pages());
            let start = (page..64).find(|&page| model[page as usize].is_some());
            let end = start.map(|start| (start..64).find(|&page| model[page as usize].is_none()).unwrap_or(64));
            assert_eq!(map.next(page), start.zip(end));
        }
    }
}
