//! Reads of a 64 MiB file, of which none, some or all pages are touched.

use crate::Row;
use crate::meter::{self, Meter, Sample};
use proof::random::shuffled;
use user::pages::{COPY_BYTES, PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] = &[
    ("read.64k", |meter| read_alone(meter, 64 << 10)),
    ("read.1m", |meter| read_alone(meter, 1 << 20)),
    ("read.64m", |meter| read_alone(meter, 64 << 20)),
    ("read.1g", |meter| read_alone(meter, 1 << 30)),
    ("read64m.touch0", |meter| touch_random(meter, 0)),
    ("read64m.touch1", |meter| touch_random(meter, 1)),
    ("read64m.touch16", |meter| touch_random(meter, 16)),
    ("read64m.touch256", |meter| touch_random(meter, 256)),
    ("read64m.touch4096", |meter| touch_random(meter, 4096)),
    ("read64m.random", |meter| touch_random(meter, FILE_PAGES)),
    ("read64m.sequential", sequential),
    ("read64m.incongruent", incongruent),
    ("read64m.again", again),
    ("loop1m", |meter| read_loop(meter, COPY_BYTES)),
    ("loop4k", |meter| read_loop(meter, PAGE_BYTES)),
];

/// Path of the file.
pub const PATH: &[u8] = b"/tmp/bench.file";

/// Length in bytes.
pub const FILE_BYTES: usize = 64 << 20;

/// Length in pages.
const FILE_PAGES: usize = FILE_BYTES / PAGE_BYTES;

/// Creates the file again, in whole pages, so that the kernel caches nothing of it, and opens it.
pub fn cold_file(file_bytes: usize) -> Result<Fd> {
    let _ = sys::unlink(PATH);
    let fd = sys::open(PATH, abi::O_WRONLY | abi::O_CREAT | abi::O_EXCL, 0o600)?;
    let mut piece = Pages::new(COPY_BYTES)?;
    for offset in (0..file_bytes).step_by(COPY_BYTES) {
        for (index, page) in piece.chunks_mut(PAGE_BYTES).enumerate() {
            page[..8].copy_from_slice(&((offset + index * PAGE_BYTES) as u64).to_le_bytes());
        }
        sys::write_all(fd, &piece)?;
    }
    sys::close(fd)?;
    sys::open(PATH, abi::O_RDWR, 0)
}

/// Closes and removes a file.
pub fn remove(fd: Fd) -> Result<()> {
    sys::close(fd)?;
    sys::unlink(PATH)
}

fn expect(count: usize, wanted: usize) -> Result<()> {
    if count == wanted { Ok(()) } else { Err(Errno::EIO) }
}

/// Loads the first word of a page, which encodes its position in the file.
fn touch(buffer: &[u8], page: usize) -> Result<()> {
    // SAFETY: an aligned word within the slice.
    let found = unsafe { buffer[page * PAGE_BYTES..].as_ptr().cast::<u64>().read_volatile() };
    expect(found as usize, page * PAGE_BYTES)
}

/// Address space for [`read_alone`], and the distance of its buffers.
const SPACE_BYTES: usize = 16 << 30;
const APART_BYTES: usize = 2 << 30;

/// The read(2) alone, into fresh memory without page tables: the least of several. The file has the
/// same shape for all lengths, data and then a hole, since 1 GiB of data does not fit into the
/// machine and a hole costs a little.
fn read_alone(meter: &Meter, len_bytes: usize) -> Result<()> {
    const DATA_BYTES: u64 = 32 << 10;
    let fd = cold_file(FILE_BYTES)?;
    sys::ftruncate(fd, ByteCount(DATA_BYTES))?;
    sys::ftruncate(fd, ByteCount(1 << 30))?;
    let mut space = Pages::new(SPACE_BYTES)?;
    let first = space.as_ptr().align_offset(1 << 30);
    let mut least: Option<Sample> = None;
    for start in (first..SPACE_BYTES - len_bytes).step_by(APART_BYTES) {
        let buffer = &mut space[start..start + len_bytes];
        let sample =
            meter::sample(|| expect(sys::pread(fd, buffer, FileOffset::ZERO)?, len_bytes))?;
        if least.is_none_or(|least| sample.ticks < least.ticks) {
            least = Some(sample);
        }
    }
    meter.tell(&least.ok_or(Errno::EIO)?, 1);
    remove(fd)
}

fn touch_random(meter: &Meter, count: usize) -> Result<()> {
    let pages = shuffled(count, FILE_PAGES);
    let fd = cold_file(FILE_BYTES)?;
    let mut buffer = Pages::new(FILE_BYTES)?;
    meter.once(|| {
        expect(sys::read(fd, &mut buffer)?, FILE_BYTES)?;
        pages.iter().try_for_each(|page| touch(&buffer, *page))
    })?;
    remove(fd)
}

fn read_and_touch_all(fd: Fd, buffer: &mut Pages) -> Result<()> {
    expect(sys::pread(fd, buffer, FileOffset::ZERO)?, FILE_BYTES)?;
    (0..FILE_PAGES).try_for_each(|page| touch(buffer, page))
}

fn sequential(meter: &Meter) -> Result<()> {
    let fd = cold_file(FILE_BYTES)?;
    let mut buffer = Pages::new(FILE_BYTES)?;
    meter.once(|| read_and_touch_all(fd, &mut buffer))?;
    remove(fd)
}

/// File offset and address are not congruent: no page of the file is a page of the buffer.
fn incongruent(meter: &Meter) -> Result<()> {
    const OFFSET: usize = 100;
    let fd = cold_file(FILE_BYTES)?;
    let mut buffer = Pages::new(FILE_BYTES)?;
    meter.once(|| {
        expect(sys::pread(fd, &mut buffer, FileOffset(OFFSET as u64))?, FILE_BYTES - OFFSET)?;
        for page in buffer.chunks(PAGE_BYTES).take(FILE_PAGES - 1) {
            // SAFETY: a byte within the slice. Behind the first eight bytes of each page the file
            // is zero.
            expect(usize::from(unsafe { page.as_ptr().read_volatile() }), 0)?;
        }
        Ok(())
    })?;
    remove(fd)
}

/// A second read into other memory, without a change in between.
fn again(meter: &Meter) -> Result<()> {
    let fd = cold_file(FILE_BYTES)?;
    let mut first = Pages::new(FILE_BYTES)?;
    read_and_touch_all(fd, &mut first)?;
    let mut second = Pages::new(FILE_BYTES)?;
    meter.once(|| read_and_touch_all(fd, &mut second))?;
    remove(fd)
}

/// A read loop: one buffer, one byte of each page used.
fn read_loop(meter: &Meter, piece_bytes: usize) -> Result<()> {
    let fd = cold_file(FILE_BYTES)?;
    let mut buffer = Pages::new(piece_bytes)?;
    meter.once(|| {
        for offset in (0..FILE_BYTES).step_by(piece_bytes) {
            expect(sys::read(fd, &mut buffer)?, piece_bytes)?;
            for (index, page) in buffer.chunks(PAGE_BYTES).enumerate() {
                // SAFETY: an aligned word within the slice.
                let found = unsafe { page.as_ptr().cast::<u64>().read_volatile() };
                expect(found as usize, offset + index * PAGE_BYTES)?;
            }
        }
        Ok(())
    })?;
    remove(fd)
}
