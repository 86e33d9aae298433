//! Files that are mapped shared, on a server whose disk is full at times, or fails, against an
//! oracle.
//!
//! Production code maps, stores, and writes back; the server is a table of pages. What happens is
//! drawn from a seed. The oracle knows the bytes that programs have stored:
//!
//! - A store to a page that has storage of its own succeeds, whatever the server refuses of other
//!   pages and files; one that needs storage succeeds while there is some.
//! - No store that succeeded is lost. Once the server takes everything, the files have every byte.
//! - Dirty pages are limited, those that were refused included.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use foundation::mutant::{Mutant, choose};
use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES};
use kernel::file::{
    FileObject, Identity, Io, Stat, UserBuffers, WriteOutcome, WritePosition, mapped,
};
use kernel::mem::{
    Backing, FaultError, Placement, Prot, Space, UserAddr, UserSlice, frame, host, mmu, stores,
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

impl FileObject for File {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat { size: ByteCount::of_len(PAGES * PAGE_BYTES), ..Stat::default() })
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity)
    }

    fn read(&self, io: &Io<'_>, to: &mut UserBuffers, at: FileOffset) -> Result<ByteCount, Errno> {
        let zeros = Box::new([0; PAGE_BYTES]);
        let disk = self.disk();
        let pages = &disk.files[self.identity.inode as usize];
        let Some(page) = pages.get(at.0 as usize / PAGE_BYTES) else { return Ok(ByteCount::ZERO) };
        let bytes = &page.as_ref().unwrap_or(&zeros)[at.0 as usize % PAGE_BYTES..];
        Ok(ByteCount::of_len(to.put(io.space, bytes)?))
    }

    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let WritePosition::At(at) = at else { return Err(Errno::EINVAL) };
        let mut disk = self.disk();
        let (inode, page) = (self.identity.inode as usize, at.0 as usize / PAGE_BYTES);
        assert_eq!((at.0 as usize % PAGE_BYTES, from.remaining().to_usize()), (0, PAGE_BYTES));
        if disk.fails {
            return Err(Errno::EIO);
        }
        if disk.files[inode][page].is_none() {
            disk.free = disk.free.checked_sub(1).ok_or(Errno::ENOSPC)?;
        }
        let mut bytes = Box::new([0; PAGE_BYTES]);
        let taken = from.take(io.space, &mut bytes[..])?;
        disk.files[inode][page] = Some(bytes);
        let end = at + ByteCount::of_len(taken);
        Ok(WriteOutcome { bytes: ByteCount::of_len(taken), end })
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
            let object: Arc<dyn FileObject> = Arc::new(file.clone());
            let length = ByteCount::of_len(PAGES * PAGE_BYTES);
            let memory = mapped::map(&space, &object, FileOffset::ZERO, length).unwrap();
            let backing = Backing::Shared { memory, first: 0 };
            let prot = Prot::READ | Prot::WRITE;
            starts.push(
                space.map(Placement::Anywhere(UserAddr(0)), length, prot, backing, "").unwrap(),
            );
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
        let has_storage = self.files[file].page(page).1;
        match mmu::store(&self.space, self.at(file, page), value) {
            Ok(()) => self.stored[file][page] = value,
            Err(error) => {
                assert_eq!(error, FaultError::Bus);
                // Older pages are written first, and may take the last of the storage.
                let (fails, free) = self.files[file].state();
                let is_full = !has_storage && free == 0;
                assert!(fails || is_full, "a store to page {page} of file {file} fails");
                self.refusals += 1;
            }
        }
        let limit = frame::stats().total / 8;
        assert!(stores::dirty_pages() <= limit + ALWAYS, "{} dirty pages", stores::dirty_pages());
    }

    fn check(&self, file: usize) {
        for page in (0..PAGES).step_by(7) {
            let found = mmu::load(&self.space, self.at(file, page)).unwrap();
            assert_eq!(found, self.stored[file][page], "page {page} of file {file} in memory");
        }
    }

    fn synchronise(&self, file: usize) -> Result<(), Errno> {
        let range = UserSlice::new(self.starts[file], ByteCount::of_len(PAGES * PAGE_BYTES));
        let written = mapped::write_range(&self.space, range.unwrap());
        for page in (0..PAGES).filter(|_| written.is_ok()) {
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
            16 => drop(self.synchronise(file)),
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
            self.synchronise(file).expect("the server takes everything");
        });
        assert_eq!(stores::dirty_pages(), 0);
        self.refusals
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.heal();
        for (file, start) in self.files.iter().zip(&self.starts) {
            self.space.unmap(*start, ByteCount::of_len(PAGES * PAGE_BYTES)).unwrap();
            mapped::write_unused(&self.space, file.identity.device);
        }
    }
}

/// A file is mapped up to 64 MiB; beyond, there is no mapping, and nothing is kept for it.
#[test]
fn q4_files_are_mapped_up_to_64_mib() {
    const MOST: ByteCount = mapped::MAX_BYTES;
    let _alone = host::exclusive();
    let (space, disk) = (Space::new().unwrap(), Arc::<Mutex<Disk>>::default());
    disk.lock().unwrap().files.push((0..PAGES).map(|_| None).collect());
    let identity = Identity { device: 5000, inode: 0 };
    let object: Arc<dyn FileObject> = Arc::new(File { disk, identity });
    let page = ByteCount::of_len(PAGE_BYTES);
    let last = FileOffset::ZERO + (MOST - page);
    let refused = [
        (FileOffset::ZERO, MOST + ByteCount(1)),
        (last, page + page),
        (last + page, page),
        (last, ByteCount(u64::MAX)),
    ];
    for (offset, length) in refused {
        assert_eq!(mapped::map(&space, &object, offset, length).err(), Some(Errno::ENODEV));
        assert!(!mapped::any());
    }
    let memory = mapped::map(&space, &object, last, page).unwrap();
    let whole = mapped::map(&space, &object, FileOffset::ZERO, MOST).unwrap();
    assert!(Arc::ptr_eq(&memory, &whole), "one file has one memory");
    drop((memory, whole));
    mapped::write_unused(&space, identity.device);
    assert!(!mapped::any());
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

/// A program that fills the share of its server with pages that are refused; others store.
fn fill_and_store(seed: u64) {
    let mut world = World::new(seed);
    (0..PAGES).for_each(|page| world.store(0, page));
    (0..PAGES).for_each(|page| world.store(2, page));
    for round in 0..3 {
        (0..PAGES).for_each(|page| world.store(1, (page + round) % PAGES));
    }
    assert!(world.refusals > 0, "the disk is full");
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
