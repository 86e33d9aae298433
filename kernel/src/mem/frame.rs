//! Physical frames, counted by reference.
//!
//! A [`Frame`] owns one reference; the frame is free when the last one goes. The counts stand in a
//! table with one entry for each frame of the machine; free frames are chained through their own
//! first bytes, and memory that was never used stays an untouched range, so that starting costs
//! nothing per frame. Everything is O(1). Invariant: a count is [`RESERVED`] for what never was
//! ours (firmware, devices, the ramdisk until it is adopted), 0 for a free frame, and otherwise the
//! number of `Frame`s and page-table entries that own it.
//!
//! Programs cannot take the last frames: 1 of [`RESERVE_SHARE`] is left to file servers and to the
//! kernel, without which nothing would ever be freed (F8, Q4).
//!
//! Lock: `FRAMES` is the innermost of all; nothing is called while it is held.

use super::{PAGE_BYTES, PAGE_SHIFT, PhysAddr, phys::phys_to_virt, reclaim};
use crate::sync::{Mutex, rank};
use core::{
    ops::Range,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};
use spin::Once;

/// No frame could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for foundation::Errno {
    fn from(_: OutOfMemory) -> Self {
        Self::ENOMEM
    }
}

/// Who asks for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// An ordinary program: the reserve is not for it.
    Program,
    /// A process that serves files, or the kernel itself.
    Server,
}

/// One frame of this many is kept from programs: enough that servers can answer, rescue and evict
/// (3 % of memory).
pub const RESERVE_SHARE: usize = 32;

/// The count of a frame that is not ours to give.
const RESERVED: u32 = u32::MAX;

/// The upper bits of a count say how many of its references are the frame cache's: files that were
/// copied on a server share frames, and thus one frame may be cached as a page of each. What is
/// left for references is enough for the zero page in 256 GiB of programs' memory.
const ONE_CACHED: u32 = 1 << 26;
/// References of the cache to one frame, at most.
const MAX_CACHED: u32 = 16;

struct FreeFrames {
    /// First of the chain of frames that were used before; each holds the address of the next in
    /// its first 8 bytes.
    chain: Option<PhysAddr>,
    /// Ranges of frames never used.
    fresh: [Range<u64>; MAX_RANGES],
}

/// Usable ranges in a memory map, at most; a PC has about five.
pub const MAX_RANGES: usize = 32;

static FRAMES: Mutex<FreeFrames, rank::Frames> =
    Mutex::new(FreeFrames { chain: None, fresh: [const { 0..0 }; MAX_RANGES] });
static COUNTS: Once<&'static [AtomicU32]> = Once::new();
static ZERO_PAGE: Once<Frame> = Once::new();
static FREE: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// Takes over the machine's memory. `usable` are byte ranges of physical memory; a table of counts
/// for all frames below the highest of `usable` and `reserved_end` is cut from one of them. Later
/// calls do nothing.
///
/// # Safety
/// The direct map must be in place, and nobody else may use the memory in `usable`.
pub(super) unsafe fn init(usable: &[Range<u64>], reserved_end: u64) {
    COUNTS.call_once(|| {
        let mut frames = FRAMES.lock();
        let mut end = reserved_end.div_ceil(PAGE_BYTES as u64);
        for (slot, range) in frames.fresh.iter_mut().zip(usable) {
            // Physical page 0 is left alone: address 0 means "nothing" in page tables.
            let start = range.start.div_ceil(PAGE_BYTES as u64).max(1);
            *slot = start..(range.end >> PAGE_SHIFT).max(start);
            end = end.max(slot.end);
        }
        let table_frames = (end * size_of::<AtomicU32>() as u64).div_ceil(PAGE_BYTES as u64);
        let home = frames
            .fresh
            .iter_mut()
            .filter(|range| range.end - range.start > table_frames)
            .max_by_key(|range| range.end - range.start);
        let Some(home) = home else { panic!("no room for the table of frames") };
        let table = phys_to_virt(PhysAddr(home.start << PAGE_SHIFT)).cast::<AtomicU32>();
        let own = home.start as usize..(home.start + table_frames) as usize;
        home.start += table_frames;
        // SAFETY: the caller gives us this memory; it is page-aligned and as large as the table,
        // and all bit patterns (0xff first) are counts.
        let counts = unsafe {
            table.write_bytes(0xff, end as usize);
            core::slice::from_raw_parts(table, end as usize)
        };
        // The table itself is nobody's to adopt.
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
        TOTAL.store(total, Ordering::Relaxed);
        counts
    });
    let zero = Frame::zeroed().unwrap_or_else(|_| panic!("no frame for the zero page"));
    ZERO_PAGE.call_once(|| zero);
}

