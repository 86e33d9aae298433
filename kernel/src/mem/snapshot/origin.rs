//! Where the pages of a snapshot are found in the frame cache: by what they are pages of.
#![forbid(unsafe_code)]

use super::{Snapshot, SnapshotSource};
use crate::mem::{PAGE_BYTES, PAGE_SHIFT, front_map::FrontKey, mutants};
use core::{cmp::Ordering, ops::Range};
use foundation::{PageCount, SnapshotOffset};

/// Pages of a chunk: half a kilobyte of entries for up to 128 KiB of frames.
pub(super) const CHUNK: usize = 32;

/// What pages are pages of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File {
        mount: u64,
        file: u64,
        version: u64,
    },
    /// `phase` is the offset modulo the page size.
    Own {
        snapshot: u64,
        phase: u16,
    },
}

impl Origin {
    /// A number for the tree, which is compared in a few instructions. That of a snapshot is its
    /// alone; two files could have the same one, so each chunk knows its origin.
    #[inline]
    pub fn number(self) -> u64 {
        const OWN: u64 = 1 << 63;
        match self {
            Self::File { mount, file, version } => {
                // The finaliser of MurmurHash3, which spreads each bit over all.
                let mut mixed = file ^ version.rotate_left(24) ^ mount.rotate_left(48);
                mixed = (mixed ^ mixed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
                (mixed ^ mixed >> 33) & !OWN
            }
            Self::Own { snapshot, phase } => OWN | snapshot << PAGE_SHIFT | u64::from(phase),
        }
    }
}

/// The key of a chunk: first the number of its origin, so that those of a snapshot are adjacent
/// ([`forget`](super::cache::forget)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub origin: u64,
    pub chunk: u64,
}

impl Key {
    /// Both as one number, which is compared at once.
    #[inline]
    fn number(self) -> u128 {
        u128::from(self.origin) << 64 | u128::from(self.chunk)
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FrontKey for Key {
    #[inline]
    fn place(&self) -> usize {
        (self.chunk ^ self.origin) as usize
    }
}

/// The origin of a snapshot's bytes from `offset` on, and the page number within the origin.
pub(super) fn locate(snapshot: &Snapshot, offset: SnapshotOffset) -> (Origin, u64) {
    let offset = offset.0;
    if let SnapshotSource::File { mount, file, version, offset: start } = snapshot.source
        && let Some(byte) = start.0.checked_add(offset)
        && (byte.is_multiple_of(PAGE_BYTES as u64) || mutants::align_offset())
        && !mutants::share_nothing()
    {
        return (Origin::File { mount, file, version }, byte >> PAGE_SHIFT);
    }
    (
        Origin::Own { snapshot: snapshot.id, phase: (offset % PAGE_BYTES as u64) as u16 },
        offset >> PAGE_SHIFT,
    )
}

/// The chunk of a page, and the entry's index in it.
pub(super) fn split(origin: Origin, page: u64) -> (Key, usize) {
    let chunk = page / CHUNK as u64;
    (Key { origin: origin.number(), chunk }, (page % CHUNK as u64) as usize)
}

/// Divides `pages` pages among their chunks, from the page on that [`locate`] returned: for each
/// chunk, the number of its first one among these pages, its key, and the indices of its entries.
#[inline]
pub(super) fn by_chunk(
    (origin, page): (Origin, u64),
    pages: PageCount,
) -> impl Iterator<Item = (usize, Key, Range<usize>)> {
    let pages = pages.to_usize();
    let mut done = 0;
    core::iter::from_fn(move || {
        let number = done;
        let (key, start) = split(origin, page + number as u64);
        let end = CHUNK.min(start + pages - number);
        done += end - start;
        (number < pages).then_some((number, key, start..end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_snapshot_are_adjacent_and_apart_from_those_of_files() {
        let own = |snapshot, phase| Origin::Own { snapshot, phase }.number();
        assert!(own(7, 0) < own(7, 1) && own(7, 4095) < own(8, 0));
        let files = (0..1000).flat_map(|file| [1, 2, 1 << 40].map(|version| (file, version)));
        let mut numbers: Vec<u64> = files
            .map(|(file, version)| Origin::File { mount: 3, file, version }.number())
            .collect();
        assert!(numbers.iter().all(|&number| number < own(0, 0)));
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), 3000, "not spread");
    }
}
