//! The policy of fault windows: which pages a fault on a snapshot-backed page fetches.
//!
//! **Contract.** For a fault of a page, [`Habit::window`] and [`Habit::window_for_store`] return a
//! range that contains the page, lies in its region and has at most
//! [`MAX_FAULT_AROUND`](knob::MAX_FAULT_AROUND) pages. Every such range is correct: it changes what
//! is fetched, never what a page contains. The caller fetches the page and others of the range that
//! are neither mapped nor cached, as far as one message brings them ([`span`]), and reports what
//! came ([`Habit::note`]). All state is in the region's [`Habit`]; nothing here waits, allocates or
//! locks.
//!
//! A message costs as much as 20 to 40 pages, so the policy is that of a traveller who rents skis
//! until the rents come near the price: pages are fetched singly until their messages have cost
//! about as much as all pages would have, and then in the largest windows. So no pattern costs much
//! more than twice what the best fixed window costs. Evidence of dense touches comes earlier in
//! three cases, of which the first that applies counts:
//!
//! | evidence | window |
//! |---|---|
//! | the association before this one was mostly fetched | the largest |
//! | the fault continues the window of the last one | four times that, 16 pages at least |
//! | the region is small ([`FAULT_WHOLE`](knob::FAULT_WHOLE)), or an eighth of it was fetched | the largest |
//! | first fault, at the region's start: likely to be sequential | 16 pages |
//! | more faults than one for [`SPARSE`] pages of the region | 16 pages, after some more the largest |
//! | used pages in the aligned block around the page ([`CLUSTERS`]) | that block |
//! | none of these | one page |
//!
//! The knobs `fault_around` (for stores `store_around`) and `fault_around_max` bound the window
//! from below and above.
#![forbid(unsafe_code)]

use super::{PAGE_BYTES, Page, PageRange, mutants};
use core::ops::Range;
use foundation::PageCount;
use foundation::knob;

// A fetch is answered by one message.
const _: () = assert!(knob::MAX_FAULT_AROUND == (fsproto::MAX_PAYLOAD / PAGE_BYTES) as u64);

/// Up to one fault for this many pages of a region, touches count as sparse.
const SPARSE: u64 = 64;
/// Beyond that, for one more fault for this many pages, windows are of [`FIRST`] pages.
const UNDECIDED: u64 = 2048;
/// Window of the first fault at a region's start, of faults while touches become dense, and the
/// least window of sequential faults.
const FIRST: u64 = 16;
/// The factor by which windows of sequential faults grow.
const GROWTH: u64 = 4;
/// Where more than one page of this many was fetched, the neighbours of the others are needed too.
const DENSE: u64 = 8;
/// Pages that are mapped along with one that is cached: this costs a store for each. As many as
/// Linux maps around a fault.
const MAPPED_ALONG: u64 = 16;
/// Windows, and how many pages of the aligned block of that size must have been used: so few that a
/// cluster shows after some faults, and so many that evenly scattered touches of one page in 64
/// seldom look like one.
const CLUSTERS: [(u32, u32); 5] = [(64, 5), (32, 4), (16, 3), (8, 2), (4, 1)];

/// What faults on a region's snapshot-backed pages have shown so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habit {
    /// The next page if access is sequential.
    expected: Page,
    /// The window of the last fault.
    window: PageCount,
    /// Number of pages fetched since the pages were associated.
    brought: PageCount,
    /// Number of faults that fetched them. Saturates.
    faults: u32,
    /// Most pages of the association before this one were fetched.
    thorough: bool,
    /// Pages became clean by a write that sent no references (W8).
    pub cleaned: bool,
}

