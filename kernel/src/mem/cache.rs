//! The frame cache: bytes of files at a version, and of snapshots, that were fetched once.
//!
//! Where a page of a snapshot is a page of its file as well (*congruent*), the key is the mount,
//! file, version and file page, so that all snapshots share it and it outlives them; a version's
//! bytes never change, so that entries are never stale, only useless. Elsewhere the key is the
//! snapshot's own number, and the entries go with it. Pages lie in chunks of [`CHUNK`] neighbours:
//! a fault looks at a window of them, and shall find it by one search.
//!
//! A slot is `Pending` while a fetch for it is under way, then `Ready`. What a server said that is
//! not trusted is not let go of, but goes to the swap file (`Away`) and comes back from there (X3).
//! Lock: `CACHE`, inside any address space's; under it only frames are touched, and no `Fetch` or
//! `Snapshot` may be dropped under it, for the last one closes a handle.

use super::{
    Frame, PAGE_BYTES, PAGE_SHIFT,
    frame::{self, CachedFrame},
    snapshot::{Fetch, Snapshot, Source},
    swap,
};
use crate::sync::{Mutex, rank};
use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};
use core::{
    cmp::Ordering,
    ops::{Bound, Range},
};
use foundation::counter::{self, Counter, Counters};
use foundation::knob;
use foundation::{
    PageCount, SnapshotOffset,
    mutant::{self, Mutant},
};

/// Pages of a chunk: half a kilobyte of slots for what is up to 128 KiB of frames.
const CHUNK: usize = 32;

/// There are no more chunks than one for so many frames of the machine: chunks of versions that
/// nobody will ask for again, whose frames the server still has, would otherwise fill the heap
/// ([`evict`] looks only for what makes frames free). That is 3 % of memory.
const FRAMES_PER_CHUNK: usize = 8;

/// Chunks looked at where there are too many.
const TRIM: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
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

/// Names a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    origin: Origin,
    chunk: u64,
}

impl Ord for Key {
    /// Those of a snapshot lie together ([`forget`]); those of files are told apart by what mostly
    /// differs, which a search compares first.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.origin, other.origin) {
            (
                Origin::File { mount, file, version },
                Origin::File { mount: their_mount, file: their_file, version: their_version },
            ) => (self.chunk, file, version, mount).cmp(&(
                other.chunk,
                their_file,
                their_version,
                their_mount,
            )),
            (ours, theirs) => (ours, self.chunk).cmp(&(theirs, other.chunk)),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Pending(Arc<Fetch>),
    Ready(CachedFrame),
    Away(swap::Slot),
}

#[derive(Default)]
struct Chunk {
    /// Its bytes cannot be had again.
    once: bool,
    slots: [Slot; CHUNK],
    /// One bit for each slot that was used since the clock came by.
    recent: u32,
}

struct Cache {
    chunks: BTreeMap<Key, Box<Chunk>>,
    /// Where the clock of [`evict`] goes on.
    hand: Option<Key>,
}

static CACHE: Mutex<Cache, rank::FrameCache> =
    Mutex::new(Cache { chunks: BTreeMap::new(), hand: None });

/// Gives the knob `drop_caches` its action.
pub(super) fn init() {
    knob::DROP_CACHES.register(drop_all);
}

/// The origin of a snapshot's bytes from `offset` on, and the number of the page there.
fn place(snapshot: &Snapshot, offset: SnapshotOffset) -> (Origin, u64) {
    let offset = offset.0;
    if let Source::File { mount, file, version, offset: start } = snapshot.source
        && let Some(byte) = start.0.checked_add(offset)
        && (byte.is_multiple_of(PAGE_BYTES as u64) || mutant::active(Mutant::AlignOffset))
        && !mutant::active(Mutant::ShareNothing)
    {
        return (Origin::File { mount, file, version }, byte >> PAGE_SHIFT);
    }
    (
        Origin::Own { snapshot: snapshot.id, phase: (offset % PAGE_BYTES as u64) as u16 },
        offset >> PAGE_SHIFT,
    )
}

