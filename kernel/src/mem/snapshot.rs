//! Snapshots as the kernel sees them: read-only bytes that a server keeps, and the requests that
//! bring them.
//!
//! A snapshot lives as long as a region or a fetch refers to it; with the last reference its handle
//! is closed (C10). Its number is never used twice: together with an offset it says which bytes a
//! page stands for, and is therefore what a fault compares after it has waited (F3).

use super::{Frame, PAGE_BYTES, cache};
use crate::sync::{Interrupt, Interrupted, Mutex, WaitQueue, rank};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::counter::{self, Counter, Counters};
use foundation::{
    ByteCount, Errno, FileOffset, PageCount, SnapshotOffset,
    mutant::{self, Mutant},
};
use fsproto::{Handle, Hole};

/// Holes that are kept of one snapshot, at most: 64 KiB of the kernel's memory.
const MAX_HOLES: usize = 4096;

/// Where a snapshot's pages come from: the client side of a mount.
pub trait Pager: Send + Sync {
    /// Sends the request for a fetch. The answer calls [`Fetch::complete`] from whatever context,
    /// before or after this returns. Never waits.
    fn start(&self, fetch: Arc<Fetch>);
    /// Gives a snapshot's handle back. Never waits; called with no lock of `mem` held.
    fn close(&self, handle: Handle);
}

/// What a snapshot's bytes are: the key under which frames are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Bytes of a file at a version: the same in every snapshot of it (A5).
    File {
        /// The mount.
        mount: u64,
        /// The file's id.
        file: u64,
        /// The version of its bytes.
        version: u64,
        /// The snapshot's first byte in the file.
        offset: FileOffset,
    },
    /// Nobody else's, of a server that is not trusted: what it said once counts, and it is never
    /// asked again (X3).
    Untrusted,
}

/// Read-only bytes kept by a server.
pub struct Snapshot {
    /// What the server calls it.
    pub handle: Handle,
    /// Length.
    pub len: ByteCount,
    /// What they are.
    pub source: Source,
    /// Never used twice.
    pub id: u64,
    pager: Arc<dyn Pager>,
    holes: Mutex<Holes, rank::Holes>,
}

/// Sorted, and complete up to `end`.
struct Holes {
    list: Vec<Hole>,
    end: SnapshotOffset,
}

impl Snapshot {
    /// A snapshot that a server has just made. `holes` are in order, relative to its byte 0, and
    /// complete up to `holes_end`.
    pub fn new(
        pager: Arc<dyn Pager>,
        handle: Handle,
        len: ByteCount,
        source: Source,
        holes: Vec<Hole>,
        holes_end: SnapshotOffset,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        counter::count_snapshot_made();
        Arc::new(Self {
            handle,
            len,
            source,
            id,
            pager,
            holes: Mutex::new(Holes { list: holes, end: holes_end }),
        })
    }

    /// Whether its bytes can be asked for as often as one likes (X3).
    pub(super) fn is_trusted(&self) -> bool {
        self.source != Source::Untrusted
    }

    /// Goes on with the list of holes, which was complete up to `from`; of two answers to the same
    /// question the second counts for nothing. Past [`MAX_HOLES`], the rest of the snapshot counts
    /// as data, which is true of any hole, only dearer.
    pub fn learn_holes(&self, from: SnapshotOffset, holes: &[Hole], holes_end: SnapshotOffset) {
        let mut known = self.holes.lock();
        if known.end != from {
            return;
        }
        let fits = known.list.len() + holes.len() <= MAX_HOLES
            && known.list.try_reserve(holes.len()).is_ok();
        if fits && holes_end > from {
            known.list.extend_from_slice(holes);
            known.end = holes_end;
        } else {
            known.end = SnapshotOffset(u64::MAX);
        }
    }

    /// Up to which byte the holes are known.
    pub fn holes_end(&self) -> SnapshotOffset {
        self.holes.lock().end
    }

    /// The holes of a range, relative to byte 0, if all of them are known.
    pub fn holes_within(&self, offset: SnapshotOffset, length: ByteCount) -> Option<Vec<Hole>> {
        let end = offset.checked_add(length)?;
        let known = self.holes.lock();
        if known.end < end {
            return None;
        }
        let (offset, end) = (offset.0, end.0);
        let first = known.list.partition_point(|hole| hole.end() <= offset);
        let behind = known.list.partition_point(|hole| hole.offset < end);
        let mut within = Vec::new();
        for hole in known.list.get(first..behind).unwrap_or_default() {
            let start = hole.offset.max(offset);
            within.try_reserve(1).ok()?;
            within.push(Hole { offset: start, length: ByteCount(hole.end().min(end) - start) });
        }
        Some(within)
    }

