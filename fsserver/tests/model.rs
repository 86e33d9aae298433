//! Random requests to the wrapper, compared with a model that copies: every snapshot keeps the
//! bytes that its file had when it was taken.
//!
//! A failing seed is printed; `run` with that seed alone repeats the failure.

mod common;

#[path = "model/allocated.rs"]
mod allocated;
#[path = "model/random.rs"]
mod random;
#[path = "model/references.rs"]
mod references;

use std::collections::{BTreeMap, BTreeSet};

use common::device::Device;
use common::wrapped::{Failure, Tower};
use common::*;
use foundation::{ByteCount, Errno};
use fsproto::*;
use random::Random;

/// Maximum size of a file in bytes.
const MAX_BYTES: u64 = 14 * 4096;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

struct Held {
    handle: Handle,
    file: usize,
    offset: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    None,
    /// About this share of the base's requests fails.
    OneIn(u64),
    /// About this share of the device's transfers fails.
    OneTransferIn(u64),
}

/// The base's memory in pages, and its device.
type Spill = Option<(u64, Device)>;

struct World {
    tower: Tower,
    random: Random,
    faults: Faults,
    spill: Spill,
    lacking: Features,
    has_small_maps: bool,
    names: BTreeMap<&'static str, usize>,
    contents: Vec<Vec<u8>>,
    /// The pages of each file for which storage was allocated.
    allocated: Vec<BTreeSet<u64>>,
    open: Vec<(Handle, usize)>,
    snapshots: Vec<Held>,
}

impl World {
    fn new(
        lacking: Features,
        seed: u64,
        capacity_pages: u64,
        faults: Faults,
        spill: Spill,
    ) -> Self {
        // Every second world has rescue maps that become too large.
        let has_small_maps = spill.is_none() && seed.is_multiple_of(2);
        let tower = match &spill {
            None if seed.is_multiple_of(4) => Tower::with_entries(lacking, capacity_pages, 6),
            None if seed % 4 == 2 => Tower::with_entries(lacking, capacity_pages, 20),
            None => Tower::without(lacking, capacity_pages),
            Some((budget, device)) => Tower::spilled(lacking, *budget, device),
        };
        let random = Random::new(seed);
        Self {
            tower,
            random,
            faults,
            spill,
            lacking,
            has_small_maps,
            names: BTreeMap::new(),
            contents: Vec::new(),
            allocated: Vec::new(),
            open: Vec::new(),
            snapshots: Vec::new(),
        }
    }

