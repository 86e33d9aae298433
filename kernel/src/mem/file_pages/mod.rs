//! The pages of a file that is mapped shared: its current bytes, as programs see and change them
//! through memory (M1 to M6).
//!
//! There is one [`FilePages`] for each file with mappings. Like a snapshot it is a source of pages,
//! with the same fetches and the same pager, but of bytes that change. Who knows the file's server
//! is its [`Keeper`] (`file::mapped`): it has changes ordered, space reserved, and pages written.
//!
//! | state of a page | in the tree | a load | a store | leaves it by |
//! |---|---|---|---|---|
//! | absent | - | fetches | fetches | the fetch: clean |
//! | clean | no flag | maps it read-only | asks the keeper, copies: dirty | reclaim, a change: absent |
//! | dirty | `DIRTY`, `OWN` | maps it | maps it writable | write-back: writing |
//! | writing | `WRITING` | maps it read-only | copies: dirty again | success: clean; failure: dirty, not own |
//! | dirty again | all three | maps it | maps it writable | the end of the write: dirty |
//! | dirty, not own | `DIRTY` | maps it read-only | copies: dirty | write-back: writing |
//!
//! Only a page with `OWN` is mapped writable; nobody but its mappings refers to its frame. The
//! frame of any other page may be the server's, or lie in a message on its way there, so the first
//! store copies it. While it is copied (`COPYING`), nobody maps it.
//!
//! What moves a page from clean to dirty and from writing to clean holds the file's lock, which is
//! the keeper's. A change of the file by other means (write(2), truncation, a hole) holds it too:
//! [`begin_change`](FilePages::begin_change) takes the pages of its range out of all address
//! spaces, and whoever touches one waits until the change is over. So there is no moment at which
//! memory and file differ for a program, and nothing has to be merged.
//!
//! Locks: `inner`, inside an address space's, never held across a wait. The file's lock is taken
//! before any of them.
#![forbid(unsafe_code)]

mod change;
mod mappers;
mod mapping;
mod own;
mod reclaiming;
mod write_back;

pub use change::Leaving;
pub use mapping::{FileMapping, Opened};
pub use own::Reservation;
pub use write_back::{Taken, WriteBack};

pub(super) use mappers::{MappedFiles, Mapper, Treatment};

use super::{
    Account, Claim, Fetch, Frame, OutOfMemory, Page, PageRange, Pager, fallible, mutants,
    page_table::{Entry, EntryFlags, FrameTree, Held, MARKS},
    reclaim::{self, Reclaimable},
    snapshot::{LiveFile, Source},
    stores::Share,
    wanted,
};
use crate::sync::{Interrupt, Interrupted, Mutex, WaitQueue, rank};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use foundation::counter::Counters;
use foundation::{Errno, PageCount, SnapshotOffset};
use fsproto::{FileId, Handle};

/// Stored to since it was last taken for write-back.
const DIRTY: EntryFlags = EntryFlags::DIRTY;
/// Taken for write-back, and not written yet.
const WRITING: EntryFlags = EntryFlags::WRITE;
/// Only mappings refer to the frame: it may be mapped writable.
const OWN: EntryFlags = EntryFlags::PRIVATE;
/// Getting a frame of its own.
const COPYING: EntryFlags = EntryFlags::USER;
/// The server did not take it.
const REFUSED: EntryFlags = EntryFlags::NO_EXECUTE;
/// Looked at since the clock's last visit.
const USED: EntryFlags = EntryFlags::ACCESSED;

const _: () = assert!(MARKS.bits() == DIRTY.union(WRITING).bits());

/// Pages that one step of a long operation is about.
const STEP_PAGES: u64 = 512;

/// Who knows the file's server, for its pages. Each of these may wait for that server, and is
/// called with no spin lock held.
pub trait Keeper: Send + Sync {
    /// A program stores to a clean page: reserves its space on the server, and makes the page
    /// dirty. The page may have changed when this returns; the caller looks again.
    fn admit_store(&self, page: Page, claim: Claim) -> Result<(), Errno>;

    /// Asks for the lease without which no page may be in memory.
    fn renew_lease(&self) -> Result<(), Errno>;

