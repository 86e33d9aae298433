//! Regions: what backs each range of an address space, in an ordered map. Pure data without page
//! tables.
//!
//! A region also records how its pages are accessed, which determines how many pages a fault
//! fetches (`window`).
//!
//! Invariants: regions do not overlap and are not empty; `associated` is at most the region's
//! pages, and above 0 exactly where the backing is a snapshot.
#![forbid(unsafe_code)]

use super::mutants;
use super::{FileMapping, Page, PageRange, SharedMemory, Snapshot, window::Habit};
use alloc::{collections::BTreeMap, sync::Arc};
use core::ops::Bound;
use foundation::{PageCount, SnapshotOffset};

bitflags::bitflags! {
    /// Permissions of a page, with the bits of Linux's `PROT_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// Loads are allowed.
        const READ = 1;
        /// Stores are allowed.
        const WRITE = 2;
        /// Instructions can be fetched.
        const EXECUTE = 4;
    }
}

bitflags::bitflags! {
    /// What a child does not get of a mapping (madvise(2)). Each is set and unset on its own.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ForkAdvice: u8 {
        /// The mapping: `MADV_DONTFORK`.
        const OMIT = 1;
        /// The contents, zeros in the child: `MADV_WIPEONFORK`.
        const WIPE = 2;
    }
}

/// Whether resident pages stay resident. In the order of what is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// They can be evicted.
    #[default]
    Unlocked,
    /// They stay once they are touched.
    OnFault,
    /// They stay, and are made resident at once.
    Locked,
}

/// What a region's pages contain until a program stores to them.
#[derive(Clone)]
pub enum Backing {
    /// Private memory that starts as zeros.
    Anonymous,
    /// Bytes of a snapshot, with which the pages are associated.
    Snapshot {
        /// The snapshot; each region holds a reference.
        snapshot: Arc<Snapshot>,
        /// Position in the snapshot of the region's first page.
        offset: SnapshotOffset,
    },
    /// Memory shared with other spaces.
    Shared {
        /// The memory; each region holds a reference.
        memory: Arc<SharedMemory>,
        /// Page number in the memory of the region's first page.
        first: u64,
    },
    /// The current bytes of a file, shared with everybody who maps it.
    File {
        /// The file's pages; each region holds a reference.
        mapping: FileMapping,
        /// Page number in the file of the region's first page.
        first: u64,
    },
    /// Nothing: the part of a private mapping that lies past the end of its file.
    Beyond,
}

impl Backing {
    /// Whether stores are seen by others who map the same.
    #[inline]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared { .. } | Self::File { .. })
    }

    /// Drops a reference with no lock held. Much shared memory is freed in steps.
    #[inline]
    pub fn release(self) {
        if let Self::Shared { memory, .. } = &self
            && Arc::strong_count(memory) == 1
        {
            memory.dismantle();
        }
    }
}

/// A range of pages with one backing and one set of permissions.
#[derive(Clone)]
pub struct Region {
    /// Length of the range, at least 1.
    pub pages: PageCount,
    /// Permissions of all pages.
    pub prot: Prot,
    /// What the pages contain.
    pub backing: Backing,
    /// Number of pages that are backed by the snapshot: all but the private ones.
    pub associated: PageCount,
    /// Whether a page may be mapped. An untouched region has nothing in the page tables, which need
    /// not be searched.
    pub touched: bool,
    /// Whether its resident pages stay.
    pub lock: Lock,
    /// What a child does not get.
    pub on_fork: ForkAdvice,
    /// Whether it grows when memory below it is touched (`MAP_GROWSDOWN`).
    pub grows_down: bool,
    /// Shown in /proc/PID/maps: `[heap]`, `[stack]`, or empty.
    pub label: &'static str,
    /// How its snapshot-backed pages are accessed.
    pub habit: Habit,
}

impl Region {
    /// An untouched region.
    pub fn new(pages: PageCount, prot: Prot, backing: Backing, label: &'static str) -> Self {
        let associated =
            if matches!(backing, Backing::Snapshot { .. }) { pages } else { PageCount::ZERO };
        let (habit, lock, on_fork) = Default::default();
        let (touched, grows_down) = (false, false);
        Self { pages, prot, backing, associated, touched, lock, on_fork, grows_down, label, habit }
    }

    /// What is left where this one was when it moves and a mapping stays: one that nothing was
    /// stored to.
    pub fn left_behind(&self) -> Self {
        let backing = match &self.backing {
            Backing::Snapshot { .. } => Backing::Anonymous,
            backing => backing.clone(),
        };
        let more = Self::new(self.pages, self.prot, backing, self.label);
        Self { on_fork: self.on_fork, grows_down: self.grows_down, ..more }
    }

