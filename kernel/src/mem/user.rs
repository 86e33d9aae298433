//! Ranges of memory that a program named.
#![forbid(unsafe_code)]

use super::{PAGE_BYTES, PageRange, USER_END, UserAddr};
use foundation::{ByteCount, Errno};

/// An unchecked user range: addresses that a program named. Having one proves that
/// - every byte lies in the program's half, below [`USER_END`];
/// - start plus length does not overflow.
///
/// It does not prove that anything is mapped there. That shows when the range is accessed, and can
/// change at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSlice {
    start: UserAddr,
    len: usize,
}

impl UserSlice {
    /// The range without bytes.
    pub const EMPTY: Self = Self { start: UserAddr::NULL, len: 0 };

    /// `len` bytes from `start` on. EFAULT where they reach into the kernel's half.
    #[inline]
    pub fn new(start: UserAddr, len: ByteCount) -> Result<Self, Errno> {
        let end = start.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > USER_END {
            return Err(Errno::EFAULT);
        }
        Ok(Self { start, len: len.0 as usize })
    }

    /// The first address.
    #[inline]
    pub fn addr(self) -> UserAddr {
        self.start
    }

    /// The address after the last byte.
    #[inline]
    pub fn end(self) -> UserAddr {
        UserAddr(self.start.0 + self.len as u64)
    }

    /// Length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.len
    }

    /// Length in bytes, with its unit.
    #[inline]
    pub fn bytes(self) -> ByteCount {
        ByteCount::of_len(self.len)
    }

    /// Whether the range has no byte.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The first `bytes` bytes, or the whole range where it is shorter.
    #[inline]
    pub fn take(self, bytes: usize) -> Self {
        Self { len: self.len.min(bytes), ..self }
    }

    /// All but the first `bytes` bytes.
    #[inline]
    pub fn skip(self, bytes: usize) -> Self {
        let bytes = bytes.min(self.len);
        Self { start: UserAddr(self.start.0 + bytes as u64), len: self.len - bytes }
    }

    /// The pages that lie in the range as a whole.
    #[inline]
    pub fn whole_pages(self) -> PageRange {
        let start = self.start.page_at_or_above();
        PageRange { start, end: self.end().page().max(start) }
    }

    /// The pages that have at least one byte in the range.
    #[inline]
    pub fn touched_pages(self) -> PageRange {
        let start = self.start.page();
        PageRange { start, end: self.end().page_at_or_above().max(start) }
    }

    /// Whether there is a byte, and all are in one page.
    #[inline]
    pub fn is_in_one_page(self) -> bool {
        self.len.wrapping_sub(1) < PAGE_BYTES - self.start.offset_in_page()
    }

    /// The range cut at page boundaries: each part lies in one page and is not empty.
    #[inline]
    pub fn by_page(self) -> impl Iterator<Item = UserSlice> {
        let mut rest = self;
        core::iter::from_fn(move || {
            let part = rest.take(PAGE_BYTES - rest.addr().offset_in_page());
            rest = rest.skip(part.len);
            (!part.is_empty()).then_some(part)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Page;
    use super::*;

    fn slice(start: u64, len: u64) -> Result<UserSlice, Errno> {
        UserSlice::new(UserAddr(start), ByteCount(len))
    }

    #[test]
    fn kernel_addresses_and_wrapping_are_refused() {
        assert_eq!(slice(USER_END.0, 1), Err(Errno::EFAULT));
        assert_eq!(slice(u64::MAX, 2), Err(Errno::EFAULT));
        assert_eq!(slice(4096, u64::MAX), Err(Errno::EFAULT));
        assert!(slice(USER_END.0, 0).is_ok());
    }

    #[test]
    fn pages_and_parts() {
        let range = slice(4000, 5000).unwrap();
        assert_eq!(range.whole_pages(), PageRange { start: Page(1), end: Page(2) });
        assert_eq!(range.touched_pages(), PageRange { start: Page(0), end: Page(3) });
        assert_eq!(range.by_page().map(UserSlice::len).collect::<Vec<_>>(), [96, 4096, 808]);
        assert!(slice(100, 200).unwrap().whole_pages().is_empty());
    }
}
