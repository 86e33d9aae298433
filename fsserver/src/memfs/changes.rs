//! What is recorded of the changes of one file (F9): which bytes may differ from those of an
//! earlier version.
//!
//! The record belongs to the file's number, and not to its pages: clones share the tree of pages,
//! so a stamp in there would travel to files that changed at other times.
//!
//! Invariants: versions ascend along the list. For every version from `since` on, each byte that
//! has changed after it is in an entry with a higher version. Of earlier versions nothing is known.
//! Ranges may be too large, and never too small: where the list is full, neighbours are merged.

use alloc::vec::Vec;
use core::ops::Range;

use super::mutants;

/// Maximum number of entries of one file. With it a writer that jumps about in a file still leaves
/// most of a snapshot's pages to be read directly; one search costs as much as copying a page.
const MAX_CHANGES: usize = 64;

/// Entries for which the list gets memory first, and the factor by which it grows.
const FIRST_CHANGES: usize = 4;

/// A change: the version that it made, and the bytes that existed before and may differ since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub version: u64,
    range: Range<u64>,
}

impl Change {
    /// A range that includes both.
    fn hull(&self, other: &Self) -> Range<u64> {
        self.range.start.min(other.range.start)..self.range.end.max(other.range.end)
    }
}

/// The changes of a file.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub list: Vec<Change>,
    /// The first version that the list covers.
    since: u64,
}

impl Changes {
    /// Bytes of memory that the list takes.
    pub fn bytes(&self) -> u64 {
        (self.list.capacity() * size_of::<Change>()) as u64
    }

    /// Records that a range of bytes changes, with which the file gets this version. The list may
    /// take `memory_bytes` more of memory; without any, it covers nothing before this version.
    /// Returns how many bytes it took.
    pub fn record(&mut self, version: u64, range: Range<u64>, memory_bytes: u64) -> u64 {
        if range.is_empty() {
            return 0;
        }
        debug_assert!(self.list.last().is_none_or(|last| last.version < version));
        // What changes again is needed once only.
        self.list.retain(|old| old.range.start < range.start || old.range.end > range.end);
        let before = self.bytes();
        if self.list.len() == self.list.capacity() && !self.grow(memory_bytes) {
            self.make_space();
        }
        if self.list.len() < self.list.capacity() {
            self.list.push(Change { version, range });
        } else {
            self.since = version;
        }
        self.bytes() - before
    }

    /// Makes the list longer. Returns whether that was possible.
    fn grow(&mut self, memory_bytes: u64) -> bool {
        let capacity = self.list.capacity();
        let longer = (capacity * FIRST_CHANGES).clamp(FIRST_CHANGES, MAX_CHANGES);
        let more = longer.saturating_sub(capacity);
        more > 0
            && (more * size_of::<Change>()) as u64 <= memory_bytes
            && self.list.try_reserve_exact(longer - self.list.len()).is_ok()
    }

    /// Merges two neighbours: those whose common range adds the fewest bytes.
    fn make_space(&mut self) {
        if mutants::forget_changes() && !self.list.is_empty() {
            self.list.remove(0);
            return;
        }
        let added = |pair: &[Change]| match pair {
            [a, b] => {
                let hull = a.hull(b);
                let length = |range: &Range<u64>| range.end - range.start;
                length(&hull).saturating_sub(length(&a.range)).saturating_sub(length(&b.range))
            }
            _ => u64::MAX,
        };
        let best = self.list.windows(2).enumerate().min_by_key(|(_, pair)| added(pair));
        let Some(index) = best.map(|(index, _)| index) else { return };
        let earlier = self.list.remove(index);
        // The later version is that of both: readers of one in between see too large a range.
        if let Some(later) = self.list.get_mut(index) {
            later.range = later.hull(&earlier);
        }
    }