/// The same, as a chunk and a slot in it.
fn split(origin: Origin, page: u64) -> (Key, usize) {
    (Key { origin, chunk: page / CHUNK as u64 }, (page % CHUNK as u64) as usize)
}

impl Cache {
    /// Calls `look` for each chunk that exists of those that hold `pages` pages from byte `first`
    /// on, with its slots for them: their number among the pages, and their indices in the chunk.
    fn for_each(
        &mut self,
        snapshot: &Snapshot,
        first: SnapshotOffset,
        pages: PageCount,
        mut look: impl FnMut(usize, &mut Chunk, Range<usize>),
    ) {
        let pages = pages.to_usize();
        let (origin, page) = place(snapshot, first);
        let mut done = 0;
        while done < pages {
            let (key, start) = split(origin, page + done as u64);
            let end = CHUNK.min(start + pages - done);
            if let Some(chunk) = self.chunks.get_mut(&key) {
                look(done, chunk, start..end);
            }
            done += end - start;
        }
    }

    /// Forgets what is ready in the next [`TRIM`] chunks but was not used since the clock came by,
    /// whoever else holds it; says whether there are more before the clock has come around.
    fn trim(&mut self) -> bool {
        for _ in 0..TRIM {
            let from = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
            let Some((&key, chunk)) = self.chunks.range_mut((from, Bound::Unbounded)).next() else {
                self.hand = None;
                return false;
            };
            let recent = core::mem::take(&mut chunk.recent);
            let once = chunk.once;
            for (index, slot) in chunk.slots.iter_mut().enumerate() {
                if matches!(slot, Slot::Ready(_)) && !once && recent >> index & 1 == 0 {
                    *slot = Slot::Empty;
                }
            }
            self.hand = Some(key);
            if chunk.slots.iter().all(|slot| matches!(slot, Slot::Empty)) {
                self.chunks.remove(&key);
            }
        }
        true
    }

    /// The same for every chunk, making those that do not exist.
    fn for_each_made(
        &mut self,
        snapshot: &Snapshot,
        first: SnapshotOffset,
        pages: PageCount,
        mut look: impl FnMut(&mut Chunk, Range<usize>),
    ) {
        let pages = pages.to_usize();
        let (origin, page) = place(snapshot, first);
        let mut done = 0;
        while done < pages {
            let (key, start) = split(origin, page + done as u64);
            let end = CHUNK.min(start + pages - done);
            let chunk = self.chunks.entry(key).or_default();
            chunk.once = !snapshot.is_trusted() && !mutant::active(Mutant::AskTwice);
            look(chunk, start..end);
            done += end - start;
        }
    }
}

/// What is known of a page.
pub(super) enum Lookup {
    /// It was handed to the caller.
    Ready,
    /// Somebody asked already.
    Pending(Arc<Fetch>),
    /// It is in the swap file.
    Away(u32),
    /// Nobody did.
    Absent,
}

/// Looks for the page number `wanted` of `pages` pages from byte `first` of a snapshot. If it is
/// there, `take` gets it, and then all that are (it too, again).
pub(super) fn lookup(
    snapshot: &Snapshot,
    first: SnapshotOffset,
    pages: PageCount,
    wanted: usize,
    mut take: impl FnMut(usize, &Frame),
) -> Lookup {
    let mut cache = CACHE.lock();
    let mut found = Lookup::Absent;
    cache.for_each(
        snapshot,
        first + PageCount::of_len(wanted).bytes(),
        PageCount(1),
        |_, chunk, range| match chunk.slots.get(range.start) {
            Some(Slot::Pending(fetch)) => found = Lookup::Pending(fetch.clone()),
            Some(Slot::Ready(frame)) => {
                chunk.recent |= 1 << range.start;
                found = Lookup::Ready;
                take(wanted, frame);
            }
            Some(Slot::Away(slot)) => found = Lookup::Away(slot.number()),
            Some(Slot::Empty) | None => {}
        },
    );
    if pages > PageCount(1) && matches!(found, Lookup::Ready) {
        cache.for_each(snapshot, first, pages, |number, chunk, range| {
            for (index, slot) in chunk.slots.get(range).unwrap_or_default().iter().enumerate() {
                if let Slot::Ready(frame) = slot {
                    take(number + index, frame);
                }
            }
        });
    }
    found
}

