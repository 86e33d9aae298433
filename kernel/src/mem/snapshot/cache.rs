//! The frame cache: pages of files at a version, and of snapshots, that were fetched.
//!
//! Where a page of a snapshot coincides with a page of its file, the key is mount, file, version
//! and file page: all snapshots of the file share the entry, and it outlives them. A version's
//! bytes never change, so no entry is ever stale. Elsewhere the key is the snapshot's id, and the
//! entries are removed with the snapshot. Entries are grouped in chunks of [`CHUNK`] adjacent
//! pages, so that a fault finds its window with one search.
//!
//! | state of an entry | lookup | fetch completes | eviction |
//! |---|---|---|---|
//! | `Empty` | a fetch begins: `Pending` | - | - |
//! | `Pending` | waits for the same fetch (F3) | `Ready`; `Empty` where it failed | stays |
//! | `Ready` | the frame | - | `Empty`; of an untrusted server: `Swapped` (X3) |
//! | `Swapped` | read back from swap: `Ready` | - | stays |
//!
//! Lock: `CACHE`, inside any address space's. No `Fetch` or `Snapshot` may be dropped under it,
//! because dropping the last reference to a snapshot closes its handle.

use super::{
    Fetch, Snapshot, Source,
    origin::{CHUNK, Key, Origin, by_chunk, locate, split},
};
use crate::mem::{
    Frame, PAGE_BYTES,
    frame::{self, CachedFrame},
    front_map::FrontMap,
    heap, kept_file, mutants,
    shrinker::{self, Stage},
    slot::SwapSlot,
    window::{Again, span},
};
use crate::sync::{Interrupt, Mutex, rank, relax};
use alloc::sync::Arc;
use core::{cell::Cell, ops::Range};
use foundation::counter::{self, Counter, Counters};
use foundation::knob;
use foundation::{PageCount, SnapshotOffset};

/// The cache has at most one chunk for this many frames of the machine (3 % of memory). Otherwise
/// chunks of old versions whose frames the server still holds would fill the heap, because
/// [`evict`] only removes entries that free a frame.
const FRAMES_PER_CHUNK: usize = 8;

/// Frames freed by one call of the shrinker.
const BATCH: usize = 64;

/// Chunks that one trim visits.
const TRIM: usize = 16;

enum Entry {
    Empty,
    Pending(Arc<Fetch>),
    Ready(CachedFrame),
    Swapped(SwapSlot),
}

struct Chunk {
    origin: Origin,
    /// The bytes cannot be fetched again (X3).
    once: bool,
    entries: [Entry; CHUNK],
    /// One bit for each entry that was used since the clock's last visit.
    recent: Cell<u32>,
}

impl Chunk {
    #[inline(always)]
    fn new(origin: Origin) -> Self {
        let entries = [const { Entry::Empty }; CHUNK];
        Self { origin, once: false, entries, recent: Cell::new(0) }
    }
}

struct Cache {
    chunks: FrontMap<Key, Chunk>,
    /// The chunk that the clock of [`evict`] visited last.
    hand: Option<Key>,
}

static CACHE: Mutex<Cache, rank::FrameCache> =
    Mutex::new(Cache { chunks: FrontMap::new(), hand: None });

/// Registers the cache as a shrinker, and the action of `drop_caches`.
pub(in crate::mem) fn init() {
    shrinker::register(Stage::Cache, || evict(BATCH));
    knob::DROP_CACHES.register(drop_all);
}

impl Cache {
    /// Calls `look` for each existing chunk that has some of the `pages` pages from byte `first`
    /// on: with the number of its first one among these pages, and the indices of its entries.
    fn for_each(
        &mut self,
        snapshot: &Snapshot,
        first: SnapshotOffset,
        pages: PageCount,
        mut look: impl FnMut(usize, &mut Chunk, Range<usize>),
    ) {
        let place = locate(snapshot, first);
        for (number, key, range) in by_chunk(place, pages) {
            if let Some(chunk) = self.chunks.get_mut(&key)
                && chunk.origin == place.0
            {
                look(number, chunk, range);
            }
        }
    }

    /// A chunk of this origin.
    #[inline]
    fn get(&self, key: &Key, origin: Origin) -> Option<&Chunk> {
        self.chunks.get(key).filter(|chunk| chunk.origin == origin)
    }

