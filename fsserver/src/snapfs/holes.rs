//! The set of a file's pages that are holes.

use alloc::collections::BTreeMap;
use core::ops::Range;

use foundation::PageCount;

use super::steps;

/// Runs of a range that are visited to find out how much of it is data. What lies behind counts as
/// data.
const FEW_RUNS: usize = 64;

/// A set of pages, as ranges that are disjoint and not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holes {
    /// The end of each range, by its first page.
    ranges: BTreeMap<u64, u64>,
    /// Number of pages.
    pages: u64,
}

impl Holes {
    /// The empty set.
    pub const NONE: &'static Self = &Self { ranges: BTreeMap::new(), pages: 0 };

    /// Number of ranges.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Forgets the last ranges beyond a number of them.
    #[inline]
    pub fn keep(&mut self, ranges: usize) {
        while self.ranges.len() > ranges {
            let Some((begin, end)) = self.ranges.pop_last() else { break };
            self.pages -= end - begin;
        }
    }

    /// Removes pages, which hold data now.
    pub fn remove(&mut self, pages: Range<u64>) {
        if pages.is_empty() || self.ranges.is_empty() {
            return;
        }
        if let Some((&begin, end)) = self.ranges.range_mut(..pages.start).next_back()
            && *end > pages.start
        {
            let behind = core::mem::replace(end, pages.start);
            debug_assert!(begin < pages.start);
            self.pages -= behind.min(pages.end) - pages.start;
            if behind > pages.end {
                self.ranges.insert(pages.end, behind);
                return;
            }
        }
        while let Some((&begin, &end)) = self.ranges.range(pages.clone()).next() {
            self.ranges.remove(&begin);
            self.pages -= end.min(pages.end) - begin;
            if end > pages.end {
                self.ranges.insert(pages.end, end);
            }
        }
    }

    /// Adds pages, which are holes now.
    pub fn insert(&mut self, pages: Range<u64>) {
        if pages.is_empty() {
            return;
        }
        if self.ranges.last_key_value().is_none_or(|(_, &end)| end < pages.start) {
            // As a list of holes comes, and as a file grows.
            self.pages += pages.end - pages.start;
            self.ranges.insert(pages.start, pages.end);
            return;
        }
        self.remove(pages.clone());
        self.pages += pages.end - pages.start;
        let mut whole = pages;
        if let Some((&begin, &end)) = self.ranges.range(..whole.start).next_back()
            && end == whole.start
        {
            self.ranges.remove(&begin);
            whole.start = begin;
        }
        if let Some(end) = self.ranges.remove(&whole.end) {
            whole.end = end;
        }
        self.ranges.insert(whole.start, whole.end);
    }

    /// The parts of the ranges that lie in some pages, in order.
    pub fn within(&self, pages: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let around = self.ranges.range(..=pages.start).next_back();
        let around = around.filter(|&(_, &end)| end > pages.start);
        let first = around.map_or(pages.start, |(&begin, _)| begin);
        let ranges = self.ranges.range(first..pages.end.max(first));
        let within = move |(&begin, &end): (&u64, &u64)| begin.max(pages.start)..end.min(pages.end);
        ranges.map(within).filter(|range| !range.is_empty())
    }

    /// Splits a range into runs, each all hole (`true`) or all data.
    pub fn runs(&self, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, bool)> {
        let mut at = pages.start;
        core::iter::from_fn(move || {
            if at >= pages.end {
                return None;
            }
            steps::visit();
            let begin = at;
            let around = self.ranges.range(..=begin).next_back().filter(|&(_, &end)| end > begin);
            let is_hole = around.is_some();
            at = match around {
                Some((_, &end)) => end,
                None => self.ranges.range(begin..).next().map_or(pages.end, |(&next, _)| next),
            };
            at = at.min(pages.end);
            Some((begin..at, is_hole))
        })
    }

    /// Number of pages in a range that hold data.
    pub fn data_pages(&self, pages: Range<u64>) -> u64 {
        self.runs(pages).filter(|(_, is_hole)| !is_hole).map(|(run, _)| run.end - run.start).sum()
    }

    /// The same, or more if there are many runs.
    pub fn data_pages_at_most(&self, pages: Range<u64>) -> PageCount {
        let first = self.ranges.first_key_value().map_or(u64::MAX, |(&begin, _)| begin);
        let last = self.ranges.last_key_value().map_or(0, |(_, &end)| end);
        let length = pages.end - pages.start;
        let all_lie_within = pages.start <= first && last <= pages.end;
        if all_lie_within {
            return PageCount(length - self.pages);
        }
        let mut more = length;
        for (run, is_hole) in self.runs(pages).take(FEW_RUNS) {
            more -= if is_hole { run.end - run.start } else { 0 };
        }
        PageCount(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn agrees_with_an_array_of_flags() {
        let mut holes = Holes::default();
        let mut flags = [false; 64];
        let mut state = 12345_u64;
        for _ in 0..5000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (a, b) = ((state >> 33) % 65, (state >> 45) % 65);
            let range = a.min(b)..a.max(b);
            let make_hole = (state >> 60) & 1 == 1;
            flags[range.start as usize..range.end as usize].fill(make_hole);
            if make_hole {
                holes.insert(range)
            } else {
                holes.remove(range)
            }
            let holes_in =
                |range: Range<u64>| flags[range.start as usize..range.end as usize].iter();
            let data = |range: Range<u64>| holes_in(range).filter(|hole| !**hole).count() as u64;
            assert_eq!(holes.pages, 64 - data(0..64));
            for part in [0..64, a.min(b)..a.max(b)] {
                assert_eq!(holes.data_pages(part.clone()), data(part.clone()));
                assert_eq!(holes.data_pages_at_most(part.clone()), PageCount(data(part)));
            }
            let part = a.min(b)..a.max(b);
            let holes_of_runs = holes.runs(part.clone()).filter(|(_, is_hole)| *is_hole);
            assert!(holes.within(part).eq(holes_of_runs.map(|(run, _)| run)));
            let runs: Vec<_> = holes.runs(0..64).collect();
            let spread: Vec<bool> =
                runs.iter().flat_map(|(run, hole)| run.clone().map(move |_| *hole)).collect();
            assert_eq!(spread, flags);
            assert!(
                runs.windows(2).all(|pair| pair[0].1 != pair[1].1),
                "touching ranges: {runs:?}"
            );
        }
    }

    #[test]
    fn data_pages_are_bounded_without_a_visit_to_all_runs() {
        let mut holes = Holes::default();
        (0..1000).for_each(|at| holes.insert(2 * at..2 * at + 1));
        assert_eq!(holes.data_pages_at_most(0..2000), PageCount(1000));
        // Half of the first runs are holes; what follows counts as data.
        let at_most = holes.data_pages_at_most(1..2000).0;
        assert_eq!(at_most, 1999 - FEW_RUNS as u64 / 2);
        assert!(at_most >= holes.data_pages(1..2000));
    }
}
