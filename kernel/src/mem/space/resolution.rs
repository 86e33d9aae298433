//! What the steps of a fault's resolution exchange.
#![forbid(unsafe_code)]

use super::access::{Access, FaultError};
use crate::mem::{
    FilePages, Frame, Page, PageRange, Prot, Snapshot, page_table::EntryFlags, snapshot::Fetch,
    swap::PageIn,
};
use alloc::sync::Arc;
use foundation::SnapshotOffset;
use foundation::counter::Counters;

/// How much of a page the caller overwrites under the same lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Part of it, or nothing: the other bytes must be right.
    Partial,
    /// All of it: the old bytes need not be fetched.
    Whole,
}

/// A page that has to become usable.
#[derive(Clone, Copy)]
pub(super) struct PageRequest<'a> {
    pub page: Page,
    pub access: Access,
    pub coverage: Coverage,
    /// Those of the space.
    pub counters: &'a Arc<Counters>,
}

impl PageRequest<'_> {
    /// Whether the page is to be stored to.
    pub fn stores(&self) -> bool {
        self.access == Access::Write
    }

    /// Whether all of the page is overwritten under the same lock.
    pub fn overwrites(&self) -> bool {
        self.stores() && self.coverage == Coverage::Whole
    }
}

/// The result of one attempt to resolve a fault under the space's lock.
pub(super) enum Resolution {
    /// The page is usable as long as the lock is held.
    Done,
    /// The caller waits for this fetch without the lock, and tries again.
    Fetch(Awaited),
    /// The caller waits for this page-in without the lock, and tries again.
    PageIn(Arc<PageIn>),
    /// The same for a page of a mapped file, with the file's page and what is to be done.
    File(Arc<FilePages>, Page, FileStep),
}

/// What a page of a mapped file needs.
pub(super) enum FileStep {
    /// A fetch, which the caller starts if it is new.
    Fetch(Arc<Fetch>, FetchState),
    /// Its server's consent to a store, and a frame of its own.
    Store,
    /// A lease of the file.
    Lease,
    /// The end of a change of the file that concerns it.
    Settle(Access),
}

/// Whether a fetch was sent already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchState {
    /// The waiting thread has to start it.
    New,
    /// Another thread started it.
    UnderWay,
}

/// A fetch to wait for.
pub(super) struct Awaited {
    pub fetch: Arc<Fetch>,
    pub state: FetchState,
    /// Position in the snapshot of the page that faulted.
    pub wanted: SnapshotOffset,
    /// The window of that page's fault.
    pub window: PageRange,
}

impl Awaited {
    /// The frame of the page that faulted, if it arrived.
    pub fn frame(&self) -> Option<Frame> {
        let index = self.fetch.pages_before(self.wanted).to_usize();
        self.fetch.frames(|frames| frames.get(index).cloned()).flatten()
    }

    /// Whether the fetch has failed or is still under way.
    pub fn is_without_frames(&self) -> bool {
        self.fetch.frames(|_| ()).is_none()
    }

    /// The page after the last one fetched, where `page` is the one that faulted.
    pub fn end(&self, page: Page) -> Page {
        page + (self.fetch.pages - self.fetch.pages_before(self.wanted))
    }
}

/// A page that is backed by a snapshot and not mapped.
pub(super) struct SnapshotPage {
    pub page: Page,
    /// The range of its region.
    pub region: PageRange,
    pub snapshot: Arc<Snapshot>,
    /// Position in the snapshot of the region's first page.
    pub first: SnapshotOffset,
    /// Flags of an entry that is neither private nor writable.
    pub flags: EntryFlags,
    /// The pages that a fetch shall bring: the page, and others of its region.
    pub window: PageRange,
}

impl SnapshotPage {
    /// Position of the page in the snapshot.
    pub fn wanted(&self) -> SnapshotOffset {
        self.byte_of(self.page)
    }

    /// Position of another page of the region in the snapshot.
    pub fn byte_of(&self, page: Page) -> SnapshotOffset {
        self.first + (page - self.region.start).bytes()
    }

    /// Whether the fetch that was waited for is of this very page of this very snapshot (F3).
    pub fn is_of(&self, held: &Awaited) -> bool {
        held.fetch.is_of(&self.snapshot) && held.wanted == self.wanted()
    }

    /// Waits for a fetch that another thread has begun.
    pub fn join(&self, fetch: Arc<Fetch>) -> Resolution {
        let (wanted, window) = (self.wanted(), self.window);
        Resolution::Fetch(Awaited { fetch, state: FetchState::UnderWay, wanted, window })
    }
}

/// A page that is swapped out.
pub(super) struct SwappedPage {
    pub page: Page,
    /// The range of its region.
    pub region: PageRange,
    /// The permissions of its region.
    pub prot: Prot,
    /// The number of its slot.
    pub slot: u32,
}

/// The result of an attempt: an error ends the fault.
pub(super) type Attempt = Result<Resolution, FaultError>;
