//! Steps of an actor on files that it has mapped shared. What programs see there is known by
//! [`Stores`](crate::stores::Stores) at any time, so every load is compared.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::OpenFlags;
use kernel::file::host::HostProcess;
use kernel::file::{FileSystem, OpenFile, OpenHow, Status, UserBuffers, Walk, mapped};
use kernel::mem::{Account, FaultError, PageRange, Placement, Prot, UserAddr, UserSlice, mmu};
use kernel::mount::MountedTree;

use crate::actor::Actor;
use crate::model::{Line, Served};
use crate::script::{NAMES, Op, PAGE, Piece};
use crate::{sched, shortage, wire, world};

/// Bytes of mapped files that were compared, and that were stored, so far.
pub static LOADS: AtomicU64 = AtomicU64::new(0);
pub static STORES: AtomicU64 = AtomicU64::new(0);

/// Mappings of files that an actor has at once.
pub const SLOTS: usize = 2;

const FIRST: u64 = 0x8000_0000;
/// Distance of the mappings of an actor.
const STRIDE: u64 = 0x10_0000;

/// A mapping of a file.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    address: UserAddr,
    line: Line,
    /// The oracle's number of the file.
    file: usize,
    /// The first page of the file that is mapped.
    page: usize,
    pages: usize,
    writable: bool,
}

impl Slot {
    /// The bytes of the file that a piece of the mapping is.
    fn bytes(&self, Piece(start, length): Piece) -> Range<usize> {
        let from = self.page * PAGE;
        let most = self.pages * PAGE;
        from + start.min(most)..from + (start + length).min(most)
    }

    /// Where a byte of the file is in memory.
    fn address(&self, byte: usize) -> UserAddr {
        UserAddr(self.address.0 + (byte - self.page * PAGE) as u64)
    }

    /// A buffer of some bytes of the file.
    fn slice(&self, bytes: &Range<usize>) -> UserSlice {
        let length = ByteCount::of_len(bytes.len());
        UserSlice::new(self.address(bytes.start), length).expect("an address")
    }

    fn range(&self) -> PageRange {
        PageRange::new(self.address.page(), PageCount::of_len(self.pages))
    }

    /// Whether a byte lies in a page of a file of `size` bytes.
    fn is_within(byte: usize, size: usize) -> bool {
        byte < size.next_multiple_of(PAGE)
    }
}

/// What an access found.
struct Access {
    byte: usize,
    stored: Option<u8>,
    done: Result<u8, FaultError>,
    /// Size of the file before the access.
    size: usize,
    /// Failures that excuse an error.
    is_excused: bool,
    /// The server has refused space for a store.
    is_refused: bool,
}

impl Actor {
    /// Carries out a step on mapped files.
    pub fn carry_out_on_mappings(&mut self, op: Op) {
        match op {
            Op::MapFile { slot, name, page, pages, writable } => {
                self.map_file(slot, NAMES[name], (page, pages), writable)
            }
            Op::UnmapFile { memory, slot } => self.unmap_file(memory, slot),
            Op::LoadFile { memory, slot, at, stride } => {
                self.access_file(memory, slot, at, stride, None)
            }
            Op::StoreFile { memory, slot, at, stride, value } => {
                self.access_file(memory, slot, at, stride, Some(value))
            }
            Op::SyncMapping { memory, slot } => self.synchronise(memory, slot),
            Op::ReadToMapping { memory, slot, at, file, offset } => {
                self.read_to_mapping(memory, slot, at, (file, offset))
            }
            Op::WriteFromMapping { memory, slot, at, file, offset } => {
                self.write_from_mapping(memory, slot, at, (file, offset))
            }
            op => self.carry_out_on_files(op),
        }
    }

    fn slot(&mut self, memory: usize, slot: usize) -> Option<Slot> {
        self.memory(memory).slots[slot % SLOTS]
    }