    /// Whether all bytes of a range are those of this version, as far as is known.
    pub fn is_unchanged(&self, version: u64, range: &Range<u64>) -> bool {
        let meets =
            |change: &&Change| change.range.start < range.end && range.start < change.range.end;
        let newer = self.list.iter().rev().take_while(|change| change.version > version);
        version >= self.since && newer.into_iter().find(meets).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const AMPLE: u64 = u64::MAX;

    /// Files of few bytes, so that the exact truth can be kept: each version's bytes.
    const BYTES: u64 = 48;

    fn random(state: &mut u64, below: u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % below
    }

    /// Compares with a model that keeps the last version of each byte.
    fn compare(seed: u64, memory: impl Fn(u64) -> u64) -> (u64, u64) {
        let (mut state, mut changes, mut taken) = (seed, Changes::default(), 0);
        let mut last = vec![1; BYTES as usize];
        let (mut sure, mut unsure) = (0, 0);
        for version in 2..400 {
            let start = random(&mut state, BYTES);
            let most = if random(&mut state, 8) == 0 { BYTES } else { 4 };
            let end = (start + random(&mut state, most)).min(BYTES);
            taken += changes.record(version, start..end, memory(taken));
            assert_eq!(taken, changes.bytes());
            assert!(changes.list.len() <= MAX_CHANGES);
            last[start as usize..end as usize].fill(version);
            for _ in 0..8 {
                let then = version - random(&mut state, version.min(100));
                let from = random(&mut state, BYTES);
                let range = from..(from + 1 + random(&mut state, 6)).min(BYTES);
                let is_same =
                    last[range.start as usize..range.end as usize].iter().all(|&at| at <= then);
                let says = changes.is_unchanged(then, &range);
                assert!(is_same || !says, "F9: {range:?} has changed since {then}: {changes:?}");
                if is_same && says { sure += 1 } else { unsure += u64::from(is_same) }
            }
        }
        (sure, unsure)
    }

    #[test]
    fn f9_a_changed_byte_is_never_called_unchanged() {
        for seed in 1..200 {
            let (sure, _) = compare(seed, |_| AMPLE);
            assert!(sure > 200, "almost nothing can be read directly: {sure}");
            // With little memory, and with none.
            let entry = size_of::<Change>() as u64;
            compare(seed, |taken| (6 * entry).saturating_sub(taken));
            compare(seed, |_| 0);
        }
    }

    #[test]
    fn f9_all_is_known_while_the_list_is_not_full() {
        let mut changes = Changes::default();
        for index in 0..MAX_CHANGES as u64 {
            changes.record(index + 2, index * 10..index * 10 + 5, AMPLE);
        }
        for index in 0..MAX_CHANGES as u64 {
            let at = index * 10;
            assert!(!changes.is_unchanged(index + 1, &(at..at + 1)));
            assert!(changes.is_unchanged(index + 2, &(at..at + 1)), "its own version");
            assert!(changes.is_unchanged(1, &(at + 5..at + 10)), "between two changes");
        }
        // One more: two of them become one, and the others stay exact.
        changes.record(100, 2000..2001, AMPLE);
        assert_eq!(changes.list.len(), MAX_CHANGES);
        assert!(!changes.is_unchanged(1, &(0..1)) && !changes.is_unchanged(99, &(2000..2001)));
        assert!(changes.is_unchanged(1, &(1000..2000)));
        let exact = (0..MAX_CHANGES as u64 - 1)
            .filter(|index| changes.is_unchanged(1, &(index * 10 + 5..index * 10 + 10)));
        assert_eq!(exact.count(), MAX_CHANGES - 2);
    }

    #[test]
    fn f9_what_changes_again_takes_one_entry() {
        let mut changes = Changes::default();
        for version in 2..1000 {
            changes.record(version, 4096..8192, AMPLE);
        }
        assert_eq!(changes.list.len(), 1);
        assert!(changes.is_unchanged(1, &(0..4096)) && !changes.is_unchanged(998, &(4096..4097)));
        // An end of the file takes what is behind it.
        changes.record(1000, 100..u64::MAX, AMPLE);
        assert_eq!(changes.list.len(), 1);
        assert!(changes.is_unchanged(1, &(0..100)) && !changes.is_unchanged(1, &(0..101)));
    }
}
