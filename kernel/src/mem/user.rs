//! What a program says about its memory.

use super::{PAGE_BYTES, Page, PageRange, USER_END, VirtAddr};
use foundation::Errno;

/// Addresses that a program named: an allegation. What it proves is only that they lie in the lower
/// half and do not wrap around; whether anything is there shows when they are used, and may change
/// at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSlice {
    start: u64,
    len: usize,
}

impl UserSlice {
    /// No bytes.
    pub const EMPTY: Self = Self { start: 0, len: 0 };

    /// `len` bytes from `address`. EFAULT where they reach into the kernel's half.
    pub fn new(address: u64, len: u64) -> Result<Self, Errno> {
        let end = address.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > USER_END {
            return Err(Errno::EFAULT);
        }
        Ok(Self { start: address, len: len as usize })
    }

    /// The first address.
    pub fn addr(self) -> VirtAddr {
        VirtAddr(self.start)
    }

    /// Bytes.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The first `bytes` bytes, or all.
    pub fn take(self, bytes: usize) -> Self {
        Self { len: self.len.min(bytes), ..self }
    }

    /// All but the first `bytes` bytes.
    pub fn skip(self, bytes: usize) -> Self {
        let bytes = bytes.min(self.len);
        Self { start: self.start + bytes as u64, len: self.len - bytes }
    }

    /// The pages that lie inside as a whole.
    pub fn whole_pages(self) -> PageRange {
        let start = Page(self.start.div_ceil(PAGE_BYTES as u64));
        PageRange { start, end: VirtAddr(self.start + self.len as u64).page().max(start) }
    }

    /// The pages that it touches.
    pub fn touched_pages(self) -> PageRange {
        let start = VirtAddr(self.start).page();
        PageRange {
            start,
            end: Page((self.start + self.len as u64).div_ceil(PAGE_BYTES as u64)).max(start),
        }
    }

    /// Cut at page borders: each piece lies in one page.
    pub fn pieces(self) -> impl Iterator<Item = UserSlice> {
        let mut rest = self;
        core::iter::from_fn(move || {
            let piece = rest.take(PAGE_BYTES - rest.addr().offset_in_page());
            rest = rest.skip(piece.len);
            (!piece.is_empty()).then_some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_addresses_and_wrapping_are_refused() {
        assert_eq!(UserSlice::new(USER_END, 1), Err(Errno::EFAULT));
        assert_eq!(UserSlice::new(u64::MAX, 2), Err(Errno::EFAULT));
        assert_eq!(UserSlice::new(4096, u64::MAX), Err(Errno::EFAULT));
        assert!(UserSlice::new(USER_END, 0).is_ok());
    }

    #[test]
    fn pages_and_pieces() {
        let slice = UserSlice::new(4000, 5000).unwrap();
        assert_eq!(slice.whole_pages(), PageRange { start: Page(1), end: Page(2) });
        assert_eq!(slice.touched_pages(), PageRange { start: Page(0), end: Page(3) });
        assert_eq!(slice.pieces().map(UserSlice::len).collect::<Vec<_>>(), [96, 4096, 808]);
        assert!(UserSlice::new(100, 200).unwrap().whole_pages().is_empty());
    }
}