    /// Maps a file over what the slot had.
    fn map_file(&mut self, slot: usize, name: &str, (page, pages): (usize, usize), writable: bool) {
        let Some((line, mount)) = world::connection(self.process.client) else { return };
        self.unmap_file(0, slot);
        if self.slot(0, slot).is_some() {
            return;
        }
        wire::maps(self.step);
        let (mut flags, mut status) = (OpenFlags::READ, Status::READ);
        flags.set(OpenFlags::WRITE, writable);
        status.set(Status::WRITE, writable);
        let object = match MountedTree(mount).open(name.as_bytes(), OpenHow { flags, mode: 0 }) {
            Ok(Walk::Done(object)) => object,
            Ok(Walk::Link { .. }) => panic!("actor {}: there are no links", self.index),
            Err(Errno::ENOENT) => return,
            Err(error) => return self.check::<()>(Err(error), Some(line)),
        };
        let id = object.identity().expect("a regular file").inode;
        let (path, account) = (name.as_bytes().to_vec(), Account::new());
        let file = shortage::without(|| OpenFile::new(object, status, path, None, &account));
        let file = file.expect("memory for an open file");
        let space = self.memory(0).space.clone();
        let bytes = ByteCount::of_len(pages * PAGE);
        let backing = match file.map(&space, FileOffset((page * PAGE) as u64), bytes) {
            Ok(backing) => backing,
            Err(Errno::ENODEV) if !wire::can_map() => return,
            Err(error) => return self.check::<()>(Err(error), Some(line)),
        };
        assert!(wire::can_map(), "M6: actor {}: others may change what is mapped", self.index);
        let number = (self.index * SLOTS + slot % SLOTS) as u64;
        let address = UserAddr(FIRST + number * STRIDE);
        let mut prot = Prot::READ;
        prot.set(Prot::WRITE, writable);
        let done = space.map(Placement::Fixed(address), bytes, prot, backing, "");
        if self.was_refused(&done) {
            return;
        }
        done.expect("space for a mapping");
        let file = wire::model(|model| model.file_by_id(id)).expect("a file that was opened");
        let mapping = Slot { address, line, file, page, pages, writable };
        self.memory(0).slots[slot % SLOTS] = Some(mapping);
    }

    fn unmap_file(&mut self, memory: usize, slot: usize) {
        let Some(mapping) = self.slot(memory, slot) else { return };
        let space = self.memory(memory).space.clone();
        let done = space.unmap(mapping.address, ByteCount::of_len(mapping.pages * PAGE));
        if !self.was_refused(&done) {
            done.expect("A4: unmapping never fails");
            self.memory(memory).slots[slot % SLOTS] = None;
        }
    }

    /// Unmaps all files in the end: what goes outside of an actor cannot wait for a server.
    pub fn unmap_files(&mut self) {
        for memory in 0..self.memories.len() {
            (0..SLOTS).for_each(|slot| self.unmap_file(memory, slot));
        }
    }

    /// Loads bytes, or stores some.
    fn access_file(
        &mut self,
        memory: usize,
        slot: usize,
        at: Piece,
        stride: usize,
        value: Option<u8>,
    ) {
        let Some(mapping) = self.slot(memory, slot) else { return };
        let space = self.memory(memory).space.clone();
        for byte in mapping.bytes(at).step_by(stride) {
            let (size, _) = wire::model(|model| model.mapped(mapping.file, byte));
            let (refused, failures) = (wire::refused(), world::failures());
            let address = mapping.address(byte);
            let stored = value.map(|value| value.wrapping_add(byte as u8));
            let done = match stored {
                Some(value) => mmu::store(&space, address, value).map(|()| value),
                None => mmu::load(&space, address),
            };
            let is_excused = failures != wire::failures() || !wire::is_up(mapping.line);
            let is_refused = stored.is_some() && refused != wire::refused();
            let access = Access { byte, stored, done, size, is_excused, is_refused };
            self.check_access(&mapping, &access);
            if self.is_killed() {
                return;
            }
            sched::yield_now();
        }
    }

    fn check_access(&self, mapping: &Slot, access: &Access) {
        let Access { byte, stored, done, size: before, is_excused, is_refused } = *access;
        let (me, file) = (self.index, mapping.file);
        let (size, known) = wire::model(|model| model.mapped(file, byte));
        let is_up = wire::is_up(mapping.line);
        let is_within = Slot::is_within(byte, size) || Slot::is_within(byte, before);
        match (done, stored) {
            (Ok(_), _) if !is_up => {}
            (Ok(_), _) if !is_within => {
                panic!("M3: actor {me}: byte {byte} of file {file} of {size} bytes is there")
            }
            (Ok(value), Some(_)) => {
                assert!(mapping.writable, "actor {me}: a store to file {file} was allowed");
                // Also by a process that was killed meanwhile: others see it. Bytes of the last
                // page behind the end are none of the file.
                if byte < size {
                    let step = world::last_step();
                    wire::model(|model| model.stores.store(file, byte, value, step));
                    STORES.fetch_add(1, Ordering::Relaxed);
                }
            }
            (Ok(value), None) => {
                let is_known = byte < size.min(before);
                if let Some(expected) = known.filter(|_| is_known) {
                    LOADS.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(
                        value,
                        expected,
                        "M1/M4: actor {me}: byte {byte} (page {}) of file {file}",
                        byte / PAGE
                    );
                }
            }
            (Err(_), _) if self.is_killed() => {}
            (Err(FaultError::Segv), _) => assert!(
                stored.is_some() && !mapping.writable,
                "actor {me}: SIGSEGV at byte {byte} of file {file}"
            ),
            (Err(FaultError::Denied), _) => {
                let is_whole = Slot::is_within(byte, size) && Slot::is_within(byte, before);
                assert!(
                    is_refused || !is_whole || is_excused,
                    "M3: actor {me}: byte {byte} of file {file} of {size} bytes is denied"
                );
            }
            (Err(FaultError::Bus), _) => assert!(
                is_excused,
                "F5: actor {me}: SIGBUS at byte {byte} of file {file} of {size} bytes"
            ),
            (Err(FaultError::OutOfMemory), _) => {
                assert!(self.is_short(), "Q4: actor {me}: no memory for byte {byte}")
            }
            (Err(error), _) => panic!("actor {me}: {error:?} at byte {byte}"),
        }
    }