/// Begins a fetch of the page at byte `wanted` and of those neighbours among `pages` (64 at most)
/// pages from byte `first` on that join it without a gap and are not cached. The caller starts it
/// once it holds no lock.
pub(super) fn begin(
    snapshot: &Arc<Snapshot>,
    first: SnapshotOffset,
    pages: PageCount,
    wanted: SnapshotOffset,
    counters: &Arc<Counters>,
) -> Arc<Fetch> {
    let mut cache = CACHE.lock();
    if cache.chunks.len() > frame::stats().total / FRAMES_PER_CHUNK {
        cache.trim();
    }
    let mut cached = 0_u64;
    cache.for_each(snapshot, first, pages, |number, chunk, range| {
        for (index, slot) in chunk.slots.get(range).unwrap_or_default().iter().enumerate() {
            cached |= u64::from(!matches!(slot, Slot::Empty)) << (number + index);
        }
    });
    let wanted = (wanted - first).whole_pages().to_usize();
    let (mut start, mut end) = (wanted, wanted + 1);
    while start > 0 && cached >> (start - 1) & 1 == 0 {
        start -= 1;
    }
    while end < pages.to_usize() && cached >> end & 1 == 0 {
        end += 1;
    }
    let from = first + PageCount::of_len(start).bytes();
    let count = PageCount::of_len(end - start);
    let fetch = Fetch::new(snapshot.clone(), from, count, counters.clone());
    cache.for_each_made(snapshot, from, count, |chunk, range| {
        for slot in chunk.slots.get_mut(range).unwrap_or_default() {
            // Something can be there only under the mutant that fetches twice; then it stays.
            if matches!(slot, Slot::Empty) {
                *slot = Slot::Pending(fetch.clone());
            }
        }
    });
    fetch
}

/// A fetch is answered: its slots become ready, or empty again where there are no frames.
pub(super) fn settle(fetch: &Fetch, frames: &[Frame]) {
    // The last references to a fetch must not go under the lock.
    let mut settled = Vec::with_capacity(fetch.pages.to_usize());
    CACHE.lock().for_each(&fetch.snapshot, fetch.offset, fetch.pages, |number, chunk, range| {
        for (index, slot) in
            chunk.slots.get_mut(range.clone()).unwrap_or_default().iter_mut().enumerate()
        {
            if matches!(slot, Slot::Pending(pending) if core::ptr::eq(&**pending, fetch)) {
                if mutant::active(Mutant::LeakFrame) {
                    core::mem::forget(frames.get(number + index).cloned());
                }
                let ready = frames
                    .get(number + index)
                    .and_then(CachedFrame::new)
                    .map_or(Slot::Empty, Slot::Ready);
                chunk.recent |= 1 << (range.start + index);
                settled.push(core::mem::replace(slot, ready));
            }
        }
    });
}

/// A frame is known to hold the page of a snapshot at byte `offset`: whoever wants that page has it
/// (W8). What is there or on its way already stays.
pub(super) fn insert(snapshot: &Snapshot, offset: SnapshotOffset, frame: &Frame) {
    CACHE.lock().for_each_made(snapshot, offset, PageCount(1), |chunk, range| {
        for slot in chunk.slots.get_mut(range).unwrap_or_default() {
            if matches!(slot, Slot::Empty) {
                *slot = CachedFrame::new(frame).map_or(Slot::Empty, Slot::Ready);
            }
        }
    });
}

/// The page of a snapshot at byte `offset` came back from the swap file.
pub(super) fn restore(snapshot: &Snapshot, offset: SnapshotOffset, frame: Frame) {
    CACHE.lock().for_each(snapshot, offset, PageCount(1), |_, chunk, range| {
        for slot in chunk.slots.get_mut(range).unwrap_or_default() {
            if matches!(slot, Slot::Away(_)) {
                // Frames that come from the swap file are new: there is room for them.
                *slot = CachedFrame::new(&frame).map_or(Slot::Empty, Slot::Ready);
            }
        }
    });
}