    fn some_name(&self) -> &'static str {
        NAMES[self.random.below(NAMES.len() as u64) as usize]
    }

    fn some_open(&self) -> Option<(Handle, usize)> {
        let count = self.open.len() as u64;
        (count > 0).then(|| self.open[self.random.below(count) as usize])
    }

    /// Runs a request with faults, if this world has any.
    fn risky<T>(
        &mut self,
        request: impl FnOnce(&mut Self) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let random = self.random.clone();
        match (self.faults, &self.spill) {
            (Faults::OneIn(count), _) => {
                self.tower.wire.fail_by(move |_| match random.below(2 * count) {
                    0 => Some(Failure::Before(if random.below(2) == 0 {
                        Errno::EIO
                    } else {
                        Errno::ENOSPC
                    })),
                    1 => Some(Failure::After(Errno::EIO)),
                    _ => None,
                })
            }
            (Faults::OneTransferIn(count), Some((_, device))) => {
                device.fail_by(move |_| random.below(count) == 0)
            }
            _ => {}
        }
        let outcome = request(self);
        self.tower.wire.heal();
        self.spill.iter().for_each(|(_, device)| device.fail_by(|_| false));
        outcome
    }

    /// A change of a file's bytes: done as a whole or, unless the base fails, not at all.
    fn change<T>(
        &mut self,
        file: usize,
        handle: Handle,
        request: impl FnOnce(&mut Self) -> Result<T, Errno>,
        model: impl FnOnce(&mut Vec<u8>, T),
    ) {
        match self.risky(request) {
            Ok(answer) => model(&mut self.contents[file], answer),
            Err(Errno::ENOSPC) if self.faults == Faults::None => {}
            // Every base offers copies, unless it lacks the feature.
            Err(Errno::EOPNOTSUPP) if self.lacking.contains(Features::CLONE) => {}
            Err(error) => {
                assert!(self.faults != Faults::None, "{error:?}");
                // Only the base knows how much was done.
                self.contents[file] = self.tower.files.read_all(handle).unwrap();
            }
        }
    }

    /// A write of several steps may end early without space; it then reports how much was done. If
    /// the base fails, this is unknown.
    fn whole_or_prefix(&self, written: Written, length: u64) -> Result<usize, Errno> {
        if written.length == ByteCount(length) || self.faults == Faults::None {
            Ok(written.length.to_usize())
        } else {
            Err(Errno::EIO)
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0 | 1 => self.open_some(),
            2 => self.close_some(),
            3 => self.remove_or_rename(),
            4..=7 => self.write_some(),
            8 => self.truncate_some(),
            9 => self.punch_some(),
            10 => self.clone_some(),
            11..=13 => self.take_snapshot(),
            14 | 15 => self.write_pieces(),
            16 | 17 => self.write_allocated(),
            _ => self.close_snapshot(),
        }
    }

    fn open_some(&mut self) {
        let name = self.some_name();
        let truncate = self.random.below(3) == 0 && self.faults == Faults::None;
        let flags = if truncate { CREATE | OpenFlags::TRUNCATE } else { CREATE };
        match self.tower.files.open(name, flags) {
            Ok((handle, attr)) => {
                let Self { contents, allocated, .. } = self;
                let file = *self.names.entry(name).or_insert_with(|| {
                    contents.push(Vec::new());
                    allocated.push(BTreeSet::new());
                    contents.len() - 1
                });
                if truncate {
                    contents[file].clear();
                    allocated[file].clear();
                }
                assert_eq!(attr.size, ByteCount(contents[file].len() as u64));
                self.open.push((handle, file));
            }
            Err(error) => assert!(truncate && error == Errno::ENOSPC, "{error:?}"),
        }
    }

    fn close_some(&mut self) {
        if !self.open.is_empty() {
            let (handle, _) =
                self.open.swap_remove(self.random.below(self.open.len() as u64) as usize);
            self.tower.files.close(handle).unwrap();
        }
    }

    fn remove_or_rename(&mut self) {
        let (old, new) = (self.some_name(), self.some_name());
        if self.random.below(2) == 0 {
            assert_eq!(self.tower.files.remove(old).is_ok(), self.names.remove(old).is_some());
        } else if self.names.contains_key(old) {
            self.tower.files.rename(old, new).unwrap();
            let file = self.names.remove(old).unwrap();
            self.names.insert(new, file);
        } else {
            assert_eq!(self.tower.files.rename(old, new).map(drop), Err(Errno::ENOENT));
        }
    }

    fn write_some(&mut self) {
        let Some((handle, file)) = self.some_open() else { return };
        let (mut offset, length) = self.random.range(MAX_BYTES);
        let data = pattern(self.random.below(1 << 30), length as usize);
        let append =
            self.random.below(5) == 0 && self.contents[file].len() as u64 + length <= MAX_BYTES;
        if append {
            offset = self.contents[file].len() as u64;
        }
        let sent = data.clone();
        let request = move |world: &mut Self| {
            if append {
                world.tower.files.append(handle, &sent)
            } else {
                world.tower.files.write(handle, offset, &sent)
            }
        };
        self.change(file, handle, request, |bytes, _| put(bytes, offset as usize, &data));
    }

    fn truncate_some(&mut self) {
        let Some((handle, file)) = self.some_open() else { return };
        let size = self.random.position(MAX_BYTES);
        self.change(
            file,
            handle,
            |world| world.tower.files.truncate(handle, size),
            |bytes, _| bytes.resize(size as usize, 0),
        );
        let size = self.contents[file].len() as u64;
        self.freed(file, size.next_multiple_of(4096)..u64::MAX);
    }

    fn punch_some(&mut self) {
        let Some((handle, file)) = self.some_open() else { return };
        let (offset, length) = self.random.range(MAX_BYTES);
        if length == 0 {
            return;
        }
        let mode = match self.random.below(3) {
            0 => AllocateMode::Extend,
            1 => AllocateMode::KeepSize,
            _ => AllocateMode::PunchHole,
        };
        if mode == AllocateMode::PunchHole {
            self.freed(file, offset..offset + length);
        }
        let mut is_done = false;
        self.change(
            file,
            handle,
            |world| world.tower.files.allocate(handle, offset, length, mode),
            |bytes, _| {
                is_done = true;
                let (begin, end) = (offset as usize, (offset + length) as usize);
                match mode {
                    AllocateMode::Extend => bytes.resize(bytes.len().max(end), 0),
                    AllocateMode::KeepSize => {}
                    AllocateMode::PunchHole => {
                        let size = bytes.len();
                        bytes[begin.min(size)..end.min(size)].fill(0);
                    }
                }
            },
        );
        if is_done && mode != AllocateMode::PunchHole {
            self.allocated(file, offset, length);
        }
    }

    fn check(&mut self) {
        for index in 0..self.snapshots.len() {
            let handle = self.snapshots[index].handle;
            if let Ok(part) = self.risky(|world| world.tower.files.read(handle, 0, MAX_PAYLOAD)) {
                assert_eq!(part, self.snapshots[index].bytes, "a page-in under faults");
            }
            let held = &self.snapshots[index];
            assert!(
                self.tower.files.read_all(handle).unwrap() == held.bytes,
                "a snapshot has changed"
            );
        }
        for &(handle, file) in &self.open {
            assert!(
                self.tower.files.read_all(handle).unwrap() == self.contents[file],
                "a file is not what was written"
            );
        }
        let figures = self.tower.figures();
        assert_eq!(figures.snapshots, self.snapshots.len());
        if self.faults == Faults::None {
            assert!(
                figures.reserved_pages <= self.tower.base_free(),
                "less space than was promised: {figures:?} {}",
                self.tower.base_free()
            );
        }
    }

    fn finish(mut self, capacity_pages: u64) {
        for held in std::mem::take(&mut self.snapshots) {
            self.tower.files.close(held.handle).unwrap();
        }
        let figures = self.tower.figures();
        assert_eq!(
            (figures.snapshots, figures.reserved_pages, figures.stored_pages, figures.rescue_files),
            (0, 0, 0, 0)
        );
        for (handle, _) in std::mem::take(&mut self.open) {
            self.tower.files.close(handle).unwrap();
        }
        for name in self.names.into_keys() {
            self.tower.files.remove(name).unwrap();
        }
        assert_eq!(self.tower.figures(), Default::default());
        if self.faults == Faults::None {
            assert_eq!((self.tower.base_free(), self.tower.base_files()), (capacity_pages, 1));
        }
    }
}

