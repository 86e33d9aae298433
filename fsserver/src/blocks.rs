//! A device of blocks, and which of its blocks are in use. Who keeps something on one is told where
//! by [`Blocks`], and remembers that itself.

use alloc::vec::Vec;

use foundation::Errno;

/// A device of blocks as large as a page.
pub trait BlockDevice {
    /// How many.
    fn blocks(&self) -> u64;
    /// Reads blocks from `first` on; `into` is as long as some whole blocks.
    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), Errno>;
    /// Writes them.
    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), Errno>;
}

/// One bit for each block.
#[derive(Debug)]
pub(crate) struct Blocks {
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
        block < self.count
            && self
                .bits
                .get((block / 64) as usize)
                .is_some_and(|word| word >> (block % 64) & 1 == 0)
    }

    /// Takes a free block: `wanted` if it is one.
    pub fn take(&mut self, wanted: Option<u64>) -> Result<u64, Errno> {
        if self.free == 0 {
            return Err(Errno::ENOSPC);
        }
        let found = wanted
            .filter(|&block| self.is_free(block))
            .or_else(|| self.search())
            .ok_or(Errno::ENOSPC)?;
        if let Some(word) = self.bits.get_mut((found / 64) as usize) {
            *word |= 1 << (found % 64);
        }
        self.free -= 1;
        self.next = found + 1;
        Ok(found)
    }

    fn search(&self) -> Option<u64> {
        (self.next..self.count)
            .chain(0..self.next.min(self.count))
            .find(|&block| self.is_free(block))
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
}
