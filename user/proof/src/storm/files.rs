//! Large files: written, read lazily and kept, overwritten, stored to through mappings, resized.

use crate::worker::Worker;
use proof::kit::Outcome;
use proof::os;
use proof::random::Random;
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

/// Pages of the largest file.
const FILE_PAGES: u64 = 8192;
/// Pages of one request.
const REQUEST_PAGES: u64 = 128;
/// Buffers that are kept.
const BUFFERS: usize = 12;
/// The version of a page after a request that failed.
const UNKNOWN: u64 = u64::MAX;

/// A file. The first word of each page is made of its version and position; 0 is never written.
pub struct Files {
    fd: Fd,
    versions: Vec<u64>,
    next: u64,
    kept: Vec<(Pages, Vec<(u64, usize)>)>,
}

fn word(version: u64, page: usize) -> u64 {
    if version == 0 { 0 } else { version << 32 | page as u64 }
}

fn offset(page: usize) -> FileOffset {
    FileOffset((page * PAGE_BYTES) as u64)
}

impl Files {
    pub fn new(random: &mut Random) -> Result<Self> {
        let flags = abi::O_RDWR | abi::O_CREAT | abi::O_TRUNC;
        let fd = sys::open(b"file", flags, 0o600)?;
        if random.below(4) == 0 {
            sys::unlink(b"file")?;
        }
        Ok(Self { fd, versions: Vec::new(), next: 1, kept: Vec::new() })
    }

    /// Where a request begins, and its pages.
    fn range(random: &mut Random, pages: u64) -> (usize, usize) {
        let first = random.below(pages + 1).min(FILE_PAGES - REQUEST_PAGES);
        (first as usize, 1 + random.below(REQUEST_PAGES) as usize)
    }

    fn write(&mut self, random: &mut Random) {
        let (first, count) = Self::range(random, self.versions.len() as u64);
        let Ok(mut pages) = Pages::new(count * PAGE_BYTES) else { return };
        let version = self.next;
        self.next += 1;
        for (page, bytes) in (first..).zip(pages.chunks_mut(PAGE_BYTES)) {
            bytes[..8].copy_from_slice(&word(version, page).to_le_bytes());
        }
        let whole = sys::pwrite(self.fd, &pages, offset(first)) == Ok(pages.len());
        self.set(first, count, if whole { version } else { UNKNOWN });
    }

    fn set(&mut self, first: usize, count: usize, version: u64) {
        let length = self.versions.len().max(first + count);
        let fill = if version == UNKNOWN { UNKNOWN } else { 0 };
        self.versions.resize(length, fill);
        self.versions[first..first + count].fill(version);
    }

    /// Reads lazily, compares a part, and keeps the buffer.
    fn read(&mut self, random: &mut Random) -> Outcome {
        let (first, count) = Self::range(random, self.versions.len() as u64);
        let Ok(mut pages) = Pages::new(count * PAGE_BYTES) else { return Ok(()) };
        let Ok(read) = sys::pread(self.fd, &mut pages, offset(first)) else { return Ok(()) };
        let expected = (first..first + read / PAGE_BYTES)
            .map(|page| (self.versions.get(page).copied().unwrap_or(UNKNOWN), page))
            .collect();
        if self.kept.len() == BUFFERS {
            let oldest = random.below(BUFFERS as u64) as usize;
            self.kept.swap_remove(oldest);
        }
        self.kept.push((pages, expected));
        Ok(())
    }

    /// Compares one page in four of a kept buffer.
    fn compare(&self, random: &mut Random) -> Outcome {
        if self.kept.is_empty() {
            return Ok(());
        }
        let (pages, expected) = &self.kept[random.below(self.kept.len() as u64) as usize];
        let known = pages.chunks(PAGE_BYTES).zip(expected);
        for (bytes, (version, page)) in known.filter(|(_, (version, _))| *version != UNKNOWN) {
            if random.below(4) == 0 {
                let found = u64::from_le_bytes(core::array::from_fn(|at| bytes[at]));
                check_eq!(found, word(*version, *page), "page {page} of version {version}");
            }
        }
        Ok(())
    }

    fn resize(&mut self, random: &mut Random) {
        let pages = random.below(FILE_PAGES) as usize;
        if sys::ftruncate(self.fd, ByteCount((pages * PAGE_BYTES) as u64)).is_ok() {
            self.versions.resize(pages, 0);
        }
    }

    /// Stores through a shared mapping. Without space that ends the process.
    fn store(&mut self, random: &mut Random) {
        let (first, count) = Self::range(random, self.versions.len() as u64);
        let count = count.min(self.versions.len().saturating_sub(first));
        let at = first * PAGE_BYTES;
        let protection = os::READ_WRITE as usize;
        let arguments =
            [0, count * PAGE_BYTES, protection, abi::MAP_SHARED as usize, self.fd.argument(), at];
        let Ok(start) = os::raw(abi::__NR_mmap, &arguments) else { return };
        let version = self.next;
        self.next += 1;
        for page in 0..count {
            let to = (start + page * PAGE_BYTES) as *mut u64;
            // SAFETY: inside the new mapping, into which no reference exists.
            unsafe { to.write_volatile(word(version, first + page)) }
        }
        let _ = os::munmap(start, count * PAGE_BYTES);
        let written = os::sync(self.fd).is_ok();
        self.set(first, count, if written { version } else { UNKNOWN });
    }
}

impl Worker for Files {
    fn step(&mut self, random: &mut Random) -> Outcome {
        match random.below(16) {
            0..6 => self.write(random),
            6..10 => self.read(random)?,
            10 => self.store(random),
            11 => self.resize(random),
            12 => {
                let _ = os::sync(self.fd);
            }
            13 => {
                let (first, count) = Self::range(random, self.versions.len() as u64);
                let count = count.min(self.versions.len().saturating_sub(first));
                let [at, length] = [first, count].map(|pages| (pages * PAGE_BYTES) as u64);
                let done = os::punch_hole(self.fd, at, length).is_ok();
                self.set(first, count, if done { 0 } else { UNKNOWN });
            }
            _ => {}
        }
        self.compare(random)
    }
}
