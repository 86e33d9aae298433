//! The rescue map of a file: where each of its snapshots finds its pages. They are in the file as
//! it is now, in the file's rescue file, or nowhere (holes).
//!
//! Bookkeeping only: what is recorded here as rescued has been copied by the caller.
//!
//! Time is divided into *epochs*. A snapshot belongs to the epoch in which it was taken; the first
//! change after a snapshot ends the epoch. A page that is rescued, just before it changes, serves
//! all snapshots of it that no earlier rescue serves, up to the *newest* one: of the rescued
//! versions of a page, a snapshot reads the first whose `until` is not before its own epoch. If
//! there is none, the page is unchanged in the file.
//!
//! Pages are kept in segments, which are split where snapshots, changes or holes begin and end.
//! Each part of a segment counts its users, and is removed with the last of them.
//!
//! Segments that were split by changes join again once all of their pages are rescued, since
//! `until` does not depend on the time of the rescue. So a map that has become too large is made
//! small by rescuing the pages between those that have changed.
//!
//! Invariants, which debug builds check after each change: segments are ordered and disjoint; each
//! has a user; no rescued version is without users, and their `until` ascend; [`Holdings`] are the
//! sums over the segments.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use foundation::{Errno, PageCount};

use super::holes::Holes;
use super::mutants;
use crate::buffer::push;

/// Maximum number of rescued versions of a page. They are copied when a segment is split.
const MAX_VERSIONS: usize = 256;

/// Number of an epoch: a period in which the bytes that a file's snapshots need did not change.
pub(super) type Epoch = u64;

/// Where a snapshot finds bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In the file.
    Live,
    /// In the file, where it is a hole.
    LiveHole,
    /// In the rescue file, from this page on.
    Rescued(u64),
    /// Nowhere: the range was a hole, and no longer is.
    Hole,
}

impl Source {
    /// Whether the bytes are zeros without storage.
    pub fn is_hole(self) -> bool {
        matches!(self, Self::Hole | Self::LiveHole)
    }

    /// Whether the file itself still holds the bytes.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::LiveHole)
    }

    /// The source `pages` further on.
    fn advanced(self, pages: u64) -> Self {
        match self {
            Self::Rescued(slot) => Self::Rescued(slot + pages),
            other => other,
        }
    }
}

/// A rescued version of some pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rescued {
    /// The last epoch whose snapshots it serves.
    until: Epoch,
    /// Snapshots that read it.
    users: u32,
    source: Source,
}

/// A run of pages with the same history.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// First page behind the run.
    end: u64,
    /// Number of snapshots that find these pages in the file.
    live: u32,
    /// Whether the pages are holes in the file; has no meaning while `live` is 0.
    is_hole: bool,
    /// No snapshot that finds these pages in the file is of a later epoch.
    newest: Epoch,
    /// Versions in the rescue file, oldest first.
    rescued: Vec<Rescued>,
}

impl Segment {
    fn is_needed(&self) -> bool {
        self.live > 0 || !self.rescued.is_empty()
    }

    /// Index of the rescued version that a snapshot of this epoch reads.
    fn version_for(&self, epoch: Epoch) -> Option<usize> {
        let index = self.rescued.iter().position(|rescued| rescued.until >= epoch);
        mutants::version_for(index, self.rescued.len())
    }

    fn source_for(&self, epoch: Epoch) -> Source {
        match self.version_for(epoch).and_then(|index| self.rescued.get(index)) {
            Some(rescued) => rescued.source,
            None if self.is_hole => Source::LiveHole,
            None => Source::Live,
        }
    }

    /// Whether `next`, which begins where this ends, continues it with the same history.
    fn continues_in(&self, begin: u64, next: &Self) -> bool {
        let pages = self.end - begin;
        let same = |(a, b): (&Rescued, &Rescued)| {
            let source_continues = a.source.advanced(pages) == b.source;
            a.until == b.until && a.users == b.users && source_continues
        };
        self.live == next.live
            && (self.live == 0 || self.is_hole == next.is_hole)
            && self.rescued.len() == next.rescued.len()
            && self.rescued.iter().zip(&next.rescued).all(same)
    }
}

/// Sums over the pages of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Pages of data that a change would have to copy to the rescue file.
    pub reserved: PageCount,
    /// Pages in the rescue file that a snapshot needs.
    pub stored: PageCount,
    /// Segments, and rescued versions in them: what takes memory.
    pub entries: usize,
}

