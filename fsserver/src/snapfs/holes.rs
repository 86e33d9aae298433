//! The set of a file's pages that are holes.

use alloc::collections::BTreeMap;
use core::ops::Range;

/// A set of pages, as ranges that are disjoint and not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holes(BTreeMap<u64, u64>);

impl Holes {
    /// Number of ranges.
    pub fn ranges(&self) -> usize {
        self.0.len()
    }

    /// Forgets the last ranges beyond a number of them.
    #[inline]
    pub fn keep(&mut self, ranges: usize) {
        while self.0.len() > ranges {
            self.0.pop_last();
        }
    }

    /// Removes pages, which hold data now.
    pub fn remove(&mut self, pages: Range<u64>) {
        if pages.is_empty() {
            return;
        }
        if let Some((&begin, end)) = self.0.range_mut(..pages.start).next_back()
            && *end > pages.start
        {
            let behind = core::mem::replace(end, pages.start);
            debug_assert!(begin < pages.start);
            if behind > pages.end {
                self.0.insert(pages.end, behind);
                return;
            }
        }
        while let Some((&begin, &end)) = self.0.range(pages.clone()).next() {
            self.0.remove(&begin);
            if end > pages.end {
                self.0.insert(pages.end, end);
            }
        }
    }

    /// Adds pages, which are holes now.
    pub fn insert(&mut self, pages: Range<u64>) {
        if pages.is_empty() {
            return;
        }
        self.remove(pages.clone());
        let mut whole = pages;
        if let Some((&begin, &end)) = self.0.range(..whole.start).next_back()
            && end == whole.start
        {
            self.0.remove(&begin);
            whole.start = begin;
        }
        if let Some(end) = self.0.remove(&whole.end) {
            whole.end = end;
        }
        self.0.insert(whole.start, whole.end);
    }

    /// Splits a range into runs, each all hole (`true`) or all data.
    pub fn runs(&self, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, bool)> {
        let mut at = pages.start;
        core::iter::from_fn(move || {
            if at >= pages.end {
                return None;
            }
            let begin = at;
            let around = self.0.range(..=begin).next_back().filter(|&(_, &end)| end > begin);
            let is_hole = around.is_some();
            at = match around {
                Some((_, &end)) => end,
                None => self.0.range(begin..).next().map_or(pages.end, |(&next, _)| next),
            };
            at = at.min(pages.end);
            Some((begin..at, is_hole))
        })
    }

    /// Number of pages in a range that hold data.
    pub fn data_pages(&self, pages: Range<u64>) -> u64 {
        self.runs(pages).filter(|(_, is_hole)| !is_hole).map(|(run, _)| run.end - run.start).sum()
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
}
