//! Copying the file, and writing it back changed.

use crate::Row;
use crate::meter::Meter;
use crate::reads::{FILE_BYTES, cold_file, remove};
use user::pages::{COPY_BYTES, PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] =
    &[("cp64m.1m", |meter| copy(meter, COPY_BYTES)), ("cp64m.64m", |meter| copy(meter, FILE_BYTES)), ("modify64m", modify)];

/// The copy.
const COPY_PATH: &[u8] = b"/tmp/bench.copy";

fn copy(meter: &Meter, piece_bytes: usize) -> Result<()> {
    let fd = cold_file()?;
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

/// Reads all, changes a page, writes all back.
fn modify(meter: &Meter) -> Result<()> {
    let fd = cold_file()?;
    let mut buffer = Pages::new(FILE_BYTES)?;
    meter.once(|| {
        let count = sys::pread(fd, &mut buffer, 0)?;
        buffer[FILE_BYTES / 2..][..PAGE_BYTES].fill(7);
        let written = sys::pwrite(fd, &buffer[..count], 0)?;
        if written == FILE_BYTES { Ok(()) } else { Err(Errno::EIO) }
    })?;
    remove(fd)
}
