//! Physical frames with reference counts.
//!
//! A [`Frame`] owns one reference; dropping the last one frees the frame. The counts are in a table
//! with one entry for each frame of the machine. Free frames are linked through their own first
//! bytes; memory that was never used is an untouched range, so starting costs nothing per frame.
//! All operations are O(1). Invariant: a count is [`RESERVED`] for memory that is not ours
//! (firmware, devices, the ramdisk until it is adopted), 0 for a free frame, and otherwise the
//! number of `Frame`s and page-table entries that own the frame.
//!
//! The last frames are left to claims of higher ranks ([`claim`]): without them
//! nothing would ever be freed (F8, Q4).
//!
//! Lock: `FRAMES` is nearly the innermost; nothing is called while it is held.

mod cached;
mod promised;

pub(super) use cached::CachedFrame;
pub(super) use promised::{break_promise, promise, redeem};

use super::{
    Claim, PAGE_BYTES, PAGE_SHIFT, PhysAddr, claim, failure, phys::phys_to_virt, shrinker,
};
use crate::sync::{Mutex, rank};
use core::{
    ops::Range,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
};
use spin::Once;

/// No frame is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for foundation::Errno {
    fn from(_: OutOfMemory) -> Self {
        Self::ENOMEM
    }
}

/// A text could not be written: see [`fallible::Text`](super::fallible::Text).
impl From<core::fmt::Error> for OutOfMemory {
    fn from(_: core::fmt::Error) -> Self {
        Self
    }
}

/// The count of a frame that is not ours.
const RESERVED: u64 = u64::MAX;

/// The upper bits of a count are the number of references that the frame cache holds: files that
/// were cloned on a server share frames, so one frame may be cached as a page of each. The lower 56
/// bits cannot overflow: every reference takes 8 bytes of memory at least. The zero page is not
/// counted, so its count stays what it was at the start.
const ONE_CACHED: u64 = 1 << 56;

struct FreeFrames {
    /// First of the list of frames that were used before; each holds the address of the next in
    /// its first 8 bytes, 0 in the last.
    chain: Option<PhysAddr>,
    /// Ranges of frame numbers never used.
    fresh: [Range<u64>; MAX_RANGES],
    /// Frames freed since the start.
    freed: usize,
}

/// Maximum of usable ranges in a memory map; a PC has about five.
pub const MAX_RANGES: usize = 32;

static FRAMES: Mutex<FreeFrames, rank::Frames> =
    Mutex::new(FreeFrames { chain: None, fresh: [const { 0..0 }; MAX_RANGES], freed: 0 });
/// The table of counts. Not a slice in a `Once`, which would be looked at for each reference.
static COUNTS: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::dangling_mut());
/// Entries of the table; 0 before there is one.
static HIGHEST: AtomicUsize = AtomicUsize::new(0);
static INIT: Once<()> = Once::new();
/// The address of the zero page; 0 before there is one.
static ZERO_PAGE: AtomicU64 = AtomicU64::new(0);
static FREE: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);
/// Frames that a claim may not take, by rank: what is withheld from it, and what is promised.
static RESERVES: [AtomicUsize; Claim::ALL.len()] =
    [const { AtomicUsize::new(0) }; Claim::ALL.len()];

/// Takes over the machine's memory. `usable` are byte ranges of physical memory; the table of
/// counts for all frames below the highest of `usable` and `reserved_end` is cut from one of them.
/// Later calls do nothing.
///
/// # Safety
/// The direct map must be in place, and nobody else may use the memory in `usable`.
pub(super) unsafe fn init(usable: &[Range<u64>], reserved_end: u64) {
    INIT.call_once(|| {
        let mut frames = FRAMES.lock();
        let mut end = reserved_end.div_ceil(PAGE_BYTES as u64);
        for (slot, range) in frames.fresh.iter_mut().zip(usable) {
            // Physical page 0 is left alone: address 0 means "nothing" in page tables.
            let start = range.start.div_ceil(PAGE_BYTES as u64).max(1);
            *slot = start..(range.end >> PAGE_SHIFT).max(start);
            end = end.max(slot.end);
        }
        let table_frames = (end * size_of::<AtomicU64>() as u64).div_ceil(PAGE_BYTES as u64);
        let home = frames
            .fresh
            .iter_mut()
            .filter(|range| range.end - range.start > table_frames)
            .max_by_key(|range| range.end - range.start);
        let Some(home) = home else { panic!("no space for the table of frames") };
        let table = phys_to_virt(PhysAddr(home.start << PAGE_SHIFT)).cast::<AtomicU64>();
        let own = home.start as usize..(home.start + table_frames) as usize;
        home.start += table_frames;
        // SAFETY: the caller gives us this memory; it is page-aligned and as large as the table,
        // and all bit patterns (0xff first) are counts.
        let counts = unsafe {
            table.write_bytes(0xff, end as usize);
            core::slice::from_raw_parts(table, end as usize)
        };
        // The table itself cannot be adopted.
        counts
            .get(own)
            .unwrap_or_default()
            .iter()
            .for_each(|count| count.store(1, Ordering::Relaxed));
        let mut total = 0;
        for range in &frames.fresh {
            for count in counts.get(range.start as usize..range.end as usize).unwrap_or_default() {
                count.store(0, Ordering::Relaxed);
                total += 1;
            }
        }
        FREE.store(total, Ordering::Relaxed);
        add_total(total);
        COUNTS.store(table, Ordering::Relaxed);
        HIGHEST.store(counts.len(), Ordering::Release);
    });
    if ZERO_PAGE.load(Ordering::Relaxed) != 0 {
        return;
    }
    let zero = Frame::zeroed().unwrap_or_else(|_| panic!("no frame for the zero page"));
    // Two references that are never dropped: it counts as shared for ever.
    core::mem::forget(zero.clone());
    ZERO_PAGE.store(zero.into_raw().0, Ordering::Relaxed);
}