    /// Writes the dirty pages of a range to the file.
    fn synchronise(&self, range: PageRange) -> Result<(), Errno>;

    /// The failure to write pages that was not reported to an open file of the file. Never waits.
    fn report(&self, opened: &dyn Opened) -> Result<(), Errno>;
}

/// The pages of a mapped file.
pub struct FilePages {
    inner: Mutex<Pages, rank::FilePages>,
    /// Threads that wait until a page can be looked at.
    settled: WaitQueue,
    pager: Arc<dyn Pager>,
    /// By which the pager fetches pages.
    handle: Handle,
    id: FileId,
    /// Whether others may change the file.
    needs_lease: bool,
    keeper: Weak<dyn Keeper>,
    /// The dirty pages of its server's files.
    share: Arc<Share>,
    /// Its mappings, in all spaces.
    mappings: AtomicUsize,
    /// Its pages should be written, because nobody maps it, or memory is short.
    leaves: AtomicBool,
    place: reclaim::Place,
}

struct Pages {
    tree: FrameTree,
    fetches: Vec<Pending>,
    /// The pages of the change of the file that is under way.
    changing: Option<PageRange>,
    /// Changes begun and ended so far.
    changes: u64,
    /// No page from here on was in the file when that was last looked at, and none was added since.
    end: Page,
    /// Whether the server will say so before the file changes by others. Else no page is in memory.
    is_leased: bool,
    /// Pages are being write-protected for write-back: no page becomes dirty again meanwhile.
    is_protecting: bool,
    /// Pages for which space was reserved last.
    reserved: own::Reserved,
    /// Pages that are getting frames of their own.
    copying: usize,
    /// Pages that are dirty or being written.
    dirty: usize,
    /// Those of them that the server has refused.
    refused: usize,
    /// Spaces that may map pages, by their numbers.
    mappers: mappers::Mappers,
    /// The page that the clock of reclaim visits next.
    hand: Page,
}

/// A fetch that has not arrived.
struct Pending {
    fetch: Arc<Fetch>,
    pages: PageRange,
    /// Changes begun and ended before the fetch.
    changes: u64,
    /// A change that met its pages has begun since.
    is_stale: bool,
}

/// What an access to a page finds.
pub(super) enum Found {
    /// The page's frame, and whether it may be mapped writable.
    Frame(Frame, bool),
    /// A fetch that has to be started.
    Begun(Arc<Fetch>),
    /// A fetch that another thread has begun.
    UnderWay(Arc<Fetch>),
    /// The page is to be stored to and may not be yet: [`FilePages::admit_store`].
    Store,
    /// The file has no lease: [`FilePages::renew_lease`].
    NoLease,
    /// The page can be looked at when something has ended: [`FilePages::await_settled`].
    Blocked,
    /// The page lies wholly past the end of the file.
    Beyond,
}

impl FilePages {
    /// The pages of a file, all absent. `pager` fetches them by the handle, which stays open as
    /// long as `keeper` lives. `account` pays for the tables; dirty pages count in `share`.
    pub fn new(
        pager: Arc<dyn Pager>,
        (handle, id): (Handle, FileId),
        needs_lease: bool,
        keeper: Weak<dyn Keeper>,
        share: Arc<Share>,
        account: &Arc<Account>,
    ) -> Arc<Self> {
        let pages = Pages {
            tree: FrameTree::of_file(account.clone()),
            fetches: Vec::new(),
            changing: None,
            changes: 0,
            end: Page(u64::MAX),
            is_leased: !needs_lease,
            is_protecting: false,
            reserved: own::Reserved::default(),
            copying: 0,
            dirty: 0,
            refused: 0,
            mappers: mappers::Mappers::default(),
            hand: Page(0),
        };
        let file = Arc::new(Self {
            inner: Mutex::new(pages),
            settled: WaitQueue::new(),
            pager,
            handle,
            id,
            needs_lease,
            keeper,
            share,
            mappings: AtomicUsize::new(0),
            leaves: AtomicBool::new(false),
            place: reclaim::Place::default(),
        });
        reclaim::register(&file.place, Arc::downgrade(&file) as Weak<dyn Reclaimable>);
        file
    }

