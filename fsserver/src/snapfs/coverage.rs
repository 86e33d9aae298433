//! Which pages of a file its snapshots cover, by epoch.
//!
//! Snapshots are counted as intervals: each is the union of at most twice as many *blocks* as its
//! length has binary digits, and a block counts its snapshots by epoch. A block of level `n` has
//! 2ⁿ pages and begins at a multiple of them, as in a segment tree (Bentley 1977). So a snapshot is
//! added and removed in O(log² n), whatever happened to its pages, and what covers a page is found
//! in the one block of each level that contains it.
//!
//! Owns no history of pages: see [`RescueMap`](super::rescue_map::RescueMap).

use alloc::collections::BTreeMap;
use core::ops::{Range, RangeInclusive};

use super::mutants;
use super::rescue_map::Epoch;
use super::steps;

/// Bits of a block's number that count the blocks of its level. Pages have 52 bits.
const INDEX_BITS: u32 = 58;

/// A block: its level in the upper bits, its index within the level in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block(u64);

impl Block {
    fn new(level: u32, index: u64) -> Self {
        debug_assert!(index >> INDEX_BITS == 0, "a page number has too many bits");
        Self(u64::from(level) << INDEX_BITS | index)
    }

    /// The block of a level that contains a page.
    fn around(level: u32, page: u64) -> Self {
        Self::new(level, page >> level)
    }

    fn level(self) -> u32 {
        (self.0 >> INDEX_BITS) as u32
    }

    fn pages(self) -> Range<u64> {
        let (level, index) = (self.level(), self.0 & ((1 << INDEX_BITS) - 1));
        index << level..(index + 1) << level
    }
}

/// The blocks that make up a range, in order.
fn blocks_of(pages: Range<u64>) -> impl Iterator<Item = Block> {
    let mut at = pages.start;
    core::iter::from_fn(move || {
        let length = pages.end.checked_sub(at).filter(|&length| length > 0)?;
        let level = at.trailing_zeros().min(length.ilog2());
        let block = Block::around(level, at);
        at += 1 << level;
        Some(block)
    })
}

/// The intervals that snapshots cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    /// Number of snapshots of a block in an epoch.
    counts: BTreeMap<(Block, Epoch), u32>,
    /// A bit for each level with blocks.
    levels: u64,
}

impl Coverage {
    /// Whether there is no snapshot.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Number of entries: what takes memory.
    pub fn entries(&self) -> usize {
        self.counts.len()
    }

    /// A snapshot was taken.
    pub fn add(&mut self, pages: Range<u64>, epoch: Epoch) {
        for block in blocks_of(pages) {
            steps::visit();
            *self.counts.entry((block, epoch)).or_default() += 1;
            self.levels |= 1 << block.level();
        }
    }

    /// A snapshot was closed.
    pub fn remove(&mut self, pages: Range<u64>, epoch: Epoch) {
        for block in blocks_of(pages) {
            steps::visit();
            let Some(count) = self.counts.get_mut(&(block, epoch)) else {
                debug_assert!(
                    mutants::forget_equal_snapshots(),
                    "a snapshot is closed that was never taken"
                );
                continue;
            };
            *count -= 1;
            if *count > 0 && !mutants::forget_equal_snapshots() {
                continue;
            }
            self.counts.remove(&(block, epoch));
            let level = block.level();
            let first = self.counts.range((Block::new(level, 0), 0)..).next();
            if first.is_none_or(|((block, _), _)| block.level() != level) {
                self.levels &= !(1 << level);
            }
        }
    }

    /// The levels with blocks, in ascending order.
    fn levels(&self) -> impl Iterator<Item = u32> {
        let mut rest = self.levels;
        core::iter::from_fn(move || {
            steps::visit();
            let level = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (level < u64::BITS).then_some(level)
        })
    }