fn count_of(address: PhysAddr) -> &'static AtomicU32 {
    let counts = COUNTS.get().copied().unwrap_or_default();
    match counts.get((address.0 >> PAGE_SHIFT) as usize) {
        Some(count) => count,
        None => panic!("{address:?} is no frame"),
    }
}

/// One more reference to a frame that a page-table entry holds, for another entry.
pub(super) fn retain(address: PhysAddr) {
    count_of(address).fetch_add(1, Ordering::Relaxed);
}

/// How much memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Frames in all.
    pub total: usize,
    /// Frames free, the reserve among them.
    pub free: usize,
}

/// How much memory there is.
pub fn stats() -> Stats {
    Stats { total: TOTAL.load(Ordering::Relaxed), free: FREE.load(Ordering::Relaxed) }
}

/// One more than the highest number of a frame.
pub(super) fn highest() -> usize {
    COUNTS.get().copied().unwrap_or_default().len()
}

/// The number of the frame at an address.
pub(super) fn number(address: PhysAddr) -> usize {
    (address.0 >> PAGE_SHIFT) as usize
}

/// Frames kept from programs.
pub fn reserve() -> usize {
    let share = TOTAL.load(Ordering::Relaxed) / RESERVE_SHARE;
    #[cfg(not(target_os = "none"))]
    let share = share.max(WITHHELD.load(Ordering::Relaxed));
    share
}

/// Frames kept from programs at least, for tests of what a shortage does.
#[cfg(not(target_os = "none"))]
static WITHHELD: AtomicUsize = AtomicUsize::new(0);

/// From now on programs can have so many more frames than they have, or all that there are.
#[cfg(not(target_os = "none"))]
pub(super) fn leave_to_programs(frames: Option<usize>) {
    WITHHELD
        .store(frames.map_or(0, |frames| stats().free.saturating_sub(frames)), Ordering::Relaxed);
}

fn take_free(claim: Claim) -> Option<PhysAddr> {
    let mut frames = FRAMES.lock();
    if claim == Claim::Program && FREE.load(Ordering::Relaxed) <= reserve() {
        return None;
    }
    let address = if let Some(first) = frames.chain {
        // SAFETY: the frame is free, so it is ours, and its first 8 bytes are the chain.
        let next = unsafe { phys_to_virt(first).cast::<u64>().read() };
        frames.chain = (next != 0).then_some(PhysAddr(next));
        first
    } else {
        let range = frames.fresh.iter_mut().find(|range| !range.is_empty())?;
        range.start += 1;
        PhysAddr((range.start - 1) << PAGE_SHIFT)
    };
    FREE.fetch_sub(1, Ordering::Relaxed);
    Some(address)
}

