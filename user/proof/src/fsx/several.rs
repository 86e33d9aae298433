//! Several processes on one file, all of which map it.
//!
//! A run is a sequence of rounds, each of three parts with a barrier after each. (1) One process,
//! another one each time, changes the file as a whole: by a new length, a hole, a write, a copy,
//! stores to its mapping. (2) All processes change the file at once, each in bytes of its own: the
//! file is divided into stripes, which take turns, so that pages belong to several processes. They
//! store, or they write(2). (3) All check what they choose. So what the file must hold is known at
//! each barrier. It is kept in memory that the processes share, apart from the file.

use crate::exercise::{Outcome, Settings, same_bytes};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use proof::kit::Buffer;
use proof::os;
use proof::random::Random;
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::abi;

/// Stripes that a process changes in a round, at most.
const CHANGES: u64 = 12;
/// Bytes of a stripe, at most, if they are not aligned.
const STRIPE_BYTES: u64 = 3000;

/// What the processes share: the barrier, and what the file must hold.
pub struct Common {
    words: Buffer,
    bytes: Buffer,
}

/// The words in front.
const ARRIVED: usize = 0;
const EPOCH: usize = 4;
const FAILED: usize = 8;
const LENGTH: usize = 16;

impl Common {
    /// For a file of at most so many bytes.
    pub fn new(max_bytes: usize) -> Outcome<Self> {
        Ok(Self { words: Buffer::shared(PAGE_BYTES)?, bytes: Buffer::shared(max_bytes)? })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: an aligned word of a mapping that lives as long as `self`.
        unsafe { AtomicU32::from_ptr(self.words.at(at) as *mut u32) }
    }

    fn length_word(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.words.at(LENGTH) as *mut u64) }
    }

    /// The length that the file must have.
    fn len(&self) -> usize {
        self.length_word().load(Ordering::SeqCst) as usize
    }

    /// Sets the length. What is added is zeros.
    fn resize(&self, length: usize) {
        let before = self.len();
        if length > before {
            self.put(before, &vec![0; length - before]);
        }
        self.length_word().store(length as u64, Ordering::SeqCst);
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        store(&self.bytes, at, bytes);
    }

    fn get(&self, at: usize, length: usize) -> Vec<u8> {
        load(&self.bytes, at, length)
    }

    /// Reports that a process failed: no other waits for it any more.
    pub fn fail(&self) {
        self.word(FAILED).store(1, Ordering::SeqCst);
        self.word(EPOCH).fetch_add(1, Ordering::SeqCst);
        let given = [self.words.at(EPOCH), abi::FUTEX_WAKE as usize, i32::MAX as usize];
        let _ = os::raw(abi::__NR_futex, &given);
    }

    fn has_failed(&self) -> bool {
        self.word(FAILED).load(Ordering::SeqCst) != 0
    }

    /// Waits until all processes are here, or one has failed.
    fn meet(&self, processes: u32) {
        let epoch = self.word(EPOCH).load(Ordering::SeqCst);
        if self.word(ARRIVED).fetch_add(1, Ordering::SeqCst) + 1 == processes {
            self.word(ARRIVED).store(0, Ordering::SeqCst);
            self.word(EPOCH).fetch_add(1, Ordering::SeqCst);
            let given = [self.words.at(EPOCH), abi::FUTEX_WAKE as usize, i32::MAX as usize];
            let _ = os::raw(abi::__NR_futex, &given);
            return;
        }
        while self.word(EPOCH).load(Ordering::SeqCst) == epoch && !self.has_failed() {
            os::futex_wait(self.words.at(EPOCH), epoch);
        }
    }
}

/// Stores bytes to a mapping.
fn store(map: &Buffer, at: usize, bytes: &[u8]) {
    // SAFETY: inside the mapping; no reference to it exists longer than such a call, and no other
    // process changes these bytes meanwhile.
    let target = unsafe { core::slice::from_raw_parts_mut(map.at(at) as *mut u8, bytes.len()) };
    target.copy_from_slice(bytes);
}

/// Loads bytes from a mapping.
fn load(map: &Buffer, at: usize, length: usize) -> Vec<u8> {
    // SAFETY: as above.
    unsafe { core::slice::from_raw_parts(map.at(at) as *const u8, length) }.to_vec()
}

