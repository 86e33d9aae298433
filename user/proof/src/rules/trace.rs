//! E4: the trace of system calls and faults. It is written to the kernel's log, which xtask
//! compares with what the attribute expects.

use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Buffer, File, Named, Outcome, PAGE, load, store};
use proof::lazy::{self, Knob, write_text};
use proof::{check_eq, os};
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

/// What becomes of the pages that `e4_trace_reports_each_read` reads, by what it does with each.
const E4_LOG: &[&str] = &[
    "pread64(*) = 131072  read #1, 32 pages lazy",
    "load at *, read #1: 1 pages fetched",
    "load at *, read #1: 1 pages fetched",
    "load at *, read #1: 1 pages fetched",
    "store at *, read #1: 1 pages fetched",
    "store at *, read #1: 0 pages fetched",
    "pwrite64(*) = 16384  4 pages by reference",
    "write(*) = 4096  1 pages fetched",
    "read #1: of 32 lazy pages 5 were fetched, 0 holes, 2 copied for a store, \
     4 written by reference; 27 never came",
    "pread64(*) = 65536  read #2, 16 pages lazy",
    "load at *, read #2: 1 pages fetched",
    "load at *, read #2: 0 pages fetched",
    "load at *, read #2: 0 pages fetched",
    "store at *, read #2: 0 pages fetched",
    "pread64(*) = 32768  read #3, 8 pages lazy",
    "load at *, read #3: 1 pages fetched",
    "load at *, read #2: 0 pages fetched",
    "load at *, read #2: 1 pages fetched",
    "pread64(*) = 65536  read #4, 16 pages lazy",
    "load at *, read #4: 0 pages fetched",
    "pread64(*) = 100  100 bytes copied",
    "read #2: of 16 lazy pages 2 were fetched, 4 holes, 0 copied for a store, \
     0 written by reference; 10 never came",
    "read #3: of 8 lazy pages 1 were fetched, 0 holes, 0 copied for a store, \
     0 written by reference; 7 never came",
    "read #4: of 16 lazy pages 0 were fetched, 0 holes, 0 copied for a store, \
     0 written by reference; 15 never came",
];

/// A trace reports, for each read, what became of its pages.
#[guest_test(log: E4_LOG, mutants: &[Mutant::TraceForgets])]
fn e4_trace_reports_each_read() -> Outcome {
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
    // Read 1: loads, stores to resident and absent pages, a reference, a system call that loads
    // from a page; then unmapped.
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
    // Read 2: four pages of data, eight of a hole, four of data. Read 3 replaces its first half.
    pread(&file, at(32), 16, HOLE - 4)?;
    load(at(32));
    load(at(36));
    load(at(37));
    store(at(38), 1);
    pread(&file, at(32), 8, 64)?;
    load(at(33));
    load(at(40));
    // Read 4: cached pages are not fetched.
    load(at(44));
    pread(&file, at(64), 16, HOLE + 8)?;
    load(at(64));
    // A small read in between.
    check_eq!(
        os::pread(file.fd, buffer.at(100 * PAGE + 5), 100, 7).named("pread")?,
        100,
        "bytes read"
    );
    trace(false)?;

    sys::close(reader).named("close")?;
    sys::close(writer).named("close")
}
