//! Reclaim: frees frames when memory runs out.
//!
//! Clean pages are dropped, because they can be fetched again (Q2): first frames that only the
//! frame cache holds, then mapped pages, by one clock over all address spaces that takes pages
//! not used since its last visit. When a page's last mapping goes, the cache drops the frame. Only
//! a freed frame counts as progress: unmapping a page that others still map is none. Entries of the
//! zero page are dropped too, for the tables that hold nothing else.
//!
//! Private pages are written to the swap file (Q3), by the same clock, but only where the caller
//! can wait: [`make_room`]. Claims of file servers and programs do so before they take the last
//! frames ([`keep_margin`]): at the entry of a system call, in a page fault, before a message is
//! gathered. So claims under a lock, which cannot wait, find some. Nobody waits for a server of an
//! equal or higher rank: swapping needs the swap server only, whose own claims never wait.
//!
//! The kernel's own thread ([`reclaim_ahead`]) does the same work ahead: it begins at twice the
//! margin, so that others wait only where it lags.
//!
//! Work is bounded. A call looks at a multiple of memory and of the page tables ([`most_scanned`])
//! and then gives up; what follows is an error, or the out-of-memory choice. A sweep that found
//! nothing is not repeated by claims that cannot wait until some frames were freed
//! ([`shrink_spaces`]).
//!
//! [`shrink_spaces`] may be called with any lock held. It allocates nothing, acquires only locks
//! that are free, and skips a space that this very call chain has locked (the fault that ran out
//! tries again without it).
//!
//! Address spaces are above: each adds itself to the clock, as a [`Reclaimable`].
#![forbid(unsafe_code)]

