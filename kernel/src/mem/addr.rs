//! Addresses and page numbers, each with a type of its own.
#![forbid(unsafe_code)]

use core::ops::{Add, Sub};

use foundation::{ByteCount, PageCount};
pub use foundation::{PAGE_BYTES, PAGE_SHIFT};

/// The end of a program's half: the lower half without its last page, as on Linux.
pub const USER_END: UserAddr = UserAddr(0x7fff_ffff_f000);
/// The lowest address that a program can map (Linux's `vm.mmap_min_addr`), so that a null pointer
/// with an offset faults.
pub const USER_START: UserAddr = UserAddr(0x1_0000);

/// A physical address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

/// A virtual address of the kernel's half, or one whose half does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(pub u64);

impl VirtAddr {
    /// The page that holds this address.
    pub const fn page(self) -> Page {
        Page(self.0 >> PAGE_SHIFT)
    }
}

/// An address that a program passed, in a register or in its memory. Having one proves nothing: it
/// may be any 64-bit value. [`UserSlice`](super::UserSlice) checks that a range lies in the
/// program's half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// The null pointer.
    pub const NULL: Self = Self(0);

    /// Whether this is the null pointer, by which many calls mean "absent".
    #[inline]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The page that holds this address.
    #[inline]
    pub const fn page(self) -> Page {
        Page(self.0 >> PAGE_SHIFT)
    }

    /// Bytes from the start of the page that holds this address, below [`PAGE_BYTES`].
    #[inline]
    pub const fn offset_in_page(self) -> usize {
        (self.0 as usize) & (PAGE_BYTES - 1)
    }

    /// Whether this is the first byte of a page.
    #[inline]
    pub const fn is_page_aligned(self) -> bool {
        self.offset_in_page() == 0
    }

    /// The address `count` bytes higher, or `None` past the end of the address space.
    #[inline]
    pub const fn checked_add(self, count: ByteCount) -> Option<Self> {
        match self.0.checked_add(count.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The distance from `start`, or `None` where `start` is higher.
    #[inline]
    pub const fn checked_since(self, start: Self) -> Option<ByteCount> {
        match self.0.checked_sub(start.0) {
            Some(count) => Some(ByteCount(count)),
            None => None,
        }
    }

    /// The first page at or above this address.
    #[inline]
    pub const fn page_at_or_above(self) -> Page {
        Page(self.0.div_ceil(PAGE_BYTES as u64))
    }
}

impl core::fmt::LowerHex for UserAddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a virtual page: its address divided by the page size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page(pub u64);

impl Page {
    /// The page's first address.
    #[inline]
    pub const fn start(self) -> VirtAddr {
        VirtAddr(self.0 << PAGE_SHIFT)
    }

    /// The first address of a page in a program's half.
    #[inline]
    pub const fn user_start(self) -> UserAddr {
        UserAddr(self.0 << PAGE_SHIFT)
    }

    /// The page below this one. Overflows for page 0.
    #[inline]
    pub const fn previous(self) -> Self {
        Self(self.0 - 1)
    }

    /// The page above this one.
    #[inline]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Add<PageCount> for Page {
    type Output = Self;
    #[inline]
    fn add(self, pages: PageCount) -> Self {
        Self(self.0 + pages.0)
    }
}

impl Sub for Page {
    type Output = PageCount;
    #[inline]
    fn sub(self, other: Self) -> PageCount {
        PageCount(self.0 - other.0)
    }
}

/// Pages from `start` up to, not including, `end`; `start <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// The first page.
    pub start: Page,
    /// The page after the last.
    pub end: Page,
}

impl PageRange {
    /// `pages` pages from `start` on.
    #[inline]
    pub const fn new(start: Page, pages: PageCount) -> Self {
        Self { start, end: Page(start.0 + pages.0) }
    }

    /// One page.
    #[inline]
    pub const fn single(page: Page) -> Self {
        Self { start: page, end: page.next() }
    }

    /// Length of the range.
    #[inline]
    pub const fn pages(self) -> PageCount {
        PageCount(self.end.0 - self.start.0)
    }

    /// Whether the range has no page.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `page` lies in the range.
    #[inline]
    pub const fn contains(self, page: Page) -> bool {
        self.start.0 <= page.0 && page.0 < self.end.0
    }

    /// The pages that lie in both ranges; an empty range where there are none.
    #[inline]
    pub fn intersect(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self { start, end: self.end.min(other.end).max(start) }
    }

    /// Each page in ascending order.
    #[inline]
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Page> {
        (self.start.0..self.end.0).map(Page)
    }
}
