//! Files that are mapped shared, on a server whose disk is full at times, or fails, against an
//! oracle.
//!
//! Production code maps, stores, and writes back; the server is a table of pages. What happens is
//! drawn from a seed. The oracle knows the bytes that programs have stored:
//!
//! - A store succeeds while the server has storage for its page. While its disk fails, stores
//!   succeed until as many pages are dirty as may be.
//! - No store that succeeded is lost. Once the server takes everything, the files have every byte.
//! - Dirty pages are limited, those that were refused included.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use foundation::mutant::{Mutant, choose};
use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES};
use fsproto::{AllocateMode, Handle};
use kernel::file::{FileObject, Identity, MappingSource, OpenFile, Stat, Status, mapped};
use kernel::mem::{
    Claim, FaultError, Fetch, Frame, Page as PageNumber, PageRange, Pager, Placement, Prot, Space,
    UserAddr, frame, host, mmu, stores,
};

const SEEDS: u64 = 12;
const STEPS: u64 = 150;
/// Pages of a file: more than the files of one server may have dirty.
const PAGES: usize = 1200;
/// Files of the server that is looked at, and one of another.
const FILES: usize = 4;
/// Pages that the server's files may have dirty beyond the limit: those that are always admitted.
const ALWAYS: usize = 2 * 16;

type Page = [u8; PAGE_BYTES];

/// A server.
#[derive(Default)]
struct Disk {
    free: usize,
    /// Writes fail, with EIO.
    fails: bool,
    /// Others may change files: leases are needed.
    is_shared: bool,
    is_leased: bool,
    files: Vec<Vec<Option<Box<Page>>>>,
}

/// A file of a server.
#[derive(Clone)]
struct File {
    disk: Arc<Mutex<Disk>>,
    identity: Identity,
}

impl File {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Whether the disk fails, and its free pages.
    fn state(&self) -> (bool, usize) {
        let disk = self.disk();
        (disk.fails, disk.free)
    }

    /// The first byte of a page, and whether it has storage.
    fn page(&self, page: usize) -> (u8, bool) {
        let disk = self.disk();
        let page = disk.files[self.identity.inode as usize][page].as_ref();
        (page.map_or(0, |bytes| bytes[0]), page.is_some())
    }
}

impl Pager for File {
    fn start(&self, fetch: Arc<Fetch>) {
        let first = fetch.offset.0 as usize / PAGE_BYTES;
        let disk = self.disk();
        let pages = disk.files[self.identity.inode as usize].iter().skip(first);
        let frame = |page: &Option<Box<Page>>| {
            let bytes = page.as_ref().map_or(&[0; PAGE_BYTES], |bytes| &**bytes);
            Frame::from_bytes(Claim::Kernel, bytes)
        };
        let frames: Result<Vec<Frame>, _> = pages.take(fetch.pages.to_usize()).map(frame).collect();
        drop(disk);
        fetch.complete(frames.map(Into::into).map_err(Errno::from));
    }

    fn close(&self, _: Handle) {}
}

impl FileObject for File {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat { size: ByteCount::of_len(PAGES * PAGE_BYTES), ..Stat::default() })
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity)
    }

    fn mapping_source(&self) -> Option<MappingSource> {
        let (pager, handle) = (Arc::new(self.clone()), Handle(self.identity.inode));
        Some(MappingSource { pager, handle, needs_lease: self.disk().is_shared })
    }

    fn lease(&self) -> Result<(), Errno> {
        let mut disk = self.disk();
        assert!(disk.is_shared && !disk.is_leased, "a lease that is not needed");
        disk.is_leased = true;
        Ok(())
    }

    fn allocate(
        &self,
        offset: FileOffset,
        length: ByteCount,
        mode: AllocateMode,
    ) -> Result<(), Errno> {
        assert_eq!((length.0 % PAGE_BYTES as u64, mode), (0, AllocateMode::KeepSize));
        let mut disk = self.disk();
        let (inode, first) = (self.identity.inode as usize, offset.0 as usize / PAGE_BYTES);
        let pages = first..first + length.to_usize() / PAGE_BYTES;
        let missing = disk.files[inode][pages.clone()].iter().filter(|page| page.is_none()).count();
        disk.free = disk.free.checked_sub(missing).ok_or(Errno::ENOSPC)?;
        for page in disk.files[inode][pages].iter_mut().filter(|page| page.is_none()) {
            *page = Some(Box::new([0; PAGE_BYTES]));
        }
        Ok(())
    }

    fn write_pages(
        &self,
        at: FileOffset,
        pages: &[Frame],
        length: ByteCount,
    ) -> Result<ByteCount, Errno> {
        let mut disk = self.disk();
        let (inode, first) = (self.identity.inode as usize, at.0 as usize / PAGE_BYTES);
        assert_eq!((at.0 as usize % PAGE_BYTES, length.to_usize()), (0, pages.len() * PAGE_BYTES));
        if disk.fails {
            return Err(Errno::EIO);
        }
        for (page, frame) in (first..).zip(pages) {
            let storage = disk.files[inode][page].as_mut().expect("space was reserved");
            storage.copy_from_slice(frame.bytes());
        }
        Ok(length)
    }
}

