//! Block devices, and a bit map of the blocks in use. The owner of a block records itself what the
//! block holds.

use alloc::vec::Vec;

use foundation::Errno;

/// A device whose blocks have the size of a page.
pub trait BlockDevice {
    /// Number of blocks.
    fn blocks(&self) -> u64;
    /// Reads blocks from `first` on. The length of `into` is a multiple of the block size.
    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), Errno>;
    /// Writes blocks from `first` on. The length of `from` is a multiple of the block size.
    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), Errno>;
}

/// The bit map: a set bit is a block in use.
#[derive(Debug)]
pub(crate) struct Blocks {
    bits: Vec<u64>,
    count: u64,
    free: u64,
    /// Where the next search starts.
    next: u64,
}

impl Blocks {
    /// A map of `count` free blocks.
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

    /// Allocates a block: `wanted` if it is free. ENOSPC if none is free.
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

    /// Frees blocks.
    pub fn release(&mut self, first: u64, count: u64) {
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
    fn a_block_is_allocated_once() {
        let mut blocks = Blocks::new(70).unwrap();
        assert_eq!(blocks.take(Some(5)), Ok(5));
        assert_eq!((blocks.take(Some(5)), blocks.take(None)), (Ok(6), Ok(7)));
        assert!((0..67).all(|_| blocks.take(None).is_ok()));
        assert_eq!((blocks.take(None), blocks.free()), (Err(Errno::ENOSPC), 0));
        blocks.release(64, 6);
        assert_eq!((blocks.free(), blocks.take(None), blocks.take(Some(200))), (6, Ok(64), Ok(65)));
    }
}
