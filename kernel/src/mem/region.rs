//! Regions: what backs each range of an address space, in an ordered map. Pure data; knows no page
//! tables.
//!
//! How many pages a fault brings is learnt here too ([`Habit`]).
//!
//! Invariants: regions do not overlap and are not empty; `associated` is at most the region's
//! pages, above 0 exactly where the backing is a snapshot.

use super::{PAGE_BYTES, Page, PageRange, SharedMemory, Snapshot};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::ops::Bound;
use foundation::knob;
use foundation::{
    PageCount, SnapshotOffset,
    mutant::{self, Mutant},
};

bitflags::bitflags! {
    /// What a program may do with a page; the bits of Linux's `PROT_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// Load.
        const READ = 1;
        /// Store.
        const WRITE = 2;
        /// Execute.
        const EXECUTE = 4;
    }
}

/// What a region's pages are before a program stores into them.
#[derive(Clone)]
pub enum Backing {
    /// Zeros.
    Anonymous,
    /// Bytes of a snapshot.
    Snapshot {
        /// Which.
        snapshot: Arc<Snapshot>,
        /// Byte of the snapshot at the region's first page.
        offset: SnapshotOffset,
    },
    /// Memory that other spaces see too.
    Shared {
        /// Which.
        memory: Arc<SharedMemory>,
        /// Page of it at the region's first page.
        first: u64,
    },
}

/// A range of pages with one kind of backing and one set of rights.
#[derive(Clone)]
pub struct Region {
    /// How many.
    pub pages: PageCount,
    /// Rights.
    pub prot: Prot,
    /// Contents.
    pub backing: Backing,
    /// Pages that still stand for bytes of the snapshot: all but the private ones.
    pub associated: PageCount,
    /// Whether a page may be mapped: an untouched region has nothing in the page tables, so that no
    /// time is spent looking there.
    pub touched: bool,
    /// Shown in /proc/PID/maps: `[heap]`, `[stack]`, or nothing.
    pub label: &'static str,
    /// How its lazy pages are touched.
    pub habit: Habit,
}

/// What faults on lazy pages have shown so far, to choose how many neighbours the next one brings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habit {
    /// The page that comes next if they are touched in order.
    expected: Page,
    /// Pages that the last fault brought, or was allowed to.
    window: PageCount,
    /// Pages brought since they were last associated.
    brought: PageCount,
    /// What stood there before was looked at as a whole, or nearly.
    thorough: bool,
    /// Pages became clean by a write none of whose pages was clean before (W8).
    pub cleaned: bool,
}

// A fetch is answered by one message.
const _: () = assert!(knob::MAX_FAULT_AROUND == (fsproto::MAX_PAYLOAD / PAGE_BYTES) as u64);

impl Habit {
    /// Touches of more than one page in this many count as dense: what is brought along will mostly
    /// be wanted.
    const DENSE: u64 = 8;

    /// How many pages a fault on `page` of a region shall bring. Who begins at the front is likely
    /// to go on.
    pub fn window(&self, page: Page, region: PageRange) -> PageCount {
        let (few, most) = (knob::FAULT_AROUND.get().max(1), knob::FAULT_AROUND_MAX.get());
        let pages = if mutant::active(Mutant::NoFaultAround) {
            1
        } else if self.is_dense(region.pages()) {
            most.max(few)
        } else if page == self.expected {
            (self.window.0 * 2).min(most).max(few)
        } else if self.brought.is_zero() && page == region.start {
            (few * 2).min(most).max(few)
        } else {
            few
        };
        PageCount(pages)
    }

    /// The same for a store: who changes a page here and there does not want its neighbours for
    /// that, but who fills a buffer in order does.
    pub fn window_for_store(&self, page: Page, region: PageRange) -> PageCount {
        let most = knob::FAULT_AROUND_MAX.get();
        let pages = if mutant::active(Mutant::NoFaultAround) {
            1
        } else if page == self.expected {
            (self.window.0 * 2).min(most).max(1)
        } else if self.is_dense(region.pages()) {
            most.max(1)
        } else {
            knob::STORE_AROUND.get().max(1)
        };
        PageCount(pages)
    }

    fn is_dense(&self, pages: PageCount) -> bool {
        self.thorough || self.brought.0 > pages.0 / Self::DENSE
    }

    /// The pages, `pages` in all, come to stand for something else: what was learnt of them is that
    /// they were looked at as a whole, or not.
    pub fn start_over(&mut self, pages: PageCount) {
        (self.thorough, self.brought) = (self.brought.0 > pages.0 / 2, PageCount::ZERO);
    }

    /// A fault with a window of `window` pages brought what ends at `end`.
    pub fn note(&mut self, end: Page, window: PageCount, brought: PageCount) {
        *self = Self { expected: end, window, brought: self.brought + brought, ..*self };
    }
}

impl Region {
    /// A region that nobody touched.
    pub fn new(pages: PageCount, prot: Prot, backing: Backing, label: &'static str) -> Self {
        let associated =
            if matches!(backing, Backing::Snapshot { .. }) { pages } else { PageCount::ZERO };
        Self { pages, prot, backing, associated, touched: false, label, habit: Habit::default() }
    }

    /// The backing from `pages` further on.
    fn backing_at(&self, pages: PageCount) -> Backing {
        let mut backing = self.backing.clone();
        match &mut backing {
            Backing::Anonymous => {}
            Backing::Snapshot { .. } if mutant::active(Mutant::SplitForgetsOffset) => {}
            Backing::Snapshot { offset, .. } => *offset += pages.bytes(),
            Backing::Shared { first, .. } => *first += pages.0,
        }
        backing
    }