/// A run of pages that snapshots find in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiveRun {
    pub pages: Range<u64>,
    /// Whether all of them are holes, or all data.
    pub is_hole: bool,
    /// The epoch until which a rescue of them serves snapshots; of holes, that of the first page.
    pub until: Epoch,
}

impl LiveRun {
    /// Number of its pages that have to be copied.
    pub fn data_pages(&self) -> PageCount {
        PageCount(if self.is_hole { 0 } else { self.pages.end - self.pages.start })
    }
}

/// The histories of a file's pages, as far as snapshots need them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RescueMap {
    /// Segments by their first page.
    segments: BTreeMap<u64, Segment>,
    reserved: PageCount,
    stored: PageCount,
    /// Number of rescued versions.
    versions: usize,
}

impl RescueMap {
    /// The sums over its pages.
    pub fn holdings(&self) -> Holdings {
        let entries = self.segments.len() + self.versions;
        Holdings { reserved: self.reserved, stored: self.stored, entries }
    }

    /// Whether it has no segments.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Splits the segment around page `at` in two.
    fn split(&mut self, at: u64) {
        let Some((&begin, segment)) = self.segments.range_mut(..at).next_back() else { return };
        if segment.end <= at {
            return;
        }
        let mut behind = segment.clone();
        segment.end = at;
        for rescued in &mut behind.rescued {
            rescued.source = rescued.source.advanced(at - begin);
        }
        self.versions += behind.rescued.len();
        self.segments.insert(at, behind);
    }

    /// Splits at both ends: the range then consists of whole segments and gaps.
    fn isolate(&mut self, pages: &Range<u64>) {
        self.split(pages.start);
        self.split(pages.end);
    }

    /// Joins adjacent segments with the same history, in the range and at its ends.
    fn join(&mut self, pages: &Range<u64>) {
        let first =
            self.segments.range(..pages.start).next_back().map_or(pages.start, |(&begin, _)| begin);
        let begins: Vec<u64> =
            self.segments.range(first..=pages.end).map(|(&begin, _)| begin).collect();
        let mut last: Option<u64> = None;
        for begin in begins {
            if let Some(previous) = last
                && let Some(next) = self.segments.get(&begin)
                && let Some(segment) = self.segments.get(&previous)
                && segment.end == begin
                && segment.continues_in(previous, next)
            {
                let (end, newest) = (next.end, next.newest);
                self.versions -= next.rescued.len();
                self.segments.remove(&begin);
                if let Some(segment) = self.segments.get_mut(&previous) {
                    (segment.end, segment.newest) = (end, segment.newest.max(newest));
                }
            } else {
                last = Some(begin);
            }
        }
        debug_assert_eq!(self.check(pages), Ok(()));
        // The sums cost a pass over the whole map, so only small maps are summed up.
        debug_assert!(self.segments.len() > 64 || self.holdings() == self.summed_up());
    }

