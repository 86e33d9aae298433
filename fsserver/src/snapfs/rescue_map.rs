//! The rescue map of a file: where each of its snapshots finds its pages. They are in the file as
//! it is now, in the file's rescue file, or nowhere (holes).
//!
//! Bookkeeping only: what is recorded here as rescued has been copied by the caller.
//!
//! Time is divided into *epochs*. A snapshot belongs to the epoch in which it was taken; the first
//! change after a snapshot ends the epoch. A page that is rescued, just before it changes, serves
//! all snapshots of it that no earlier rescue serves, up to the *newest* one.
//!
//! Two structures that do not know each other: [`Coverage`] counts the snapshots of each page,
//! [`Versions`] has what was rescued. A page is *live*, so a change has to rescue it, if its newest
//! snapshot is newer than its last version. To take a snapshot, to close it and to find one of its
//! pages costs the logarithm of what there is, except that a close visits the versions that it
//! drops.
//!
//! Segments that were split by changes join again once all of their pages are rescued, since
//! `until` does not depend on the time of the rescue. So a map that has become too large is made
//! small by rescuing the pages between those that have changed.
//!
//! # The reservation
//!
//! What changes may have to rescue is known as a bound only: to count the live pages of a range
//! would mean to visit what was rescued there. It grows by each snapshot, up to what the range
//! from the first snapshot to the last has of data, and shrinks with each rescue. Where it decides,
//! [`RescueMap::tighten`] counts.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::{Errno, PageCount};

use super::coverage::Coverage;
use super::holes::Holes;
use super::versions::Versions;
use crate::buffer::push;

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
    pub fn advanced(self, pages: u64) -> Self {
        match self {
            Self::Rescued(slot) => Self::Rescued(slot + pages),
            other => other,
        }
    }
}

/// Sums over the pages of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Pages of data that a change would have to copy to the rescue file, at most.
    pub reserved: PageCount,
    /// Pages in the rescue file that a snapshot needs.
    pub stored: PageCount,
    /// Segments, and rescued versions in them: what takes memory.
    pub entries: usize,
    /// Entries of the coverage, which take memory, too.
    pub intervals: usize,
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

    /// Whether `next` continues it, so that both can be rescued together.
    fn continues_in(&self, next: &Self) -> bool {
        self.pages.end == next.pages.start
            && self.is_hole == next.is_hole
            && (self.is_hole || self.until == next.until)
    }
}

/// The histories of a file's pages, as far as snapshots need them. `holes` are always those of the
/// file as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RescueMap {
    coverage: Coverage,
    versions: Versions,
    reserved: PageCount,
    /// Whether fewer pages may be live than are reserved.
    is_loose: bool,
}

