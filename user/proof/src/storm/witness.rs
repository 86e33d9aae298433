//! The witness: keeps lazily read buffers of several versions of a file, and private memory, while
//! others use up what they can. Each page must hold the version that it was read from.

use crate::numbers::{Number, Numbers};
use proof::kit::{Outcome, fill};
use proof::random::Random;
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

/// Pages of the file and of each buffer.
const FILE_PAGES: usize = 32;
const FILE_BYTES: usize = FILE_PAGES * PAGE_BYTES;
const BUFFERS: usize = 4;
/// Pages of private memory.
const PRIVATE_PAGES: usize = 8;
/// Pages of a buffer that are compared at once.
const COMPARED_PAGES: usize = 8;
/// Pages that are written in one call.
const WRITTEN_PAGES: usize = 8;
/// The version of private memory, which the file never has.
const PRIVATE: u64 = 1 << 40;
/// How often a request that a shortage refuses is repeated, with other processes' turns in between.
const PATIENCE: usize = 10_000;

/// The version of each page.
type Versions = [u64; FILE_PAGES];

pub struct Witness<'a> {
    numbers: &'a Numbers,
    random: Random,
    file: Fd,
    /// What the file holds.
    current: Versions,
    next_version: u64,
    buffers: Vec<(Pages, Option<Versions>)>,
    private: Pages,
    source: Pages,
}

impl<'a> Witness<'a> {
    /// Makes the file. All memory is allocated here.
    pub fn new(seed: u64, numbers: &'a Numbers) -> Outcome<Self> {
        let file = ok!(sys::open(b"witness", abi::O_RDWR | abi::O_CREAT | abi::O_EXCL, 0o600));
        let mut buffers = Vec::with_capacity(BUFFERS);
        for _ in 0..BUFFERS {
            buffers.push((ok!(Pages::new(FILE_BYTES)), None));
        }
        let mut witness = Self {
            numbers,
            random: Random::new(seed),
            file,
            current: [0; FILE_PAGES],
            next_version: 1,
            buffers,
            private: ok!(Pages::new(PRIVATE_PAGES * PAGE_BYTES)),
            source: ok!(Pages::new(WRITTEN_PAGES * PAGE_BYTES)),
        };
        for page in 0..PRIVATE_PAGES {
            fill_page(page_of(&mut witness.private, page), PRIVATE, page);
        }
        for first in (0..FILE_PAGES).step_by(WRITTEN_PAGES) {
            witness.make(first)?;
        }
        Ok(witness)
    }

    /// Appends the first version of some pages, however often that is refused: only from then on
    /// does each page of the file have a version.
    fn make(&mut self, first: usize) -> Outcome {
        let version = self.prepare(first, WRITTEN_PAGES);
        let mut done = 0;
        for _ in 0..PATIENCE {
            match sys::pwrite(self.file, &self.source[done..], at(first) + ByteCount(done as u64)) {
                Ok(written) => done += written,
                Err(error) => self.refused("making the file", error)?,
            }
            if done == self.source.len() {
                self.current[first..first + WRITTEN_PAGES].fill(version);
                self.numbers.count(Number::Versions);
                return Ok(());
            }
        }
        Err(format!("the witness could not make page {first}"))
    }

    /// Fills the source with a new version of some pages. Returns the version.
    fn prepare(&mut self, first: usize, count: usize) -> u64 {
        let version = self.next_version;
        self.next_version += 1;
        for page in 0..count {
            fill_page(page_of(&mut self.source, page), version, first + page);
        }
        version
    }

    /// Goes on until the storm has ended.
    pub fn run(mut self) -> Outcome {
        while self.numbers.get(Number::Ended) == 0 {
            self.step()?;
            self.numbers.count(Number::WitnessSteps);
        }
        (0..BUFFERS).try_for_each(|buffer| self.compare(buffer, FILE_PAGES))
    }

    fn step(&mut self) -> Outcome {
        let buffer = self.random.below(BUFFERS as u64) as usize;
        match self.random.below(8) {
            0 | 1 => self.read(buffer)?,
            2 => {
                let count = 1 + self.random.below(WRITTEN_PAGES as u64) as usize;
                let first = self.random.below((FILE_PAGES - count + 1) as u64) as usize;
                self.write(first, count)?;
            }
            3 => {
                let page = self.random.below(PRIVATE_PAGES as u64) as usize;
                is_page(page_of(&mut self.private, page), PRIVATE, page)?;
            }
            _ => {}
        }
        self.compare(buffer, COMPARED_PAGES)
    }