    /// Removes the ready entries of the next [`TRIM`] chunks that were not used since the clock's
    /// last visit, whoever else holds the frames. Returns false at the end of the round.
    fn trim(&mut self) -> bool {
        for _ in 0..TRIM {
            let Some((key, chunk)) = self.chunks.next_after(self.hand) else {
                self.hand = None;
                return false;
            };
            let recent = chunk.recent.take();
            let once = chunk.once;
            for (index, entry) in chunk.entries.iter_mut().enumerate() {
                if matches!(entry, Entry::Ready(_)) && !once && recent >> index & 1 == 0 {
                    *entry = Entry::Empty;
                }
            }
            self.hand = Some(key);
            if chunk.entries.iter().all(|entry| matches!(entry, Entry::Empty)) {
                self.chunks.remove(&key);
            }
        }
        true
    }

    /// As [`for_each`](Self::for_each), but makes chunks that do not exist. Leaves out those whose
    /// place in the tree another origin has: their pages are not cached.
    fn for_each_made(
        &mut self,
        snapshot: &Snapshot,
        first: SnapshotOffset,
        pages: PageCount,
        mut look: impl FnMut(&mut Chunk, Range<usize>),
    ) {
        let place = locate(snapshot, first);
        for (_, key, range) in by_chunk(place, pages) {
            let chunk = self.chunks.get_or_make(key, || Chunk::new(place.0));
            if chunk.origin != place.0 {
                continue;
            }
            chunk.once = !snapshot.is_trusted() && !mutants::ask_twice();
            look(chunk, range);
        }
    }
}

/// The state of a page in the cache.
pub(in crate::mem) enum Lookup {
    /// The caller got the frame.
    Ready,
    /// This fetch will bring it.
    Pending(Arc<Fetch>),
    /// It was swapped out to the slot of this number.
    Swapped(u32),
    /// A fetch has to begin.
    Absent,
}

/// Looks up page number `wanted` of the `pages` pages from byte `first` on. If it is ready, `take`
/// gets it first, and then all pages that are ready (it again too), with their numbers.
#[inline(never)]
pub(in crate::mem) fn lookup(
    snapshot: &Snapshot,
    first: SnapshotOffset,
    pages: PageCount,
    wanted: usize,
    take: impl FnMut(usize, &Frame),
) -> Lookup {
    lookup_inline(snapshot, first, pages, wanted, take)
}

/// The same, for small reads.
#[inline(always)]
pub(in crate::mem) fn lookup_inline(
    snapshot: &Snapshot,
    first: SnapshotOffset,
    pages: PageCount,
    wanted: usize,
    mut take: impl FnMut(usize, &Frame),
) -> Lookup {
    debug_assert!(wanted < pages.to_usize());
    let cache = CACHE.lock();
    let (origin, page) = locate(snapshot, first);
    let (own_key, index) = split(origin, page + wanted as u64);
    let Some(own) = cache.get(&own_key, origin) else { return Lookup::Absent };
    match own.entries.get(index) {
        Some(Entry::Pending(fetch)) => return Lookup::Pending(fetch.clone()),
        Some(Entry::Swapped(slot)) => return Lookup::Swapped(slot.number()),
        Some(Entry::Empty) | None => return Lookup::Absent,
        Some(Entry::Ready(frame)) => take(wanted, frame),
    }
    own.recent.set(own.recent.get() | 1 << index);
    if pages == PageCount(1) {
        return Lookup::Ready;
    }
    for (number, key, range) in by_chunk((origin, page), pages) {
        let chunk = if key.chunk == own_key.chunk { Some(own) } else { cache.get(&key, origin) };
        let entries = chunk.and_then(|chunk| chunk.entries.get(range)).unwrap_or_default();
        for (index, entry) in entries.iter().enumerate() {
            if let Entry::Ready(frame) = entry {
                take(number + index, frame);
            }
        }
    }
    Lookup::Ready
}

