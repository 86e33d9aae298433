//! The map from a file's pages to blocks of the device. Bookkeeping only.

use alloc::collections::BTreeMap;

/// A run of pages in adjacent blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    block: u64,
    pages: u64,
}

/// The extents of a file by their first page. Adjacent extents that could be one are joined.
#[derive(Debug, Default)]
pub struct Map {
    extents: BTreeMap<u64, Extent>,
    pages: u64,
}

impl Map {
    /// Number of pages that have a block.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The block of a page.
    pub fn get(&self, page: u64) -> Option<u64> {
        let (&first, extent) = self.extents.range(..=page).next_back()?;
        (page - first < extent.pages).then(|| extent.block + (page - first))
    }

    /// The first page from `page` on that has a block, and the first one behind it that has none.
    pub fn next(&self, page: u64) -> Option<(u64, u64)> {
        let start =
            if self.get(page).is_some() { page } else { *self.extents.range(page..).next()?.0 };
        let mut end = start;
        while let Some((&first, extent)) = self.extents.range(..=end).next_back()
            && end - first < extent.pages
        {
            end = first + extent.pages;
        }
        Some((start, end))
    }

    /// Assigns a block to a page that has none.
    pub fn put(&mut self, page: u64, block: u64) {
        self.pages += 1;
        let mut extent = Extent { block, pages: 1 };
        let mut first = page;
        if let Some(after) =
            self.extents.get(&(page + 1)).copied().filter(|after| after.block == block + 1)
        {
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

    /// Removes the blocks of pages `start..end`. Calls `freed` with the first block and the number
    /// of each run.
    pub fn remove(&mut self, start: u64, end: u64, mut freed: impl FnMut(u64, u64)) {
        while let Some((&first, &extent)) = self
            .extents
            .range(..end)
            .next_back()
            .filter(|(first, extent)| *first + extent.pages > start)
        {
            self.extents.remove(&first);
            let (from, to) = (start.max(first), end.min(first + extent.pages));
            if first < from {
                self.extents.insert(first, Extent { pages: from - first, ..extent });
            }
            if to < first + extent.pages {
                self.extents.insert(
                    to,
                    Extent { block: extent.block + (to - first), pages: first + extent.pages - to },
                );
            }
            self.pages -= to - from;
            freed(extent.block + (from - first), to - from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Blocks;

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
                        let block = blocks
                            .take(map.get(page.wrapping_sub(1)).map(|block| block + 1))
                            .unwrap();
                        map.put(page, block);
                        model[page as usize] = Some(block);
                    }
                }
            } else {
                map.remove(page, end, |first, count| blocks.release(first, count));
                model[page as usize..end as usize].fill(None);
            }
            (0..64).for_each(|page| assert_eq!(map.get(page), model[page as usize]));
            assert_eq!(map.pages(), model.iter().flatten().count() as u64);
            assert_eq!(blocks.free(), 64 - map.pages());
            let start = (page..64).find(|&page| model[page as usize].is_some());
            let end = start.map(|start| {
                (start..64).find(|&page| model[page as usize].is_none()).unwrap_or(64)
            });
            assert_eq!(map.next(page), start.zip(end));
        }
    }
}