/// Servers, files, a program that maps all files, and what it has stored.
struct World {
    random: Rng,
    space: Arc<Space>,
    files: Vec<File>,
    starts: Vec<UserAddr>,
    stored: Vec<Vec<u8>>,
    refusals: u64,
}

/// Maps the first `length` bytes of a file.
fn map(space: &Arc<Space>, file: &File, length: ByteCount) -> Result<UserAddr, Errno> {
    let status = Status::READ | Status::WRITE;
    let open = OpenFile::nameless(Arc::new(file.clone()), status, &space.account)?;
    let backing = open.map(space, FileOffset::ZERO, length)?;
    space.map(Placement::Anywhere(UserAddr(0)), length, Prot::READ | Prot::WRITE, backing, "")
}

impl World {
    /// The last file is on another server. Every other file has storage from the start.
    fn new(seed: u64) -> Self {
        let disks = [(); 2].map(|()| Arc::<Mutex<Disk>>::default());
        let space = Space::new().unwrap();
        let (mut files, mut starts) = (Vec::new(), Vec::new());
        for number in 0..=FILES {
            let device = usize::from(number == FILES);
            let disk = &disks[device];
            let whole = number % 2 == 1 || device == 1;
            let mut locked = disk.lock().unwrap();
            let page = || whole.then(|| Box::new([0; PAGE_BYTES]));
            locked.files.push((0..PAGES).map(|_| page()).collect());
            let inode = locked.files.len() as u64 - 1;
            drop(locked);
            // Numbers of this test only, and of this run.
            let identity = Identity { device: seed * 2 + device as u64, inode };
            let file = File { disk: disk.clone(), identity };
            starts.push(map(&space, &file, ByteCount::of_len(PAGES * PAGE_BYTES)).unwrap());
            files.push(file);
        }
        let stored = vec![vec![0; PAGES]; FILES + 1];
        Self { random: Rng::with_seed(seed), space, files, starts, stored, refusals: 0 }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.files[0].disk()
    }

    fn at(&self, file: usize, page: usize) -> UserAddr {
        UserAddr(self.starts[file].0 + (page * PAGE_BYTES) as u64)
    }

    fn store(&mut self, file: usize, page: usize) {
        let value = self.random.u8(1..);
        let (has_storage, limit) = (self.files[file].page(page).1, frame::stats().total / 8);
        let (fails, free) = self.files[file].state();
        match mmu::store(&self.space, self.at(file, page), value) {
            Ok(()) => {
                self.stored[file][page] = value;
                assert!(has_storage || free > 0, "page {page} of file {file} has no storage");
            }
            Err(error) => {
                assert_eq!(error, FaultError::Denied);
                let is_full = !has_storage && free == 0;
                let is_exhausted = fails && stores::dirty_pages() >= limit;
                assert!(is_full || is_exhausted, "a store to page {page} of file {file} fails");
                self.refusals += 1;
            }
        }
        assert!(stores::dirty_pages() <= limit + ALWAYS, "{} dirty pages", stores::dirty_pages());
    }

    fn check(&self, file: usize) {
        for page in (0..PAGES).step_by(7) {
            let found = mmu::load(&self.space, self.at(file, page)).unwrap();
            assert_eq!(found, self.stored[file][page], "page {page} of file {file} in memory");
        }
    }