    /// Whether its resident pages stay.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.lock != Lock::Unlocked
    }

    /// The backing of the page `pages` behind the start.
    fn backing_at(&self, pages: PageCount) -> Backing {
        let mut backing = self.backing.clone();
        match &mut backing {
            Backing::Anonymous | Backing::Beyond => {}
            Backing::Snapshot { .. } if mutants::split_forgets_offset() => {}
            Backing::Snapshot { offset, .. } => *offset += pages.bytes(),
            Backing::Shared { first, .. } | Backing::File { first, .. } => *first += pages.0,
        }
        backing
    }

    /// Whether the adjacent region `next` continues this one. A touched region does not continue an
    /// untouched one: a lazy read that replaces both would have to search all of it for mapped
    /// pages. Nor does a cleaned region continue one that is not, because the mark would be lost.
    fn continues(&self, next: &Self) -> bool {
        let backing = match (&self.backing, &next.backing) {
            (Backing::Anonymous, Backing::Anonymous) | (Backing::Beyond, Backing::Beyond) => true,
            (
                Backing::Snapshot { snapshot: a, offset: at },
                Backing::Snapshot { snapshot: b, offset },
            ) => Arc::ptr_eq(a, b) && *at + self.pages.bytes() == *offset,
            (Backing::Shared { memory: a, first }, Backing::Shared { memory: b, first: next }) => {
                Arc::ptr_eq(a, b) && first + self.pages.0 == *next
            }
            (Backing::File { mapping: a, first }, Backing::File { mapping: b, first: next }) => {
                a.is_same(b) && first + self.pages.0 == *next
            }
            _ => false,
        };
        let same_marks = self.touched == next.touched && self.habit.cleaned == next.habit.cleaned;
        let same_marks = same_marks && self.lock == next.lock && self.on_fork == next.on_fork;
        let same_marks = same_marks && self.grows_down == next.grows_down;
        backing && self.prot == next.prot && self.label == next.label && same_marks
    }

    /// A copy of the pages of a part, for a region whose own range is `own`. `count` returns how
    /// many pages of a range are private.
    pub fn part(
        &self,
        own: PageRange,
        part: PageRange,
        count: impl FnOnce(PageRange) -> PageCount,
    ) -> Self {
        let part = own.intersect(part);
        let associated = match self.backing {
            _ if part == own || self.associated.is_zero() => self.associated,
            _ if self.associated == self.pages => part.pages(),
            _ => part.pages() - count(part),
        };
        let backing = self.backing_at(part.start - own.start);
        let mut copy = Self { backing, pages: part.pages(), associated, ..self.clone() };
        copy.settle();
        copy
    }

    /// Splits the region `pages` behind its start and returns the tail, of whose pages
    /// `tail_associated` are associated.
    fn split_off(&mut self, pages: PageCount, tail_associated: PageCount) -> Self {
        let mut tail = Self {
            backing: self.backing_at(pages),
            pages: self.pages - pages,
            associated: tail_associated,
            ..self.clone()
        };
        debug_assert!(!pages.is_zero() && !tail.pages.is_zero());
        debug_assert!(tail_associated <= tail.pages && tail_associated <= self.associated);
        self.pages = pages;
        self.associated -= tail_associated;
        for part in [self, &mut tail] {
            part.settle();
        }
        tail
    }

    /// Drops the reference to the snapshot if no page is associated any more (C10).
    pub fn settle(&mut self) {
        if self.associated.is_zero() && matches!(self.backing, Backing::Snapshot { .. }) {
            self.backing = Backing::Anonymous;
        }
    }
}

/// The result of [`RegionMap::find_gap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The first page of a free range.
    Found(Page),
    /// None was found from this page on; there may be one below.
    Below(Page),
    /// No range is long enough.
    None,
}

/// The regions of an address space.
#[derive(Clone, Default)]
pub struct RegionMap {
    regions: BTreeMap<Page, Region>,
}