/// The counts of all frames.
#[inline]
fn counts() -> &'static [AtomicU64] {
    let entries = HIGHEST.load(Ordering::Acquire);
    // SAFETY: `init` stores the table before its length, and both only once. No entries begin at a
    // dangling pointer.
    unsafe { core::slice::from_raw_parts(COUNTS.load(Ordering::Relaxed), entries) }
}

/// Adds to the number of all frames, from which the reserves follow.
fn add_total(frames: usize) {
    let total = TOTAL.fetch_add(frames, Ordering::Relaxed) + frames;
    for (reserve, claim) in RESERVES.iter().zip(Claim::ALL) {
        let before = if total == frames { 0 } else { claim::reserve_below(claim, total - frames) };
        reserve.fetch_add(claim::reserve_below(claim, total) - before, Ordering::Relaxed);
    }
}

#[inline]
fn count_of(address: PhysAddr) -> &'static AtomicU64 {
    match counts().get((address.0 >> PAGE_SHIFT) as usize) {
        Some(count) => count,
        None => panic!("{address:?} is no frame"),
    }
}

/// Whether this is the address of the shared frame of zeros.
#[inline]
fn is_zero_page(address: PhysAddr) -> bool {
    address.0 == ZERO_PAGE.load(Ordering::Relaxed)
}

/// Whether a frame that a page-table entry holds has other owners.
#[inline]
pub(super) fn is_shared(address: PhysAddr) -> bool {
    count_of(address).load(Ordering::Acquire) % ONE_CACHED > 1
}

/// Adds a reference to a frame that a page-table entry holds, for another entry.
#[inline]
pub(super) fn retain(address: PhysAddr) {
    if is_zero_page(address) {
        return;
    }
    let before = count_of(address).fetch_add(1, Ordering::Relaxed);
    debug_assert!(before != 0 && before != RESERVED, "the frame is not in use");
}

/// How much memory there is, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// All frames.
    pub total: usize,
    /// Free frames, the reserve included.
    pub free: usize,
}

/// How much memory there is now.
#[inline]
pub fn stats() -> Stats {
    Stats { total: TOTAL.load(Ordering::Relaxed), free: FREE.load(Ordering::Relaxed) }
}

/// How many frames were freed since the start; wraps.
pub(super) fn freed() -> usize {
    FRAMES.lock().freed
}

/// One more than the highest frame number.
pub(super) fn highest() -> usize {
    HIGHEST.load(Ordering::Relaxed)
}

/// The number of the frame at an address.
pub(super) fn number(address: PhysAddr) -> usize {
    (address.0 >> PAGE_SHIFT) as usize
}

/// Frames that a claim may not take.
#[inline]
pub fn reserve_below(claim: Claim) -> usize {
    let reserve = RESERVES.get(claim as usize).map_or(0, |reserve| reserve.load(Ordering::Relaxed));
    #[cfg(not(target_os = "none"))]
    if claim != Claim::Kernel {
        return reserve + WITHHELD.load(Ordering::Relaxed);
    }
    reserve
}

/// Frames withheld from programs and servers, for tests of shortages.
#[cfg(not(target_os = "none"))]
static WITHHELD: AtomicUsize = AtomicUsize::new(0);