use super::{
    Claim, OutOfMemory, Page, PageRange,
    account::charged_bytes,
    frame, heap, mutants,
    page_table::{Bounds, Swept},
    shrinker::{self, Stage},
    snapshot::cache,
    swap::{self, Owners, PageOutBatch},
    wanted,
};
use crate::sync::{
    Interrupt, Interrupted, Mutex, Once, WaitQueue, assert_may_await_server, rank, relax,
};
use alloc::{collections::BTreeMap, sync::Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use foundation::PageCount;
use foundation::counter::{self, Counter};

/// Frames freed at once: enough to pay for the search, few enough to leave the cache useful.
pub(super) const BATCH: usize = 64;

/// Memory whose pages can be evicted.
pub(super) trait Reclaimable: Send + Sync {
    /// One step of a visit: evicts pages that were not used since the last visit, within bounds:
    /// clean ones, and with `batch` private ones too. `None` where the memory is locked or its
    /// pages must stay. Allocates nothing and sends nothing: any lock may be held.
    fn evict_pages(
        &self,
        visit: &mut Visit,
        bounds: Bounds,
        batch: Option<&mut PageOutBatch>,
    ) -> Option<Swept>;
}

/// Bounds of one step. To look at an entry takes some 50 instructions, a tenth of a step of other
/// long operations, so this is eight times as many.
pub(super) const STEP: Bounds = Bounds { enough: BATCH, most: 4096 };

/// A visit of the clock to some memory, in steps: from the memory's hand to its end, and from its
/// start to where the visit began.
#[derive(Debug, Default)]
pub(super) struct Visit {
    began: Option<Page>,
    next: Page,
    has_wrapped: bool,
    is_over: bool,
}

impl Visit {
    /// The pages that the next step can be about, of memory with this hand and end.
    pub fn range(&mut self, hand: Page, end: Page) -> PageRange {
        debug_assert!(!self.is_over);
        let began = *self.began.get_or_insert_with(|| {
            self.next = hand;
            hand
        });
        PageRange { start: self.next, end: if self.has_wrapped { began } else { end } }
    }

    /// Notes where a step stopped before the end of its range. Returns the memory's new hand.
    pub fn step(&mut self, stopped: Option<Page>) -> Page {
        let began = self.began.unwrap_or_default();
        self.next = stopped.unwrap_or(if self.has_wrapped { began } else { Page(0) });
        self.is_over = stopped.is_none() && (self.has_wrapped || began == Page(0));
        self.has_wrapped |= stopped.is_none();
        self.next
    }

    /// Whether all was looked at.
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

/// What the clock visits, by numbers in the order of registration.
struct Clock {
    members: BTreeMap<u64, Weak<dyn Reclaimable>>,
    /// Members registered so far.
    registered: u64,
    /// The number of the member visited last.
    hand: u64,
}

static SPACES: Mutex<Clock, rank::Spaces> =
    Mutex::new(Clock { members: BTreeMap::new(), registered: 0, hand: 0 });

/// The place of a member on the clock, which it loses when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Place(AtomicU64);

impl Drop for Place {
    fn drop(&mut self) {
        let member = SPACES.lock().members.remove(self.0.get_mut());
        drop(member);
    }
}

/// Registers the clock as a shrinker.
pub(super) fn init() {
    shrinker::register(Stage::Spaces, shrink_spaces);
}

/// Adds a member to the clock, once. `place` is its own.
pub(super) fn register(place: &Place, member: Weak<dyn Reclaimable>) {
    let mut clock = SPACES.lock();
    clock.registered += 1;
    let number = clock.registered;
    clock.members.insert(number, member);
    place.0.store(number, Ordering::Relaxed);
}

fn next_space() -> Option<Weak<dyn Reclaimable>> {
    let mut clock = SPACES.try_lock()?;
    let ahead = clock.members.range(clock.hand + 1..).next();
    let (&number, member) = ahead.or_else(|| clock.members.first_key_value())?;
    let member = member.clone();
    clock.hand = number;
    Some(member)
}

/// How often the clock visits a space in one call: twice each, because the first visit may only
/// mark pages as unused.
fn visits() -> usize {
    SPACES.try_lock().map_or(0, |clock| 2 * clock.members.len())
}

/// Frames beyond the reserve that are kept free for programs while pages can be swapped out: for
/// tables, messages and copies, whose allocation cannot wait. One of `MARGIN_SHARE` frames (1/2 %
/// of memory), and at least `MARGIN_MIN`.
const MARGIN_SHARE: usize = 200;
const MARGIN_MIN: usize = 64;

#[inline]
fn margin() -> usize {
    (frame::stats().total / MARGIN_SHARE).max(MARGIN_MIN)
}

fn is_available(frames: usize, claim: Claim) -> bool {
    frame::stats().free >= frame::reserve_below(claim) + frames
}

/// Restores the margin before a claim takes frames, where pages can be swapped out. May wait;
/// called with no lock held.
#[inline]
pub fn keep_margin(claim: Claim) -> Result<(), Interrupted> {
    make_room_beside(0, claim)
}

/// Makes `frames` frames available besides the margin, where pages can be swapped out: before a
/// message is gathered. May wait; called with no lock held.
#[inline]
pub fn make_room_beside(frames: usize, claim: Claim) -> Result<(), Interrupted> {
    assert_may_await_server();
    if is_available(frames + 2 * margin(), Claim::Program) {
        Ok(())
    } else {
        restore_margin(frames, claim)
    }
}

/// What every operation on a program's memory begins with: the margin, and headroom for the small
/// allocations of the kernel. May wait; called with no lock held.
#[inline]
pub fn ready<E: From<Interrupted> + From<OutOfMemory>>(claim: Claim) -> Result<(), E> {
    assert_may_await_server();
    // Twice the margin is more than any headroom. On the host, headroom fails when a test says so.
    let is_plenty = is_available(2 * margin(), Claim::Program);
    if !is_plenty {
        restore_margin(0, claim)?;
    }
    if !is_plenty || cfg!(not(target_os = "none")) {
        find_headroom::<E>(claim)?;
    }
    Ok(())
}

/// Makes sure of the headroom. Where pages were only marked as unused, or unmapped without freeing
/// a frame, while nobody else could run, memory is searched in steps.
fn find_headroom<E: From<Interrupted> + From<OutOfMemory>>(claim: Claim) -> Result<(), E> {
    match heap::headroom(claim) {
        Err(_) if make_room(heap::HEADROOM_FRAMES, claim)? => Ok(heap::headroom(claim)?),
        found => Ok(found?),
    }
}

#[cold]
fn restore_margin(frames: usize, claim: Claim) -> Result<(), Interrupted> {
    wake_reclaimer();
    let rank = mutants::waiting_rank(claim);
    let may_wait = rank >= Claim::FileServer && !mutants::servers_never_wait(claim);
    if may_wait
        && !is_available(frames + margin(), rank)
        && swap::is_open()
        && !is_in_vain(&IN_VAIN)
    {
        let found = make_room(frames + margin(), claim)?;
        note_search(found);
    }
    Ok(())
}

/// A search for more frames than are kept free has ended.
fn note_search(found: bool) {
    IN_VAIN.store(if found { usize::MAX } else { frame::freed() }, Ordering::Relaxed);
}

/// Where the kernel's own thread waits for work.
static RECLAIMER: WaitQueue = WaitQueue::new();
/// Whether there is work for it.
static IS_LOW: AtomicBool = AtomicBool::new(false);
/// Where the last search for a margin was in vain: the number of frames freed by then. Nobody
/// repeats it before more were freed.
static IN_VAIN: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Whether too few frames were freed since a search in vain for another one to be worth it.
fn is_in_vain(since: &AtomicUsize) -> bool {
    let freed = since.load(Ordering::Relaxed);
    freed != usize::MAX && frame::freed().wrapping_sub(freed) < BATCH
}

fn wake_reclaimer() {
    if !is_in_vain(&IN_VAIN) && !IS_LOW.swap(true, Ordering::Relaxed) {
        RECLAIMER.wake_all();
    }
}

/// What the kernel's own thread does, again and again: waits until frames are low, and restores
/// twice the margin. Waits with no lock held.
pub fn reclaim_ahead() -> Result<(), Interrupted> {
    RECLAIMER.wait(Interrupt::Killable, || IS_LOW.swap(false, Ordering::Relaxed).then_some(()))?;
    let found = make_room(2 * margin(), Claim::Program)?;
    // Dirty pages of mapped files were in the way.
    wanted::wake();
    note_search(found);
    Ok(())
}

/// Whether a program can have a frame at once.
pub fn is_frame_left() -> bool {
    is_available(1, Claim::Program)
}

/// Whether so many pages of a server leave others more than enough.
pub(super) fn is_plenty(pages: PageCount) -> bool {
    is_available(pages.to_usize().saturating_add(2 * margin()), Claim::Program)
}

/// Drops clean pages until `pages` frames are available beyond what is reserved from programs.
/// Returns whether they are.
pub(super) fn drop_clean(pages: PageCount) -> bool {
    let is_there = || is_available(pages.to_usize(), Claim::Program);
    while !is_there() && shrink_now() > 0 {}
    is_there()
}

/// Ends a process and waits for that, unless another's end has left frames. Returns whether the
/// caller can try again.
type LastResort = fn() -> Result<bool, Interrupted>;

static LAST_RESORT: Once<LastResort> = Once::new();

/// Registers what frees memory where reclaim cannot: the out-of-memory choice.
pub fn register_last_resort(end_process: LastResort) {
    LAST_RESORT.call_once(|| end_process);
}

/// Frees memory by ending a process. Returns whether there was one. Called with no lock held.
pub(super) fn last_resort() -> Result<bool, Interrupted> {
    LAST_RESORT.get().map_or(Ok(false), |end_process| end_process())
}

/// How often memory may be looked at in one search for frames. Four visits of each page (twice for
/// each of the two kinds of owners) find what there is.
const SCANS: usize = 16;
/// How often each entry of the page tables may be looked at, too: many spaces may map a page.
const ENTRY_SCANS: usize = 4;
const ENTRY_BYTES: usize = size_of::<u64>();

/// Entries that one search may look at. Page tables are charged, so their entries are no more than
/// fit in what is charged.
fn most_scanned() -> usize {
    SCANS * frame::stats().total + ENTRY_SCANS * charged_bytes() / ENTRY_BYTES
}

/// Drops clean pages and swaps out programs' private ones until `frames` frames are available for a
/// claim. Returns whether they are. May wait for the swap server, except on behalf of that one and
/// of the kernel. Called with no lock held.
pub fn make_room(frames: usize, claim: Claim) -> Result<bool, Interrupted> {
    let rank = mutants::waiting_rank(claim);
    if rank < Claim::FileServer || mutants::servers_never_wait(claim) {
        return Ok(shrink_now() > 0);
    }
    claim.assert_may_await(Claim::SwapServer);
    let mut left = most_scanned();
    let mut owners = Owners::Sole;
    while !is_available(frames, claim) {
        if cache::evict(BATCH) > 0 {
            continue;
        }
        let mut progress = turn(owners, BATCH, &mut left)?;
        if !progress && owners == Owners::Sole {
            // For the rest of this search: to find no page with a sole owner, all of memory is
            // looked at.
            owners = Owners::Any;
            progress = turn(owners, BATCH, &mut left)?;
        }
        if left == 0 || !(progress || swap::await_punch()? || swap::await_write()?) {
            break;
        }
    }
    Ok(is_available(frames, claim))
}

/// Turns the clock, over each space twice at most, until some pages were evicted, or `left` entries
/// were looked at, which is reduced. Returns whether any were. Waits until private pages among them
/// are written.
fn turn(owners: Owners, max: usize, left: &mut usize) -> Result<bool, Interrupted> {
    swap::await_buffer()?;
    let mut batch = PageOutBatch::new(owners, max);
    let mut evicted =
        batch.as_mut().is_some_and(|batch| cache::swap_out(|frame| batch.add(frame.clone())) > 0);
    for _ in 0..if evicted { 0 } else { visits() } {
        let Some(space) = next_space() else { break };
        evicted = visit(&space, max, &mut batch, left)?;
        if evicted || *left == 0 {
            break;
        }
    }
    if let Some(out) = batch.and_then(PageOutBatch::write) {
        out.wait()?;
    }
    Ok(evicted)
}

/// Visits some memory in steps, between which others run, until one has freed a frame or added to
/// the batch, or `left` entries were looked at, which is reduced. Returns whether one has evicted
/// something. Pages whose frames others hold, such as the page of zeros, free nothing: the visit
/// goes on behind them. Fails only while the batch is empty.
fn visit(
    space: &Weak<dyn Reclaimable>,
    max: usize,
    batch: &mut Option<PageOutBatch>,
    left: &mut usize,
) -> Result<bool, Interrupted> {
    let enough = batch.as_ref().map_or(max, PageOutBatch::max);
    let (mut visit, mut has_evicted) = (Visit::default(), false);
    loop {
        let before = frame::freed();
        let bounds = Bounds { enough, ..STEP };
        let swept =
            space.upgrade().and_then(|space| space.evict_pages(&mut visit, bounds, batch.as_mut()));
        swap::punch_idle_chunks();
        // A step counts, too: there can be many members without pages.
        let scanned = swept.as_ref().map_or(1, |swept| swept.scanned + 1);
        *left -= scanned.min(*left);
        let is_over = swept.is_none() || visit.is_over() || *left == 0;
        let swept = swept.unwrap_or_default();
        let private = batch.as_ref().map_or(0, PageOutBatch::len);
        debug_assert!(private <= swept.entries, "each frame of the batch was in an entry");
        counter::count(Counter::PagesUnmapped, (swept.entries - private) as u64);
        has_evicted |= swept.entries + swept.tables > 0;
        if swept.entries > private {
            cache::evict(max);
        }
        if private > 0 || is_over || frame::freed() != before {
            return Ok(has_evicted);
        }
        relax(Interrupt::Killable)?;
    }
}

/// Evicts up to `pages` pages now, as if memory were short: clean ones and, where they can be
/// swapped out, private ones. For tests. May wait.
#[cfg(not(target_os = "none"))]
pub(super) fn evict_some(pages: usize) -> Result<bool, Interrupted> {
    let mut left = usize::MAX;
    turn(Owners::Any, pages, &mut left)
}

/// The number of frames that had been freed when [`shrink_spaces`] last found nothing.
static FRUITLESS: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Unmaps clean pages until some frames became free. Returns how many. Claims under a lock come
/// here again and again while memory is short: where nothing was found, nothing is searched for
/// until some frames were freed.
fn shrink_spaces() -> usize {
    if is_in_vain(&FRUITLESS) {
        return 0;
    }
    let freed = unmap_clean();
    FRUITLESS.store(if freed > 0 { usize::MAX } else { frame::freed() }, Ordering::Relaxed);
    freed
}

/// Runs the shrinkers, even where the last search was in vain.
fn shrink_now() -> usize {
    FRUITLESS.store(usize::MAX, Ordering::Relaxed);
    shrinker::run()
}

/// Searches for clean pages to unmap.
#[cfg(test)]
pub(super) static SEARCHES: AtomicUsize = AtomicUsize::new(0);

fn unmap_clean() -> usize {
    #[cfg(test)]
    SEARCHES.fetch_add(1, Ordering::Relaxed);
    // Nobody else can run in the meantime: no more is looked at than all of memory twice, however
    // many entries there are. Then the claim fails, and whoever can wait searches in steps.
    let mut left = 2 * frame::stats().total;
    for _ in 0..visits() {
        let Some(space) = next_space().as_ref().and_then(Weak::upgrade) else { continue };
        let mut visit = Visit::default();
        loop {
            let before = frame::freed();
            let Some(swept) = space.evict_pages(&mut visit, STEP, None) else { break };
            counter::count(Counter::PagesUnmapped, swept.entries as u64);
            if swept.entries > 0 {
                cache::evict(BATCH);
            }
            let freed = frame::freed().wrapping_sub(before);
            left -= swept.scanned.min(left);
            if freed > 0 || left == 0 {
                return freed;
            }
            // Pages whose frames others hold, such as the page of zeros, free nothing.
            if visit.is_over() {
                break;
            }
        }
    }
    0
}
