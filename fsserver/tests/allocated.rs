//! Storage that was allocated: scenarios, and random requests to memfs compared with a model.

mod common;

#[path = "model/random.rs"]
mod random;

use std::collections::BTreeSet;

use common::device::Device;
use common::*;
use foundation::{Errno, archive};
use fsproto::*;
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::{BlockDevice, LocalConnection};
use random::Random;

macro_rules! tests {
    ($($name:ident,)*) => {
        $(#[test] fn $name() { common::allocated::$name(); })*
    };
}

tests! {
    q1_what_a_clone_shares_is_allocated_apart,
    q1_a_hole_of_a_snapshot_is_allocated,
    q1_allocated_pages_are_counted_once,
    f9_an_allocation_changes_no_byte,
}

const PAGE: u64 = 4096;
const P: usize = 4096;
/// Pages of the files in the archive.
const PAGES: usize = 24;
/// Maximum size of a file in bytes.
const MAX_BYTES: u64 = 30 * PAGE;

/// An archive with a file whose bytes are in it, and one that is on a device from its first block
/// on, with a hole in front.
fn archive(bytes: &[u8]) -> &'static [u8] {
    let mut builder = tar::Builder::new(Vec::new());
    let runs = [bytes.len() as u64, 4, PAGES as u64 - 4, 0];
    let list: Vec<u8> = runs.into_iter().flat_map(u64::to_le_bytes).collect();
    for (name, kind, data) in [
        ("archived", tar::EntryType::Regular, bytes),
        ("placed", tar::EntryType::new(archive::PLACED), &list),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, data).unwrap();
    }
    builder.into_inner().unwrap().leak()
}

/// Where memfs has what does not fit into memory, and what limits that.
#[derive(Clone, Copy, Debug)]
enum Storage {
    Memory,
    /// Memory is limited as a whole, metadata included.
    Limited,
    /// So many pages are in memory, and the others on a device.
    Spilled(u64),
}

struct File {
    handle: Handle,
    bytes: Vec<u8>,
    /// Pages for which storage was allocated.
    allocated: BTreeSet<u64>,
}

struct World {
    files: Files<LocalConnection<Memfs<TestClock>>>,
    random: Random,
    all: Vec<File>,
}

impl World {
    fn new(storage: Storage, seed: u64) -> Self {
        let (archived, mut placed) = (pattern(1, PAGES * P - 100), pattern(2, PAGES * P - 100));
        let mut device = Device::new(PAGES as u64);
        let padded = [&placed[4 * P..], &[0; 100]].concat();
        device.write(0, &padded).unwrap();
        placed[..4 * P].fill(0);
        let pages =
            |pages: u64| Memfs::new(pages * PAGE, AccessTimes::Untouched, TestClock::default());
        let memfs = match storage {
            Storage::Memory => pages(120),
            Storage::Limited => pages(400).limited_to(400 * PAGE),
            Storage::Spilled(budget) => {
                pages(budget).spill_to(Box::new(Device::new(120)), budget * PAGE).unwrap()
            }
        };
        let mut memfs = memfs.placed_on(Box::new(device)).unwrap();
        memfs.add_archive(archive(&archived)).unwrap();
        let mut files = Files::of(&shared(memfs));
        let all = [("archived", archived), ("placed", placed), ("new", Vec::new())].map(
            |(name, bytes)| {
                let (handle, _) = files.open(name, CREATE).unwrap();
                File { handle, bytes, allocated: BTreeSet::new() }
            },
        );
        Self { files, random: Random::new(seed), all: all.into() }
    }

