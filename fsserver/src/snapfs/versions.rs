//! The rescued versions of a file's pages.
//!
//! Pages are kept in segments, which are split where changes begin and end: a page without rescued
//! versions is in none. Of the versions of a page, oldest first, a snapshot reads the first whose
//! `until` is not before its own epoch. If there is none, the page is unchanged in the file.
//!
//! An index by `until` finds the versions that the end of a snapshot may have left without a
//! reader, so the others are not visited.
//!
//! Invariants, which debug builds check after each change: segments are ordered and disjoint; each
//! has a version; their `until` ascend; the index lists each version once.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use foundation::PageCount;

use super::coverage::Coverage;
use super::mutants;
use super::rescue_map::{Epoch, Source};
use super::steps;

/// Maximum number of versions of a page. They are copied when a segment is split.
const MAX_VERSIONS: usize = 256;

/// Segments of a closed snapshot's range up to which they are visited one by one. In a range with
/// more, the index is used, which has the versions of other ranges, too.
const FEW_SEGMENTS: usize = 64;

/// A rescued version of some pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rescued {
    /// The last epoch whose snapshots it serves.
    pub until: Epoch,
    /// Where the first of the pages is.
    pub source: Source,
}

/// A run of pages with the same history.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// First page behind the run.
    end: u64,
    /// Oldest first.
    versions: Vec<Rescued>,
}

impl Segment {
    /// Whether `next`, which begins where this ends, continues it with the same history.
    fn continues_in(&self, begin: u64, next: &Self) -> bool {
        let pages = self.end - begin;
        let same = |(a, b): (&Rescued, &Rescued)| {
            a.until == b.until && a.source.advanced(pages) == b.source
        };
        self.versions.len() == next.versions.len()
            && self.versions.iter().zip(&next.versions).all(same)
    }
}

/// The history of some pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History<'a> {
    /// Versions of the pages from `begin` on, oldest first.
    versions: &'a [Rescued],
    begin: u64,
}

impl History<'_> {
    /// Where a snapshot of this epoch finds `page`, unless it is unchanged in the file.
    pub fn source_for(&self, epoch: Epoch, page: u64) -> Option<Source> {
        let index = self.versions.partition_point(|version| version.until < epoch);
        let index = mutants::version_for(index, self.versions.len());
        self.versions.get(index).map(|version| version.source.advanced(page - self.begin))
    }

    /// Whether a snapshot of this epoch finds the pages in the file.
    pub fn is_live_for(&self, epoch: Epoch) -> bool {
        self.versions.last().is_none_or(|version| version.until < epoch)
    }
}

/// The rescued versions of all pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    /// Segments by their first page.
    segments: BTreeMap<u64, Segment>,
    /// `until` and first page of each version.
    index: BTreeSet<(Epoch, u64)>,
    /// Pages in the rescue file.
    stored: PageCount,
    /// No page has more versions.
    deepest: usize,
}

impl Versions {
    /// Pages in the rescue file that a snapshot needs.
    pub fn stored(&self) -> PageCount {
        self.stored
    }

    /// Segments and versions: what takes memory.
    pub fn entries(&self) -> usize {
        self.segments.len() + self.index.len()
    }

    /// Splits a range into runs, each with its history.
    pub fn runs(&self, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, History<'_>)> {
        let mut at = pages.start;
        let before = self.segments.range(..=at).next_back().filter(|(_, before)| before.end > at);
        let first = before.map_or(at, |(&begin, _)| begin);
        let mut segments = self.segments.range(first..pages.end.max(first)).peekable();
        core::iter::from_fn(move || {
            if at >= pages.end {
                return None;
            }
            steps::visit();
            let (end, versions, begin) = match segments.peek() {
                Some(&(&begin, segment)) if begin <= at => {
                    segments.next();
                    (segment.end, &segment.versions[..], begin)
                }
                Some(&(&begin, _)) => (begin, &[][..], at),
                None => (pages.end, &[][..], at),
            };
            let run = at..end.min(pages.end);
            at = run.end;
            Some((run, History { versions, begin }))
        })
    }

