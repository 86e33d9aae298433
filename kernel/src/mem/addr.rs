//! Addresses and page numbers, each with a type of its own.

use core::ops::{Add, Sub};

pub use foundation::{PAGE_BYTES, PAGE_SHIFT};

/// The first address that is not a program's: the lower half without its last page, as on Linux.
pub const USER_END: u64 = 0x7fff_ffff_f000;
/// The lowest address that a program can map (Linux's `vm.mmap_min_addr`): a null pointer with an
/// offset hits nothing.
pub const USER_START: u64 = 0x1_0000;

/// A physical address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

/// A virtual address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(pub u64);

impl VirtAddr {
    /// The page that holds this address.
    pub const fn page(self) -> Page {
        Page(self.0 >> PAGE_SHIFT)
    }

    /// Bytes from the page's start.
    pub const fn offset_in_page(self) -> usize {
        (self.0 as usize) & (PAGE_BYTES - 1)
    }
}

/// The number of a virtual page: its address divided by the page size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page(pub u64);

impl Page {
    /// Its first address.
    pub const fn start(self) -> VirtAddr {
        VirtAddr(self.0 << PAGE_SHIFT)
    }
}

impl Add<u64> for Page {
    type Output = Self;
    fn add(self, pages: u64) -> Self {
        Self(self.0 + pages)
    }
}

impl Sub for Page {
    type Output = u64;
    fn sub(self, other: Self) -> u64 {
        self.0 - other.0
    }
}

/// Pages from `start` up to, not including, `end`; `start <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// First page.
    pub start: Page,
    /// Page after the last.
    pub end: Page,
}

impl PageRange {
    /// `pages` pages from `start` on.
    pub const fn new(start: Page, pages: u64) -> Self {
        Self { start, end: Page(start.0 + pages) }
    }

    /// How many pages.
    pub const fn pages(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `page` is one of them.
    pub const fn contains(self, page: Page) -> bool {
        self.start.0 <= page.0 && page.0 < self.end.0
    }

    /// What two ranges have in common; empty where that is nothing.
    pub fn intersect(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self { start, end: self.end.min(other.end).max(start) }
    }

    /// Each page in order.
    pub fn iter(self) -> impl Iterator<Item = Page> {
        (self.start.0..self.end.0).map(Page)
    }
}