    /// Looks for a page, of which `window` are the ones that a fetch shall bring. Does not wait.
    pub(super) fn look(
        self: &Arc<Self>,
        page: Page,
        window: PageRange,
        stores: bool,
        claim: Claim,
        counters: &Arc<Counters>,
    ) -> Result<Found, OutOfMemory> {
        debug_assert!(window.contains(page));
        let mut pages = self.inner.lock();
        if pages.is_changing(page) {
            return Ok(Found::Blocked);
        }
        if let Some(entry) = pages.tree.get(page) {
            return Ok(pages.look_present(page, entry, stores));
        }
        if mutants::absent_is_zeros() {
            return Ok(Found::Frame(Frame::zero_page(), false));
        }
        if !pages.is_leased {
            return Ok(Found::NoLease);
        }
        if page >= pages.end {
            return Ok(Found::Beyond);
        }
        if let Some(pending) = pages.fetches.iter().find(|pending| pending.pages.contains(page)) {
            return Ok(Found::UnderWay(pending.fetch.clone()));
        }
        let window = pages.absent_around(page, window);
        pages.tree.make(window.start, claim)?;
        pages.tree.make(window.end.previous(), claim)?;
        fallible::reserve(&mut pages.fetches, 1)?;
        let (offset, count) = (SnapshotOffset(window.start.start().0), window.pages());
        let fetch = Fetch::new(Source::File(self.clone()), offset, count, counters.clone());
        let (is_stale, changes) = (false, pages.changes);
        pages.fetches.push(Pending { fetch: fetch.clone(), pages: window, changes, is_stale });
        Ok(Found::Begun(fetch))
    }

    /// Calls `look` for each page of a range whose frame can be mapped, and whether it can be
    /// mapped writable.
    pub(super) fn for_each_frame_in(
        &self,
        range: PageRange,
        mut look: impl FnMut(Page, Frame, bool),
    ) {
        let pages = self.inner.lock();
        for page in range.iter() {
            if let Some(entry) = pages.tree.get(page)
                && !entry.has(COPYING)
                && !pages.is_changing(page)
            {
                look(page, entry.frame(), entry.has(OWN));
            }
        }
    }

    /// Waits until a page can be looked at, or changed if `stores`.
    pub(super) fn await_settled(&self, page: Page, stores: bool) -> Result<(), Interrupted> {
        self.settled.wait_for_server(Interrupt::Killable, || {
            (!self.inner.lock().is_blocked(page, stores)).then_some(())
        })
    }

    /// Makes a page dirty that a program stores to, or has its server asked for that. The page may
    /// have changed when this returns; the caller looks again. May wait.
    pub(super) fn admit_store(&self, page: Page, claim: Claim) -> Result<(), Errno> {
        if self.needs_reservation(page) {
            self.keeper.upgrade().ok_or(Errno::EIO)?.admit_store(page, claim)
        } else {
            self.make_own(page, own::Reservation::Kept, claim)
        }
    }

    /// Has the file's server asked for a lease. May wait for it.
    pub(super) fn renew_lease(&self) -> Result<(), Errno> {
        self.keeper.upgrade().ok_or(Errno::EIO)?.renew_lease()
    }

    /// A lease has begun, or ends: the caller holds the file's lock, and nothing is in memory.
    pub fn set_leased(&self, is_leased: bool) {
        self.inner.lock().is_leased = is_leased;
    }

    /// Whether others may change the file, so that a lease is needed while pages are in memory.
    pub fn needs_lease(&self) -> bool {
        self.needs_lease
    }

    /// Whether there is a lease, or none is needed.
    pub fn is_leased(&self) -> bool {
        self.inner.lock().is_leased
    }

    /// Number of pages that are dirty or being written.
    pub fn dirty_pages(&self) -> usize {
        self.inner.lock().dirty
    }