    fn step(&mut self) {
        let index = self.random.below(self.all.len() as u64) as usize;
        let (offset, length) = self.random.range(MAX_BYTES);
        let Self { files, random, all } = self;
        let file = &mut all[index];
        let (handle, end) = (file.handle, offset + length);
        let pages = offset / PAGE..end.div_ceil(PAGE);
        match random.below(8) {
            0 | 1 => {
                let data = pattern(random.below(1 << 30), length as usize);
                if is_done(files.write(handle, offset, &data)) && length > 0 {
                    put(&mut file.bytes, offset, &data);
                }
            }
            2 if length > 0 && is_done(files.punch(handle, offset, length)) => {
                file.allocated.retain(|page| !pages.contains(page));
                let size = file.bytes.len() as u64;
                file.bytes[offset.min(size) as usize..end.min(size) as usize].fill(0);
            }
            3 if is_done(files.truncate(handle, offset)) => {
                file.allocated.retain(|page| *page < offset.div_ceil(PAGE));
                file.bytes.resize(offset as usize, 0);
            }
            4 | 5 if length > 0 => {
                let mode = [AllocateMode::KeepSize, AllocateMode::Extend][random.below(2) as usize];
                if is_done(files.allocate(handle, offset, length, mode)) {
                    if mode == AllocateMode::Extend {
                        file.bytes.resize(file.bytes.len().max(end as usize), 0);
                    }
                    // Nothing beyond the end is allocated.
                    let end = end.min(file.bytes.len() as u64);
                    if offset < end {
                        file.allocated.extend(offset / PAGE..end.div_ceil(PAGE));
                    }
                }
            }
            6 => self.clone_some(index, offset, length),
            7 => self.write_allocated(index),
            _ => {}
        }
    }

    fn clone_some(&mut self, to: usize, offset: u64, length: u64) {
        let from = self.random.below(self.all.len() as u64) as usize;
        // Aligned mostly, so that pages are shared.
        let shift = [0, 0, 5 * PAGE, 77][self.random.below(4) as usize];
        let source = self.all[from].handle;
        let target = (self.all[to].handle, offset + shift);
        if is_done(self.files.clone_range((source, offset), target, length)) {
            let size = self.all[from].bytes.len() as u64;
            let copied = offset.min(size) as usize..(offset + length).min(size) as usize;
            let copied = self.all[from].bytes[copied].to_vec();
            if !copied.is_empty() {
                put(&mut self.all[to].bytes, offset + shift, &copied);
            }
        }
        self.all[from].allocated.clear();
        self.all[to].allocated.clear();
    }

    /// Writes to allocated storage while there is no space.
    fn write_allocated(&mut self, index: usize) {
        let Self { files, random, all } = self;
        let file = &mut all[index];
        let pages: Vec<u64> = file.allocated.iter().copied().collect();
        if pages.is_empty() {
            return;
        }
        let (filler, _) = files.open("filler", CREATE | OpenFlags::EXCLUSIVE).unwrap();
        let full = (0..1000).find_map(|page| files.write(filler, page * PAGE, &[1; P]).err());
        assert_eq!(full, Some(Errno::ENOSPC));
        for page in pages {
            let end = ((page + 1) * PAGE).min(file.bytes.len() as u64);
            let (within, length) = random.range(end - page * PAGE);
            let data = pattern(random.below(1 << 30), length as usize);
            let offset = page * PAGE + within;
            assert_eq!(files.write(file.handle, offset, &data).map(drop), Ok(()), "page {page}");
            put(&mut file.bytes, offset, &data);
        }
        files.close(filler).unwrap();
        files.remove("filler").unwrap();
    }

    fn check(&mut self) {
        for file in &self.all {
            assert!(self.files.read_all(file.handle).unwrap() == file.bytes, "other bytes");
        }
    }
}

/// Whether a request was carried out. Without space it was not, and nothing has changed.
fn is_done<T: std::fmt::Debug>(outcome: Result<T, Errno>) -> bool {
    assert!(matches!(outcome, Ok(_) | Err(Errno::ENOSPC)), "{outcome:?}");
    outcome.is_ok()
}

/// Writes bytes to a file of the model.
fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (begin, end) = (offset as usize, offset as usize + data.len());
    if begin < end {
        bytes.resize(bytes.len().max(end), 0);
        bytes[begin..end].copy_from_slice(data);
    }
}

#[test]
fn q1_random_requests_leave_allocated_storage_writable() {
    for storage in [Storage::Memory, Storage::Limited, Storage::Spilled(3), Storage::Spilled(16)] {
        for seed in 1..=12 {
            let result = std::panic::catch_unwind(|| {
                let mut world = World::new(storage, seed);
                for _ in 0..200 {
                    world.step();
                    world.check();
                }
            });
            assert!(result.is_ok(), "{storage:?}, seed {seed}");
        }
    }
}
