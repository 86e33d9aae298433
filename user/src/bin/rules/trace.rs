//! E4: the trace of system calls and faults. What it tells goes to the kernel's log, which the
//! test's machine compares with what `rules_list.rs` expects.

use crate::kit::{Buffer, File, Named, Outcome, PAGE, load, store};
use crate::lazy::{self, Knob, write_text};
use crate::{check_eq, os};
use user::prelude::*;

const P: u64 = PAGE as u64;
const HOLE: u64 = 40;

fn trace(on: bool) -> Outcome {
    write_text("/proc/self/trace", if on { "1" } else { "0" })
}

fn pread(file: &File, to: usize, pages: usize, from: u64) -> Outcome {
    check_eq!(
        os::pread(file.fd, to, pages * PAGE, from * P).named("pread")?,
        pages * PAGE,
        "bytes read"
    );
    Ok(())
}

/// Reads whose pages have every kind of fate, each a known number of times.
pub fn e4_trace_tells_each_read() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let file = File::make("file", 1, 128 * P)?;
    let other = File::make("other", 2, P)?;
    os::punch_hole(file.fd, HOLE * P, 8 * P).named("fallocate")?;
    let [reader, writer] = sys::pipe(0).named("pipe")?;
    let buffer = Buffer::new(128 * PAGE)?;
    let at = |page: usize| buffer.at(page * PAGE);
    let _knobs = (lazy::fault_around(1)?, Knob::set("store_around", 1)?);

    trace(true)?;
    // Read 1: loads, stores where a page is and where none is, a reference, a call that looks at a
    // page; unmapped.
    pread(&file, at(0), 32, 0)?;
    for page in 0..3 {
        load(at(page));
    }
    store(at(3), 1);
    store(at(1), 1);
    check_eq!(
        os::pwrite(other.fd, at(8), 4 * PAGE, 0).named("pwrite")?,
        4 * PAGE,
        "bytes written by reference"
    );
    check_eq!(os::write(writer, at(16), PAGE).named("write")?, PAGE, "bytes written to a pipe");
    os::munmap(at(0), 32 * PAGE).named("munmap")?;
    // Read 2: four pages of data, eight of a hole, four of data. Read 3 goes over its first half.
    pread(&file, at(32), 16, HOLE - 4)?;
    load(at(32));
    load(at(36));
    load(at(37));
    store(at(38), 1);
    pread(&file, at(32), 8, 64)?;
    load(at(33));
    load(at(40));
    // Read 4: what is in memory already is not fetched.
    load(at(44));
    pread(&file, at(64), 16, HOLE + 8)?;
    load(at(64));
    // A small one, in between.
    check_eq!(
        os::pread(file.fd, buffer.at(100 * PAGE + 5), 100, 7).named("pread")?,
        100,
        "bytes read"
    );
    trace(false)?;

    sys::close(reader).named("close")?;
    sys::close(writer).named("close")
}
