//! A file, some buffers, and a model of what each of them must hold.
//!
//! Invariant between steps: the file holds `file`, and buffer b holds `buffers[b].copy`. The copies
//! are ordinary memory that no system call touches. If there is a shared mapping of the file
//! ([`mapped`]), it shows the same bytes as the file.

mod mapped;

use crate::journal::{Journal, Step};
use proof::kit::Buffer as Mapping;
use proof::random::Random;
use user::pages::Pages;
use user::prelude::*;
use user::sys::abi;

/// Number of buffers.
const BUFFERS: usize = 4;
/// Bytes of a buffer beyond the maximum length of the file, so that it can be unaligned.
const SLACK_BYTES: usize = 2 * user::pages::PAGE_BYTES;
/// One of this many steps forks.
const FORK_SHARE: u64 = 200;
/// One of this many steps uses the mapping, if there is one.
const MAPPED_SHARE: u64 = 3;

/// A description of the failure.
pub type Outcome<T = ()> = core::result::Result<T, String>;

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seed of all random choices.
    pub seed: u64,
    /// Number of steps.
    pub operations: u64,
    /// Maximum length of the file in bytes.
    pub max_bytes: usize,
    /// Alignment of all positions and lengths in bytes.
    pub unit: usize,
    /// Whether the file is mapped shared besides.
    pub is_mapped: bool,
}

/// Memory that is read into and written from.
struct Buffer {
    pages: Pages,
    /// The expected contents.
    copy: Vec<u8>,
}

/// The state of a run on one file.
pub struct Exercise<'a> {
    path: &'a [u8],
    settings: Settings,
    random: Random,
    fd: Fd,
    /// The expected contents of the file.
    file: Vec<u8>,
    buffers: Vec<Buffer>,
    /// A shared mapping of the file, as long as the file can become.
    map: Option<Mapping>,
    journal: Journal,
}

/// A part of a buffer.
#[derive(Clone, Copy)]
struct Part {
    buffer: usize,
    at: usize,
    length: usize,
}

impl<'a> Exercise<'a> {
    /// An empty file and buffers of zeros.
    pub fn new(path: &'a [u8], settings: Settings) -> Outcome<Self> {
        let fd = sys::open(path, abi::O_RDWR | abi::O_CREAT | abi::O_TRUNC, 0o644)
            .map_err(|error| format!("open: {error:?}"))?;
        let length = settings.max_bytes + SLACK_BYTES;
        let buffer = |_| Pages::new(length).map(|pages| Buffer { pages, copy: vec![0; length] });
        let buffers = (0..BUFFERS)
            .map(buffer)
            .collect::<Result<Vec<_>>>()
            .map_err(|error| format!("buffers: {error:?}"))?;
        let random = Random::new(settings.seed);
        let map =
            settings.is_mapped.then(|| Mapping::of_file(fd, settings.max_bytes)).transpose()?;
        Ok(Self {
            path,
            settings,
            random,
            fd,
            file: Vec::new(),
            buffers,
            map,
            journal: Journal::default(),
        })
    }

    /// Runs all steps, then checks everything.
    pub fn run(mut self) -> Outcome {
        let outcome = (0..self.settings.operations)
            .try_for_each(|_| self.step())
            .and_then(|()| self.check_everything());
        let _ = sys::close(self.fd);
        outcome.map_err(|failure| format!("{failure}; the last steps were{}", self.journal))
    }

    /// A random multiple of the unit, at most `end`.
    fn number(&mut self, end: usize) -> usize {
        let unit = self.settings.unit;
        self.random.below((end / unit) as u64 + 1) as usize * unit
    }

    /// A random range of a buffer: small, large or any size.
    fn part(&mut self) -> Part {
        let buffer = self.random.below(BUFFERS as u64) as usize;
        let at = self.number(SLACK_BYTES);
        let most = self.settings.max_bytes;
        let length = match self.random.below(4) {
            0 => self.number(most.min(2 * SLACK_BYTES)),
            1 => self.number(most),
            2 => self.number(most / 4),
            _ => most / self.settings.unit * self.settings.unit,
        };
        Part { buffer, at, length }
    }

    fn step(&mut self) -> Outcome {
        if self.random.below(FORK_SHARE) == 0 {
            return self.fork();
        }
        if self.map.is_some() && self.random.below(MAPPED_SHARE) == 0 {
            return self.mapped_step();
        }
        match self.random.below(100) {
            0..20 => self.read("pread"),
            20..26 => self.read("read"),
            26..32 => self.read("readv"),
            32..44 => self.write("pwrite"),
            44..50 => self.write("write"),
            50..56 => self.write("writev"),
            56..60 => self.append(),
            60..72 => self.store(),
            72..84 => {
                let part = self.part();
                self.check(part)
            }
            84..90 => self.truncate(),
            90..94 => self.punch(),
            94..97 => self.reopen(),
            _ => self.ask(),
        }
    }