    /// The file's pages should be written. Allocates nothing and locks nothing.
    pub fn want_to_leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
        wanted::set();
    }

    /// Whether the file's pages should be written, because nobody maps it, or memory is short.
    pub fn is_to_leave(&self) -> bool {
        self.leaves.load(Ordering::Acquire)
    }

    /// The same, and somebody writes them now.
    pub fn take_leaves(&self) -> bool {
        self.leaves.swap(false, Ordering::AcqRel)
    }

    /// Whether a range has pages that are dirty or being written.
    pub fn is_dirty_in(&self, range: PageRange) -> bool {
        let pages = self.inner.lock();
        pages.dirty > 0
            && pages.tree.next_marked(range.start).is_some_and(|page| range.contains(page))
    }

    /// Number of pages of a range that are in memory.
    pub(super) fn count(&self, range: PageRange) -> PageCount {
        self.inner.lock().tree.count_in(range)
    }

    /// Calls `look` for each frame that this owns, tables included.
    pub(super) fn for_each_frame(&self, look: &mut impl FnMut(super::PhysAddr)) {
        self.inner.lock().tree.for_each_frame(look);
    }
}

impl LiveFile for FilePages {
    fn handle(&self) -> Handle {
        self.handle
    }

    fn id(&self) -> FileId {
        self.id
    }

    fn pager(&self) -> &dyn Pager {
        &*self.pager
    }

    fn settle(&self, fetch: &Fetch, frames: Option<&[Frame]>) {
        let mut pages = self.inner.lock();
        let is_it = |pending: &Pending| core::ptr::eq(&*pending.fetch, fetch);
        let Some(at) = pages.fetches.iter().position(is_it) else { return };
        let pending = pages.fetches.swap_remove(at);
        let Some(frames) = frames.filter(|_| !pending.is_stale || mutants::stale_fetch()) else {
            return;
        };
        for (page, frame) in pending.pages.iter().zip(frames) {
            if pages.tree.get(page).is_none() {
                // Without a frame for a table that was freed meanwhile, the page stays absent.
                let put = pages.tree.put(page, Held::Frame(frame.clone()), Claim::Kernel);
                if put.is_ok() {
                    pages.tree.set_flags(page, USED);
                }
            }
        }
        let end = pending.pages.start + PageCount::of_len(frames.len());
        if end < pending.pages.end && pending.changes == pages.changes {
            pages.end = pages.end.min(end);
        }
    }
}

impl Pages {
    /// Whether a change of the file has a page among its own.
    fn is_changing(&self, page: Page) -> bool {
        self.changing.is_some_and(|range| range.contains(page))
    }

    /// Whether an access to a page has to wait for something that will end by itself.
    fn is_blocked(&self, page: Page, stores: bool) -> bool {
        self.is_changing(page)
            || stores && self.is_protecting
            || self.tree.get(page).is_some_and(|entry| entry.has(COPYING))
    }

    fn look_present(&mut self, page: Page, entry: Entry, stores: bool) -> Found {
        let is_own = entry.has(OWN) || mutants::store_unnoticed();
        if entry.has(COPYING) || stores && !is_own && self.is_protecting {
            return Found::Blocked;
        }
        if stores && !is_own {
            return Found::Store;
        }
        self.tree.set_flags(page, kept_flags(entry) | USED);
        Found::Frame(entry.frame(), is_own)
    }

    /// The absent pages around an absent page, within a range, that no fetch will bring.
    fn absent_around(&self, page: Page, within: PageRange) -> PageRange {
        let is_absent = |&other: &Page| {
            other < self.end
                && self.tree.get(other).is_none()
                && !self.is_changing(other)
                && !self.fetches.iter().any(|pending| pending.pages.contains(other))
        };
        let before = PageRange { start: within.start, end: page };
        let behind = PageRange { start: page.next(), end: within.end };
        let before = before.iter().rev().take_while(is_absent).count() as u64;
        let behind = behind.iter().take_while(is_absent).count();
        let start = Page(page.0 - before);
        PageRange { start, end: page.next() + PageCount::of_len(behind) }
    }
}

/// The flags of a page that are its owner's.
fn kept_flags(entry: Entry) -> EntryFlags {
    entry.flags() & (DIRTY | WRITING | OWN | COPYING | REFUSED | USED)
}

impl core::fmt::Debug for FilePages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FilePages {{ {:?} }}", self.handle)
    }
}

impl Drop for FilePages {
    fn drop(&mut self) {
        let pages = self.inner.lock();
        self.share.subtract(pages.dirty);
        self.share.subtract_refused(pages.refused);
    }
}