/// One of the processes.
pub struct Member<'a> {
    common: &'a Common,
    settings: Settings,
    number: u32,
    processes: u32,
    path: &'a [u8],
    fd: Fd,
    map: Buffer,
    /// What only this process decides.
    random: Random,
}

fn named<T>(what: &str, result: Result<T>) -> Outcome<T> {
    result.map_err(|error| format!("{what}: {error:?}"))
}

impl<'a> Member<'a> {
    /// Process `number` of so many; the file exists.
    pub fn new(
        common: &'a Common,
        path: &'a [u8],
        settings: Settings,
        number: u32,
        processes: u32,
    ) -> Outcome<Self> {
        let fd = named("open", sys::open(path, abi::O_RDWR, 0))?;
        let map = Buffer::of_file(fd, settings.max_bytes)?;
        let random = Random::new(settings.seed + 1 + u64::from(number));
        Ok(Self { common, settings, number, processes, path, fd, map, random })
    }

    /// Runs all rounds.
    pub fn run(mut self) -> Outcome {
        let number = self.number;
        for round in 0..self.settings.operations {
            let failed = |failure| format!("process {number}, round {round}: {failure}");
            // The width of stripes is the same in all processes.
            let stripe_bytes = match self.settings.unit {
                1 => 1 + Random::new(self.settings.seed ^ round << 20).below(STRIPE_BYTES) as usize,
                unit => unit,
            };
            if round % u64::from(self.processes) == u64::from(number) {
                self.change_file().map_err(failed)?;
            }
            self.common.meet(self.processes);
            self.change_stripes(stripe_bytes).map_err(failed)?;
            self.common.meet(self.processes);
            self.check().map_err(failed)?;
            self.common.meet(self.processes);
            if self.common.has_failed() {
                return Ok(());
            }
        }
        named("close", sys::close(self.fd))
    }

    /// A random multiple of the unit, at most `end`.
    fn number(&mut self, end: usize) -> usize {
        let unit = self.settings.unit;
        self.random.below((end / unit) as u64 + 1) as usize * unit
    }

    /// A range of the file as it is, often short.
    fn range(&mut self) -> (usize, usize) {
        let length = self.common.len();
        let offset = self.number(length);
        let most = if self.random.below(2) == 0 { length } else { length.min(3 * PAGE_BYTES) };
        (offset, self.number(most).min(length - offset))
    }