    /// Reads the file into a buffer. A shortage, which may make the count short, leaves the buffer
    /// without a known content.
    fn read(&mut self, buffer: usize) -> Outcome {
        let (pages, versions) = &mut self.buffers[buffer];
        *versions = None;
        match sys::pread(self.file, pages, FileOffset::ZERO) {
            Ok(FILE_BYTES) => *versions = Some(self.current),
            Ok(count) => {
                check!(count > 0, "the witness's file is empty");
                self.numbers.count(Number::Refused);
            }
            Err(error) => self.refused("reading", error)?,
        }
        Ok(())
    }

    /// Writes a new version of some pages. Where that fails, each page must be of the old version
    /// or of the new one.
    fn write(&mut self, first: usize, count: usize) -> Outcome {
        let version = self.prepare(first, count);
        let bytes = &self.source[..count * PAGE_BYTES];
        match sys::pwrite(self.file, bytes, at(first)) {
            Ok(written) if written == bytes.len() => {
                self.current[first..first + count].fill(version);
                self.numbers.count(Number::Versions);
                return Ok(());
            }
            Ok(written) => check!(written % PAGE_BYTES == 0, "the witness wrote {written} bytes"),
            Err(error) => self.refused("writing", error)?,
        }
        (first..first + count).try_for_each(|page| self.look(page, version))
    }

    /// Finds out whether a page of the file has the new version.
    fn look(&mut self, page: usize, new: u64) -> Outcome {
        let mut found = [0; PAGE_BYTES];
        for _ in 0..PATIENCE {
            match sys::pread(self.file, &mut found, at(page)) {
                Ok(PAGE_BYTES) => {
                    if is_page(&found, new, page).is_ok() {
                        self.current[page] = new;
                        return Ok(());
                    }
                    return is_page(&found, self.current[page], page);
                }
                Ok(count) => return Err(format!("the witness read {count} bytes of a page")),
                Err(error) => self.refused("reading a page", error)?,
            }
        }
        Err(format!("the witness could not read page {page}"))
    }

    /// Compares random pages of a buffer.
    fn compare(&mut self, buffer: usize, count: usize) -> Outcome {
        let (pages, versions) = &mut self.buffers[buffer];
        let Some(versions) = versions else { return Ok(()) };
        let first = self.random.below((FILE_PAGES - count + 1) as u64) as usize;
        for (page, &version) in versions.iter().enumerate().skip(first).take(count) {
            is_page(page_of(pages, page), version, page)?;
        }
        self.numbers.add(Number::PagesCompared, count as u64);
        Ok(())
    }

    /// Accepts an error that a shortage explains.
    fn refused(&self, what: &str, error: Errno) -> Outcome {
        check!(
            matches!(error, Errno::ENOMEM | Errno::ENOSPC | Errno::EAGAIN | Errno::ENOBUFS),
            "the witness failed at {what}: {error:?}"
        );
        self.numbers.count(Number::Refused);
        ok!(sys::sched_yield());
        Ok(())
    }
}

/// Where a page begins in the file.
fn at(page: usize) -> FileOffset {
    FileOffset((page * PAGE_BYTES) as u64)
}

/// The bytes of one page.
fn page_of(pages: &mut [u8], page: usize) -> &mut [u8] {
    &mut pages[page * PAGE_BYTES..][..PAGE_BYTES]
}

fn fill_page(bytes: &mut [u8], version: u64, page: usize) {
    fill(bytes, version, (page * PAGE_BYTES) as u64);
}

fn is_page(bytes: &[u8], version: u64, page: usize) -> Outcome {
    let mut expected = [0; PAGE_BYTES];
    fill_page(&mut expected, version, page);
    let Some(at) = bytes.iter().zip(&expected).position(|(found, expected)| found != expected)
    else {
        return Ok(());
    };
    Err(format!("byte {at} of page {page} is not of version {version} but {}", bytes[at]))
}