    fn read(&mut self, how: &'static str) -> Outcome {
        let (Part { buffer, at, length }, offset) =
            (self.part(), self.number(self.settings.max_bytes));
        self.journal.note(Step::Read { how, buffer, at, length, offset });
        let cut = self.number(length);
        let into = self.buffers[buffer].pages.get_mut(at..at + length).unwrap_or_default();
        let count = match how {
            "pread" => sys::pread(self.fd, into, FileOffset(offset as u64)),
            "read" => seek(self.fd, offset).and_then(|()| sys::read(self.fd, into)),
            _ => seek(self.fd, offset).and_then(|()| {
                let (front, behind) = into.split_at_mut(cut);
                vectored(
                    abi::__NR_readv,
                    self.fd,
                    [(front.as_mut_ptr(), front.len()), (behind.as_mut_ptr(), behind.len())],
                )
            }),
        };
        let expected = length.min(self.file.len().saturating_sub(offset));
        same_count(how, count, expected)?;
        let bytes = self.file.get(offset..offset + expected).unwrap_or_default();
        self.buffers[buffer].copy[at..at + expected].copy_from_slice(bytes);
        if self.random.below(3) > 0 {
            return Ok(());
        }
        self.look(Part { buffer, at, length })
    }

    fn write(&mut self, how: &'static str) -> Outcome {
        let Part { buffer, at, length } = self.part();
        let offset = self.number(self.settings.max_bytes);
        let length = length.min(self.settings.max_bytes - offset);
        self.journal.note(Step::Write { how, buffer, at, length, offset });
        let cut = self.number(length);
        let from = self.buffers[buffer].pages.get(at..at + length).unwrap_or_default();
        let count = match how {
            "pwrite" => sys::pwrite(self.fd, from, FileOffset(offset as u64)),
            "write" => seek(self.fd, offset).and_then(|()| sys::write(self.fd, from)),
            _ => seek(self.fd, offset).and_then(|()| {
                let (front, behind) = from.split_at(cut);
                let parts = [
                    (front.as_ptr().cast_mut(), front.len()),
                    (behind.as_ptr().cast_mut(), behind.len()),
                ];
                vectored(abi::__NR_writev, self.fd, parts)
            }),
        };
        same_count(how, count, length)?;
        self.put(buffer, at, length, offset);
        Ok(())
    }

    /// Updates the model after bytes of a buffer were written to the file.
    fn put(&mut self, buffer: usize, at: usize, length: usize, offset: usize) {
        if length > 0 {
            let end = self.file.len().max(offset + length);
            self.file.resize(end, 0);
            self.file[offset..offset + length]
                .copy_from_slice(&self.buffers[buffer].copy[at..at + length]);
        }
    }

    fn append(&mut self) -> Outcome {
        let Part { buffer, at, length } = self.part();
        let offset = self.file.len();
        let length = length.min(self.settings.max_bytes - offset);
        self.journal.note(Step::Write { how: "append", buffer, at, length, offset });
        let appended = sys::open(self.path, abi::O_WRONLY | abi::O_APPEND, 0).and_then(|fd| {
            let count =
                sys::write(fd, self.buffers[buffer].pages.get(at..at + length).unwrap_or_default());
            sys::close(fd).and(count)
        });
        same_count("append", appended, length)?;
        self.put(buffer, at, length, offset);
        Ok(())
    }

    /// Stores to a byte, several bytes, or a whole range.
    fn store(&mut self) -> Outcome {
        let Part { buffer, at, length } = self.part();
        let length = if self.random.below(4) == 0 {
            length
        } else {
            length.min(1 + self.random.below(64) as usize)
        };
        let at = (at + self.random.below(self.settings.max_bytes as u64) as usize)
            .min(self.buffers[buffer].copy.len() - length);
        self.journal.note(Step::Store { buffer, at, length });
        self.fill(buffer, at, length);
        Ok(())
    }

    fn fill(&mut self, buffer: usize, at: usize, length: usize) {
        let seed = self.random.draw();
        let Buffer { pages, copy } = &mut self.buffers[buffer];
        proof::random::fill(seed, 0, &mut copy[at..at + length]);
        pages.get_mut(at..at + length).unwrap_or_default().copy_from_slice(&copy[at..at + length]);
    }

    fn check(&mut self, part: Part) -> Outcome {
        let Part { buffer, at, length } = part;
        self.journal.note(Step::Check { buffer, at, length });
        self.look(part)
    }

    /// Compares a range of a buffer with its copy.
    fn look(&self, Part { buffer, at, length }: Part) -> Outcome {
        let Buffer { pages, copy } = &self.buffers[buffer];
        same_bytes(
            || format!("buffer {buffer}"),
            at,
            &pages[at..at + length],
            &copy[at..at + length],
        )
    }

    fn truncate(&mut self) -> Outcome {
        let (from, to) = (self.file.len(), self.number(self.settings.max_bytes));
        self.journal.note(Step::Truncate { from, to });
        sys::ftruncate(self.fd, ByteCount(to as u64))
            .map_err(|error| format!("ftruncate: {error:?}"))?;
        self.file.resize(to, 0);
        Ok(())
    }

