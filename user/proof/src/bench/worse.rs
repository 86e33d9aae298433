//! `neverworse`: what lazy reads cost, divided by what eager reads of the same kernel cost.
//!
//! For lengths from 4 KiB to 64 MiB, aligned or not, with some or all pages touched, a file that
//! nobody has cached is read in order into one buffer. Each row is a ratio; the last one is the
//! worst of them all, and should be at most 1.05.

use crate::Row;
use crate::meter::{self, Meter};
use crate::reads::{FILE_BYTES, cold_file, remove};
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] = &[("neverworse", sweep)];

/// Names and lengths of the reads.
const LENGTHS: [(&str, usize); 11] = [
    ("4k", 4 << 10),
    ("16k", 16 << 10),
    ("32k", 32 << 10),
    ("64k", 64 << 10),
    ("128k", 128 << 10),
    ("256k", 256 << 10),
    ("512k", 512 << 10),
    ("1m", 1 << 20),
    ("4m", 4 << 20),
    ("16m", 16 << 20),
    ("64m", 64 << 20),
];

/// Names, offset in the file, and offset of the buffer from a page.
const ALIGNMENTS: [(&str, usize, usize); 3] =
    [("congruent", 0, 0), ("offset100", 100, 0), ("buffer100", 0, 100)];

/// Names, and one of how many pages is touched; 0 for none.
const TOUCHES: [(&str, usize); 4] = [("none", 0), ("16th", 16), ("4th", 4), ("all", 1)];

/// Bytes that reads of one row read together, at least.
const LEAST_BYTES: usize = 4 << 20;

/// What is read, how and where.
struct Case {
    fd: Fd,
    length: usize,
    offset: usize,
    stride: usize,
}

impl Case {
    /// The cost of reading from end to end, with nothing cached.
    fn cost(&self, buffer: &mut [u8], mode: &[u8]) -> Result<u64> {
        write_file(b"/proc/self/lazy", mode)?;
        write_file(b"/proc/sys/lazy/drop_caches", b"1\n")?;
        let end = LEAST_BYTES.max(self.length).min(FILE_BYTES);
        let sample = meter::sample(|| {
            for from in (0..end).step_by(self.length) {
                let count = sys::pread(self.fd, buffer, FileOffset((from + self.offset) as u64))?;
                if count == 0 {
                    return Err(Errno::EIO);
                }
                for page in (0..count).step_by((self.stride * PAGE_BYTES).max(1)) {
                    if self.stride == 0 {
                        break;
                    }
                    // SAFETY: a byte within the slice.
                    unsafe { buffer[page..].as_ptr().read_volatile() };
                }
            }
            Ok(())
        });
        Ok(sample?.ticks)
    }
}

fn sweep(meter: &Meter) -> Result<()> {
    let fd = cold_file(FILE_BYTES)?;
    let mut worst = 0;
    for (length_name, length) in LENGTHS {
        for (alignment, offset, at) in ALIGNMENTS {
            for (touched, stride) in TOUCHES {
                let case = Case { fd, length, offset, stride };
                let cost = |mode| {
                    let mut space = Pages::new(length + PAGE_BYTES)?;
                    case.cost(&mut space[at..at + length], mode)
                };
                let (eager, lazy) = (cost(b"0\n")?, cost(b"1\n")?);
                let millionths = lazy * 1_000_000 / eager.max(1);
                worst = worst.max(millionths);
                report(meter, &format!("{length_name}.{alignment}.{touched}"), millionths);
            }
        }
    }
    report(meter, "worst", worst);
    remove(fd)
}

/// Prints a ratio with six decimals: some are so small.
pub fn report(meter: &Meter, row: &str, millionths: u64) {
    if !meter.silent {
        let (whole, rest) = (millionths / 1_000_000, millionths % 1_000_000);
        println!("{}.{row} {whole}.{rest:06} ratio", meter.name);
    }
}

pub fn write_file(path: &[u8], text: &[u8]) -> Result<()> {
    let fd = sys::open(path, abi::O_WRONLY, 0)?;
    let written = sys::write_all(fd, text);
    sys::close(fd)?;
    written
}