    fn synchronise(&self, file: usize, pages: Range<usize>) -> Result<(), Errno> {
        let first = self.starts[file].0 / PAGE_BYTES as u64;
        let [start, end] = [pages.start, pages.end].map(|page| PageNumber(first + page as u64));
        let written = mapped::synchronise(&self.space, PageRange { start, end });
        for page in pages.filter(|_| written.is_ok()) {
            let found = self.files[file].page(page).0;
            assert_eq!(found, self.stored[file][page], "page {page} of file {file}");
        }
        written
    }

    fn step(&mut self) {
        let file = self.random.usize(..=FILES);
        let page = self.random.usize(..PAGES);
        match self.random.u8(..20) {
            0..12 => self.store(file, page),
            12..15 => {
                let end = (page + self.random.usize(..900)).min(PAGES);
                (page..end).for_each(|page| self.store(file, page));
            }
            15 => self.check(file),
            16 => {
                let end = (page + self.random.usize(..900)).min(PAGES);
                let _ = self.synchronise(file, page..end);
            }
            17 => self.disk().free = 0,
            18 => {
                let more = [1, 10, 2000][self.random.usize(..3)];
                self.disk().free += more;
            }
            _ => {
                let fails = self.random.u8(..4) == 0;
                self.disk().fails = fails;
            }
        }
    }

    /// The server takes everything from now on.
    fn heal(&self) {
        let mut disk = self.disk();
        (disk.free, disk.fails) = (usize::MAX / 2, false);
    }

    /// The server takes everything: nothing was lost. Returns how many stores were refused.
    fn end(self) -> u64 {
        self.heal();
        (0..=FILES).for_each(|file| {
            self.check(file);
            // What failed before is reported once.
            let _ = self.synchronise(file, 0..PAGES);
            self.synchronise(file, 0..PAGES).expect("the server takes everything");
        });
        assert_eq!(stores::dirty_pages(), 0);
        self.refusals
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.heal();
        for start in &self.starts {
            self.space.unmap(*start, ByteCount::of_len(PAGES * PAGE_BYTES)).unwrap();
        }
        mapped::write_what_is_due();
    }
}

/// Any size can be mapped at any place that a file can have, and nothing is kept of what cannot.
#[test]
fn m5_files_of_any_size_are_mapped() {
    let _alone = host::exclusive();
    let (space, disk) = (Space::new().unwrap(), Arc::<Mutex<Disk>>::default());
    disk.lock().unwrap().files.push((0..PAGES).map(|_| None).collect());
    let file = File { disk, identity: Identity { device: 5000, inode: 0 } };
    let open = |status| OpenFile::nameless(Arc::new(file.clone()), status, &space.account).unwrap();
    let page = ByteCount::of_len(PAGE_BYTES);
    let largest = FileOffset(i64::MAX as u64 / PAGE_BYTES as u64 * PAGE_BYTES as u64);
    let beyond = open(Status::READ).map(&space, largest, page);
    assert_eq!(beyond.err(), Some(Errno::EOVERFLOW));
    assert!(!mapped::any());
    let before = frame::stats().free;
    for bytes in [8 << 20, 65 << 20, 1 << 40] {
        let start = map(&space, &file, ByteCount(bytes)).unwrap();
        assert_eq!(mmu::load(&space, start), Ok(0));
        let last = UserAddr(start.0 + bytes - 1);
        assert_eq!(mmu::load(&space, last), Err(FaultError::Denied), "past the end of the file");
        space.unmap(start, ByteCount(bytes)).unwrap();
        mapped::write_what_is_due();
        assert!(!mapped::any());
        assert!(before - frame::stats().free < 16, "tables stay");
    }
}

/// A range that ends within a mapping is written, and nothing behind it.
#[test]
fn a_part_of_a_mapping_is_synchronised() {
    let _alone = host::exclusive();
    let mut world = World::new(1);
    world.heal();
    (0..8).for_each(|page| world.store(0, page));
    let before = stores::dirty_pages();
    world.synchronise(0, 2..5).expect("the server takes everything");
    assert_eq!(stores::dirty_pages(), before - 3);
    world.synchronise(0, 5..5).expect("there is nothing to write");
    assert_eq!(stores::dirty_pages(), before - 3);
    world.end();
}