impl Habit {
    /// The pages that a load of `page` shall fetch. `used` returns which of the 64 pages around it,
    /// from a multiple of 64 on, were used: one bit for each, the lowest for the first.
    pub fn window(&self, page: Page, region: PageRange, used: impl FnOnce() -> u64) -> PageRange {
        let pages = region.pages().0;
        let wanted = if let Some(learned) = self.learned_early(page, pages) {
            learned
        } else if pages <= knob::FAULT_WHOLE.get() {
            knob::MAX_FAULT_AROUND
        } else if self.faults == 0 && page == region.start {
            FIRST
        } else {
            self.learned(page, pages, used)
        };
        self.around(page, region, wanted, knob::FAULT_AROUND.get())
    }

    /// The pages that a store to `page` shall fetch. As for a load, but a store says nothing of the
    /// rest of a small region.
    pub fn window_for_store(
        &self,
        page: Page,
        region: PageRange,
        used: impl FnOnce() -> u64,
    ) -> PageRange {
        let pages = region.pages().0;
        let wanted = match self.learned_early(page, pages) {
            Some(learned) => learned,
            None => self.learned(page, pages, used),
        };
        self.around(page, region, wanted, knob::STORE_AROUND.get())
    }

    fn learned_early(&self, page: Page, pages: u64) -> Option<u64> {
        if self.thorough || self.brought.0 > pages / DENSE {
            Some(knob::MAX_FAULT_AROUND)
        } else if self.is_sequential(page) {
            Some((self.window.0 * GROWTH).max(FIRST))
        } else {
            None
        }
    }

    fn is_sequential(&self, page: Page) -> bool {
        self.faults > 0 && page == self.expected
    }

    fn learned(&self, page: Page, pages: u64, used: impl FnOnce() -> u64) -> u64 {
        let more = u64::from(self.faults).saturating_sub(pages / SPARSE);
        if more == 0 {
            cluster(page, used())
        } else if more <= pages / UNDECIDED {
            FIRST
        } else {
            knob::MAX_FAULT_AROUND
        }
    }

    /// The window of `wanted` pages, within the bounds of the knobs: an aligned block, or a whole
    /// region that is not larger. Sequential windows begin at the page.
    fn around(&self, page: Page, region: PageRange, wanted: u64, least: u64) -> PageRange {
        let least = least.clamp(1, knob::MAX_FAULT_AROUND);
        let pages = wanted.clamp(least, knob::FAULT_AROUND_MAX.get().max(least));
        if mutants::no_fault_around() {
            return PageRange::single(page);
        }
        if region.pages().0 <= pages {
            return region;
        }
        let start = if self.is_sequential(page) { page } else { Page(page.0 - page.0 % pages) };
        PageRange::new(start, PageCount(pages)).intersect(region)
    }

    /// Whether most pages of the region, which has `pages` pages, were fetched.
    pub fn is_mostly_fetched(&self, pages: PageCount) -> bool {
        self.brought.0 > pages.0 / 2
    }

    /// The region, of `pages` pages, is associated anew: only whether most pages were fetched is
    /// remembered.
    pub fn start_over(&mut self, pages: PageCount) {
        let thorough = self.is_mostly_fetched(pages);
        *self = Self { thorough, cleaned: self.cleaned, ..Self::default() };
    }

    /// A fault with a window of `window` pages fetched `brought` pages, up to `end`.
    pub fn note(&mut self, end: Page, window: PageCount, brought: PageCount) {
        let (faults, brought) = (self.faults.saturating_add(1), self.brought + brought);
        *self = Self { expected: end, window, faults, brought, ..*self };
    }
}

/// The size of the aligned block around a page of which enough pages were `used`.
fn cluster(page: Page, used: u64) -> u64 {
    if used == 0 {
        return 1;
    }
    let index = (page.0 % u64::from(u64::BITS)) as u32;
    let is_used = |&&(pages, least): &&(u32, u32)| {
        let block = used >> (index - index % pages) << (u64::BITS - pages);
        block.count_ones() >= least
    };
    CLUSTERS.iter().find(is_used).map_or(1, |&(pages, _)| u64::from(pages))
}