    fn random_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        proof::random::fill(self.random.draw(), 0, &mut bytes);
        bytes
    }

    /// Changes the file as a whole, while the others wait.
    fn change_file(&mut self) -> Outcome {
        match self.random.below(9) {
            0 | 1 => {
                let length = self.number(self.settings.max_bytes);
                named("ftruncate", sys::ftruncate(self.fd, ByteCount(length as u64)))?;
                self.common.resize(length);
                Ok(())
            }
            2 => {
                let (offset, length) = self.range();
                let length = length.max(self.settings.unit);
                match os::punch_hole(self.fd, offset as u64, length as u64) {
                    Ok(()) => {
                        let end = (offset + length).min(self.common.len());
                        self.common.put(offset, &vec![0; end.saturating_sub(offset)]);
                        Ok(())
                    }
                    // Not every file system of a host supports that.
                    Err(Errno::EOPNOTSUPP) => Ok(()),
                    Err(error) => Err(format!("fallocate: {error:?}")),
                }
            }
            3 | 4 => self.write_anywhere(),
            5 => self.copy(),
            6 => self.truncate_by_open(),
            7 => {
                let (offset, length) = self.range();
                let bytes = self.random_bytes(length);
                store(&self.map, offset, &bytes);
                self.common.put(offset, &bytes);
                Ok(())
            }
            _ => {
                named("fsync", sys::fsync(self.fd))?;
                named("close", sys::close(self.fd))?;
                self.fd = named("open", sys::open(self.path, abi::O_RDWR, 0))?;
                self.map = Buffer::of_file(self.fd, self.settings.max_bytes)?;
                Ok(())
            }
        }
    }

    /// Writes to any place, behind the end too.
    fn write_anywhere(&mut self) -> Outcome {
        let most = self.settings.max_bytes;
        let offset = self.number(most);
        let length = self.number(most / 2).min(most - offset);
        let bytes = self.random_bytes(length);
        let count = named("pwrite", sys::pwrite(self.fd, &bytes, FileOffset(offset as u64)))?;
        if count != length {
            return Err(format!("pwrite wrote {count} bytes of {length}"));
        }
        if length > 0 {
            self.common.resize(self.common.len().max(offset + length));
            self.common.put(offset, &bytes);
        }
        Ok(())
    }

    /// Copies a range of the file to another place in it, untouched in between.
    fn copy(&mut self) -> Outcome {
        let ((from, length), (to, most)) = (self.range(), self.range());
        let length = length.min(most);
        let buffer = Buffer::new(length.max(1))?;
        let read = os::pread(self.fd, buffer.at(0), length, from as u64);
        let written = os::pwrite(self.fd, buffer.at(0), length, to as u64);
        if (read, written) != (Ok(length), Ok(length)) {
            return Err(format!("copy of {length} bytes: {read:?}, {written:?}"));
        }
        let bytes = self.common.get(from, length);
        self.common.put(to, &bytes);
        Ok(())
    }

    fn truncate_by_open(&mut self) -> Outcome {
        let flags = abi::O_RDWR | abi::O_TRUNC;
        let fd = named("open with O_TRUNC", sys::open(self.path, flags, 0))?;
        self.common.resize(0);
        let bytes = self.random_bytes(self.settings.max_bytes / 2);
        let count = named("write", sys::write(fd, &bytes))?;
        self.common.resize(count);
        self.common.put(0, &bytes[..count]);
        named("close", sys::close(fd))
    }

    /// Changes some of the stripes that belong to this process, while the others change theirs.
    fn change_stripes(&mut self, stripe_bytes: usize) -> Outcome {
        let length = self.common.len();
        let turn = stripe_bytes * self.processes as usize;
        let first = self.number as usize * stripe_bytes;
        if first >= length {
            return Ok(());
        }
        for _ in 0..self.random.below(CHANGES) {
            let turns = (length - first).div_ceil(turn) as u64;
            let start = first + self.random.below(turns) as usize * turn;
            let bytes = self.random_bytes(stripe_bytes.min(length - start));
            match self.random.below(8) {
                0..4 => store(&self.map, start, &bytes),
                4..7 => {
                    let offset = FileOffset(start as u64);
                    let count = named("pwrite", sys::pwrite(self.fd, &bytes, offset))?;
                    if count != bytes.len() {
                        return Err(format!("pwrite wrote {count} bytes of {}", bytes.len()));
                    }
                }
                _ => {
                    store(&self.map, start, &bytes);
                    named("msync", self.map.sync())?;
                }
            }
            self.common.put(start, &bytes);
            // What is this process's own does not change meanwhile.
            self.expect("the mapping, at once", start, &load(&self.map, start, bytes.len()))?;
        }
        Ok(())
    }

    /// Checks a range of the file in one of the ways, or its size.
    fn check(&mut self) -> Outcome {
        let (offset, length) = self.range();
        match self.random.below(5) {
            0 | 1 => self.expect("the mapping", offset, &load(&self.map, offset, length)),
            2 => {
                let mut found = vec![0; length];
                let count = sys::pread(self.fd, &mut found, FileOffset(offset as u64));
                if count != Ok(length) {
                    return Err(format!("pread: {count:?}, not {length}"));
                }
                self.expect("the file", offset, &found)
            }
            3 => {
                let (protection, flags) = (abi::PROT_READ, abi::MAP_PRIVATE);
                let map = Buffer::map(self.fd, 0, self.settings.max_bytes, protection, flags);
                let map = named("a private mapping", map)?;
                self.expect("a private mapping", offset, &load(&map, offset, length))
            }
            _ => {
                let size = named("fstat", sys::fstat(self.fd))?.st_size as usize;
                let expected = self.common.len();
                if size == expected { Ok(()) } else { Err(format!("{size} bytes, not {expected}")) }
            }
        }
    }

    fn expect(&self, what: &str, offset: usize, found: &[u8]) -> Outcome {
        let expected = self.common.get(offset, found.len());
        same_bytes(|| String::from(what), offset, found, &expected)
    }
}