    /// Whether `next`, right behind, only continues this region. One that was touched does not
    /// continue one that was not: what a lazy read replaces would have to be searched for mapped
    /// pages then, and its cost grow with its length. Nor does one whose pages were cleaned
    /// continue others: it is known by that.
    fn continues(&self, next: &Self) -> bool {
        let backing = match (&self.backing, &next.backing) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (
                Backing::Snapshot { snapshot: a, offset: at },
                Backing::Snapshot { snapshot: b, offset },
            ) => Arc::ptr_eq(a, b) && *at + self.pages.bytes() == *offset,
            (Backing::Shared { memory: a, first }, Backing::Shared { memory: b, first: next }) => {
                Arc::ptr_eq(a, b) && first + self.pages.0 == *next
            }
            _ => false,
        };
        let alike = self.touched == next.touched && self.habit.cleaned == next.habit.cleaned;
        backing && self.prot == next.prot && self.label == next.label && alike
    }

    /// Cuts off what lies `pages` behind the start. `tail_associated` are the associated pages in
    /// there.
    fn split_off(&mut self, pages: PageCount, tail_associated: PageCount) -> Self {
        let mut tail = Self {
            backing: self.backing_at(pages),
            pages: self.pages - pages,
            associated: tail_associated,
            ..self.clone()
        };
        self.pages = pages;
        self.associated -= tail_associated;
        for part in [self, &mut tail] {
            part.settle();
        }
        tail
    }

    /// A region none of whose pages is associated any more lets go of its snapshot (C10).
    pub fn settle(&mut self) {
        if self.associated.is_zero() && matches!(self.backing, Backing::Snapshot { .. }) {
            self.backing = Backing::Anonymous;
        }
    }
}

/// The regions of an address space.
#[derive(Clone, Default)]
pub struct RegionMap {
    regions: BTreeMap<Page, Region>,
}

impl RegionMap {
    /// How many.
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PageRange, &Region)> {
        self.regions.iter().map(|(&start, region)| (PageRange::new(start, region.pages), region))
    }

    /// The region of a page.
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

    /// The regions that have pages in a range, in order; their own ranges may reach beyond.
    pub fn overlapping(&self, range: PageRange) -> impl Iterator<Item = (PageRange, &Region)> {
        let first = self.find(range.start).map_or(range.start, |(found, _)| found.start);
        self.regions
            .range(first..range.end.max(first))
            .map(|(&start, region)| (PageRange::new(start, region.pages), region))
    }

    /// Puts a region where there is none.
    pub fn insert(&mut self, start: Page, region: Region) {
        debug_assert!(!region.pages.is_zero() && self.is_free(PageRange::new(start, region.pages)));
        self.regions.insert(start, region);
    }

    /// Whether no region has a page in a range.
    pub fn is_free(&self, range: PageRange) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Makes `page` the beginning of a region, if it lies inside one. `count` tells how many pages
    /// of a range are private.
    pub fn split_at(&mut self, page: Page, count: &mut dyn FnMut(PageRange) -> PageCount) {
        let Some((range, region)) = self.find_mut(page).filter(|(range, _)| range.start != page)
        else {
            return;
        };
        let tail = PageRange { start: page, end: range.end };
        let tail_associated = match region.backing {
            // With nothing private on either side there is nothing to count.
            Backing::Snapshot { .. } if region.associated == region.pages => tail.pages(),
            Backing::Snapshot { .. } => tail.pages() - count(tail),
            _ => PageCount::ZERO,
        };
        let tail = region.split_off(page - range.start, tail_associated);
        self.regions.insert(page, tail);
    }

    /// Takes all regions of a range out, splitting those at its ends.
    pub fn remove(
        &mut self,
        range: PageRange,
        count: &mut dyn FnMut(PageRange) -> PageCount,
    ) -> Vec<(Page, Region)> {
        self.split_at(range.start, count);
        self.split_at(range.end, count);
        let mut removed = Vec::new();
        while let Some((&start, _)) =
            self.regions.range(range.start..range.end.max(range.start)).next()
        {
            removed.extend(self.regions.remove(&start).map(|region| (start, region)));
        }
        removed
    }

    /// Changes every region within a range, both ends of which are borders already.
    pub fn change(&mut self, range: PageRange, mut change: impl FnMut(PageRange, &mut Region)) {
        for (&start, region) in self.regions.range_mut(range.start..range.end.max(range.start)) {
            change(PageRange::new(start, region.pages), region);
        }
    }

    /// Joins regions that continue each other, within a range, at its ends, and one region further
    /// on either side: those may have been touched since they were last looked at.
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

    /// The highest gap of `pages` pages within a range, as Linux chooses for mmap.
    pub fn find_gap(&self, pages: PageCount, within: PageRange) -> Option<Page> {
        let mut end = within.end;
        let below = (Bound::Included(Page(0)), Bound::Excluded(within.end));
        for (&start, region) in self.regions.range(below).rev() {
            let gap_start = (start + region.pages).max(within.start);
            if gap_start <= end && end - gap_start >= pages {
                return Some(Page(end.0 - pages.0));
            }
            end = end.min(start);
            if end < within.start {
                return None;
            }
        }
        (end >= within.start && end - within.start >= pages).then(|| Page(end.0 - pages.0))
    }
}