/// From now on programs can take `frames` more frames, as in a smaller machine, or all of them.
#[cfg(not(target_os = "none"))]
pub(super) fn leave_to_programs(frames: Option<usize>) {
    WITHHELD.store(0, Ordering::Relaxed);
    let available = stats().free.saturating_sub(reserve_below(Claim::Program));
    WITHHELD.store(frames.map_or(0, |frames| available.saturating_sub(frames)), Ordering::Relaxed);
}

fn take_free(claim: Claim) -> Option<PhysAddr> {
    let mut frames = FRAMES.lock();
    if FREE.load(Ordering::Relaxed) <= reserve_below(claim) { None } else { frames.take() }
}

impl FreeFrames {
    #[inline]
    fn take(&mut self) -> Option<PhysAddr> {
        let address = if let Some(first) = self.chain {
            // SAFETY: the frame is free, so it is ours, and its first 8 bytes are the link.
            let next = unsafe { phys_to_virt(first).cast::<u64>().read() };
            self.chain = (next != 0).then_some(PhysAddr(next));
            first
        } else {
            let range = self.fresh.iter_mut().find(|range| !range.is_empty())?;
            range.start += 1;
            PhysAddr((range.start - 1) << PAGE_SHIFT)
        };
        FREE.fetch_sub(1, Ordering::Relaxed);
        Some(address)
    }
}

/// Takes consecutive frames for a device, for ever. Returns their first address. Only memory that
/// was never used is consecutive, so this is for the start.
pub fn take_row(count: u64) -> Option<PhysAddr> {
    let mut frames = FRAMES.lock();
    let range = frames.fresh.iter_mut().find(|range| range.end - range.start >= count)?;
    let first = range.start;
    range.start += count;
    (first..range.start)
        .for_each(|number| count_of(PhysAddr(number << PAGE_SHIFT)).store(1, Ordering::Release));
    FREE.fetch_sub(count as usize, Ordering::Relaxed);
    Some(PhysAddr(first << PAGE_SHIFT))
}

/// A reference to a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    address: PhysAddr,
}

impl Frame {
    /// A frame with old contents. Runs the shrinkers where none is free.
    fn allocate(claim: Claim) -> Result<Self, OutOfMemory> {
        if failure::is_due() { Err(OutOfMemory) } else { Self::for_heap(claim) }
    }

    /// A frame with old contents, for the heap, whose attempts were counted before.
    #[inline]
    pub(super) fn for_heap(claim: Claim) -> Result<Self, OutOfMemory> {
        match take_free(claim) {
            Some(address) => Ok(Self::of_free(address)),
            None => Self::after_shrinking(claim),
        }
    }

    /// The same after a frame was not available.
    #[cold]
    #[inline(never)]
    fn after_shrinking(claim: Claim) -> Result<Self, OutOfMemory> {
        while shrinker::run() > 0 {
            if let Some(address) = take_free(claim) {
                return Ok(Self::of_free(address));
            }
        }
        Err(OutOfMemory)
    }

    /// The first reference to a frame that was just taken.
    #[inline]
    fn of_free(address: PhysAddr) -> Self {
        let count = count_of(address);
        debug_assert_eq!(count.load(Ordering::Relaxed), 0, "the frame is in use");
        count.store(1, Ordering::Release);
        Self { address }
    }

    /// A frame of zeros for a program.
    pub fn zeroed() -> Result<Self, OutOfMemory> {
        Self::zeroed_for(Claim::Program)
    }

    /// A frame of zeros.
    pub fn zeroed_for(claim: Claim) -> Result<Self, OutOfMemory> {
        Self::filled(claim, &[])
    }

    /// A frame with `bytes`, cut at a page, and zeros behind them.
    pub fn from_bytes(claim: Claim, bytes: &[u8]) -> Result<Self, OutOfMemory> {
        Self::filled(claim, bytes)
    }

    /// A frame with the bytes of `front`, then those of `back`, which are a page together.
    pub fn joined(claim: Claim, front: &[u8], back: &[u8]) -> Result<Self, OutOfMemory> {
        let mut frame = Self::allocate(claim)?;
        let page = frame.bytes_mut().and_then(|page| page.split_at_mut_checked(front.len()));
        let (start, end) = page.filter(|(_, end)| end.len() == back.len()).ok_or(OutOfMemory)?;
        start.copy_from_slice(front);
        end.copy_from_slice(back);
        Ok(frame)
    }

    /// A frame with old contents, for a caller that overwrites all of it before anyone can read
    /// it.
    pub fn recycled(claim: Claim) -> Result<Self, OutOfMemory> {
        Self::allocate(claim)
    }

