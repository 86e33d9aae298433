//! The map from the pages of all files to blocks of the device. Bookkeeping only.
//!
//! It is a hash table with one entry for each block of the device, all of whose memory is taken
//! when the server starts: what is swapped out because memory is short must need none. Entries with
//! the same hash are chained by their block numbers.

use alloc::vec::Vec;

use foundation::Errno;

/// Number of a file: that of its slot in the table of handles.
pub type FileNumber = u32;

/// Bits of a page number. The rest of a key is the number of the file.
const PAGE_BITS: u32 = 40;

/// The end of a chain.
const NOBODY: u32 = u32::MAX;

/// The key of a block without a page.
const UNUSED: u64 = u64::MAX;

/// The table.
#[derive(Debug)]
pub struct Map {
    /// The first block of each chain. Its length is a power of two.
    chains: Vec<u32>,
    /// File and page of each block.
    keys: Vec<u64>,
    /// The next block of the same chain.
    next: Vec<u32>,
}

fn filled<T: Clone>(length: usize, value: T) -> Result<Vec<T>, Errno> {
    let mut items = Vec::new();
    items.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    items.resize(length, value);
    Ok(items)
}

fn key(file: FileNumber, page: u64) -> u64 {
    u64::from(file) << PAGE_BITS | page
}

impl Map {
    /// A map of no pages, for a device of `blocks` blocks. ENOMEM; EFBIG for too large a device.
    pub fn new(blocks: u64) -> Result<Self, Errno> {
        let count = u32::try_from(blocks).ok().filter(|&count| count < NOBODY);
        let count = count.ok_or(Errno::EFBIG)? as usize;
        Ok(Self {
            chains: filled(count.next_power_of_two(), NOBODY)?,
            keys: filled(count, UNUSED)?,
            next: filled(count, NOBODY)?,
        })
    }

    /// The index of a key's chain (Fibonacci hashing: Knuth, TAOCP 3, 6.4).
    fn chain(&self, key: u64) -> usize {
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        hash as usize & (self.chains.len() - 1)
    }

    /// The block of a key, and the block before it in its chain.
    fn find(&self, key: u64) -> Option<(u32, u32)> {
        let (mut before, mut block) = (NOBODY, *self.chains.get(self.chain(key))?);
        while *self.keys.get(block as usize)? != key {
            (before, block) = (block, *self.next.get(block as usize)?);
        }
        Some((block, before))
    }

    /// The block of a page.
    pub fn get(&self, file: FileNumber, page: u64) -> Option<u64> {
        self.find(key(file, page)).map(|(block, _)| block.into())
    }

    /// The first page of a file from `page` on that has a block. Looks at all blocks.
    pub fn next(&self, file: FileNumber, page: u64) -> Option<u64> {
        let pages = key(file, page)..key(file + 1, 0);
        let first = self.keys.iter().copied().filter(|key| pages.contains(key)).min()?;
        Some(first - key(file, 0))
    }

    /// Assigns a block to a page that has none.
    pub fn put(&mut self, file: FileNumber, page: u64, block: u64) {
        let (key, index) = (key(file, page), block as usize);
        let chain = self.chain(key);
        if let (Some(first), Some(own), Some(next)) =
            (self.chains.get_mut(chain), self.keys.get_mut(index), self.next.get_mut(index))
        {
            debug_assert_eq!(*own, UNUSED, "a block belongs to two pages");
            (*own, *next) = (key, *first);
            *first = block as u32;
        }
    }

    /// Takes the block of a page away.
    fn take(&mut self, key: u64) -> Option<u64> {
        let (block, before) = self.find(key)?;
        let behind = core::mem::replace(self.next.get_mut(block as usize)?, NOBODY);
        let chain = self.chain(key);
        let link = match before {
            NOBODY => self.chains.get_mut(chain),
            before => self.next.get_mut(before as usize),
        };
        *link? = behind;
        *self.keys.get_mut(block as usize)? = UNUSED;
        Some(block.into())
    }

    /// Removes the blocks of pages `start..end` of a file. Calls `freed` with each.
    pub fn remove(&mut self, file: FileNumber, start: u64, end: u64, mut freed: impl FnMut(u64)) {
        if end - start <= self.keys.len() as u64 {
            (start..end).filter_map(|page| self.take(key(file, page))).for_each(freed);
            return;
        }
        // A range of more pages than there are blocks is mostly a hole.
        let keys = key(file, start)..key(file, end);
        for block in 0..self.keys.len() {
            let own = self.keys.get(block).copied().filter(|own| keys.contains(own));
            if let Some(block) = own.and_then(|own| self.take(own)) {
                freed(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Blocks;

    #[test]
    fn a_map_is_what_arrays_are() {
        let mut map = Map::new(64).unwrap();
        let mut model = [[None; 64]; 2];
        let mut state = 7_u64;
        let mut blocks = Blocks::new(64).unwrap();
        for _ in 0..5000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            let (page, length) = ((state >> 33) % 64, (state >> 50) % 9);
            let file = (state >> 40) as u32 % 2;
            let pages = &mut model[file as usize];
            let end = (page + length).min(64);
            match state >> 60 {
                0..7 => {
                    for page in page..end {
                        let wanted = page.checked_sub(1).and_then(|page| map.get(file, page));
                        if map.get(file, page).is_none()
                            && let Ok(block) = blocks.take(wanted.map(|block| block + 1))
                        {
                            map.put(file, page, block);
                            pages[page as usize] = Some(block);
                        }
                    }
                }
                7 => {
                    map.remove(file, page, 1 << 30, |block| blocks.release(block, 1));
                    pages[page as usize..].fill(None);
                }
                _ => {
                    map.remove(file, page, end, |block| blocks.release(block, 1));
                    pages[page as usize..end as usize].fill(None);
                }
            }
            for (file, pages) in (0..).zip(&model) {
                (0..64).for_each(|page| assert_eq!(map.get(file, page), pages[page as usize]));
                let next = (page..64).find(|&page| pages[page as usize].is_some());
                assert_eq!(map.next(file, page), next);
            }
            assert_eq!(blocks.free(), 64 - model.iter().flatten().flatten().count() as u64);
        }
    }
}