    /// Of the snapshots of these epochs that cover a page: the newest, and the last page of the
    /// largest block, plus one.
    fn at(&self, page: u64, epochs: &RangeInclusive<Epoch>) -> Option<(Epoch, u64)> {
        let covering = self.levels().filter_map(|level| {
            let block = Block::around(level, page);
            let found = self.counts.range((block, *epochs.start())..=(block, *epochs.end()));
            found.map(|(&(_, epoch), _)| (epoch, block.pages().end)).next_back()
        });
        covering.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    /// The first page behind `page` at which any block begins or one around it ends: up to there,
    /// the same snapshots cover all pages.
    fn next_boundary(&self, page: u64) -> u64 {
        let of_level = |level| {
            let block = Block::around(level, page);
            let end = block.pages().end;
            let is_around = self.counts.range((block, 0)..=(block, Epoch::MAX)).next().is_some();
            let next = self.counts.range((Block(block.0 + 1), 0)..).next();
            let next = next.filter(|((block, _), _)| block.level() == level);
            let next = next.map_or(u64::MAX, |((block, _), _)| block.pages().start);
            if is_around { end.min(next) } else { next }
        };
        self.levels().map(of_level).min().unwrap_or(u64::MAX)
    }

    /// Splits a range into runs that are covered by snapshots up to the same epoch, or by none.
    pub fn runs(&self, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, Option<Epoch>)> {
        let mut at = pages.start;
        core::iter::from_fn(move || {
            if at >= pages.end {
                return None;
            }
            let begin = at;
            let newest = |page| self.at(page, &(0..=Epoch::MAX)).map(|(epoch, _)| epoch);
            let found = newest(begin);
            while at < pages.end {
                at = self.next_boundary(at).min(pages.end);
                if at < pages.end && newest(at) != found {
                    break;
                }
            }
            Some((begin..at, found))
        })
    }

    /// Whether snapshots of these epochs cover all of a range.
    pub fn covers(&self, pages: Range<u64>, epochs: RangeInclusive<Epoch>) -> bool {
        let mut at = pages.start;
        while at < pages.end {
            let Some((_, end)) = self.at(at, &epochs) else { return false };
            at = end;
        }
        true
    }

    /// The parts of a range that no snapshot of these epochs covers.
    pub fn uncovered(
        &self,
        pages: Range<u64>,
        epochs: RangeInclusive<Epoch>,
    ) -> impl Iterator<Item = Range<u64>> {
        let mut at = pages.start;
        core::iter::from_fn(move || {
            while at < pages.end
                && let Some((_, end)) = self.at(at, &epochs)
            {
                at = end;
            }
            let begin = at;
            while at < pages.end && self.at(at, &epochs).is_none() {
                at = self.next_boundary(at);
            }
            (begin < pages.end).then(|| begin..at.min(pages.end))
        })
    }

    /// The range from the first page that is covered to the last one.
    pub fn hull(&self) -> Range<u64> {
        let first = |level| self.counts.range((Block::new(level, 0), 0)..).next();
        let last = |level| self.counts.range(..(Block::new(level + 1, 0), 0)).next_back();
        let begins = self.levels().filter_map(first).map(|((block, _), _)| block.pages().start);
        let ends = self.levels().filter_map(last).map(|((block, _), _)| block.pages().end);
        begins.min().unwrap_or(0)..ends.max().unwrap_or(0)
    }

    /// The largest range around some pages that snapshots cover without a gap at either side.
    pub fn around(&self, pages: &Range<u64>) -> Range<u64> {
        let mut whole = pages.clone();
        while let Some((_, end)) = self.at(whole.end, &(0..=Epoch::MAX)) {
            whole.end = end;
        }
        let begin_of = |page: u64| {
            let around = self.levels().map(|level| Block::around(level, page));
            let counted = |block: &Block| {
                self.counts.range((*block, 0)..=(*block, Epoch::MAX)).next().is_some()
            };
            around.filter(counted).map(|block| block.pages().start).min()
        };
        while let Some(begin) = whole.start.checked_sub(1).and_then(begin_of) {
            whole.start = begin;
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const PAGES: u64 = 70;

    /// The snapshots in a list.
    #[derive(Default)]
    struct Model(Vec<(Range<u64>, Epoch)>);

    impl Model {
        fn newest(&self, page: u64, epochs: &RangeInclusive<Epoch>) -> Option<Epoch> {
            let covering = self
                .0
                .iter()
                .filter(|(pages, epoch)| pages.contains(&page) && epochs.contains(epoch));
            covering.map(|&(_, epoch)| epoch).max()
        }

        fn check(&self, coverage: &Coverage, pages: Range<u64>, epochs: RangeInclusive<Epoch>) {
            let all = 0..=Epoch::MAX;
            let runs: Vec<_> = coverage.runs(pages.clone()).collect();
            let newest: Vec<_> =
                runs.iter().flat_map(|(run, newest)| run.clone().map(|_| *newest)).collect();
            assert!(newest.iter().copied().eq(pages.clone().map(|page| self.newest(page, &all))));
            assert!(runs.windows(2).all(|pair| pair[0].1 != pair[1].1), "{runs:?}");
            let lacking: Vec<u64> =
                pages.clone().filter(|&page| self.newest(page, &epochs).is_none()).collect();
            let uncovered: Vec<_> = coverage.uncovered(pages.clone(), epochs.clone()).collect();
            assert!(uncovered.iter().cloned().flatten().eq(lacking.iter().copied()));
            assert!(uncovered.windows(2).all(|pair| pair[0].end < pair[1].start));
            assert_eq!(coverage.covers(pages.clone(), epochs), lacking.is_empty());
            let hull = self.0.iter().map(|(pages, _)| pages.start).min().unwrap_or(0)
                ..self.0.iter().map(|(pages, _)| pages.end).max().unwrap_or(0);
            assert_eq!(coverage.hull(), hull);
            let is_covered = |&page: &u64| self.newest(page, &all).is_some();
            let end = (pages.end..).find(|page| !is_covered(page)).unwrap();
            let begin = (0..pages.start).rev().find(|page| !is_covered(page));
            assert_eq!(coverage.around(&pages), begin.map_or(0, |page| page + 1)..end);
        }
    }

    #[test]
    fn c8_agrees_with_a_list_of_snapshots() {
        for seed in 1..40_u64 {
            let mut state = seed;
            let mut random = move |below: u64| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) % below
            };
            let (mut coverage, mut model) = (Coverage::default(), Model::default());
            for _ in 0..200 {
                let (a, b) = (random(PAGES + 1), random(PAGES + 1));
                let pages = a.min(b)..a.max(b);
                if random(2) == 0 && !pages.is_empty() {
                    let epoch = random(6);
                    coverage.add(pages.clone(), epoch);
                    model.0.push((pages.clone(), epoch));
                } else if !model.0.is_empty() {
                    let index = random(model.0.len() as u64) as usize;
                    let (pages, epoch) = model.0.swap_remove(index);
                    coverage.remove(pages, epoch);
                }
                let (a, b) = (random(6), random(6));
                model.check(&coverage, pages, a.min(b)..=a.max(b));
            }
            for (pages, epoch) in model.0 {
                coverage.remove(pages, epoch);
            }
            assert_eq!(coverage, Coverage::default());
        }
    }

    #[test]
    fn a_snapshot_takes_few_entries_wherever_it_lies() {
        for pages in [0..16384, 1..16384, 12_345..987_654, (1 << 51) - 3..1 << 51] {
            let mut coverage = Coverage::default();
            coverage.add(pages.clone(), 0);
            let digits = (pages.end - pages.start).ilog2() as usize + 1;
            assert!(coverage.entries() <= 2 * digits, "{pages:?}");
            let before = coverage.clone();
            coverage.add(pages.clone(), 0);
            assert_eq!(coverage.entries(), before.entries());
            coverage.remove(pages, 0);
            assert_eq!(coverage, before);
        }
    }
}
