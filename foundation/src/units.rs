//! Offsets and counts, each with its unit in its type.
//!
//! An offset is a position, a count is a distance: offset + count = offset, offset - offset =
//! count. Bytes and pages never mix without a conversion, and a position in a file never stands in
//! for one in a snapshot.
//!
//! Arithmetic panics on overflow in debug builds, as integers do; values from outside go through
//! the `checked_*` functions.

use core::iter::Sum;
use core::ops::{Add, AddAssign, Sub, SubAssign};

use crate::{PAGE_BYTES, PAGE_SHIFT};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

/// A number of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageCount(pub u64);

/// A byte's position in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

/// A byte's position in a snapshot. Byte 0 is the first byte of the read that took the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotOffset(pub u64);

macro_rules! count {
    ($name:ident) => {
        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0);

            /// Whether there is none.
            #[inline]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// The difference, or zero where `other` is larger.
            #[inline]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// The sum, at most `u64::MAX`.
            #[inline]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The sum, or `None` past `u64::MAX`.
            #[inline]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl Add for $name {
            type Output = Self;
            #[inline]
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl AddAssign for $name {
            #[inline]
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl Sub for $name {
            type Output = Self;
            #[inline]
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl SubAssign for $name {
            #[inline]
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }

        impl Sum for $name {
            #[inline]
            fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
                counts.fold(Self::ZERO, Add::add)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
count!(ByteCount);
count!(PageCount);

macro_rules! offset {
    ($name:ident) => {
        impl $name {
            /// The first byte.
            pub const ZERO: Self = Self(0);

            /// The position `count` bytes further on, or `None` past `u64::MAX`.
            #[inline]
            pub const fn checked_add(self, count: ByteCount) -> Option<Self> {
                match self.0.checked_add(count.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The position `count` bytes further on, at most `u64::MAX`.
            #[inline]
            pub const fn saturating_add(self, count: ByteCount) -> Self {
                Self(self.0.saturating_add(count.0))
            }

            /// The distance from `start`, or zero where `start` lies behind this position.
            #[inline]
            pub const fn saturating_since(self, start: Self) -> ByteCount {
                ByteCount(self.0.saturating_sub(start.0))
            }

            /// Bytes from the start of the page that holds this position.
            #[inline]
            pub const fn within_page(self) -> usize {
                self.0 as usize % PAGE_BYTES
            }
        }

        impl Add<ByteCount> for $name {
            type Output = Self;
            #[inline]
            fn add(self, count: ByteCount) -> Self {
                Self(self.0 + count.0)
            }
        }

        impl AddAssign<ByteCount> for $name {
            #[inline]
            fn add_assign(&mut self, count: ByteCount) {
                self.0 += count.0;
            }
        }

        impl Sub for $name {
            type Output = ByteCount;
            #[inline]
            fn sub(self, start: Self) -> ByteCount {
                ByteCount(self.0 - start.0)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
offset!(FileOffset);
offset!(SnapshotOffset);

impl ByteCount {
    /// The length of a slice or buffer.
    #[inline]
    pub const fn of_len(len: usize) -> Self {
        Self(len as u64)
    }

    /// As a length in memory. Saturates where `usize` is smaller than 64 bits.
    #[inline]
    pub const fn to_usize(self) -> usize {
        if self.0 > usize::MAX as u64 { usize::MAX } else { self.0 as usize }
    }

    /// Whole pages contained in this many bytes, rounded down.
    #[inline]
    pub const fn whole_pages(self) -> PageCount {
        PageCount(self.0 >> PAGE_SHIFT)
    }

    /// Pages needed to hold this many bytes, rounded up.
    #[inline]
    pub const fn covering_pages(self) -> PageCount {
        PageCount(self.0.div_ceil(PAGE_BYTES as u64))
    }
}

impl PageCount {
    /// The length of a slice with one element for each page.
    #[inline]
    pub const fn of_len(len: usize) -> Self {
        Self(len as u64)
    }

    /// As a length in memory. Saturates where `usize` is smaller than 64 bits.
    #[inline]
    pub const fn to_usize(self) -> usize {
        if self.0 > usize::MAX as u64 { usize::MAX } else { self.0 as usize }
    }

    /// Bytes in this many pages, or `None` past 2^52 pages.
    #[inline]
    pub const fn checked_bytes(self) -> Option<ByteCount> {
        match self.0.checked_mul(PAGE_BYTES as u64) {
            Some(bytes) => Some(ByteCount(bytes)),
            None => None,
        }
    }

    /// Bytes in this many pages. Overflows past 2^52 pages.
    #[inline]
    pub const fn bytes(self) -> ByteCount {
        ByteCount(self.0 * PAGE_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_counts_convert() {
        let start = FileOffset(5000);
        let end = start + PageCount(2).bytes();
        assert_eq!(end, FileOffset(13192));
        assert_eq!(end - start, ByteCount(8192));
        assert_eq!(start.within_page(), 904);
        assert_eq!(ByteCount(8191).whole_pages(), PageCount(1));
        assert_eq!(ByteCount(8193).covering_pages(), PageCount(3));
        assert_eq!(start.saturating_since(end), ByteCount::ZERO);
        assert_eq!(SnapshotOffset(u64::MAX).checked_add(ByteCount(1)), None);
    }
}