/// Where others may change a file, its pages are in memory only under a lease. When it is recalled,
/// what was stored is written before the server gets its answer.
#[test]
fn m6_a_lease_is_asked_for_and_given_back() {
    let _alone = host::exclusive();
    let (space, disk) = (Space::new().unwrap(), Arc::<Mutex<Disk>>::default());
    let identity = Identity { device: 5001, inode: 0 };
    {
        let mut disk = disk.lock().unwrap();
        disk.files.push((0..PAGES).map(|_| Some(Box::new([1; PAGE_BYTES]))).collect());
        disk.is_shared = true;
    }
    let file = File { disk, identity };
    let (length, is_leased) = (ByteCount(8 << 20), || file.disk().is_leased);
    let start = map(&space, &file, length).unwrap();
    assert!(!is_leased(), "nothing was touched");
    let at = |page: usize| UserAddr(start.0 + (page * PAGE_BYTES) as u64);
    assert_eq!(mmu::load(&space, at(3)), Ok(1));
    assert!(is_leased());
    mmu::store(&space, at(3), 7).unwrap();
    let (disk, answered) = (file.disk.clone(), Arc::new(AtomicBool::new(false)));
    let noted = answered.clone();
    let is_valid = mapped::recall(identity, move || {
        let mut disk = disk.lock().unwrap();
        let page = disk.files[0][3].as_mut().unwrap();
        assert_eq!((page[0], page[1]), (7, 1), "what was stored is not written");
        // Others change the file.
        (page[0], page[1]) = (8, 9);
        disk.is_leased = false;
        noted.store(true, Ordering::Relaxed);
    });
    assert!(is_valid && !answered.load(Ordering::Relaxed), "pages are in memory");
    assert!(!mapped::recall(identity, || ()), "one recall at a time");
    mapped::write_what_is_due();
    assert!(answered.load(Ordering::Relaxed) && !is_leased());
    assert_eq!(mmu::load(&space, UserAddr(at(3).0 + 1)), Ok(9), "an old page");
    assert!(is_leased(), "the next touch asks again");
    mmu::store(&space, at(3), 10).unwrap();
    space.unmap(start, length).unwrap();
    mapped::write_what_is_due();
    assert_eq!(file.page(3).0, 10);
    // Nothing of the file is in memory: the answer comes at once.
    let noted = answered.clone();
    answered.store(false, Ordering::Relaxed);
    let _ = mapped::recall(identity, move || noted.store(true, Ordering::Relaxed));
    assert!(answered.load(Ordering::Relaxed) && !mapped::any());
}

/// Runs all seeds. Returns how many stores were refused.
fn run_all() -> u64 {
    let run = |seed| {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.end()
    };
    (1..=SEEDS).map(run).sum()
}

/// A program stores to pages of a server whose disk fails until no more may be dirty. Others store.
fn fill_and_store(seed: u64) {
    let mut world = World::new(seed);
    world.disk().fails = true;
    (0..PAGES).for_each(|page| world.store(1, page));
    (0..PAGES).for_each(|page| world.store(3, page));
    assert!(world.refusals > 0, "the disk fails");
    let before = world.refusals;
    for round in 0..3 {
        (0..PAGES).for_each(|page| world.store(FILES, (page + round) % PAGES));
    }
    assert_eq!(world.refusals, before, "another server's disk works");
    world.end();
}

#[test]
fn q6_pages_that_a_server_refuses_keep_nobody_from_storing() {
    let _alone = host::exclusive();
    fill_and_store(1000);
    let refusals = run_all();
    assert!(refusals > 500, "{refusals} stores were refused");
    assert!(!mapped::any(), "a file is kept");
}

#[test]
fn mutants_of_write_back_are_noticed() {
    let _alone = host::exclusive();
    let noticed = |mutant: Mutant, seed| {
        choose(Some(mutant));
        let outcome = catch_unwind(AssertUnwindSafe(|| fill_and_store(seed)));
        choose(None);
        assert!(outcome.is_err(), "{} is not noticed", mutant.name());
    };
    noticed(Mutant::RefusedPagesCount, 2000);
}