/// Begins a fetch of the page at byte `wanted`, and of others of the `pages` pages (64 at most)
/// from byte `first` on that are not cached and not `mapped`, one bit for each of these: see
/// [`span`]. The caller starts it once it holds no lock.
pub(in crate::mem) fn begin(
    snapshot: &Arc<Snapshot>,
    first: SnapshotOffset,
    pages: PageCount,
    wanted: SnapshotOffset,
    mapped: u64,
    counters: &Arc<Counters>,
) -> Arc<Fetch> {
    debug_assert!(!pages.is_zero() && pages.0 <= knob::MAX_FAULT_AROUND);
    debug_assert!(first <= wanted && wanted < first + pages.bytes());
    let mut cache = CACHE.lock();
    if cache.chunks.len() > frame::stats().total / FRAMES_PER_CHUNK {
        cache.trim();
    }
    // Pages behind the last one need not be fetched either.
    let mut present = mapped | u64::MAX.checked_shl(pages.0 as u32).unwrap_or(0);
    if pages > PageCount(1) {
        cache.for_each(snapshot, first, pages, |number, chunk, range| {
            let entries = chunk.entries.get(range).unwrap_or_default();
            for (index, entry) in entries.iter().enumerate() {
                present |= u64::from(!matches!(entry, Entry::Empty)) << (number + index);
            }
        });
    }
    let wanted = (wanted - first).whole_pages().to_usize();
    let again = if snapshot.is_trusted() { Again::Allowed } else { Again::Never };
    let Range { start, end } = match pages {
        PageCount(1) => 0..1,
        _ => span(wanted, present, again),
    };
    let from = first + PageCount::of_len(start).bytes();
    let count = PageCount::of_len(end - start);
    debug_assert!(start <= wanted && wanted < end && end <= pages.to_usize());
    let source = Source::Snapshot(snapshot.clone());
    let fetch = Fetch::new(source, from, count, counters.clone());
    cache.for_each_made(snapshot, from, count, |chunk, range| {
        for entry in chunk.entries.get_mut(range).unwrap_or_default() {
            // Those in use are fetched along, and stay as they are.
            if matches!(entry, Entry::Empty) {
                *entry = Entry::Pending(fetch.clone());
            }
        }
    });
    fetch
}

/// A fetch has completed: its entries become ready, or empty where there are no frames. The caller
/// has a reference to the fetch, so none of the entries' references is the last one.
pub(in crate::mem) fn settle(fetch: &Fetch, snapshot: &Snapshot, frames: &[Frame]) {
    debug_assert!(frames.is_empty() || frames.len() == fetch.pages.to_usize());
    let is_its = |entry: &Entry| match entry {
        Entry::Pending(pending) => core::ptr::eq(&**pending, fetch),
        _ => false,
    };
    CACHE.lock().for_each(snapshot, fetch.offset, fetch.pages, |number, chunk, range| {
        let first = range.start;
        let entries = chunk.entries.get_mut(range).unwrap_or_default();
        let Some(frames) = frames.get(number..number + entries.len()) else {
            entries
                .iter_mut()
                .filter(|entry| is_its(entry))
                .for_each(|entry| *entry = Entry::Empty);
            return;
        };
        let (mut bit, mut settled) = (1 << first, 0);
        for (entry, frame) in entries.iter_mut().zip(frames) {
            if is_its(entry) {
                mutants::leak_frame(Some(frame));
                *entry = match CachedFrame::new(frame) {
                    Some(frame) => Entry::Ready(frame),
                    None => Entry::Empty,
                };
                settled |= bit;
            }
            bit <<= 1;
        }
        *chunk.recent.get_mut() |= settled;
    });
}

/// Adds a frame that is known to hold the page at byte `offset` (W8). An entry in use stays.
pub(in crate::mem) fn insert(snapshot: &Snapshot, offset: SnapshotOffset, frame: &Frame) {
    debug_assert!(offset.0 < snapshot.len.0 || mutants::clean_beyond_written());
    CACHE.lock().for_each_made(snapshot, offset, PageCount(1), |chunk, range| {
        for entry in chunk.entries.get_mut(range).unwrap_or_default() {
            if matches!(entry, Entry::Empty) {
                *entry = CachedFrame::new(frame).map_or(Entry::Empty, Entry::Ready);
            }
        }
    });
}

/// Adds the page of a snapshot at byte `offset` that was read back from the swap file.
pub(in crate::mem) fn restore(snapshot: &Snapshot, offset: SnapshotOffset, frame: Frame) {
    CACHE.lock().for_each(snapshot, offset, PageCount(1), |_, chunk, range| {
        for entry in chunk.entries.get_mut(range).unwrap_or_default() {
            if matches!(entry, Entry::Swapped(_)) {
                debug_assert!(chunk.once, "what can be fetched again is not swapped out");
                // A frame read from swap is new, so its count of cache references is not full.
                *entry = CachedFrame::new(&frame).map_or(Entry::Empty, Entry::Ready);
            }
        }
    });
}

