//! `coalesce`: what many small reads into adjacent memory cost when each is associated with the
//! snapshot of read-ahead (R11, the knob `coalesce_pages`), divided by what they cost copied.
//!
//! A file that nobody has cached is read in order.

use crate::Row;
use crate::meter::{self, Meter};
use crate::reads::{cold_file, remove};
use crate::worse::{report, write_file};
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] = &[("coalesce", sweep)];

/// Bytes that are read.
const BYTES: usize = 16 << 20;

/// Names and lengths of the reads.
const LENGTHS: [(&str, usize); 3] = [("4k", 4 << 10), ("16k", 16 << 10), ("32k", 32 << 10)];

/// When pages are touched.
#[derive(Clone, Copy)]
enum Touched {
    /// After all reads, one of so many; 0 for none.
    Late(usize),
    /// All, after each read.
    AtOnce,
}

/// Names, and which pages are touched when.
const TOUCHES: [(&str, Touched); 4] = [
    ("none", Touched::Late(0)),
    ("16th", Touched::Late(16)),
    ("all", Touched::Late(1)),
    ("at_once", Touched::AtOnce),
];

const KNOB: &[u8] = b"/proc/sys/lazy/coalesce_pages";

fn sweep(meter: &Meter) -> Result<()> {
    let fd = cold_file(BYTES)?;
    let before = read_file(KNOB)?;
    for (length_name, length) in LENGTHS {
        for (name, touched) in TOUCHES {
            let cost = |mode: &[u8]| {
                write_file(KNOB, mode)?;
                read(fd, length, touched)
            };
            let (copied, associated) = (cost(b"0\n")?, cost(b"1\n")?);
            let ratio = associated * 1_000_000 / copied.max(1);
            report(meter, &format!("{length_name}.{name}"), ratio);
        }
    }
    write_file(KNOB, &before)?;
    remove(fd)
}

fn read_file(path: &[u8]) -> Result<Vec<u8>> {
    let fd = sys::open(path, abi::O_RDONLY, 0)?;
    let mut bytes = vec![0; 64];
    let count = sys::read(fd, &mut bytes);
    sys::close(fd)?;
    bytes.truncate(count?);
    Ok(bytes)
}

/// The cost of reading all in pieces of `length` bytes, and of touching pages.
fn read(fd: Fd, length: usize, touched: Touched) -> Result<u64> {
    let mut buffer = Pages::new(BYTES)?;
    write_file(b"/proc/sys/lazy/drop_caches", b"1\n")?;
    let read = || {
        for (part, from) in buffer.chunks_mut(length).zip((0..).step_by(length)) {
            if sys::pread(fd, part, FileOffset(from))? < length {
                return Err(Errno::EIO);
            }
            if let Touched::AtOnce = touched {
                touch(part, 1);
            }
        }
        if let Touched::Late(stride) = touched {
            touch(&buffer, stride);
        }
        Ok(())
    };
    Ok(meter::sample(read)?.ticks)
}

/// Loads from one page of `stride`; from none if that is 0.
fn touch(bytes: &[u8], stride: usize) {
    for page in bytes.chunks(PAGE_BYTES * stride.max(1)).filter(|_| stride > 0) {
        // SAFETY: a byte of the slice.
        unsafe { page.as_ptr().read_volatile() };
    }
}
