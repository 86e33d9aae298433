//! Reproducible random numbers from a seed and a position: SplitMix64 (Steele, Lea and Flood,
//! 2014).

use user::alloc::vec::Vec;

/// The number at `index` of the sequence that belongs to `seed`.
pub fn at(seed: u64, index: u64) -> u64 {
    let mut mixed = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The sequence of a seed.
pub struct Random {
    seed: u64,
    index: u64,
}

impl Random {
    /// The sequence of a seed, from its start.
    pub fn new(seed: u64) -> Random {
        Random { seed, index: 0 }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.index += 1;
        at(self.seed, self.index)
    }

    /// A number below `end`, which is above 0. The bias is below 2^-32 for ends below 2^32.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }
}

/// The first `count` of the numbers below `end` in an order that is the same in every run.
pub fn shuffled(count: usize, end: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..end).collect();
    let mut random = Random::new(64);
    for index in (1..end).rev() {
        numbers.swap(index, random.below(index as u64 + 1) as usize);
    }
    numbers.truncate(count);
    numbers
}

/// Fills `bytes` with the bytes at `offset` of an endless random file.
pub fn fill(seed: u64, offset: u64, bytes: &mut [u8]) {
    for (position, byte) in (offset..).zip(bytes) {
        *byte = at(seed, position / 8).to_le_bytes()[(position % 8) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        // The first outputs of the reference implementation for the seed 0.
        assert_eq!(
            [at(0, 0), at(0, 1), at(0, 2)],
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]
        );
    }

    #[test]
    fn a_range_can_be_filled_in_parts() {
        let (mut whole, mut parts) = ([0; 100], [0; 100]);
        fill(7, 1000, &mut whole);
        fill(7, 1000, &mut parts[..33]);
        fill(7, 1033, &mut parts[33..]);
        assert_eq!(whole, parts);
    }
}