    /// msync: afterwards the server has all that was stored before.
    fn synchronise(&mut self, memory: usize, slot: usize) {
        let Some(mapping) = self.slot(memory, slot) else { return };
        let space = self.memory(memory).space.clone();
        let done = mapped::synchronise(&space, mapping.range());
        let bytes = mapping.bytes(Piece(0, mapping.pages * PAGE));
        self.check_synchronised(done, mapping.file, bytes, mapping.line);
    }

    /// The result of msync or fsync. What failed before may be reported now.
    pub fn check_synchronised(
        &self,
        done: Result<(), Errno>,
        file: usize,
        bytes: Range<usize>,
        line: Line,
    ) {
        let me = self.index;
        if self.is_killed() || !wire::is_up(line) {
            return;
        }
        match done {
            Ok(()) => {
                let left = wire::model(|model| model.unwritten(file, bytes, self.step));
                assert_eq!(left, None, "M2: actor {me}: a byte of file {file} is not written");
            }
            Err(error) => assert!(
                wire::failures() > 0 || self.is_short(),
                "actor {me}: write-back of file {file} failed: {}",
                error.text()
            ),
        }
    }

    /// Reads from a file to a mapped one.
    fn read_to_mapping(
        &mut self,
        memory: usize,
        slot: usize,
        at: Piece,
        (file, offset): (usize, u64),
    ) {
        let (Some(mapping), Some(file)) = (self.slot(memory, slot), self.file(file)) else {
            return;
        };
        let bytes = mapping.bytes(at);
        if bytes.is_empty() || !mapping.writable {
            return;
        }
        let (step, target) = (self.step, mapping.file);
        let program = HostProcess::new(self.memory(memory).space.clone());
        let mut to = UserBuffers::one(mapping.slice(&bytes));
        wire::model(|model| model.stores.begin(step, target, bytes.clone()));
        let read = file.file.read_at(&program, &mut to, FileOffset(offset));
        let saw: Vec<u8> = wire::served(step)
            .iter()
            .filter_map(Served::saw)
            .flat_map(|(_, saw)| saw)
            .copied()
            .collect();
        let is_killed = self.is_killed();
        let at = world::last_step();
        wire::model(|model| {
            let is_alone = model.stores.end(step);
            let (size, _) = model.mapped(target, bytes.start);
            let within = bytes.start..bytes.end.min(size).max(bytes.start);
            let count = match read {
                Ok(count) if is_alone && !is_killed => count.to_usize(),
                _ => return model.stores.unknown(target, within, at),
            };
            assert!(count <= saw.len(), "R2: {count} bytes of {}", saw.len());
            for (byte, &value) in within.clone().zip(&saw[..count]) {
                model.stores.store(target, byte, value, at);
            }
            // Where a copy ended early, some bytes more may have arrived.
            if count < bytes.len().min(saw.len()) {
                let rest = (within.start + count).min(within.end)..within.end;
                model.stores.unknown(target, rest, at);
            }
        });
    }

    /// Writes to a file from a mapped one.
    fn write_from_mapping(
        &mut self,
        memory: usize,
        slot: usize,
        at: Piece,
        (file, offset): (usize, u64),
    ) {
        let (Some(mapping), Some(file)) = (self.slot(memory, slot), self.file(file)) else {
            return;
        };
        let bytes = mapping.bytes(at);
        if bytes.is_empty() || file.appends {
            return;
        }
        let (step, source) = (self.step, mapping.file);
        let program = HostProcess::new(self.memory(memory).space.clone());
        let mut from = UserBuffers::one(mapping.slice(&bytes));
        let expected: Vec<Option<u8>> = wire::model(|model| {
            let expected = bytes.clone().map(|byte| model.mapped(source, byte).1).collect();
            model.stores.begin(step, source, bytes.clone());
            expected
        });
        // An error moves no bytes, or fewer.
        let _ = file.file.write_at(&program, &mut from, FileOffset(offset));
        let wrote: Vec<u8> = wire::served(step)
            .iter()
            .filter_map(Served::wrote)
            .flat_map(|(_, wrote)| wrote)
            .copied()
            .collect();
        let is_alone = wire::model(|model| model.stores.end(step));
        if !is_alone || self.is_killed() || !wire::is_up(mapping.line) {
            return;
        }
        let differs = |(expected, wrote): (&Option<u8>, &u8)| {
            expected.is_some_and(|expected| expected != *wrote)
        };
        let differs = expected.iter().zip(&wrote).position(differs);
        assert_eq!(differs, None, "M4: actor {}: a write of file {source}", self.index);
    }
}
