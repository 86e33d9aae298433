//! Copying the file, and writing it back changed.

use crate::Row;
use crate::meter::Meter;
use crate::reads::{FILE_BYTES, cold_file, remove};
use user::pages::{COPY_BYTES, PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] = &[
    ("cp.1m", |meter| copy_whole(meter, 1 << 20)),
    ("cp.4m", |meter| copy_whole(meter, 4 << 20)),
    ("cp.16m", |meter| copy_whole(meter, 16 << 20)),
    ("cp.64m", |meter| copy_whole(meter, 64 << 20)),
    ("cp64m.1m", |meter| copy(meter, FILE_BYTES, COPY_BYTES)),
    ("cp64m.64m", |meter| copy(meter, FILE_BYTES, FILE_BYTES)),
    ("modify64m", |meter| modify_warm(meter, 1)),
    ("modify64m.again", |meter| modify_warm(meter, 10)),
];

/// Path of the copied file.
const COPY_PATH: &[u8] = b"/tmp/bench.copy";

/// For a first run, which only loads the program's pages, since these are lazy.
const WARM_UP: Meter = Meter::SILENT;

fn copy(meter: &Meter, file_bytes: usize, piece_bytes: usize) -> Result<()> {
    let fd = cold_file(file_bytes)?;
    let target = sys::open(COPY_PATH, abi::O_WRONLY | abi::O_CREAT | abi::O_TRUNC, 0o600)?;
    let mut buffer = Pages::new(piece_bytes)?;
    meter.once(|| {
        loop {
            let count = sys::read(fd, &mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            sys::write_all(target, &buffer[..count])?;
        }
    })?;
    sys::close(target)?;
    sys::unlink(COPY_PATH)?;
    remove(fd)
}

/// Copies a whole file through one buffer, after a first copy has loaded everything: copies of
/// different lengths should cost the same.
fn copy_whole(meter: &Meter, file_bytes: usize) -> Result<()> {
    copy(&WARM_UP, file_bytes, file_bytes)?;
    copy(meter, file_bytes, file_bytes)
}

/// Runs [`modify`] after a first run has loaded everything.
fn modify_warm(meter: &Meter, times: usize) -> Result<()> {
    modify(&WARM_UP, times)?;
    modify(meter, times)
}

/// Reads everything, changes a page, writes everything back; then again with another page.
fn modify(meter: &Meter, times: usize) -> Result<()> {
    let fd = cold_file(FILE_BYTES)?;
    let mut buffer = Pages::new(FILE_BYTES)?;
    meter.once(|| {
        let count = sys::pread(fd, &mut buffer, FileOffset::ZERO)?;
        for time in 0..times {
            buffer[FILE_BYTES / 2 + time * FILE_BYTES / 64..][..PAGE_BYTES].fill(7);
            let written = sys::pwrite(fd, &buffer[..count], FileOffset::ZERO)?;
            if written != FILE_BYTES {
                return Err(Errno::EIO);
            }
        }
        Ok(())
    })?;
    remove(fd)
}