/// Swaps out frames that nobody maps and that cannot be fetched again (X3), as long as `take`
/// returns slots. Returns how many. Does nothing where the cache is locked.
pub(in crate::mem) fn swap_out(mut take: impl FnMut(&Frame) -> Option<SwapSlot>) -> usize {
    let Some(mut cache) = CACHE.try_lock() else { return 0 };
    let mut left = 0;
    for entry in
        cache.chunks.values_mut().filter(|chunk| chunk.once).flat_map(|chunk| &mut chunk.entries)
    {
        if let Entry::Ready(frame) = entry
            && !frame.is_shared()
        {
            debug_assert!(!frame.is_zero_page(), "the zero page is not swapped out");
            let Some(slot) = take(frame) else { break };
            *entry = Entry::Swapped(slot);
            left += 1;
        }
    }
    left
}

/// Removes the entries of a snapshot that is dropped.
pub(in crate::mem) fn forget(snapshot: &Snapshot) {
    let own = |phase, chunk| {
        let origin = Origin::Own { snapshot: snapshot.id, phase }.number();
        Key { origin, chunk }
    };
    let all = own(0, 0)..=own(PAGE_BYTES as u16 - 1, u64::MAX);
    let mut cache = CACHE.lock();
    while let Some((key, chunk)) = cache.chunks.first_of(&all) {
        // A fetch keeps its snapshot alive.
        debug_assert!(!chunk.entries.iter().any(|entry| matches!(entry, Entry::Pending(_))));
        cache.chunks.remove(&key);
    }
}

/// Frees about `wanted` frames that only the cache holds, first those not used since the clock's
/// last visit. Returns how many became free: 0 also where the caller has locked the cache.
pub(in crate::mem) fn evict(wanted: usize) -> usize {
    let Some(mut cache) = CACHE.try_lock() else { return 0 };
    let cache = &mut *cache;
    let mut freed = 0;
    // Two rounds: the first may only clear marks.
    for _ in 0..2 * (cache.chunks.len() + 1) {
        if freed >= wanted {
            break;
        }
        let Some((key, chunk)) = cache.chunks.next_after(cache.hand) else {
            cache.hand = None;
            continue;
        };
        let mut empty = true;
        for (index, entry) in chunk.entries.iter_mut().enumerate() {
            if let Entry::Ready(frame) = entry
                && !chunk.once
                && chunk.recent.get() >> index & 1 == 0
                && let Some(is_last) = frame.is_only_cached()
            {
                debug_assert!(!frame.is_zero_page(), "the zero page always has other owners");
                *entry = Entry::Empty;
                freed += usize::from(is_last);
            }
            empty &= matches!(entry, Entry::Empty);
        }
        chunk.recent.set(0);
        cache.hand = Some(key);
        if empty {
            cache.chunks.remove(&key);
        }
    }
    counter::count(Counter::Evictions, freed as u64);
    freed
}

/// Removes all entries that are not pending, and what is kept of programs' files. Frames that only
/// the cache holds become free. Others run in between; called with no lock held.
fn drop_all() {
    kept_file::drop_all();
    CACHE.lock().hand = None;
    // The first round clears marks.
    for _ in 0..2 {
        while CACHE.lock().trim() {
            if relax(Interrupt::Killable).is_err() {
                return;
            }
        }
    }
}

/// Bytes of heap that the cache uses, without its tree.
pub(in crate::mem) fn heap_bytes() -> usize {
    CACHE.lock().chunks.len() * heap::block_bytes(size_of::<Chunk>())
}

/// Calls `look` for each frame that the cache holds.
pub(in crate::mem) fn for_each_frame(look: &mut impl FnMut(&Frame)) {
    let cache = CACHE.lock();
    for entry in cache.chunks.values().flat_map(|chunk| &chunk.entries) {
        if let Entry::Ready(frame) = entry {
            look(frame);
        }
    }
}

/// Number of pages that were swapped out of the cache.
pub fn swapped_pages() -> usize {
    let cache = CACHE.lock();
    cache
        .chunks
        .values()
        .flat_map(|chunk| &chunk.entries)
        .filter(|entry| matches!(entry, Entry::Swapped(_)))
        .count()
}

/// Number of frames that the cache holds.
pub fn cached_frames() -> usize {
    let cache = CACHE.lock();
    cache
        .chunks
        .values()
        .flat_map(|chunk| &chunk.entries)
        .filter(|entry| matches!(entry, Entry::Ready(_)))
        .count()
}