/// Writes bytes to a file of the model.
fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    bytes.resize(bytes.len().max(offset + data.len()), 0);
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

fn run(seed: u64, capacity_pages: u64, faults: Faults, steps: usize) {
    run_without(Features::empty(), seed, capacity_pages, faults, steps);
}

fn run_without(lacking: Features, seed: u64, capacity_pages: u64, faults: Faults, steps: usize) {
    run_on(lacking, seed, capacity_pages, faults, None, steps);
}

/// On a base with little memory, which evicts and loads pages all the time.
fn run_spilled(lacking: Features, seed: u64, capacity_pages: u64, faults: Faults, steps: usize) {
    let budget = 2 + seed % 11;
    let device = Device::new(capacity_pages - budget);
    run_on(lacking, seed, capacity_pages, faults, Some((budget, device.clone())), steps);
    assert!(
        device.reads() > 100,
        "seed {seed}: {} pages came back from the device",
        device.reads()
    );
}

fn run_on(
    lacking: Features,
    seed: u64,
    capacity_pages: u64,
    faults: Faults,
    spill: Spill,
    steps: usize,
) {
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the seed was {}", self.0);
            }
        }
    }
    let _tell = Tell(seed);
    let mut world = World::new(lacking, seed, capacity_pages, faults, spill);
    for _ in 0..steps {
        world.step();
        world.check();
    }
    world.finish(capacity_pages);
}

#[test]
fn c1_to_c11_random_requests_with_space() {
    (1..=16).for_each(|seed| run(seed, 4000, Faults::None, 250));
}

#[test]
fn q1_random_requests_with_little_space() {
    (1..=16).for_each(|seed| run(seed, 45, Faults::None, 250));
}

#[test]
fn c11_random_requests_on_a_failing_base() {
    (1..=16).for_each(|seed| run(seed, 4000, Faults::OneIn(12), 250));
}

#[test]
fn q1_random_requests_on_a_failing_full_base() {
    (1..=16).for_each(|seed| run(seed, 60, Faults::OneIn(20), 250));
}

#[test]
fn c3_random_requests_on_bases_with_fewer_features() {
    let each = [
        Features::OPEN_UNLINKED,
        Features::CLONE,
        Features::SPARSE,
        Features::READ_RANGES,
        Features::COUNT_SPACE,
    ];
    for lacking in each.into_iter().chain([Features::all()]) {
        (1..=6).for_each(|seed| run_without(lacking, seed, 4000, Faults::None, 250));
        (7..=10).for_each(|seed| run_without(lacking, seed, 60, Faults::None, 250));
    }
}

#[test]
fn q3_random_requests_on_a_base_with_little_memory() {
    (1..=8).for_each(|seed| run_spilled(Features::empty(), seed, 4000, Faults::None, 250));
    (1..=8).for_each(|seed| run_spilled(Features::empty(), seed, 45, Faults::None, 250));
    (1..=4).for_each(|seed| run_spilled(Features::CLONE, seed, 4000, Faults::None, 250));
}

#[test]
fn f5_random_requests_on_a_base_with_a_failing_device() {
    (1..=8).for_each(|seed| {
        run_spilled(Features::empty(), seed, 4000, Faults::OneTransferIn(12), 250)
    });
    (1..=8)
        .for_each(|seed| run_spilled(Features::empty(), seed, 60, Faults::OneTransferIn(5), 250));
    (1..=4)
        .for_each(|seed| run_spilled(Features::CLONE, seed, 4000, Faults::OneTransferIn(12), 250));
    (1..=4).for_each(|seed| run_spilled(Features::empty(), seed, 4000, Faults::OneIn(12), 250));
}