impl RegionMap {
    /// Number of regions.
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether there is no region.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// All regions, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (PageRange, &Region)> {
        self.regions.iter().map(|(&start, region)| (PageRange::new(start, region.pages), region))
    }

    /// The region of a page, with its range.
    pub fn find(&self, page: Page) -> Option<(PageRange, &Region)> {
        let (&start, region) = self.regions.range(..=page).next_back()?;
        let range = PageRange::new(start, region.pages);
        range.contains(page).then_some((range, region))
    }

    /// The region of a page, to change it.
    pub fn find_mut(&mut self, page: Page) -> Option<(PageRange, &mut Region)> {
        let (&start, region) = self.regions.range_mut(..=page).next_back()?;
        let range = PageRange::new(start, region.pages);
        range.contains(page).then_some((range, region))
    }

    /// The regions that have pages in a range, in ascending order; none for an empty range. Their
    /// own ranges may exceed it.
    pub fn overlapping(&self, range: PageRange) -> impl Iterator<Item = (PageRange, &Region)> {
        let found = if range.is_empty() { None } else { self.find(range.start) };
        let first = found.map_or(range.start, |(found, _)| found.start);
        self.regions
            .range(first..range.end.max(first))
            .map(|(&start, region)| (PageRange::new(start, region.pages), region))
    }

    /// Adds a region where there is none.
    pub fn insert(&mut self, start: Page, region: Region) {
        debug_assert!(!region.pages.is_zero() && self.is_free(PageRange::new(start, region.pages)));
        self.regions.insert(start, region);
    }

    /// Whether no region has a page in a range.
    pub fn is_free(&self, range: PageRange) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Splits the region of `page` there, unless it begins there. `count` returns how many pages of
    /// a range are private.
    pub fn split_at(&mut self, page: Page, count: &mut dyn FnMut(PageRange) -> PageCount) {
        let Some((range, region)) = self.find_mut(page).filter(|(range, _)| range.start != page)
        else {
            return;
        };
        let front = PageRange { start: range.start, end: page };
        let tail = PageRange { start: page, end: range.end };
        let tail_associated = match region.backing {
            // Where no page is private, nothing has to be counted.
            Backing::Snapshot { .. } if region.associated == region.pages => tail.pages(),
            // The shorter one is counted: a long region is divided from its front.
            Backing::Snapshot { .. } if front.pages() < tail.pages() => {
                region.associated - (front.pages() - count(front))
            }
            Backing::Snapshot { .. } => tail.pages() - count(tail),
            _ => PageCount::ZERO,
        };
        let tail = region.split_off(page - range.start, tail_associated);
        self.regions.insert(page, tail);
    }

    /// Removes and returns the first region that begins within a range.
    pub fn pop(&mut self, range: PageRange) -> Option<(Page, Region)> {
        let (&start, _) = self.regions.range(range.start..range.end.max(range.start)).next()?;
        self.regions.remove(&start).map(|region| (start, region))
    }

    /// The first region that begins within a range and that `is_one` accepts, to change it.
    pub fn first_with(
        &mut self,
        range: PageRange,
        is_one: impl Fn(&Region) -> bool,
    ) -> Option<(Page, &mut Region)> {
        let mut within = self.regions.range_mut(range.start..range.end.max(range.start));
        within.find(|(_, region)| is_one(region)).map(|(&start, region)| (start, region))
    }

    /// Bytes that a copy of `regions` regions allocates at most, or adding them one behind the
    /// other.
    pub const fn bytes(regions: usize) -> usize {
        // Nodes of the tree are filled by 5 of 11 at least, and one in 6 is not a leaf.
        let node = 12 * (size_of::<(Page, Region)>() + size_of::<usize>());
        (regions / 5 + regions / 25 + 2) * node
    }

    /// Changes every region within a range, at both ends of which regions are split already.
    pub fn change(&mut self, range: PageRange, mut change: impl FnMut(PageRange, &mut Region)) {
        for (&start, region) in self.regions.range_mut(range.start..range.end.max(range.start)) {
            change(PageRange::new(start, region.pages), region);
        }
    }

    /// Merges regions that continue each other: within a range, at its ends, and with one region
    /// further on either side, whose marks may have changed since the last merge.
    pub fn merge(&mut self, range: PageRange) {
        let mut at = self
            .regions
            .range(..range.start)
            .rev()
            .take(2)
            .last()
            .map_or(range.start, |(&start, _)| start);
        let stop = self.find(range.end).map_or(range.end, |(next, _)| next.end);
        while at < stop
            && let Some((&start, region)) = self.regions.range(at..stop).next()
        {
            let end = start + region.pages;
            at = end;
            let Some(next) = self.regions.get(&end).filter(|next| region.continues(next)) else {
                continue;
            };
            let (pages, associated) = (next.pages, next.associated);
            self.regions.remove(&end);
            if let Some(region) = self.regions.get_mut(&start) {
                region.pages += pages;
                region.associated += associated;
            }
            at = start;
        }
    }

    /// The highest free range of `pages` pages within a range, as Linux chooses for mmap. Looks at
    /// some regions only.
    pub fn find_gap(&self, pages: PageCount, within: PageRange) -> Gap {
        const LOOKS: usize = 4096;
        let mut end = within.end;
        let below = (Bound::Included(Page(0)), Bound::Excluded(within.end));
        for (number, (&start, region)) in self.regions.range(below).rev().enumerate() {
            let gap_start = (start + region.pages).max(within.start);
            if gap_start <= end && end - gap_start >= pages {
                return Gap::Found(Page(end.0 - pages.0));
            }
            end = end.min(start);
            if end < within.start {
                return Gap::None;
            }
            if number == LOOKS {
                return Gap::Below(end);
            }
        }
        if end >= within.start && end - within.start >= pages {
            Gap::Found(Page(end.0 - pages.0))
        } else {
            Gap::None
        }
    }
}
