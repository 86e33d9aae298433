//! W: writes that know where their bytes came from.

use crate::kit::{Buffer, File, Named, Outcome, PAGE, pattern, read_lazily};
use crate::lazy::Meter;
use crate::{check_eq, os};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 64;
const BYTES: usize = PAGES * PAGE;

/// Writes a part of a buffer; all of it must go.
fn write_from(file: &File, buffer: &Buffer, at: usize, length: usize, offset: u64) -> Outcome {
    let written = os::pwrite(file.fd, buffer.at(at), length, offset).named("pwrite")?;
    check_eq!(written, length, "bytes that pwrite took");
    Ok(())
}

/// The file must hold the pattern of a seed from its start on.
fn check_file(file: &File, offset: usize, length: usize, seed: u64, from: u64) -> Outcome {
    let found = Buffer::new(length)?;
    file.read_into(&found, 0, length, offset as u64)?;
    found.check(0, length, pattern(seed, from))
}

/// Pages that nobody stored to travel as references, in one message, whatever becomes of their source; those stored to, and parts of pages, as bytes.
pub fn w1_references() -> Outcome {
    let source = File::make("source", 1, BYTES as u64)?;
    let target = File::make("target", 2, 0)?;
    let buffer = Buffer::new(BYTES)?;
    read_lazily(&source, &buffer, 0, BYTES, 0)?;
    source.overwrite(3, 0, BYTES as u64)?;
    buffer.put(5 * PAGE + 7, 10, pattern(4, 0));
    let meter = Meter::start()?;
    write_from(&target, &buffer, 100, BYTES - 200, 0)?;
    meter.expect("pages_referenced", PAGES as i64 - 3)?;
    meter.expect("bytes_written", 3 * PAGE as i64 - 200)?;
    check_file(&target, 0, 5 * PAGE + 7 - 100, 1, 100)?;
    check_file(&target, 5 * PAGE + 7 - 100, 10, 4, 0)?;
    check_file(&target, 5 * PAGE + 17 - 100, BYTES - 5 * PAGE - 117, 1, 5 * PAGE as u64 + 17)
}

/// A file that is written back where it came from costs no data but its changed page, and brings back what others changed.
pub fn w2_same_place() -> Outcome {
    let file = File::make("file", 1, BYTES as u64)?;
    let buffer = Buffer::new(BYTES)?;
    read_lazily(&file, &buffer, 0, BYTES, 0)?;
    buffer.put(9 * PAGE, PAGE, pattern(2, 0));
    file.overwrite(3, 30 * PAGE as u64, 2 * PAGE as u64)?;
    let meter = Meter::start()?;
    write_from(&file, &buffer, 0, BYTES, 0)?;
    meter.expect("pages_referenced", PAGES as i64 - 1)?;
    meter.expect("bytes_written", PAGE as i64)?;
    check_file(&file, 0, 9 * PAGE, 1, 0)?;
    check_file(&file, 9 * PAGE, PAGE, 2, 0)?;
    check_file(&file, 10 * PAGE, BYTES - 10 * PAGE, 1, 10 * PAGE as u64)
}

/// Source and target overlap, by pages and by bytes, both ways: as if read and written eagerly.
pub fn w3_shifted_overlap() -> Outcome {
    for shift in [PAGE, 3 * PAGE, 1, 1000, PAGE + 1] {
        let file = File::make("file", 1, BYTES as u64)?;
        let buffer = Buffer::new(BYTES)?;
        let length = BYTES - 4 * PAGE;
        read_lazily(&file, &buffer, 0, length, 0)?;
        write_from(&file, &buffer, 0, length, shift as u64)?;
        check_file(&file, 0, shift, 1, 0)?;
        check_file(&file, shift, length, 1, 0)?;
        // And back.
        let buffer = Buffer::new(BYTES)?;
        read_lazily(&file, &buffer, 0, length, shift as u64)?;
        write_from(&file, &buffer, 0, length, 0)?;
        check_file(&file, 0, length, 1, 0)?;
    }
    Ok(())
}

/// To another file of the same server: the server copies by itself, and no byte of the file passes.
pub fn w4_other_file() -> Outcome {
    let source = File::make("source", 1, BYTES as u64)?;
    let target = File::make("target", 2, 0)?;
    let buffer = Buffer::new(BYTES)?;
    let meter = Meter::start()?;
    read_lazily(&source, &buffer, 0, BYTES, 0)?;
    write_from(&target, &buffer, 0, BYTES, 0)?;
    meter.expect("pages_referenced", PAGES as i64)?;
    meter.expect("bytes_written", 0)?;
    source.overwrite(3, 0, BYTES as u64)?;
    check_file(&target, 0, BYTES, 1, 0)
}

/// An append goes to the end, in order with those of others, also where it is a reference to the file itself.
pub fn w6_append() -> Outcome {
    let file = File::make("file", 1, BYTES as u64)?;
    let buffer = Buffer::new(BYTES)?;
    read_lazily(&file, &buffer, 0, BYTES, 0)?;
    let fd = sys::open(file.path.as_bytes(), abi::O_WRONLY | abi::O_APPEND, 0).named("open")?;
    check_eq!(os::pwrite(fd, buffer.at(0), BYTES, 0).named("pwrite")?, BYTES, "bytes that pwrite took");
    sys::close(fd).named("close")?;
    check_file(&file, 0, BYTES, 1, 0)?;
    check_file(&file, BYTES, BYTES, 1, 0)
}
