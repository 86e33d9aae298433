//! Tests of `mem` with a pager that the tests control.

mod clean;
mod faults;
mod layout;
mod lock;
mod page_out;
mod ranks;
mod reads;
mod shared;
mod shared_tables;
mod sharing;
mod steps;
mod stress;
mod swap;
mod tables;

use super::*;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::counter::{self, Counter};
use foundation::knob;
use foundation::{ByteCount, Errno, FileOffset, PageCount, SnapshotOffset};
use fsproto::{Handle, Hole};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: u64 = PAGE_BYTES as u64;
const BASE: UserAddr = UserAddr(0x10_0000);

/// Files with this number or above have holes: some of their pages are zeros.
const HOLEY_FILES: u64 = 100;

fn is_hole(file: u64, version: u64, page: u64) -> bool {
    file >= HOLEY_FILES
        && (page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 ^ version).is_multiple_of(3)
}

/// The byte of a file's version at an offset: 0 in holes only, different for each page, file and
/// version.
fn byte_of(file: u64, version: u64, offset: u64) -> u8 {
    if is_hole(file, version, offset / PAGE) {
        return 0;
    }
    let mixed = (offset / PAGE + 1).wrapping_mul(0x9e37_79b9)
        ^ file.wrapping_mul(0x85eb_ca6b)
        ^ version.wrapping_mul(0xc2b2_ae35)
        ^ (offset % 251);
    (mixed ^ mixed >> 8 ^ mixed >> 16) as u8 | 1
}

/// How the pager replies to fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// At once, with success.
    Now,
    /// When the test completes a fetch from `waiting`.
    Later,
    /// At once: this many errors, then success.
    Errors(u32),
}

struct TestPager {
    /// Unique, so that no test finds cache entries of another one.
    mount: u64,
    answers: Mutex<Answers>,
    waiting: Mutex<Vec<Arc<Fetch>>>,
    requests: Mutex<Vec<(Handle, u64, u64)>>,
    closed: Mutex<Vec<Handle>>,
    made: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TestPager {
    fn new(answers: Answers) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            mount: NEXT.fetch_add(1, Ordering::Relaxed),
            answers: Mutex::new(answers),
            waiting: Mutex::default(),
            requests: Mutex::default(),
            closed: Mutex::default(),
            made: AtomicU64::new(0),
        })
    }

    /// A snapshot of `pages` pages of a file from byte `offset` on. Its handle encodes file and
    /// version.
    fn snapshot(
        self: &Arc<Self>,
        file: u64,
        version: u64,
        offset: u64,
        pages: u64,
    ) -> Arc<Snapshot> {
        self.holey(file, version, offset, pages, vec![])
    }

    fn holey(
        self: &Arc<Self>,
        file: u64,
        version: u64,
        offset: u64,
        pages: u64,
        holes: Vec<Hole>,
    ) -> Arc<Snapshot> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let offset = FileOffset(offset);
        let source = SnapshotSource::File { mount: self.mount, file, version, offset };
        Snapshot::new(
            self.clone(),
            Handle(file << 32 | version),
            PageCount(pages).bytes(),
            source,
            holes,
            SnapshotOffset(u64::MAX),
        )
    }

    /// A snapshot of an untrusted server: the pager returns other bytes for each fetch.
    fn untrusted(self: &Arc<Self>, pages: u64) -> Arc<Snapshot> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let (length, holes_end) = (PageCount(pages).bytes(), SnapshotOffset(u64::MAX));
        Snapshot::new(self.clone(), Handle(0), length, SnapshotSource::Untrusted, vec![], holes_end)
    }

    /// As [`snapshot`](Self::snapshot), of a file with holes.
    fn sparse(self: &Arc<Self>, file: u64, version: u64, offset: u64, pages: u64) -> Arc<Snapshot> {
        let end = offset + pages * PAGE;
        let hole = |page: u64| {
            let (start, end) = ((page * PAGE).max(offset), ((page + 1) * PAGE).min(end));
            Hole { offset: start - offset, length: ByteCount(end - start) }
        };
        let mut holes: Vec<Hole> = Vec::new();
        for next in (offset / PAGE..end.div_ceil(PAGE))
            .filter(|&page| is_hole(file, version, page))
            .map(hole)
        {
            match holes.last_mut() {
                Some(last) if last.end() == next.offset => last.length += next.length,
                _ => holes.push(next),
            }
        }
        self.holey(file, version, offset, pages, holes)
    }

    fn answer(fetch: &Fetch) {
        let snapshot = fetch.snapshot().expect("no file is mapped here");
        let SnapshotSource::File { file, version, offset, .. } = snapshot.source else {
            static ASKED: AtomicU64 = AtomicU64::new(0);
            let answer = |_| {
                Frame::from_bytes(
                    Claim::Kernel,
                    &[ASKED.fetch_add(1, Ordering::Relaxed) as u8; PAGE_BYTES],
                )
                .map_err(Errno::from)
            };
            return fetch.complete(
                (0..fetch.pages.0).map(answer).collect::<Result<Vec<_>, _>>().map(Frames::from),
            );
        };
        let page = |index: u64| {
            let start = offset.0 + fetch.offset.0 + index * PAGE;
            let bytes: Vec<u8> =
                (start..start + PAGE).map(|at| byte_of(file, version, at)).collect();
            Frame::from_bytes(Claim::Kernel, &bytes)
        };
        fetch.complete(
            (0..fetch.pages.0)
                .map(page)
                .collect::<Result<Vec<_>, _>>()
                .map(Frames::from)
                .map_err(Errno::from),
        );
    }

    fn requests(&self) -> usize {
        lock(&self.requests).len()
    }

    fn closed(&self) -> usize {
        lock(&self.closed).len()
    }
}