    /// The first range of at most `most` pages without versions that lies between two segments,
    /// from the segment around page `from` on; up to the last segment that begins within `most`
    /// pages. Visits all segments where there is none.
    pub fn gap(&self, from: u64, most: u64) -> Option<Range<u64>> {
        let first = self.segments.range(..=from).next_back().map_or(from, |(&begin, _)| begin);
        let mut previous_end = u64::MAX;
        for (&begin, segment) in self.segments.range(first..) {
            steps::visit();
            let within = previous_end.saturating_add(most);
            if previous_end < begin && begin <= within {
                let last = self.segments.range(begin..=within).next_back();
                return last.map(|(&last, _)| previous_end..last);
            }
            previous_end = segment.end;
        }
        None
    }

    /// Whether each page of a range can get one more version.
    pub fn has_space(&self, pages: Range<u64>) -> bool {
        let has_space = |(_, history): (_, History<'_>)| history.versions.len() < MAX_VERSIONS;
        self.deepest < MAX_VERSIONS || self.runs(pages).all(has_space)
    }

    /// Splits the segment around page `at` in two.
    fn split(&mut self, at: u64) {
        let Some((&begin, segment)) = self.segments.range_mut(..at).next_back() else { return };
        if segment.end <= at {
            return;
        }
        let mut behind = segment.clone();
        segment.end = at;
        for version in &mut behind.versions {
            version.source = version.source.advanced(at - begin);
            self.index.insert((version.until, at));
        }
        self.segments.insert(at, behind);
    }

    /// Joins adjacent segments with the same history, in the range and at its ends.
    fn join(&mut self, pages: &Range<u64>) {
        let first = self.segments.range(..pages.start).next_back();
        let mut last = first.map_or(pages.start, |(&begin, _)| begin);
        steps::visit();
        while let Some((&begin, next)) =
            self.segments.range(last + 1..=pages.end.max(last + 1)).next()
        {
            steps::visit();
            let end = next.end;
            match self.segments.get(&last) {
                Some(segment) if segment.end == begin && segment.continues_in(last, next) => {
                    for version in &next.versions {
                        self.index.remove(&(version.until, begin));
                    }
                    self.segments.remove(&begin);
                    if let Some(segment) = self.segments.get_mut(&last) {
                        segment.end = end;
                    }
                }
                _ => last = begin,
            }
        }
        debug_assert_eq!(self.check(pages), Ok(()));
        // The sums cost a pass over the whole map, so only small maps are summed up.
        debug_assert!(self.segments.len() > 64 || self.sums_are_right());
    }

    /// Checks the segments of a range and their neighbours against the invariants, and says which
    /// one does not hold.
    fn check(&self, pages: &Range<u64>) -> Result<(), &'static str> {
        let first = self.segments.range(..pages.start).next_back();
        let first = first.map_or(pages.start, |(&begin, _)| begin);
        let mut previous_end = 0;
        for (&begin, segment) in self.segments.range(first..=pages.end) {
            if begin < previous_end {
                return Err("segments overlap");
            } else if begin >= segment.end {
                return Err("a segment is empty");
            } else if segment.versions.is_empty() {
                return Err("a segment has no version");
            } else if !segment.versions.is_sorted_by(|a, b| a.until < b.until) {
                return Err("rescued versions are out of order");
            } else if segment.versions.iter().any(|one| !self.index.contains(&(one.until, begin))) {
                return Err("a version is not in the index");
            }
            previous_end = segment.end;
        }
        Ok(())
    }

    /// Whether index and sum are those of the segments.
    fn sums_are_right(&self) -> bool {
        let (mut stored, mut versions) = (PageCount::ZERO, 0);
        for (&begin, segment) in &self.segments {
            let in_file = |version: &&Rescued| matches!(version.source, Source::Rescued(_));
            let count = segment.versions.iter().filter(in_file).count() as u64;
            stored += PageCount(count * (segment.end - begin));
            versions += segment.versions.len();
        }
        stored == self.stored && versions == self.index.len()
    }

