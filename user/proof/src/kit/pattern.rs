//! Recognisable bytes: a pattern for each seed, of which every position has its own value.

/// Word `index` of a seed's pattern. Words of other positions or seeds differ, and none is zero.
pub fn word(seed: u64, index: u64) -> u64 {
    // The finaliser of SplitMix64.
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) | 0x01
}

/// The byte at a position of a seed's pattern.
pub fn byte(seed: u64, position: u64) -> u8 {
    word(seed, position / 8).to_le_bytes()[(position % 8) as usize]
}

/// Fills bytes with the pattern, beginning at `position` of it.
pub fn fill(bytes: &mut [u8], seed: u64, position: u64) {
    let mut at = position;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(seed, at / 8).to_le_bytes();
        let from = (at % 8) as usize;
        let count = rest.len().min(8 - from);
        let (front, behind) = rest.split_at_mut(count);
        front.copy_from_slice(&word[from..from + count]);
        at += count as u64;
        rest = behind;
    }
}

/// The expected content of a range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The pattern of a seed, beginning at a position.
    Pattern {
        /// The pattern's seed.
        seed: u64,
        /// The position of the first byte.
        from: u64,
    },
    /// One byte value everywhere.
    Only(u8),
}

impl Content {
    pub(super) fn fill(self, bytes: &mut [u8], skip: u64) {
        match self {
            Self::Pattern { seed, from } => fill(bytes, seed, from + skip),
            Self::Only(byte) => bytes.fill(byte),
        }
    }
}

/// The pattern of a seed, beginning at position `from`.
pub fn pattern(seed: u64, from: u64) -> Content {
    Content::Pattern { seed, from }
}

/// Zeros only.
pub const ZEROS: Content = Content::Only(0);

/// The content of buffers where a read must not write.
pub const UNTOUCHED: Content = Content::Only(0xa5);
