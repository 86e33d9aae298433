//! Snapshots as the kernel sees them: read-only bytes that a server keeps, and the requests that
//! fetch them.
//!
//! A snapshot lives as long as a region or a fetch refers to it. Dropping the last reference closes
//! its handle on the server (C10). A snapshot's id is never used twice: id and offset identify the
//! bytes that back a page, so a fault compares them after it has waited (F3).
//!
//! The frame cache ([`cache`]) shares this folder because the two refer to each other: entries of
//! the cache hold fetches, a completed fetch settles its entries, and a snapshot that is dropped
//! takes its own entries with it.
#![forbid(unsafe_code)]

pub mod cache;
mod frames;
mod origin;

pub use frames::Frames;

use super::{Frame, PAGE_BYTES, fallible, mutants};
use crate::sync::{Interrupt, Interrupted, Mutex, WaitQueue, rank};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::counter::{self, Counter, Counters};
use foundation::{ByteCount, Errno, FileOffset, PageCount, SnapshotOffset};
use fsproto::{FileId, Handle, Hole};

/// Maximum of holes that are kept of one snapshot: 64 KiB of kernel memory.
const MAX_HOLES: usize = 4096;

/// What fetches a snapshot's pages: the client side of a mount.
pub trait Pager: Send + Sync {
    /// Sends the request for a fetch. The reply calls [`Fetch::complete`] from any context, before
    /// or after this returns. Never waits.
    fn start(&self, fetch: Arc<Fetch>);
    /// The same, of the server that keeps the snapshot: another one, which was asked first, does
    /// not have the bytes (F9). Never waits.
    fn ask_keeper(&self, fetch: Arc<Fetch>) {
        self.start(fetch);
    }
    /// Closes a snapshot's handle. Never waits; called with no lock of `mem` held.
    fn close(&self, handle: Handle);
}

/// Where a snapshot's bytes come from, which determines who shares their frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotSource {
    /// A file at a version, whose bytes are the same in all its snapshots (A5).
    File {
        /// Id of the mount.
        mount: u64,
        /// Id of the file on its server.
        file: u64,
        /// Version of the file's bytes.
        version: u64,
        /// The snapshot's first byte in the file.
        offset: FileOffset,
    },
    /// A server that is not trusted: its first reply counts, and it is never asked again (X3).
    /// Nothing is shared.
    Untrusted,
}

/// Read-only bytes kept by a server.
pub struct Snapshot {
    /// The snapshot's handle on its server.
    pub handle: Handle,
    /// Length of the snapshot.
    pub len: ByteCount,
    /// Where the bytes come from.
    pub source: SnapshotSource,
    /// Never used twice while the kernel runs.
    pub id: u64,
    pager: Arc<dyn Pager>,
    holes: Mutex<Holes, rank::Holes>,
}

/// Known holes, in ascending order and complete up to `end`.
struct Holes {
    list: Vec<Hole>,
    end: SnapshotOffset,
}

impl Snapshot {
    /// A snapshot that a server has just made. `holes` are in ascending order and complete up to
    /// `holes_end`.
    pub fn new(
        pager: Arc<dyn Pager>,
        handle: Handle,
        len: ByteCount,
        source: SnapshotSource,
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

    /// Whether the bytes can be fetched again (X3).
    pub(super) fn is_trusted(&self) -> bool {
        self.source != SnapshotSource::Untrusted
    }

    /// Extends the list of holes, which was complete up to `from`. A second reply to the same
    /// request changes nothing. Past [`MAX_HOLES`], the rest of the snapshot counts as data, which
    /// is correct for a hole, but costs a fetch.
    pub fn learn_holes(&self, from: SnapshotOffset, holes: &[Hole], holes_end: SnapshotOffset) {
        let mut known = self.holes.lock();
        if known.end != from {
            return;
        }
        let fits = known.list.len() + holes.len() <= MAX_HOLES
            && fallible::reserve(&mut known.list, holes.len()).is_ok();
        if fits && holes_end > from {
            known.list.extend_from_slice(holes);
            known.end = holes_end;
        } else {
            known.end = SnapshotOffset(u64::MAX);
        }
    }

    /// Whether any page can be known to be a hole.
    pub fn has_holes(&self) -> bool {
        mutants::all_holes() || !self.holes.lock().list.is_empty()
    }

    /// The position up to which all holes are known.
    pub fn holes_end(&self) -> SnapshotOffset {
        self.holes.lock().end
    }

    /// The holes of a range, cut at its ends; `None` where not all of them are known.
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
            let length = ByteCount(hole.end().min(end) - start);
            fallible::push(&mut within, Hole { offset: start, length }).ok()?;
        }
        Some(within)
    }

    /// Whether the whole page of bytes from `offset` on is known to be a hole (R10).
    pub fn is_hole(&self, offset: SnapshotOffset) -> bool {
        let offset = offset.0;
        if mutants::all_holes() {
            return true;
        }
        let holes = self.holes.lock();
        let after = holes.list.partition_point(|hole| hole.offset <= offset);
        let hole = after.checked_sub(1).and_then(|index| holes.list.get(index));
        let covered = hole.is_some_and(|hole| {
            offset - hole.offset < hole.length.0
                && hole.length - ByteCount(offset - hole.offset) >= ByteCount(PAGE_BYTES as u64)
        });
        covered && !mutants::ignore_holes()
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
        let handle = self.handle();
        write!(f, "Fetch {{ {handle:?}, offset {}, {} pages }}", self.offset, self.pages)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        cache::forget(self);
        counter::count_snapshot_closed();
        if !mutants::leak_snapshot() {
            self.pager.close(self.handle);
        }
    }
}