    /// Pages have been copied to `source`, for snapshots until an epoch: later than those that
    /// their other versions serve.
    pub fn add(&mut self, pages: Range<u64>, until: Epoch, source: Source) {
        self.split(pages.start);
        self.split(pages.end);
        let mut at = pages.start;
        while at < pages.end {
            let next = self.segments.range(at..pages.end).next().map(|(&begin, _)| begin);
            let end = next.filter(|&begin| begin > at).unwrap_or(pages.end);
            let added = Segment { end, versions: Vec::new() };
            let segment = self.segments.entry(at).or_insert(added);
            let source = source.advanced(at - pages.start);
            segment.versions.reserve_exact(1);
            segment.versions.push(Rescued { until, source });
            self.deepest = self.deepest.max(segment.versions.len());
            self.index.insert((until, at));
            at = segment.end;
        }
        if matches!(source, Source::Rescued(_)) {
            self.stored += PageCount(pages.end - pages.start);
        }
        self.join(&pages);
    }

    /// Drops the versions that only a closed snapshot has read. `coverage` has the others. Returns
    /// the slots of the rescue file that are free now.
    pub fn drop_unused(
        &mut self,
        pages: Range<u64>,
        epoch: Epoch,
        coverage: &Coverage,
    ) -> Vec<Range<u64>> {
        let mut freed = Vec::new();
        // No version ends between these epochs: their snapshots read the same.
        let older = self.index.range(..(epoch, 0)).next_back().map_or(0, |&(until, _)| until + 1);
        let Some(&(mut until, _)) = self.index.range((epoch, 0)..).next() else { return freed };
        if coverage.covers(pages.clone(), older..=until) {
            return freed;
        }
        let around = self.segments.range(..=pages.start).next_back();
        let first = around.filter(|(_, around)| around.end > pages.start);
        let first = first.map_or(pages.start, |(&begin, _)| begin);
        if self.segments.range(first..pages.end).nth(FEW_SEGMENTS).is_none() {
            let mut at = first;
            while at < pages.end
                && let Some((&begin, segment)) = self.segments.range(at..pages.end).next()
            {
                steps::visit();
                at = segment.end;
                let index = segment.versions.partition_point(|version| version.until < epoch);
                if let Some(version) = segment.versions.get(index) {
                    self.drop_parts(begin, version.until, &pages, coverage, &mut freed);
                }
            }
        } else {
            loop {
                let mut at = first;
                while at < pages.end
                    && let Some(&(_, begin)) =
                        self.index.range((until, at)..(until, pages.end)).next()
                {
                    at = self.segments.get(&begin).map_or(begin + 1, |segment| segment.end);
                    self.drop_parts(begin, until, &pages, coverage, &mut freed);
                }
                let Some(&(later, _)) = self.index.range((until + 1, 0)..).next() else { break };
                until = later;
                if coverage.covers(pages.clone(), older..=until) {
                    break;
                }
            }
        }
        freed
    }

    /// Drops the version until an epoch from the parts of a segment in which no snapshot reads it.
    fn drop_parts(
        &mut self,
        begin: u64,
        until: Epoch,
        pages: &Range<u64>,
        coverage: &Coverage,
        freed: &mut Vec<Range<u64>>,
    ) {
        steps::visit();
        let Some(segment) = self.segments.get(&begin) else { return };
        let index = segment.versions.partition_point(|version| version.until < until);
        let older = index.checked_sub(1).and_then(|older| segment.versions.get(older));
        let readers = older.map_or(0, |older| older.until + 1)..=until;
        let within = begin.max(pages.start)..segment.end.min(pages.end);
        for part in coverage.uncovered(within, readers) {
            self.split(part.start);
            self.split(part.end);
            let Some(segment) = self.segments.get_mut(&part.start) else { continue };
            if segment.versions.get(index).is_none_or(|version| version.until != until) {
                debug_assert!(false, "a segment lacks the version that is dropped");
                continue;
            }
            let version = segment.versions.remove(index);
            if segment.versions.is_empty() {
                self.segments.remove(&part.start);
            }
            self.index.remove(&(until, part.start));
            if let Source::Rescued(slot) = version.source {
                let length = part.end - part.start;
                self.stored -= PageCount(length);
                match freed.last_mut().filter(|last| last.end == slot) {
                    Some(last) => last.end += length,
                    None => freed.push(slot..slot + length),
                }
            }
            self.join(&part);
        }
    }
}