/// Frames in a row for a device, for good: their first address. Only memory that was never used
/// lies in a row, so this is for the start.
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
    /// A frame with old contents; clean ones that only the cache holds are let go of where no other
    /// is free.
    fn allocate(claim: Claim) -> Result<Self, OutOfMemory> {
        loop {
            if let Some(address) = take_free(claim) {
                count_of(address).store(1, Ordering::Release);
                return Ok(Self { address });
            }
            if reclaim::run() == 0 {
                return Err(OutOfMemory);
            }
        }
    }

    /// A frame of zeros for a program.
    pub fn zeroed() -> Result<Self, OutOfMemory> {
        Self::zeroed_for(Claim::Program)
    }

    /// A frame of zeros.
    pub fn zeroed_for(claim: Claim) -> Result<Self, OutOfMemory> {
        Self::filled(claim, &[])
    }

    /// A frame that begins with `bytes` (a page of them at most counts) and is zero after them.
    pub fn from_bytes(claim: Claim, bytes: &[u8]) -> Result<Self, OutOfMemory> {
        Self::filled(claim, bytes)
    }

    /// A frame with whatever it held before: only for who overwrites all of it before anyone can
    /// look.
    pub(super) fn recycled(claim: Claim) -> Result<Self, OutOfMemory> {
        Self::allocate(claim)
    }

    fn filled(claim: Claim, bytes: &[u8]) -> Result<Self, OutOfMemory> {
        let frame = Self::allocate(claim)?;
        let used = bytes.len().min(PAGE_BYTES);
        // SAFETY: nobody else knows this frame yet; both lengths lie within it, and `bytes` cannot
        // be in a frame that was free.
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

    /// The frame of zeros that everybody shares.
    pub fn zero_page() -> Self {
        match ZERO_PAGE.get() {
            Some(frame) => frame.clone(),
            None => panic!("memory is not initialised"),
        }
    }

    /// Whether it is that one.
    pub fn is_zero_page(&self) -> bool {
        ZERO_PAGE.get() == Some(self)
    }

    /// Takes over a frame outside the memory that [`init`] was given, such as a page of the
    /// ramdisk, contents and all. Works once for each.
    pub fn adopt(address: PhysAddr) -> Option<Self> {
        let aligned = address.0.is_multiple_of(PAGE_BYTES as u64);
        let counts = COUNTS.get()?;
        let count =
            counts.get((address.0 >> PAGE_SHIFT) as usize).filter(|_| aligned && address.0 != 0)?;
        count.compare_exchange(RESERVED, 1, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        TOTAL.fetch_add(1, Ordering::Relaxed);
        Some(Self { address })
    }

    /// Its address.
    pub fn addr(&self) -> PhysAddr {
        self.address
    }

    /// Its bytes. (A frame of shared memory can change under the reader; it is never handed out as
    /// a `Frame`.)
    pub fn bytes(&self) -> &[u8; PAGE_BYTES] {
        // SAFETY: we hold a reference, so the frame stays; a frame with several owners is written
        // by none of them.
        unsafe { &*phys_to_virt(self.address).cast() }
    }

    /// Its bytes for writing, unless anyone else holds it.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8; PAGE_BYTES]> {
        if self.is_shared() {
            return None;
        }
        // SAFETY: this is the only reference, and it is borrowed mutably.
        Some(unsafe { &mut *phys_to_virt(self.address).cast() })
    }

    /// Whether anyone else holds it.
    pub fn is_shared(&self) -> bool {
        count_of(self.address).load(Ordering::Acquire) % ONE_CACHED > 1
    }

    /// Keeps the frame for good.
    pub fn leak(self) -> PhysAddr {
        self.into_raw()
    }

    /// Gives the reference to a page-table entry.
    pub(super) fn into_raw(self) -> PhysAddr {
        let address = self.address;
        core::mem::forget(self);
        address
    }

    /// Takes the reference back from a page-table entry.
    ///
    /// # Safety
    /// `address` came from [`into_raw`](Self::into_raw) and is given back once.
    pub(super) unsafe fn from_raw(address: PhysAddr) -> Self {
        Self { address }
    }
}

/// The frame cache's reference to a frame.
pub(super) struct CachedFrame(Frame);

impl CachedFrame {
    /// One more reference; nothing where the cache has its fill of this frame.
    pub fn new(frame: &Frame) -> Option<Self> {
        let count = count_of(frame.address);
        if count.load(Ordering::Relaxed) / ONE_CACHED >= MAX_CACHED {
            return None;
        }
        let cached = Self(frame.clone());
        count.fetch_add(ONE_CACHED, Ordering::Relaxed);
        Some(cached)
    }

    /// Whether nobody but the cache holds the frame; then also whether this is the last reference.
    pub fn is_only_cached(&self) -> Option<bool> {
        let count = count_of(self.0.address).load(Ordering::Acquire);
        let (references, cached) = (count % ONE_CACHED, count / ONE_CACHED);
        (references == cached).then_some(references == 1)
    }
}

impl core::ops::Deref for CachedFrame {
    type Target = Frame;
    fn deref(&self) -> &Frame {
        &self.0
    }
}

impl Drop for CachedFrame {
    fn drop(&mut self) {
        count_of(self.0.address).fetch_sub(ONE_CACHED, Ordering::Relaxed);
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        count_of(self.address).fetch_add(1, Ordering::Relaxed);
        Self { address: self.address }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if count_of(self.address).fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut frames = FRAMES.lock();
            let next = frames.chain.map_or(0, |first| first.0);
            // SAFETY: the last reference is gone, so the frame is ours again.
            unsafe { phys_to_virt(self.address).cast::<u64>().write(next) };
            frames.chain = Some(self.address);
            FREE.fetch_add(1, Ordering::Relaxed);
        }
    }
}