/// What a fetch brings pages of.
pub enum Source {
    /// The bytes that a snapshot keeps.
    Snapshot(Arc<Snapshot>),
    /// The current bytes of a file that is mapped shared.
    File(Arc<dyn LiveFile>),
}

/// A file whose current bytes are fetched.
pub trait LiveFile: Send + Sync {
    /// By which its server knows it while it is open.
    fn handle(&self) -> Handle;
    /// Its number on its server.
    fn id(&self) -> FileId;
    /// What fetches its pages.
    fn pager(&self) -> &dyn Pager;
    /// A fetch has completed; no frames where it failed. Where they are fewer than its pages, the
    /// file ended there. Called with no lock of `mem` held.
    fn settle(&self, fetch: &Fetch, frames: Option<&[Frame]>);
}

/// A request for pages of a snapshot, or of a file that is mapped shared. It belongs to its source
/// and not to the thread that began it, because that thread may be killed while others wait (F3).
pub struct Fetch {
    /// What has the pages.
    pub source: Source,
    /// The first byte, in the snapshot or in the file.
    pub offset: SnapshotOffset,
    /// How many whole pages. In a snapshot, all exist; a file may end before.
    pub pages: PageCount,
    result: Mutex<Option<Result<Frames, Errno>>, rank::FetchResult>,
    queue: WaitQueue,
    /// Counters of the process that began the fetch.
    counters: Arc<Counters>,
}

impl Fetch {
    pub(super) fn new(
        source: Source,
        offset: SnapshotOffset,
        pages: PageCount,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            offset,
            pages,
            result: Mutex::new(None),
            queue: WaitQueue::new(),
            counters,
        })
    }

    /// The snapshot whose pages are fetched, if it is one.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        match &self.source {
            Source::Snapshot(snapshot) => Some(snapshot),
            Source::File(_) => None,
        }
    }

    /// Whether this fetches pages of a snapshot, by its id.
    pub(super) fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.snapshot().is_some_and(|own| own.id == snapshot.id)
    }

    /// The handle by which the server knows what has the pages.
    pub fn handle(&self) -> Handle {
        match &self.source {
            Source::Snapshot(snapshot) => snapshot.handle,
            Source::File(file) => file.handle(),
        }
    }

    /// Whether the bytes may end before the last page.
    pub fn may_be_short(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    fn pager(&self) -> &dyn Pager {
        match &self.source {
            Source::Snapshot(snapshot) => &*snapshot.pager,
            Source::File(file) => file.pager(),
        }
    }

    pub(super) fn start(self: &Arc<Self>) {
        self.counters.add(Counter::Fetches, 1);
        self.pager().start(self.clone());
    }

    /// Requests the pages from the server that keeps the snapshot ([`Pager::ask_keeper`]).
    pub fn ask_keeper(self: &Arc<Self>) {
        self.pager().ask_keeper(self.clone());
    }

    /// Counts for the process that began the fetch.
    pub fn count(&self, counter: Counter, amount: u64) {
        self.counters.add(counter, amount);
    }

    /// Whether so many frames can be the result.
    fn accepts(&self, frames: usize) -> bool {
        let frames = PageCount::of_len(frames);
        frames == self.pages || self.may_be_short() && frames < self.pages
    }

    /// Reports the result: one frame for each page, fewer where a file ends, or the error. A second
    /// result is ignored. Called with no lock of `mem` held.
    pub fn complete(&self, result: Result<Frames, Errno>) {
        let result = match result {
            Ok(frames) if !self.accepts(frames.len()) => Err(Errno::EIO),
            result => result,
        };
        if let Source::File(file) = &self.source {
            file.settle(self, result.as_deref().ok());
        }
        {
            let mut stored = self.result.lock();
            if stored.is_some() {
                return;
            }
            match &result {
                Ok(frames) => {
                    self.counters.add(Counter::PagesFetched, frames.len() as u64);
                    let bytes = (frames.len() * mutants::counted_page_bytes()) as u64;
                    self.counters.add(Counter::BytesFetched, bytes);
                }
                Err(_) => self.counters.add(Counter::FetchErrors, 1),
            }
            // First the source: a thread that sees the result must not find the fetch still pending
            // there, and count one failure several times.
            if let Source::Snapshot(snapshot) = &self.source {
                cache::settle(self, snapshot, result.as_deref().unwrap_or_default());
            }
            *stored = Some(result);
        }
        self.queue.wake_all();
    }
    /// Pages of the fetch in front of the one at byte `wanted`, which lies in it.
    pub(super) fn pages_before(&self, wanted: SnapshotOffset) -> PageCount {
        debug_assert!(wanted >= self.offset && wanted < self.offset + self.pages.bytes());
        (wanted - self.offset).whole_pages()
    }

    /// Waits for the result.
    pub(super) fn wait(&self) -> Result<Result<(), Errno>, Interrupted> {
        self.queue.wait_for_server(Interrupt::Killable, || {
            self.result
                .lock()
                .as_ref()
                .map(|result| result.as_ref().map(drop).map_err(|&error| error))
        })
    }

    /// Calls `look` with the frames that arrived; `None` where the fetch is pending or failed.
    pub(super) fn frames<T>(&self, look: impl FnOnce(&[Frame]) -> T) -> Option<T> {
        self.result
            .lock()
            .as_ref()
            .and_then(|result| result.as_ref().ok())
            .map(|frames| look(frames))
    }
}