    /// Checks the segments of a range and their neighbours against the invariants, and says which
    /// one does not hold.
    fn check(&self, pages: &Range<u64>) -> Result<(), &'static str> {
        let first =
            self.segments.range(..pages.start).next_back().map_or(pages.start, |(&begin, _)| begin);
        let mut previous_end = 0;
        for (&begin, segment) in self.segments.range(first..=pages.end) {
            let ascends = segment.rescued.windows(2).all(|pair| match pair {
                [older, newer] => older.until < newer.until,
                _ => true,
            });
            if begin < previous_end {
                return Err("segments overlap");
            } else if begin >= segment.end {
                return Err("a segment is empty");
            } else if !segment.is_needed() {
                return Err("a segment has no user");
            } else if segment.rescued.iter().any(|rescued| rescued.users == 0) {
                return Err("a rescued version has no user");
            } else if !ascends {
                return Err("rescued versions are out of order");
            }
            previous_end = segment.end;
        }
        Ok(())
    }

    /// The holdings, counted anew.
    fn summed_up(&self) -> Holdings {
        let mut sums = Holdings { entries: self.segments.len(), ..Holdings::default() };
        for (&begin, segment) in &self.segments {
            sums.entries += segment.rescued.len();
            let length = PageCount(segment.end - begin);
            if segment.live > 0 && !segment.is_hole {
                sums.reserved += length;
            }
            let stored = |rescued: &&Rescued| matches!(rescued.source, Source::Rescued(_));
            sums.stored += segment.rescued.iter().filter(stored).map(|_| length).sum();
        }
        sums
    }

    /// Number of entries that a snapshot of a range would add at most; `None` if a page of it has
    /// too many versions.
    pub fn would_add(&self, pages: Range<u64>, holes: &Holes) -> Option<usize> {
        let versions = self.within(pages.clone()).map(|(_, segment)| segment.rescued.len()).max();
        let versions = versions.unwrap_or(0);
        let runs = holes.runs(pages).count() + 2;
        (versions < MAX_VERSIONS).then(|| runs.saturating_mul(1 + versions))
    }

    /// Number of pages that a snapshot of a range would add to those that are reserved.
    pub fn would_reserve(&self, pages: Range<u64>, holes: &Holes) -> PageCount {
        let data = holes.data_pages(pages.clone());
        let live = self.within(pages).filter(|(_, segment)| segment.live > 0);
        let reserved_already: u64 = live.map(|(run, _)| holes.data_pages(run)).sum();
        PageCount(data.saturating_sub(reserved_already))
    }

    /// The segments of a range, each with the part of it that lies in the range.
    fn within(&self, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, &Segment)> {
        let first = self
            .segments
            .range(..=pages.start)
            .next_back()
            .map_or(pages.start, |(&begin, _)| begin);
        let found = if pages.is_empty() { pages.start..pages.start } else { first..pages.end };
        self.segments
            .range(found)
            .map(move |(&begin, segment)| {
                (begin.max(pages.start)..segment.end.min(pages.end), segment)
            })
            .filter(|(run, _)| run.start < run.end)
    }

    /// Records a snapshot of these pages, taken in this epoch.
    pub fn add_snapshot(&mut self, pages: Range<u64>, epoch: Epoch, holes: &Holes) {
        self.isolate(&pages);
        let mut at = pages.start;
        while at < pages.end {
            let next =
                self.segments.range(at..pages.end).next().map_or(pages.end, |(&begin, _)| begin);
            if at < next {
                self.insert_live(at..next, epoch, holes, &[]);
                at = next;
                continue;
            }
            let Some(segment) = self.segments.get_mut(&at) else { break };
            let end = segment.end;
            if segment.live > 0 {
                (segment.live, segment.newest) = (segment.live + 1, epoch);
            } else if let Some(segment) = self.segments.remove(&at) {
                self.versions -= segment.rescued.len();
                self.insert_live(at..end, epoch, holes, &segment.rescued);
            }
            at = end;
        }
        self.join(&pages);
    }

    /// Records the first snapshot that finds these pages in the file.
    fn insert_live(
        &mut self,
        pages: Range<u64>,
        newest: Epoch,
        holes: &Holes,
        rescued: &[Rescued],
    ) {
        for (run, is_hole) in holes.runs(pages.clone()) {
            let advance = run.start - pages.start;
            let rescued: Vec<Rescued> = rescued
                .iter()
                .map(|old| Rescued { source: old.source.advanced(advance), ..*old })
                .collect();
            if !is_hole {
                self.reserved += PageCount(run.end - run.start);
            }
            self.versions += rescued.len();
            let segment = Segment { end: run.end, live: 1, is_hole, newest, rescued };
            self.segments.insert(run.start, segment);
        }
    }

    /// Removes a snapshot of this epoch. Returns the slots of the rescue file that no snapshot
    /// needs any more.
    pub fn remove_snapshot(&mut self, pages: Range<u64>, epoch: Epoch) -> Vec<Range<u64>> {
        self.isolate(&pages);
        let mut freed: Vec<Range<u64>> = Vec::new();
        for (&begin, segment) in self.segments.range_mut(pages.clone()) {
            let length = segment.end - begin;
            let Some(index) = segment.version_for(epoch) else {
                if segment.live == 1 && !segment.is_hole {
                    self.reserved -= PageCount(length);
                }
                segment.live = segment.live.saturating_sub(1);
                continue;
            };
            let Some(rescued) = segment.rescued.get_mut(index) else { continue };
            rescued.users = rescued.users.saturating_sub(1);
            if rescued.users == 0 {
                let rescued = segment.rescued.remove(index);
                self.versions -= 1;
                if let Source::Rescued(slot) = rescued.source {
                    self.stored -= PageCount(length);
                    match freed.last_mut().filter(|last| last.end == slot) {
                        Some(last) => last.end += length,
                        None => freed.push(slot..slot + length),
                    }
                }
            }
        }
        let unneeded = |_: &u64, segment: &mut Segment| !segment.is_needed();
        self.segments.extract_if(pages.clone(), unneeded).for_each(drop);
        self.join(&pages);
        freed
    }

    /// The pages of a range that snapshots find in the file, in runs: what has to be rescued before
    /// a change.
    pub fn live(&self, pages: Range<u64>) -> Result<Vec<LiveRun>, Errno> {
        let mut runs: Vec<LiveRun> = Vec::new();
        for (pages, segment) in self.within(pages).filter(|(_, segment)| segment.live > 0) {
            let Segment { is_hole, newest: until, .. } = *segment;
            let goes_on = |last: &&mut LiveRun| {
                last.pages.end == pages.start
                    && last.is_hole == is_hole
                    && (is_hole || last.until == until)
            };
            match runs.last_mut().filter(goes_on) {
                Some(last) => last.pages.end = pages.end,
                None => push(&mut runs, LiveRun { pages, is_hole, until })?,
            }
        }
        Ok(runs)
    }

    /// The largest range around some pages that snapshots cover without a gap at either side.
    pub fn around(&self, pages: &Range<u64>) -> Range<u64> {
        let mut whole = pages.clone();
        for (&begin, segment) in self.segments.range(..pages.start).rev() {
            if segment.end < whole.start {
                break;
            }
            (whole.start, whole.end) = (begin, whole.end.max(segment.end));
        }
        for (&begin, segment) in self.segments.range(pages.start..) {
            if begin > whole.end {
                break;
            }
            whole.end = whole.end.max(segment.end);
        }
        whole
    }

    /// A run of [`Self::live`] has been copied to `source`.
    pub fn rescued(&mut self, pages: Range<u64>, source: Source) {
        self.isolate(&pages);
        for (&begin, segment) in self.segments.range_mut(pages.clone()) {
            if segment.live == 0 {
                continue;
            }
            let length = segment.end - begin;
            let source = source.advanced(begin - pages.start);
            let (until, users) = (segment.newest, segment.live);
            segment.rescued.reserve_exact(1);
            segment.rescued.push(Rescued { until, users, source });
            self.versions += 1;
            segment.live = 0;
            if !segment.is_hole {
                self.reserved -= PageCount(length);
            }
            if matches!(source, Source::Rescued(_)) {
                self.stored += PageCount(length);
            }
        }
        self.join(&pages);
    }

    /// Where a snapshot of this epoch finds a range of its pages, in runs.
    pub fn sources(
        &self,
        pages: Range<u64>,
        epoch: Epoch,
    ) -> Result<Vec<(Range<u64>, Source)>, Errno> {
        let mut runs: Vec<(Range<u64>, Source)> = Vec::new();
        for (run, segment) in self.within(pages.clone()) {
            // The segment may begin before the run.
            let begin = self
                .segments
                .range(..=run.start)
                .next_back()
                .map_or(run.start, |(&begin, _)| begin);
            let source = segment.source_for(epoch).advanced(run.start - begin);
            let goes_on = |(last, before): &&mut (Range<u64>, Source)| {
                last.end == run.start && before.advanced(last.end - last.start) == source
            };
            match runs.last_mut().filter(goes_on) {
                Some((last, _)) => last.end = run.end,
                None => push(&mut runs, (run, source))?,
            }
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a page holds: the number of the change that wrote it; 0 is a hole.
    type Content = u64;

    struct Snapshot {
        pages: Range<u64>,
        epoch: Epoch,
        expected: Vec<Content>,
    }

    /// A file of 40 pages, with the map beside it and the store as a list of pages.
    struct World {
        map: RescueMap,
        holes: Holes,
        file: Vec<Content>,
        store: Vec<Option<Content>>,
        snapshots: Vec<Snapshot>,
        epoch: Epoch,
        changed: bool,
    }

    impl World {
        fn take(&mut self, pages: Range<u64>) {
            if core::mem::take(&mut self.changed) {
                self.epoch += 1;
            }
            let before = self.map.holdings().reserved;
            let more = self.map.would_reserve(pages.clone(), &self.holes);
            self.map.add_snapshot(pages.clone(), self.epoch, &self.holes);
            assert_eq!(self.map.holdings().reserved, before + more);
            let expected = self.file[pages.start as usize..pages.end as usize].to_vec();
            self.snapshots.push(Snapshot { pages, epoch: self.epoch, expected });
        }

        /// Rescues the live pages of a range, each to the slot that its version and number give.
        fn rescue(&mut self, pages: Range<u64>) {
            for LiveRun { pages, is_hole, until } in self.map.live(pages).unwrap() {
                let slot = until * 40 + pages.start;
                if !is_hole {
                    let (first, end) = (slot as usize, (slot + pages.end - pages.start) as usize);
                    self.store.resize(self.store.len().max(end), None);
                    for (to, page) in self.store[first..end].iter_mut().zip(pages.clone()) {
                        assert_eq!(to.replace(self.file[page as usize]), None, "a slot is reused");
                    }
                }
                let source = if is_hole { Source::Hole } else { Source::Rescued(slot) };
                self.map.rescued(pages, source);
                self.changed = true;
            }
        }

        fn change(&mut self, pages: Range<u64>, content: Content) {
            self.rescue(pages.clone());
            self.file[pages.start as usize..pages.end as usize].fill(content);
            if content == 0 { self.holes.insert(pages) } else { self.holes.remove(pages) }
        }

        fn close(&mut self, index: usize) {
            let snapshot = self.snapshots.swap_remove(index);
            for freed in self.map.remove_snapshot(snapshot.pages, snapshot.epoch) {
                for slot in freed {
                    assert!(self.store[slot as usize].take().is_some(), "slot {slot} freed twice");
                }
            }
        }

        fn check(&self) {
            for snapshot in &self.snapshots {
                let found: Vec<Content> = self
                    .map
                    .sources(snapshot.pages.clone(), snapshot.epoch)
                    .unwrap()
                    .into_iter()
                    .flat_map(|(run, source)| {
                        run.clone().map(move |page| match source {
                            Source::Live => self.file[page as usize],
                            Source::Hole | Source::LiveHole => 0,
                            Source::Rescued(slot) => self.store[(slot + page - run.start) as usize]
                                .expect("a freed slot is read"),
                        })
                    })
                    .collect();
                assert_eq!(found, snapshot.expected);
            }
            assert_eq!(
                self.map.holdings().stored,
                PageCount(self.store.iter().flatten().count() as u64)
            );
        }
    }

    #[test]
    fn every_snapshot_finds_its_pages_and_nothing_is_kept_for_nobody() {
        for seed in 1..60_u64 {
            let mut state = seed;
            let mut random = move |below: u64| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) % below
            };
            let mut holes = Holes::default();
            holes.insert(0..40);
            let (map, file) = (RescueMap::default(), [0; 40].to_vec());
            let mut world = World {
                map,
                holes,
                file,
                store: Vec::new(),
                snapshots: Vec::new(),
                epoch: 0,
                changed: false,
            };
            for step in 1..300 {
                let (a, b) = (random(41), random(41));
                let pages = a.min(b)..a.max(b);
                match random(6) {
                    5 => world.rescue(world.map.around(&pages)),
                    0 | 1 if !pages.is_empty() => world.take(pages),
                    2 => world.change(pages, if random(4) == 0 { 0 } else { step }),
                    3 => world.change(a.min(39)..a.min(39) + 1, step),
                    _ if !world.snapshots.is_empty() => {
                        let index = random(world.snapshots.len() as u64);
                        world.close(index as usize);
                    }
                    _ => {}
                }
                world.check();
            }
            while !world.snapshots.is_empty() {
                world.close(0);
                world.check();
            }
            assert_eq!(world.map, RescueMap::default());
        }
    }

    #[test]
    fn c8_one_rescue_serves_all() {
        let mut map = RescueMap::default();
        let holes = Holes::default();
        for _ in 0..100 {
            map.add_snapshot(0..10, 0, &holes);
        }
        let holdings = |reserved, stored, entries| Holdings {
            reserved: PageCount(reserved),
            stored: PageCount(stored),
            entries,
        };
        assert_eq!(map.holdings(), holdings(10, 0, 1));
        assert_eq!(map.live(3..5).unwrap(), [LiveRun { pages: 3..5, is_hole: false, until: 0 }]);
        map.rescued(3..5, Source::Rescued(3));
        assert_eq!((map.live(3..5), map.holdings()), (Ok(Vec::new()), holdings(8, 2, 4)));
        // What is rescued later lies beside it, and the map is as small as before.
        for pages in [0..3, 5..10] {
            map.rescued(pages.clone(), Source::Rescued(pages.start));
        }
        assert_eq!(map.holdings(), holdings(0, 10, 2));
    }

    #[test]
    fn around_ends_where_no_snapshot_reads() {
        let mut map = RescueMap::default();
        for pages in [0..10, 10..12, 5..20, 30..40] {
            map.add_snapshot(pages, 0, &Holes::default());
        }
        map.rescued(7..8, Source::Rescued(7));
        for (pages, whole) in [(9..10, 0..20), (7..8, 0..20), (35..36, 30..40), (8..32, 0..40)] {
            assert_eq!(map.around(&pages), whole, "{pages:?}");
        }
    }
}
