//! The contents of the file and the changes to it. Everything follows from size and seed.

use core::ops::Range;
use proof::random::Random;
use user::pages::PAGE_BYTES;
use user::prelude::*;

/// The smallest file in which islands do not overlap.
pub const MIN_SIZE_BYTES: u64 = 1 << 20;

/// Maximum number of islands: their bytes, twice (file and rescue), must fit into the small
/// machine's memory.
const MAX_ISLANDS: u64 = 192;

/// Length of the longest island in bytes.
const MAX_ISLAND_BYTES: u64 = 24 << 10;

/// At least one island for this many bytes of the file.
const BYTES_PER_ISLAND: u64 = 64 << 10;

/// Number of sampled places between islands.
const SAMPLED_HOLES: usize = 3000;

/// A file and the changes to it.
pub struct Plan {
    pub size_bytes: u64,
    pub seed: u64,
    /// The islands of data, in order, apart from each other, at any alignment.
    pub islands: Vec<Range<u64>>,
    /// The places to overwrite: parts of islands, their boundaries, whole islands, and holes.
    pub overwritten: Vec<Range<u64>>,
    /// The length to truncate to.
    pub truncated_bytes: u64,
}

impl Plan {
    pub fn new(size_bytes: u64, seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let count = (size_bytes / BYTES_PER_ISLAND).clamp(1, MAX_ISLANDS);
        let slot_bytes = size_bytes / count;
        let mut islands = Vec::new();
        for slot in 0..count {
            let longest = MAX_ISLAND_BYTES.min(slot_bytes / 2);
            let length = 1 + random.below(longest);
            let start = slot * slot_bytes + random.below(slot_bytes - length);
            islands.push(start..start + length);
        }
        let mut overwritten = Vec::new();
        for (index, island) in islands.iter().enumerate() {
            let length = island.end - island.start;
            overwritten.push(match index % 6 {
                // Inside the island, over its start, over its end, all of it and its surroundings,
                // behind it; one in six is unchanged.
                0 => island.start + length / 4..island.start + length * 3 / 4,
                1 => island.start.saturating_sub(5000)..island.start + length / 2,
                2 => island.start + length / 2..(island.end + 5000).min(size_bytes),
                3 => island.start.saturating_sub(100)..(island.end + 100).min(size_bytes),
                4 => island.end..(island.end + 4096).min(size_bytes),
                _ => continue,
            });
        }
        // Not at a page boundary, so that a page is truncated in its middle.
        let truncated_bytes = size_bytes / 2 + 1234;
        Plan { size_bytes, seed, islands, overwritten, truncated_bytes }
    }

    /// Places between the islands, at most a page long: next to every island, and many at random.
    pub fn sampled_holes(&self) -> Vec<Range<u64>> {
        let mut holes = Vec::new();
        let mut gaps = Vec::new();
        let mut end = 0;
        for next in self.islands.iter().map(|island| island.start).chain([self.size_bytes]) {
            gaps.push(end..next);
            end = self.islands.get(gaps.len() - 1).map_or(self.size_bytes, |island| island.end);
        }
        let page = PAGE_BYTES as u64;
        for gap in gaps.iter().filter(|gap| !gap.is_empty()) {
            holes.push(gap.start..gap.end.min(gap.start + page));
            holes.push(gap.end.saturating_sub(page).max(gap.start)..gap.end);
        }
        let mut random = Random::new(!self.seed);
        while holes.len() < SAMPLED_HOLES {
            let gap = &gaps[random.below(gaps.len() as u64) as usize];
            if !gap.is_empty() {
                let start = gap.start + random.below(gap.end - gap.start);
                holes.push(start..gap.end.min(start + page));
            }
        }
        holes
    }
}