impl Pager for TestPager {
    fn start(&self, fetch: Arc<Fetch>) {
        lock(&self.requests).push((fetch.handle(), fetch.offset.0, fetch.pages.0));
        let answers = *lock(&self.answers);
        match answers {
            Answers::Now | Answers::Errors(0) => Self::answer(&fetch),
            Answers::Later => lock(&self.waiting).push(fetch),
            Answers::Errors(left) => {
                *lock(&self.answers) = Answers::Errors(left - 1);
                fetch.complete(Err(Errno::EIO));
            }
        }
    }
    fn close(&self, handle: Handle) {
        lock(&self.closed).push(handle);
    }
}

const RW: Prot = Prot::READ.union(Prot::WRITE);

fn at(page: u64) -> UserAddr {
    UserAddr(BASE.0 + page * PAGE)
}

fn slice(address: UserAddr, bytes: u64) -> UserSlice {
    UserSlice::new(address, ByteCount(bytes)).unwrap()
}

/// Bytes in `count` pages.
fn pages(count: u64) -> ByteCount {
    PageCount(count).bytes()
}

/// Associates `count` pages from `first` on with the snapshot's bytes from `offset` on; returns how
/// many were associated.
fn associate(
    space: &Space,
    first: UserAddr,
    count: u64,
    snapshot: &Arc<Snapshot>,
    offset: u64,
) -> Result<u64, Errno> {
    let done = space.associate(first, PageCount(count), snapshot, SnapshotOffset(offset));
    done.map(|pages| pages.0)
}

/// A swap device for a test, until this is dropped.
struct Swap(Arc<host::RamSwap>);

impl Swap {
    fn new(slots: u32) -> Self {
        let device = host::RamSwap::new();
        super::swap::attach(device.clone(), slots).unwrap();
        Self(device)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // After a failure, only for the next test.
        let _ = std::panic::catch_unwind(super::swap::detach);
    }
}

/// Evicts pages, `pages` at a time, until no more can be evicted. The first visits only mark pages
/// as unused.
fn evict_up_to(pages: usize) {
    // Evicted pages stay so: more rounds than pages would be an endless loop.
    let rounds = (0..host::POOL_FRAMES).take_while(|_| host::evict_pages(pages)).count();
    assert!(rounds < host::POOL_FRAMES);
}

fn evict_everything() {
    evict_up_to(64);
}

/// A space with `pages` pages of anonymous memory at [`BASE`].
fn space_of(pages: u64) -> Arc<Space> {
    let space = Space::new().unwrap();
    space
        .map(Placement::Fixed(BASE), PageCount(pages).bytes(), RW, Backing::Anonymous, "")
        .unwrap();
    space
}

fn load(space: &Space, address: UserAddr) -> u8 {
    mmu::load(space, address).unwrap()
}

fn store(space: &Space, address: UserAddr, value: u8) {
    mmu::store(space, address, value).unwrap();
}

/// A space of 64 pages, all backed by file 7, version 1, from its start.
fn lazy_space(pager: &Arc<TestPager>) -> Arc<Space> {
    let space = space_of(64);
    assert_eq!(associate(&space, BASE, 64, &pager.snapshot(7, 1, 0, 64), 0), Ok(64));
    space
}

fn frame_of(space: &Space, page: u64) -> PhysAddr {
    space.with(|state| state.table.get(at(page).page()).unwrap().address())
}

/// Allocates all frames but `left` (and the reserve).
fn hoard(left: usize) -> Vec<Frame> {
    let wanted = frame::stats().free - frame::reserve_below(Claim::Program) - left;
    (0..wanted).map(|_| Frame::zeroed().unwrap()).collect()
}

/// Sets a knob, and restores its value when dropped.
struct Knob(&'static knob::Knob, u64);

impl Knob {
    fn set(knob: &'static knob::Knob, value: u64) -> Self {
        let old = knob.get();
        knob.set(value).unwrap();
        Self(knob, old)
    }
}

impl Drop for Knob {
    fn drop(&mut self) {
        self.0.set(self.1).unwrap();
    }
}

fn cache_emptied() -> usize {
    cache::evict(usize::MAX)
}

fn spawn<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(run)
}

/// The next fetch that a thread started.
fn next_fetch(pager: &TestPager) -> Arc<Fetch> {
    loop {
        if let Some(fetch) = lock(&pager.waiting).pop() {
            return fetch;
        }
        std::thread::yield_now();
    }
}