impl RescueMap {
    /// The sums over its pages.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            reserved: self.reserved,
            stored: self.versions.stored(),
            entries: self.versions.entries(),
            intervals: self.coverage.entries(),
        }
    }

    /// Whether no snapshot is recorded.
    pub fn is_empty(&self) -> bool {
        self.coverage.is_empty()
    }

    /// Whether each page of a range can be rescued once more.
    pub fn has_space(&self, pages: Range<u64>) -> bool {
        self.versions.has_space(pages)
    }

    /// The reservation with a further snapshot.
    fn reserved_with(&self, pages: &Range<u64>, holes: &Holes) -> PageCount {
        let own = holes.data_pages_at_most(pages.clone());
        let alone = self.reserved.saturating_add(own);
        if self.is_empty() {
            return alone;
        }
        let hull = self.coverage.hull();
        let all = hull.start.min(pages.start)..hull.end.max(pages.end);
        if all == *pages { own } else { alone.min(holes.data_pages_at_most(all)) }
    }

    /// Number of pages that a snapshot of a range would add to those that are reserved.
    pub fn would_reserve(&self, pages: Range<u64>, holes: &Holes) -> PageCount {
        self.reserved_with(&pages, holes).saturating_sub(self.reserved)
    }

    /// Number of pages that a snapshot of a range would make live. Visits what there is in it.
    pub fn would_reserve_exactly(&self, pages: Range<u64>, holes: &Holes) -> PageCount {
        let live = self.live_runs(pages.clone(), holes).map(|run| run.data_pages()).sum();
        PageCount(holes.data_pages(pages)).saturating_sub(live)
    }

    /// The range from the first page that a snapshot covers to the last one.
    pub fn hull(&self) -> Range<u64> {
        self.coverage.hull()
    }

    /// Counts the pages that changes may have to rescue, and reserves no more.
    pub fn tighten(&mut self, holes: &Holes) {
        if core::mem::take(&mut self.is_loose) {
            self.reserved = self.reserved.min(self.live_data_pages(holes));
        }
    }

    /// Number of pages that changes may have to rescue. Visits all that there is.
    pub fn live_data_pages(&self, holes: &Holes) -> PageCount {
        self.live_runs(self.coverage.hull(), holes).map(|run| run.data_pages()).sum()
    }

    /// Records a snapshot of these pages, taken in this epoch.
    pub fn add_snapshot(&mut self, pages: Range<u64>, epoch: Epoch, holes: &Holes) {
        self.is_loose = true;
        self.reserved = self.reserved_with(&pages, holes);
        self.coverage.add(pages, epoch);
    }

    /// Removes a snapshot of this epoch. Returns the slots of the rescue file that no snapshot
    /// needs any more; none if all of them are free.
    pub fn remove_snapshot(&mut self, pages: Range<u64>, epoch: Epoch) -> Vec<Range<u64>> {
        self.coverage.remove(pages.clone(), epoch);
        if self.is_empty() {
            *self = Self::default();
            return Vec::new();
        }
        self.is_loose = true;
        self.versions.drop_unused(pages, epoch, &self.coverage)
    }

    /// The live pages of a range in runs, which are not joined.
    fn live_runs(&self, pages: Range<u64>, holes: &Holes) -> impl Iterator<Item = LiveRun> {
        let covered = self.coverage.runs(pages);
        let covered = covered.filter_map(|(run, newest)| newest.map(|newest| (run, newest)));
        covered.flat_map(move |(run, until)| {
            let live = self.versions.runs(run);
            let live = live.filter(move |(_, history)| history.is_live_for(until));
            live.flat_map(|(run, _)| holes.runs(run)).map(move |(pages, is_hole)| LiveRun {
                pages,
                is_hole,
                until,
            })
        })
    }

    /// The pages of a range that snapshots find in the file, in runs: what has to be rescued before
    /// a change.
    pub fn live(&self, pages: Range<u64>, holes: &Holes) -> Result<Vec<LiveRun>, Errno> {
        let mut runs: Vec<LiveRun> = Vec::new();
        for run in self.live_runs(pages, holes) {
            match runs.last_mut().filter(|last| last.continues_in(&run)) {
                Some(last) => last.pages.end = run.pages.end,
                None => push(&mut runs, run)?,
            }
        }
        Ok(runs)
    }

    /// The largest range around some pages that snapshots cover without a gap at either side.
    pub fn around(&self, pages: &Range<u64>) -> Range<u64> {
        self.coverage.around(pages)
    }

    /// The first gap between segments from a page on, with those behind it that begin within so
    /// many pages: see [`Versions::gap`].
    pub fn gap(&self, from: u64, most: u64) -> Option<Range<u64>> {
        self.versions.gap(from, most)
    }

    /// A run of [`Self::live`], or a part of one, has been copied to `source`.
    pub fn rescued(&mut self, run: &LiveRun, source: Source) {
        let Self { coverage, versions, .. } = self;
        for (pages, newest) in coverage.runs(run.pages.clone()) {
            let Some(until) = newest else { continue };
            let source = source.advanced(pages.start - run.pages.start);
            versions.add(pages, until, source);
        }
        self.reserved = self.reserved.saturating_sub(run.data_pages());
    }

    /// Where a snapshot of this epoch finds a range of its pages, in runs. Holes that are not known
    /// count as data.
    pub fn sources(
        &self,
        pages: Range<u64>,
        epoch: Epoch,
        holes: Option<&Holes>,
    ) -> Result<Vec<(Range<u64>, Source)>, Errno> {
        let mut runs: Vec<(Range<u64>, Source)> = Vec::new();
        let mut add = |run: Range<u64>, source: Source| {
            let goes_on = |(last, before): &&mut (Range<u64>, Source)| {
                before.advanced(last.end - last.start) == source
            };
            match runs.last_mut().filter(goes_on) {
                Some((last, _)) => last.end = run.end,
                None => push(&mut runs, (run, source))?,
            }
            Ok(())
        };
        for (run, history) in self.versions.runs(pages) {
            match (history.source_for(epoch, run.start), holes) {
                (Some(source), _) => add(run, source)?,
                (None, None) => add(run, Source::Live)?,
                (None, Some(holes)) => {
                    for (run, is_hole) in holes.runs(run) {
                        add(run, if is_hole { Source::LiveHole } else { Source::Live })?;
                    }
                }
            }
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps;
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
            let before = (self.map.holdings().reserved, self.map.live_data_pages(&self.holes));
            let more = self.map.would_reserve(pages.clone(), &self.holes);
            let exactly = self.map.would_reserve_exactly(pages.clone(), &self.holes);
            self.map.add_snapshot(pages.clone(), self.epoch, &self.holes);
            assert!(self.map.holdings().reserved <= before.0 + more);
            assert_eq!(self.map.live_data_pages(&self.holes), before.1 + exactly);
            let expected = self.file[pages.start as usize..pages.end as usize].to_vec();
            self.snapshots.push(Snapshot { pages, epoch: self.epoch, expected });
        }

        /// Rescues the live pages of a range, each to the slot that its version and number give.
        fn rescue(&mut self, pages: Range<u64>) {
            for run in self.map.live(pages, &self.holes).unwrap() {
                let LiveRun { pages, is_hole, until } = run.clone();
                let slot = until * 40 + pages.start;
                if !is_hole {
                    let (first, end) = (slot as usize, (slot + pages.end - pages.start) as usize);
                    self.store.resize(self.store.len().max(end), None);
                    for (to, page) in self.store[first..end].iter_mut().zip(pages.clone()) {
                        assert_eq!(to.replace(self.file[page as usize]), None, "a slot is reused");
                    }
                }
                let source = if is_hole { Source::Hole } else { Source::Rescued(slot) };
                self.map.rescued(&run, source);
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
            if self.map.is_empty() {
                self.store.clear();
            }
        }

        /// Pages of data that a snapshot still finds in the file, page by page.
        fn live_data_pages(&self) -> PageCount {
            let is_live = |page: &u64| {
                self.file[*page as usize] != 0
                    && self.snapshots.iter().filter(|taken| taken.pages.contains(page)).any(
                        |taken| {
                            let found =
                                self.map.sources(*page..page + 1, taken.epoch, Some(&self.holes));
                            found.unwrap()[0].1.is_live()
                        },
                    )
            };
            PageCount((0..40).filter(is_live).count() as u64)
        }

        fn check(&self) {
            for snapshot in &self.snapshots {
                let found: Vec<Content> = self
                    .map
                    .sources(snapshot.pages.clone(), snapshot.epoch, Some(&self.holes))
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
            let live = self.live_data_pages();
            assert_eq!(self.map.live_data_pages(&self.holes), live);
            assert!(self.map.holdings().reserved >= live);
            let mut tight = self.map.clone();
            tight.tighten(&self.holes);
            assert_eq!(tight.holdings().reserved, live);
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

    /// What a read visits: its snapshot, a page-in, and its close; beside `history` scattered
    /// rescues for an older snapshot, which half of `others` equal ones still need.
    fn steps_of_a_read(history: u64, others: usize) -> u64 {
        const PAGES: u64 = 1 << 20;
        let (mut map, mut holes) = (RescueMap::default(), Holes::default());
        (0..history.min(1000)).for_each(|at| holes.insert(64 * at + 7..64 * at + 9));
        (0..others).for_each(|_| map.add_snapshot(0..PAGES, 0, &holes));
        for at in 0..history {
            for run in map.live(64 * at..64 * at + 1, &holes).unwrap() {
                map.rescued(&run, Source::Rescued(64 * at));
            }
        }
        let read = |map: &mut RescueMap, epoch| {
            assert!(map.has_space(0..PAGES));
            map.would_reserve(0..PAGES, &holes);
            map.add_snapshot(0..PAGES, epoch, &holes);
            map.sources(64 * 5..64 * 6, epoch, Some(&holes)).unwrap();
            let freed = map.remove_snapshot(0..PAGES, epoch);
            assert_eq!(freed, []);
        };
        let ((), newer) = steps::count(|| read(&mut map, 1));
        // One that needs what was rescued, but not it alone.
        let ((), equal) = steps::count(|| read(&mut map, 0));
        newer + equal
    }

    #[test]
    fn c9_what_a_read_visits_does_not_depend_on_what_was_rescued() {
        for others in [1, 50] {
            let few = steps_of_a_read(20, others);
            let many = steps_of_a_read(8000, others);
            // What is counted is not visited through a tree, whose depth grows.
            assert!(many <= few, "{few} entries are visited after 20 rescues, {many} after 8000");
        }
    }

    /// Closes of snapshots visit what they free, and that is visited once.
    #[test]
    fn c10_a_close_visits_what_it_frees() {
        const ROUNDS: u64 = 300;
        let holes = Holes::default();
        let mut map = RescueMap::default();
        map.add_snapshot(0..1 << 14, 0, &holes);
        for at in 0..2000 {
            let run = LiveRun { pages: 8 * at..8 * at + 1, is_hole: false, until: 0 };
            map.rescued(&run, Source::Rescued(8 * at));
        }
        // Others read all, change one page and close, while the first reader keeps its pages.
        let mut most = 0;
        for epoch in 1..ROUNDS {
            map.add_snapshot(0..1 << 14, epoch, &holes);
            for run in map.live(40 * epoch..40 * epoch + 1, &holes).unwrap() {
                map.rescued(&run, Source::Rescued(epoch << 14));
            }
            let (freed, steps) = steps::count(|| map.remove_snapshot(0..1 << 14, epoch));
            assert_eq!(freed.len(), 1);
            most = most.max(steps);
        }
        assert!(most < 100, "{most} entries are visited to free one");
        assert_eq!(map.holdings().stored, PageCount(2000));
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
            intervals: 2,
        };
        assert_eq!(map.holdings(), holdings(10, 0, 0));
        let run = LiveRun { pages: 3..5, is_hole: false, until: 0 };
        assert_eq!(map.live(3..5, &holes).unwrap(), core::slice::from_ref(&run));
        map.rescued(&run, Source::Rescued(3));
        assert_eq!(map.holdings(), holdings(8, 2, 2));
        assert_eq!(map.live(3..5, &holes), Ok(Vec::new()));
        // What is rescued later lies beside it, and the map is as small as before.
        for pages in [0..3, 5..10] {
            let slot = pages.start;
            map.rescued(&LiveRun { pages, ..run.clone() }, Source::Rescued(slot));
        }
        assert_eq!(map.holdings(), holdings(0, 10, 2));
    }
}