/// The pages that one message fetches, of a window of 64 pages in which those of `present`, one bit
/// for each, need not be fetched. `wanted` is the number of the faulting one. A page that is
/// fetched again costs less than another message, so few present pages are fetched along with the
/// others, where `again` allows that.
pub fn span(wanted: usize, present: u64, again: Again) -> Range<usize> {
    debug_assert!(wanted < 64, "a window has 64 pages");
    let missing = !present | 1 << wanted;
    let all = missing.trailing_zeros() as usize..64 - missing.leading_zeros() as usize;
    let within = u64::MAX >> (64 - all.len()) << all.start;
    if again == Again::Allowed
        && (!missing & within).count_ones() * MISSING_FOR_ONE <= missing.count_ones()
    {
        return all;
    }
    let start = wanted + 1 - (missing << (63 - wanted)).leading_ones() as usize;
    start..wanted + (missing >> wanted).trailing_ones() as usize
}

/// Whether a page can be fetched that is present already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Its bytes are the same each time.
    Allowed,
    /// The server is not trusted: its first reply counts (X3).
    Never,
}

/// Pages that a message must fetch for each one that it fetches again.
const MISSING_FOR_ONE: u32 = 4;

/// The pages that are mapped along with a page that is cached, as far as they are cached, too: the
/// fault's window, or a little more.
pub fn mapped_along(window: PageRange, page: Page, region: PageRange) -> PageRange {
    let pages = MAPPED_ALONG.min(knob::FAULT_AROUND_MAX.get()).max(1);
    if window.pages().0 >= pages || mutants::no_fault_around() {
        return window;
    }
    let start = Page(page.0 - page.0 % pages);
    let block = PageRange::new(start, PageCount(pages)).intersect(region);
    PageRange { start: window.start.min(block.start), end: window.end.max(block.end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A region whose pages are touched one after the other, all of which have to be fetched.
    struct Touched {
        region: PageRange,
        habit: Habit,
        resident: Vec<bool>,
        used: Vec<bool>,
        fetches: Vec<u64>,
    }

    impl Touched {
        fn new(pages: u64) -> Self {
            // The start is aligned to no window.
            let region = PageRange::new(Page(1001), PageCount(pages));
            let [resident, used] = [(); 2].map(|()| vec![false; pages as usize]);
            Self { region, habit: Habit::default(), resident, used, fetches: Vec::new() }
        }

        fn touch(&mut self, number: u64) {
            let page = self.region.start + PageCount(number);
            if !self.resident[number as usize] {
                let block = page.0 / 64 * 64;
                let bits = (0..64).filter(|bit| {
                    let other = (block + bit).checked_sub(self.region.start.0);
                    other.is_some_and(|other| self.used.get(other as usize) == Some(&true))
                });
                let used = bits.fold(0, |used, bit| used | 1 << bit);
                let window = self.habit.window(page, self.region, || used);
                assert!(window.contains(page) && window.pages().0 <= knob::MAX_FAULT_AROUND);
                assert_eq!(window.intersect(self.region), window);
                let first = (window.start - self.region.start).to_usize();
                let resident = &mut self.resident[first..first + window.pages().to_usize()];
                let absent = (0..resident.len()).filter(|&index| !resident[index]);
                let present = !absent.fold(0, |absent, index| absent | 1 << index);
                let wanted = (page - window.start).to_usize();
                let span = span(wanted, present, Again::Allowed);
                assert!(span.contains(&wanted));
                let brought = PageCount(span.len() as u64);
                resident[span].fill(true);
                self.fetches.push(brought.0);
                self.habit.note(window.end, window.pages(), brought);
            }
            self.used[number as usize] = true;
        }

        /// What the fetches cost, in pages: a message as much as 30.
        fn cost(&self) -> u64 {
            self.fetches.iter().map(|pages| 30 + pages).sum()
        }
    }

    /// A permutation of the pages of a region.
    fn scattered(pages: u64) -> impl Iterator<Item = u64> {
        let mut all: Vec<u64> = (0..pages).collect();
        fastrand::Rng::with_seed(pages).shuffle(&mut all);
        all.into_iter()
    }

    #[test]
    fn f1_scattered_touches_fetch_one_page_each() {
        let mut touched = Touched::new(16384);
        scattered(16384).take(16).for_each(|page| touched.touch(page));
        assert_eq!(touched.fetches, [1; 16]);
        scattered(16384).skip(16).take(240).for_each(|page| touched.touch(page));
        let pages: u64 = touched.fetches.iter().sum();
        assert!(pages < 256 + 128, "{pages} pages for 256 touches");
    }

    #[test]
    fn f1_windows_become_large_when_touches_become_dense() {
        let mut touched = Touched::new(16384);
        scattered(16384).take(4096).for_each(|page| touched.touch(page));
        assert!(touched.fetches.len() < 600, "{} messages", touched.fetches.len());
        assert!(touched.fetches.iter().filter(|&&pages| pages >= 48).count() > 150);
    }

    #[test]
    fn f1_a_cluster_of_touches_is_fetched_in_few_messages() {
        let mut touched = Touched::new(1 << 20);
        scattered(256).for_each(|page| touched.touch(500_000 + page));
        assert!(touched.fetches.len() < 40, "{:?}", touched.fetches);
    }

    #[test]
    fn f1_sequential_touches_fetch_large_windows() {
        for start in [0, 777] {
            let mut touched = Touched::new(4096);
            (start..start + 512).for_each(|page| touched.touch(page));
            assert!(touched.fetches.len() <= 12, "{:?}", touched.fetches);
        }
    }

    #[test]
    fn f1_a_small_region_is_fetched_whole() {
        let mut touched = Touched::new(32);
        touched.touch(17);
        assert_eq!(touched.fetches, [32]);
    }

    #[test]
    fn f1_no_number_of_touches_costs_much_more_than_the_best_window() {
        for pages in [64, 256, 1000, 16384] {
            let mut touched = Touched::new(pages);
            for (number, page) in scattered(pages).enumerate() {
                touched.touch(page);
                let singly = 31 * (number as u64 + 1);
                let at_once = pages.div_ceil(64) * 30 + pages;
                let best = singly.min(at_once);
                assert!(touched.cost() <= best * 5 / 2 + 100, "{number} of {pages} pages");
            }
        }
    }

    #[test]
    fn f1_a_region_that_was_fetched_whole_is_fetched_in_large_windows_again() {
        let mut touched = Touched::new(256);
        (0..256).for_each(|page| touched.touch(page));
        touched.habit.start_over(PageCount(256));
        let window = touched.habit.window(Page(1101), touched.region, || 0);
        assert_eq!(window, PageRange::new(Page(1088), PageCount(64)));
    }

    #[test]
    fn f1_few_present_pages_do_not_divide_a_fetch() {
        let present = |pages: &[u32]| pages.iter().fold(0, |all, page| all | 1 << page);
        assert_eq!(span(9, 0, Again::Allowed), 0..64);
        assert_eq!(span(9, present(&[0, 20, 63]), Again::Allowed), 1..63);
        assert_eq!(span(9, present(&[0, 20, 63]), Again::Never), 1..20);
        assert_eq!(span(63, present(&[62]), Again::Never), 63..64);
        assert_eq!(span(0, present(&[1]), Again::Never), 0..1);
        // Every second page is there.
        assert_eq!(span(8, 0xaaaa_aaaa_aaaa_aaaa, Again::Allowed), 8..9);
        assert_eq!(span(5, u64::MAX, Again::Allowed), 5..6);
    }

    #[test]
    fn f1_cached_pages_around_are_mapped_too() {
        let region = PageRange::new(Page(1001), PageCount(4096));
        let single = PageRange::single(Page(1001));
        assert_eq!(mapped_along(single, Page(1001), region).pages(), PageCount(7));
        let large = PageRange::new(Page(1024), PageCount(64));
        assert_eq!(mapped_along(large, Page(1030), region), large);
    }
}