    /// Whether the page of bytes from `offset` is known to be a hole as a whole (R10).
    pub fn is_hole(&self, offset: SnapshotOffset) -> bool {
        let offset = offset.0;
        if mutant::active(Mutant::AllHoles) {
            return true;
        }
        let holes = self.holes.lock();
        let after = holes.list.partition_point(|hole| hole.offset <= offset);
        let hole = after.checked_sub(1).and_then(|index| holes.list.get(index));
        let covered = hole.is_some_and(|hole| {
            offset - hole.offset < hole.length.0
                && hole.length - ByteCount(offset - hole.offset) >= ByteCount(PAGE_BYTES as u64)
        });
        covered && !mutant::active(Mutant::IgnoreHoles)
    }
}

impl core::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { handle, len, source, id, .. } = self;
        write!(f, "Snapshot {{ {handle:?}, {len} bytes, {source:?}, id {id} }}")
    }
}

impl core::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Fetch {{ {:?}, offset {}, {} pages }}", self.snapshot, self.offset, self.pages)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        cache::forget(self);
        counter::count_snapshot_closed();
        if !mutant::active(Mutant::LeakSnapshot) {
            self.pager.close(self.handle);
        }
    }
}

/// A request for pages of a snapshot. It belongs to the snapshot, not to the thread that began it:
/// that one may be killed, and others wait too (F3).
pub struct Fetch {
    /// Of what.
    pub snapshot: Arc<Snapshot>,
    /// First byte within the snapshot.
    pub offset: SnapshotOffset,
    /// Whole pages, all inside the snapshot.
    pub pages: PageCount,
    result: Mutex<Option<Result<Vec<Frame>, Errno>>, rank::FetchResult>,
    queue: WaitQueue,
    /// Of the process that began it.
    counters: Arc<Counters>,
}

impl Fetch {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        offset: SnapshotOffset,
        pages: PageCount,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        Arc::new(Self {
            snapshot,
            offset,
            pages,
            result: Mutex::new(None),
            queue: WaitQueue::new(),
            counters,
        })
    }

    pub(super) fn start(self: &Arc<Self>) {
        self.counters.add(Counter::Fetches, 1);
        self.snapshot.pager.start(self.clone());
    }

    /// The answer: as many frames as there are pages, or why there are none. A second answer counts
    /// for nothing. Needs: no lock of `mem` held.
    pub fn complete(&self, answer: Result<Vec<Frame>, Errno>) {
        let answer = answer.and_then(|frames| {
            if PageCount::of_len(frames.len()) == self.pages { Ok(frames) } else { Err(Errno::EIO) }
        });
        {
            let mut result = self.result.lock();
            if result.is_some() {
                return;
            }
            match &answer {
                Ok(frames) => {
                    self.counters.add(Counter::PagesFetched, frames.len() as u64);
                    let unit = if mutant::active(Mutant::Miscount) { 1 } else { PAGE_BYTES };
                    self.counters.add(Counter::BytesFetched, (frames.len() * unit) as u64);
                }
                Err(_) => self.counters.add(Counter::FetchErrors, 1),
            }
            // First the cache: who sees the answer must not find there that it is still to come,
            // and take one failure for several.
            cache::settle(self, answer.as_deref().unwrap_or_default());
            *result = Some(answer);
        }
        self.queue.wake_all();
    }

    /// Pages of the fetch in front of the one at byte `wanted`, which lies in it.
    pub(super) fn pages_before(&self, wanted: SnapshotOffset) -> PageCount {
        (wanted - self.offset).whole_pages()
    }

    /// Waits for the answer.
    pub(super) fn wait(&self) -> Result<Result<(), Errno>, Interrupted> {
        self.queue.wait_for_server(Interrupt::Killable, || {
            self.result
                .lock()
                .as_ref()
                .map(|result| result.as_ref().map(drop).map_err(|&error| error))
        })
    }

    /// The frames that came, if they did.
    pub(super) fn frames<T>(&self, look: impl FnOnce(&[Frame]) -> T) -> Option<T> {
        self.result
            .lock()
            .as_ref()
            .and_then(|result| result.as_ref().ok())
            .map(|frames| look(frames))
    }
}