/// Lets frames go to the swap file that nobody maps and that cannot be had again, as long as `take`
/// gives slots for them; says how many went.
pub(super) fn leave(mut take: impl FnMut(&Frame) -> Option<swap::Slot>) -> usize {
    let Some(mut cache) = CACHE.try_lock() else { return 0 };
    let mut left = 0;
    for slot in
        cache.chunks.values_mut().filter(|chunk| chunk.once).flat_map(|chunk| &mut chunk.slots)
    {
        if let Slot::Ready(frame) = slot
            && !frame.is_shared()
        {
            let Some(away) = take(frame) else { break };
            *slot = Slot::Away(away);
            left += 1;
        }
    }
    left
}

/// A snapshot goes, and with it what is cached for it alone.
pub(super) fn forget(snapshot: &Snapshot) {
    let own = |phase, chunk| Key { origin: Origin::Own { snapshot: snapshot.id, phase }, chunk };
    let mut cache = CACHE.lock();
    while let Some((&key, _)) = cache.chunks.range(own(0, 0)..=own(u16::MAX, u64::MAX)).next() {
        // Nothing in it is pending: a fetch keeps its snapshot alive.
        cache.chunks.remove(&key);
    }
}

/// Lets go of some `wanted` frames that only the cache holds, those not used since the clock came
/// by last time first. Returns how many became free: 0 also where the cache is in use by this very
/// call chain.
pub(super) fn evict(wanted: usize) -> usize {
    let Some(mut cache) = CACHE.try_lock() else { return 0 };
    let mut freed = 0;
    // Twice around: the first time may only take marks away.
    for _ in 0..2 * (cache.chunks.len() + 1) {
        if freed >= wanted {
            break;
        }
        let from = cache.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let Some((&key, chunk)) = cache.chunks.range_mut((from, Bound::Unbounded)).next() else {
            cache.hand = None;
            continue;
        };
        let mut empty = true;
        for (index, slot) in chunk.slots.iter_mut().enumerate() {
            if let Slot::Ready(frame) = slot
                && !chunk.once
                && chunk.recent >> index & 1 == 0
                && let Some(is_last) = frame.is_only_cached()
            {
                *slot = Slot::Empty;
                freed += usize::from(is_last);
            }
            empty &= matches!(slot, Slot::Empty);
        }
        chunk.recent = 0;
        cache.hand = Some(key);
        if empty {
            cache.chunks.remove(&key);
        }
    }
    counter::count(Counter::Evictions, freed as u64);
    freed
}

/// Forgets everything that is not on its way: frames that only the cache holds become free, those
/// that others hold are just not found here any more.
fn drop_all() {
    let mut cache = CACHE.lock();
    cache.hand = None;
    // The first time around takes marks away.
    for _ in 0..2 {
        while cache.trim() {}
    }
}

/// Bytes of the heap that the cache takes, its tree apart.
pub(super) fn heap_bytes() -> usize {
    CACHE.lock().chunks.len() * size_of::<Chunk>().next_power_of_two()
}

/// Calls `look` for each frame that the cache holds.
pub(super) fn for_each_frame(look: &mut impl FnMut(&Frame)) {
    let cache = CACHE.lock();
    for slot in cache.chunks.values().flat_map(|chunk| &chunk.slots) {
        if let Slot::Ready(frame) = slot {
            look(frame);
        }
    }
}

/// Pages that went from the cache to the swap file.
pub fn pages_away() -> usize {
    let cache = CACHE.lock();
    cache
        .chunks
        .values()
        .flat_map(|chunk| &chunk.slots)
        .filter(|slot| matches!(slot, Slot::Away(_)))
        .count()
}

/// Frames that the cache holds.
pub fn cached_frames() -> usize {
    let cache = CACHE.lock();
    cache
        .chunks
        .values()
        .flat_map(|chunk| &chunk.slots)
        .filter(|slot| matches!(slot, Slot::Ready(_)))
        .count()
}
