//! R1 for small sequential reads, which the kernel answers from a read-ahead snapshot: a change of
//! the file must show in the next read.

use crate::stack::Stack;
use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Buffer, Child, Content, File, Named, Outcome, PAGE, byte, pattern};
use proof::lazy::{self, Knob, Meter};
use proof::random::Random;
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;
/// Bytes of each read; not a divisor of the page size.
const PIECE: usize = 1500;
/// Size of each file in bytes.
const FILE_BYTES: u64 = 40 * P + 123;

/// A sequential reader of one file.
struct Reader {
    fd: Fd,
    buffer: Buffer,
    at: u64,
}

impl Reader {
    fn new(file: &File) -> Outcome<Self> {
        Ok(Self { fd: file.reopen()?, buffer: Buffer::new(PIECE)?, at: 0 })
    }

    /// Reads once; the count must be `expected` bytes.
    fn read(&mut self, expected: usize) -> Outcome {
        let count = os::read(self.fd, self.buffer.at(0), PIECE).named("read")?;
        check_eq!(count, expected, "bytes that read gave at {}", self.at);
        self.at += count as u64;
        Ok(())
    }

    /// Reads `count` times; the bytes must be the pattern of a seed.
    fn pieces(&mut self, count: usize, seed: u64) -> Outcome {
        for _ in 0..count {
            let at = self.at;
            self.read(PIECE)?;
            self.buffer.check(0, PIECE, pattern(seed, at))?;
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _: sys::Result<()> = sys::close(self.fd);
    }
}

/// A file that was read sequentially up to its middle and is changed there, with its reader.
fn halfway(name: &str) -> Outcome<(File, Reader)> {
    let file = File::make(name, 1, FILE_BYTES)?;
    let mut reader = Reader::new(&file)?;
    let meter = Meter::start()?;
    reader.pieces(40, 1)?;
    meter.expect_least("reads_ahead", 30)?;
    Ok((file, reader))
}

/// Small sequential reads, answered from a read-ahead snapshot, return every change of the file at
/// the next read.
#[guest_test(mutants: &[Mutant::StaleAhead])]
fn r1_small_reads_in_order() -> Outcome {
    let (file, mut reader) = halfway("overwritten")?;
    Child::start("writer", || file.overwrite(2, 0, FILE_BYTES))?.join()?;
    reader.pieces(5, 2)?;
    file.overwrite(3, reader.at, P)?;
    reader.pieces(2, 3)?;

    let (file, mut reader) = halfway("truncated")?;
    sys::ftruncate(file.fd, ByteCount(reader.at + 100)).named("ftruncate")?;
    reader.read(100)?;
    reader.buffer.check(0, 100, pattern(1, reader.at - 100))?;
    reader.read(0)?;
    file.overwrite(2, reader.at, 2 * P)?;
    reader.pieces(2, 2)?;

    let (file, mut reader) = halfway("opened with truncation")?;
    let flags = abi::O_WRONLY | abi::O_TRUNC;
    sys::close(sys::open(file.path.as_bytes(), flags, 0).named("open")?).named("close")?;
    reader.read(0)?;

    let (file, mut reader) = halfway("punched")?;
    os::punch_hole(file.fd, 0, FILE_BYTES).named("fallocate")?;
    reader.read(PIECE)?;
    reader.buffer.check(0, PIECE, Content::Only(0))?;

    let (file, mut reader) = halfway("removed")?;
    sys::unlink(file.path.as_bytes()).named("unlink")?;
    reader.pieces(5, 1)?;

    let (file, mut reader) = halfway("read to its end")?;
    while reader.at + PIECE as u64 <= FILE_BYTES {
        reader.pieces(1, 1)?;
    }
    reader.read((FILE_BYTES % PIECE as u64) as usize)?;
    reader.read(0)?;
    file.overwrite(2, FILE_BYTES, P)?;
    reader.pieces(1, 2)
}

/// Two sequential readers see the same bytes as a copy of the file in memory while the file is
/// changed in every way.
#[guest_test(mutants: &[Mutant::StaleAhead])]
fn r1_small_reads_among_changes() -> Outcome {
    const STEPS: usize = 4000;
    let file = File::make("file", 1, FILE_BYTES)?;
    let mut model: Vec<u8> = (0..FILE_BYTES).map(|at| byte(1, at)).collect();
    let mut readers = [Reader::new(&file)?, Reader::new(&file)?];
    let mut random = Random::new(77 << 32);
    for step in 0..STEPS {
        let at = random.below(model.len() as u64 + 1);
        match random.below(60) {
            0 => {
                let count = random.below(3 * P) as usize;
                file.overwrite_bytes(step as u8, at, count)?;
                model.resize(model.len().max(at as usize + count), 0);
                model[at as usize..at as usize + count].fill(step as u8);
            }
            1 => {
                let length = random.below(FILE_BYTES);
                sys::ftruncate(file.fd, ByteCount(length)).named("ftruncate")?;
                model.resize(length as usize, 0);
            }
            2 => {
                sys::ftruncate(file.fd, ByteCount(FILE_BYTES)).named("ftruncate")?;
                model.resize(FILE_BYTES as usize, 0);
            }
            3..6 => {
                let reader = &mut readers[random.below(2) as usize];
                reader.at = os::seek(reader.fd, at).named("lseek")?;
            }
            _ => {
                let reader = &mut readers[random.below(2) as usize];
                let from = (reader.at as usize).min(model.len());
                let expected = &model[from..model.len().min(from + PIECE)];
                reader.read(expected.len())?;
                for (index, &byte) in expected.iter().enumerate() {
                    check!(
                        reader.buffer.load(index) == byte,
                        "step {step}: byte {} of the file",
                        from + index
                    );
                }
            }
        }
    }
    Ok(())
}

/// Small reads in order, each behind the one before in memory: they end as one association, which
/// keeps what the file held. If pages are touched as soon as they are read, they are copied.
#[guest_test]
fn r11_coalesce() -> Outcome {
    const PIECE: usize = 4 * PAGE;
    const READS: usize = 24;
    let _knob = Knob::set("min_lazy_pages", 16)?;
    let file = File::make("coalesced", 1, (READS * PIECE) as u64)?;
    let meter = Meter::start()?;
    let buffer = Buffer::new(READS * PIECE)?;
    let fd = file.reopen()?;
    for number in 0..READS {
        let count = os::read(fd, buffer.at(number * PIECE), PIECE).named("read")?;
        check_eq!(count, PIECE, "bytes that read {number} gave");
    }
    sys::close(fd).named("close")?;
    meter.expect_least("pages_lazy", 64)?;
    meter.expect_system("snapshots_made", 1)?;
    file.overwrite(2, 0, (READS * PIECE) as u64)?;
    buffer.check(0, READS * PIECE, pattern(1, 0))?;

    let fd = file.reopen()?;
    let meter = Meter::start()?;
    for number in 0..READS {
        let count = os::read(fd, buffer.at(number * PIECE), PIECE).named("read")?;
        check_eq!(count, PIECE, "bytes that read {number} gave");
        buffer.check(number * PIECE, PIECE, pattern(2, (number * PIECE) as u64))?;
    }
    sys::close(fd).named("close")?;
    // One read is associated, to see whether it is touched.
    meter.expect("pages_lazy", if lazy::present() { 4 } else { 0 })
}

/// The space reserved for read-ahead is released before a writer gets ENOSPC.
#[guest_test(mutants: &[Mutant::AheadKeepsRoom])]
fn q1_reading_ahead_takes_no_space() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("q1", 100 * P)?;
    let file = File::make_in(&stack.path, "file", 1, 40 * P)?;
    let filler = File::sparse_in(&stack.path, "filler", 0)?;
    let mut reader = Reader::new(&file)?;
    let meter = Meter::start()?;
    reader.pieces(8, 1)?;
    meter.expect_least("reads_ahead", 1)?;
    // 60 pages are free, 40 of them reserved.
    filler.overwrite(2, 0, 50 * P)?;
    reader.pieces(8, 1)
}
