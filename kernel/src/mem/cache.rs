//! The frame cache: bytes of files at a version, and of snapshots, that were fetched once.
//!
//! Where a page of a snapshot is a page of its file as well (*congruent*), the key is the mount, file, version and file page, so that all snapshots share it
//! and it outlives them; a version's bytes never change, so that entries are never stale, only useless. Elsewhere the key is the snapshot's own number, and
//! the entries go with it.
//!
//! An entry is `Pending` while a fetch for it is under way, then `Ready`. Lock: `CACHE`, inside any address space's; under it only frames are touched, and
//! no `Fetch` or `Snapshot` may be dropped under it, for the last one closes a handle.

use super::{
    Frame, PAGE_BYTES, PAGE_SHIFT,
    counters::{self, Counter, Counters},
    snapshot::{Fetch, Snapshot, Source},
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::ops::Bound;
use fsproto::mutant::{self, Mutant};
use spin::Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    File { mount: u64, file: u64, version: u64, page: u64 },
    Own { snapshot: u64, offset: u64 },
}

enum Entry {
    Pending(Arc<Fetch>),
    Ready { frame: Frame, recent: bool },
}

struct Cache {
    entries: BTreeMap<Key, Entry>,
    /// Where the clock of [`evict`] goes on.
    hand: Option<Key>,
}

static CACHE: Mutex<Cache> = Mutex::new(Cache { entries: BTreeMap::new(), hand: None });

fn key(snapshot: &Snapshot, offset: u64) -> Key {
    if let Source::File { mount, file, version, offset: start } = snapshot.source
        && let Some(byte) = start.checked_add(offset)
        && (byte.is_multiple_of(PAGE_BYTES as u64) || mutant::active(Mutant::AlignOffset))
    {
        return Key::File { mount, file, version, page: byte >> PAGE_SHIFT };
    }
    Key::Own { snapshot: snapshot.id, offset }
}

/// What is known of a page.
pub(super) enum Lookup {
    /// Here it is.
    Ready(Frame),
    /// Somebody asked already.
    Pending(Arc<Fetch>),
    /// Nobody did.
    Absent,
}

/// Looks for the page of bytes from `offset` of a snapshot.
pub(super) fn lookup(snapshot: &Snapshot, offset: u64) -> Lookup {
    match CACHE.lock().entries.get_mut(&key(snapshot, offset)) {
        Some(Entry::Ready { frame, recent }) => {
            *recent = true;
            Lookup::Ready(frame.clone())
        }
        Some(Entry::Pending(fetch)) => Lookup::Pending(fetch.clone()),
        None => Lookup::Absent,
    }
}

/// Begins a fetch of the page at `wanted` and of those neighbours within `first..first + pages` that join it without a gap and are not cached.
/// The caller starts it once it holds no lock.
pub(super) fn begin(snapshot: &Arc<Snapshot>, first: u64, pages: usize, wanted: u64, counters: &Arc<Counters>) -> Arc<Fetch> {
    const STEP: u64 = PAGE_BYTES as u64;
    let mut cache = CACHE.lock();
    let absent = |cache: &Cache, offset: u64| !cache.entries.contains_key(&key(snapshot, offset));
    let (mut start, mut end) = (wanted, wanted + STEP);
    while start > first && absent(&cache, start - STEP) {
        start -= STEP;
    }
    while end < first + pages as u64 * STEP && absent(&cache, end) {
        end += STEP;
    }
    let fetch = Fetch::new(snapshot.clone(), start, ((end - start) / STEP) as usize, counters.clone());
    for offset in (start..end).step_by(PAGE_BYTES) {
        // An entry can be there already only under the mutant that fetches twice; then it stays.
        cache.entries.entry(key(snapshot, offset)).or_insert_with(|| Entry::Pending(fetch.clone()));
    }
    fetch
}

/// A fetch was answered: its entries become ready, or go.
pub(super) fn settle(fetch: &Fetch) {
    // The last references to a fetch must not go under the lock.
    let mut settled = Vec::with_capacity(fetch.pages);
    fetch.frames(|frames| {
        let mut cache = CACHE.lock();
        for (index, frame) in frames.iter().enumerate() {
            let key = key(&fetch.snapshot, fetch.offset + (index * PAGE_BYTES) as u64);
            if let Some(entry) = cache.entries.get_mut(&key)
                && matches!(entry, Entry::Pending(pending) if core::ptr::eq(&**pending, fetch))
            {
                settled.push(core::mem::replace(entry, Entry::Ready { frame: frame.clone(), recent: true }));
            }
        }
    });
    if settled.is_empty() {
        let mut cache = CACHE.lock();
        for index in 0..fetch.pages {
            let key = key(&fetch.snapshot, fetch.offset + (index * PAGE_BYTES) as u64);
            if matches!(cache.entries.get(&key), Some(Entry::Pending(pending)) if core::ptr::eq(&**pending, fetch)) {
                settled.extend(cache.entries.remove(&key));
            }
        }
    }
}

/// A snapshot goes, and with it what is cached for it alone.
pub(super) fn forget(snapshot: &Snapshot) {
    let own = |offset| Key::Own { snapshot: snapshot.id, offset };
    let mut cache = CACHE.lock();
    while let Some((&key, _)) = cache.entries.range(own(0)..=own(u64::MAX)).next() {
        cache.entries.remove(&key);
    }
}

/// Lets go of up to `wanted` frames that only the cache holds, those not used since the clock came by last time first. Returns how many became free: 0 also
/// where the cache is in use by this very call chain.
pub(super) fn evict(wanted: usize) -> usize {
    let Some(mut cache) = CACHE.try_lock() else { return 0 };
    let mut freed = 0;
    // Twice around: the first time may only take marks away.
    for _ in 0..2 * (cache.entries.len() + 1) {
        if freed == wanted {
            break;
        }
        let from = cache.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let Some((&key, entry)) = cache.entries.range_mut((from, Bound::Unbounded)).next() else {
            cache.hand = None;
            continue;
        };
        let evictable = match entry {
            Entry::Ready { frame, recent } => !frame.is_shared() && !core::mem::take(recent),
            Entry::Pending(_) => false,
        };
        cache.hand = Some(key);
        if evictable {
            cache.entries.remove(&key);
            counters::count(Counter::Evictions, 1);
            freed += 1;
        }
    }
    freed
}

/// Frames that the cache holds.
pub fn cached_frames() -> usize {
    CACHE.lock().entries.values().filter(|entry| matches!(entry, Entry::Ready { .. })).count()
}