    fn filled(claim: Claim, bytes: &[u8]) -> Result<Self, OutOfMemory> {
        let frame = Self::allocate(claim)?;
        let used = bytes.len().min(PAGE_BYTES);
        // SAFETY: nobody else has this frame yet; both lengths lie within it, and `bytes` cannot be
        // in a frame that was free.
        unsafe {
            let start = phys_to_virt(frame.address);
            start.copy_from_nonoverlapping(bytes.as_ptr(), used);
            start.add(used).write_bytes(0, PAGE_BYTES - used);
        }
        Ok(frame)
    }

    /// Another frame with the same bytes.
    pub fn duplicate(&self, claim: Claim) -> Result<Self, OutOfMemory> {
        if self.is_zero_page() {
            Self::zeroed_for(claim)
        } else {
            Self::filled(claim, self.bytes())
        }
    }

    /// The frame of zeros that all share.
    pub fn zero_page() -> Self {
        match ZERO_PAGE.load(Ordering::Relaxed) {
            0 => panic!("memory is not initialised"),
            address => Self { address: PhysAddr(address) },
        }
    }

    /// Whether this is the shared frame of zeros.
    pub fn is_zero_page(&self) -> bool {
        is_zero_page(self.address)
    }

    /// Takes over a frame outside the memory that [`init`] was given, such as a page of the
    /// ramdisk, with its contents. Succeeds once for each.
    pub fn adopt(address: PhysAddr) -> Option<Self> {
        let aligned = address.0.is_multiple_of(PAGE_BYTES as u64);
        let count = counts()
            .get((address.0 >> PAGE_SHIFT) as usize)
            .filter(|_| aligned && address.0 != 0)?;
        count.compare_exchange(RESERVED, 1, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        add_total(1);
        Some(Self { address })
    }

    /// The frame's address.
    pub fn addr(&self) -> PhysAddr {
        self.address
    }

    /// The frame's bytes. (A frame of shared memory can change under the reader; its bytes are
    /// never read through a `Frame`.)
    pub fn bytes(&self) -> &[u8; PAGE_BYTES] {
        // SAFETY: we hold a reference, so the frame stays; a frame with several owners is written
        // by none of them.
        unsafe { &*phys_to_virt(self.address).cast() }
    }

    /// The frame's bytes for writing, unless anyone else holds it.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8; PAGE_BYTES]> {
        if self.is_shared() {
            return None;
        }
        // SAFETY: this is the only reference, and it is borrowed mutably.
        Some(unsafe { &mut *phys_to_virt(self.address).cast() })
    }

    /// Whether anyone else holds it.
    pub fn is_shared(&self) -> bool {
        is_shared(self.address)
    }

    /// How many hold it.
    pub(super) fn references(&self) -> u64 {
        count_of(self.address).load(Ordering::Acquire) % ONE_CACHED
    }

    /// Never frees the frame.
    pub fn leak(self) -> PhysAddr {
        self.into_raw()
    }

    /// Transfers the reference to a page-table entry.
    pub(super) fn into_raw(self) -> PhysAddr {
        let address = self.address;
        core::mem::forget(self);
        address
    }

    /// Takes the reference back from a page-table entry.
    ///
    /// # Safety
    /// `address` came from [`into_raw`](Self::into_raw) and is taken back once.
    pub(super) unsafe fn from_raw(address: PhysAddr) -> Self {
        Self { address }
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        if !self.is_zero_page() {
            count_of(self.address).fetch_add(1, Ordering::Relaxed);
        }
        Self { address: self.address }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if self.is_zero_page() {
            return;
        }
        let before = count_of(self.address).fetch_sub(1, Ordering::AcqRel);
        debug_assert!(
            !before.is_multiple_of(ONE_CACHED) && before != RESERVED,
            "the frame is not in use"
        );
        if before == 1 {
            let mut frames = FRAMES.lock();
            let next = frames.chain.map_or(0, |first| first.0);
            // SAFETY: the last reference is gone, so the frame is ours again.
            unsafe { phys_to_virt(self.address).cast::<u64>().write(next) };
            frames.chain = Some(self.address);
            frames.freed = frames.freed.wrapping_add(1);
            FREE.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zero_page_stays_shared_however_often_it_is_referenced() {
        crate::mem::host::init();
        // More than a counter of 26 bits holds.
        for _ in 0..(1 << 26) + 1 {
            core::mem::forget(Frame::zero_page());
        }
        let mut zero = Frame::zero_page();
        assert!(zero.is_shared() && zero.bytes_mut().is_none());
        (0..3).for_each(|_| drop(Frame::zero_page()));
        assert!(zero.is_shared());
        let cached = CachedFrame::new(&zero).unwrap();
        assert_eq!(cached.is_only_cached(), None);
    }
}
