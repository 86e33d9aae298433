//! Reads whose cost should not depend on what happened to the file, nor on its holes.

use crate::Row;
use crate::meter::{self, Meter};
use crate::reads::{FILE_BYTES, PATH, cold_file, remove};
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] = &[
    ("read.rescued1000", |meter| read_after_changes(meter, 1000)),
    ("read.rescued8000", |meter| read_after_changes(meter, 8000)),
    ("read.sparse16", read_islands),
];

/// One read(2) of the whole file, into memory without page tables.
fn read_whole(fd: Fd) -> Result<Pages> {
    let mut buffer = Pages::new(FILE_BYTES)?;
    match sys::pread(fd, &mut buffer, FileOffset::ZERO)? {
        FILE_BYTES => Ok(buffer),
        _ => Err(Errno::EIO),
    }
}

/// A read after that many scattered pages were overwritten, each of which a reader still needs. The
/// row `ratio` compares it with a read before.
fn read_after_changes(meter: &Meter, changes: usize) -> Result<()> {
    let fd = cold_file(FILE_BYTES)?;
    let _first = read_whole(fd)?;
    let mut second = None;
    let before = meter::sample(|| read_whole(fd).map(|buffer| second = Some(buffer)))?;
    drop(second);
    let page = [1; PAGE_BYTES];
    let distance = FILE_BYTES / PAGE_BYTES / changes * PAGE_BYTES;
    for change in 0..changes {
        sys::pwrite(fd, &page, FileOffset((change * distance) as u64))?;
    }
    let mut third = None;
    let after = meter::sample(|| read_whole(fd).map(|buffer| third = Some(buffer)))?;
    meter.tell(&after, 1);
    meter.tell_ratio("ratio", after.ticks, before.ticks);
    remove(fd)
}

/// A read of a file of 16 islands of data, with holes between them and at both ends.
fn read_islands(meter: &Meter) -> Result<()> {
    const ISLANDS: usize = 16;
    let _ = sys::unlink(PATH);
    let fd = sys::open(PATH, abi::O_RDWR | abi::O_CREAT | abi::O_EXCL, 0o600)?;
    sys::ftruncate(fd, ByteCount::of_len(FILE_BYTES))?;
    let page = [1; PAGE_BYTES];
    for island in 0..ISLANDS {
        let offset = FILE_BYTES / ISLANDS * island + FILE_BYTES / ISLANDS / 2;
        sys::pwrite(fd, &page, FileOffset(offset as u64))?;
    }
    let mut kept = None;
    meter.once(|| read_whole(fd).map(|buffer| kept = Some(buffer)))?;
    remove(fd)
}