    fn punch(&mut self) -> Outcome {
        const PUNCH_HOLE_KEEP_SIZE: usize = 3;
        let (offset, length) =
            (self.number(self.settings.max_bytes), self.number(self.settings.max_bytes / 2));
        if length == 0 {
            return Ok(());
        }
        self.journal.note(Step::Punch { offset, length });
        // SAFETY: touches no memory.
        let done = unsafe {
            sys::syscall(
                abi::__NR_fallocate,
                [self.fd.argument(), PUNCH_HOLE_KEEP_SIZE, offset, length, 0, 0],
            )
        };
        match sys::check(done) {
            Ok(_) => {
                let end = self.file.len().min(offset + length);
                self.file.get_mut(offset..end).unwrap_or_default().fill(0);
                Ok(())
            }
            // Not every file system of a host supports that.
            Err(Errno::EOPNOTSUPP) => Ok(()),
            Err(error) => Err(format!("fallocate: {error:?}")),
        }
    }

    fn reopen(&mut self) -> Outcome {
        self.journal.note(Step::Reopen);
        let reopened = sys::close(self.fd).and_then(|()| sys::open(self.path, abi::O_RDWR, 0));
        self.fd = reopened.map_err(|error| format!("reopening: {error:?}"))?;
        Ok(())
    }

    /// A child checks all buffers while its parent stores to one.
    fn fork(&mut self) -> Outcome {
        let Part { buffer, at, length } = self.part();
        self.journal.note(Step::Fork { buffer });
        let child = sys::fork().map_err(|error| format!("fork: {error:?}"))?;
        let Some(child) = child else {
            let seen =
                self.check_buffers().inspect_err(|failure| eprintln!("fsx: in a child: {failure}"));
            self.fill(buffer, at, length);
            sys::exit(i32::from(seen.and_then(|()| self.check_buffers()).is_err()))
        };
        self.fill(buffer, at, length.min(1000));
        match sys::wait_for(child).map(|status| status.exit_code()) {
            Ok(Some(0)) => Ok(()),
            other => Err(format!("a child ended with {other:?}")),
        }
    }

    fn ask(&mut self) -> Outcome {
        if self.random.below(2) == 0 {
            self.journal.note(Step::Ask("fsync"));
            return sys::fsync(self.fd).map(drop).map_err(|error| format!("fsync: {error:?}"));
        }
        self.journal.note(Step::Ask("fstat"));
        let size = sys::fstat(self.fd).map(|stat| stat.st_size as usize);
        same_count("the length by fstat", size, self.file.len())
    }

    fn check_buffers(&self) -> Outcome {
        (0..BUFFERS).try_for_each(|buffer| {
            self.look(Part { buffer, at: 0, length: self.buffers[buffer].copy.len() })
        })?;
        self.check_map()
    }

    /// Checks all buffers, then the file, which is read again.
    fn check_everything(&mut self) -> Outcome {
        self.check_buffers()?;
        let mut pages =
            Pages::new(self.file.len().max(1)).map_err(|error| format!("memory: {error:?}"))?;
        let count = sys::pread(self.fd, &mut pages, FileOffset::ZERO);
        same_count("the last read", count, self.file.len())?;
        same_bytes(|| String::from("in the end the file"), 0, &pages[..self.file.len()], &self.file)
    }
}

fn seek(fd: Fd, offset: usize) -> Result<()> {
    sys::lseek(fd, offset as i64, abi::SEEK_SET).map(drop)
}

/// readv(2) or writev(2) of two ranges of one buffer.
fn vectored(number: u32, fd: Fd, parts: [(*mut u8, usize); 2]) -> Result<usize> {
    let list = parts.map(|(start, length)| [start as usize, length]);
    // SAFETY: the ranges are disjoint slices of the caller's, which outlive the call.
    sys::check(unsafe {
        sys::syscall(number, [fd.argument(), list.as_ptr() as usize, list.len(), 0, 0, 0])
    })
}

fn same_count(what: &str, count: Result<usize>, expected: usize) -> Outcome {
    if count == Ok(expected) { Ok(()) } else { Err(format!("{what}: {count:?}, not {expected}")) }
}

/// Compares bytes that something has from a place on.
pub fn same_bytes(
    what: impl FnOnce() -> String,
    place: usize,
    got: &[u8],
    expected: &[u8],
) -> Outcome {
    if got == expected {
        return Ok(());
    }
    let wrong =
        || got.iter().zip(expected).enumerate().filter(|(_, (got, expected))| got != expected);
    let (first, (got, expected)) = wrong().next().unwrap_or((0, (&0, &0)));
    Err(format!(
        "{} holds {got:#04x} at {}, not {expected:#04x}; {} bytes are wrong",
        what(),
        place + first,
        wrong().count()
    ))
}
