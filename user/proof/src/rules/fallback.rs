//! R8: reads that copy, since no snapshot is available.

use crate::scripted::{self, Action, Server, USUAL};
use alloc::boxed::Box;
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{Buffer, Child, File, Named, Outcome, PAGE, UNTOUCHED, ZEROS, pattern, within};
use proof::lazy::{self, Knob, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// Pipes, devices, directories, small reads and shared memory are copied, with the same result.
#[guest_test]
fn r8_fallback() -> Outcome {
    let file = File::make("file", 1, 16 * P)?;
    let buffer = Buffer::filled(16 * PAGE, UNTOUCHED)?;
    let meter = Meter::start()?;

    let [from, to] = sys::pipe(0).named("pipe")?;
    check_eq!(
        os::write(to, buffer.at(0), 3 * PAGE).named("write")?,
        3 * PAGE,
        "bytes into the pipe"
    );
    let target = Buffer::new(4 * PAGE)?;
    check_eq!(
        os::read(from, target.at(0), 4 * PAGE).named("read")?,
        3 * PAGE,
        "bytes out of the pipe"
    );
    target.check(0, 3 * PAGE, UNTOUCHED)?;
    for fd in [from, to] {
        sys::close(fd).named("close")?;
    }

    let zero = sys::open(b"/dev/zero", abi::O_RDONLY, 0).named("/dev/zero")?;
    check_eq!(
        os::read(zero, buffer.at(0), 8 * PAGE).named("read")?,
        8 * PAGE,
        "bytes of /dev/zero"
    );
    buffer.check(0, 8 * PAGE, ZEROS)?;
    buffer.check(8 * PAGE, 8 * PAGE, UNTOUCHED)?;
    sys::close(zero).named("close")?;

    let directory =
        sys::open(proof::kit::directory().as_bytes(), abi::O_RDONLY | abi::O_DIRECTORY, 0)
            .named("directory")?;
    check_eq!(
        os::read(directory, buffer.at(0), 8 * PAGE),
        Err(Errno::EISDIR),
        "read of a directory"
    );
    sys::close(directory).named("close")?;

    file.read_into(&buffer, 5, 1000, 3)?;
    buffer.check(5, 1000, pattern(1, 3))?;

    let shared = Buffer::shared(8 * PAGE)?;
    let child =
        Child::start("reader into shared memory", || file.read_into(&shared, 0, 8 * PAGE, 0))?;
    child.join()?;
    file.overwrite(2, 0, 16 * P)?;
    within("memory shared with the reader", shared.check(0, 8 * PAGE, pattern(1, 0)))?;
    meter.expect("reads_lazy", 0)
}

/// If the server refuses a snapshot, for whatever reason, the read copies.
#[guest_test(mutants: &[Mutant::NoFallback])]
fn r8_refused() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    for error in [Errno::ENOSPC, Errno::EDQUOT, Errno::EOPNOTSUPP, Errno::ENOMEM] {
        let script: scripted::Script = Box::new(move |_, asked, reply| {
            if asked.op == Op::Snapshot {
                reply.fail(asked.op, asked.tag, error);
            }
            Action::Send
        });
        let server = Server::mount("r8", USUAL, script)?;
        let fd = server.open(3)?;
        let buffer = Buffer::filled(100 * PAGE, UNTOUCHED)?;
        let meter = Meter::start()?;
        check_eq!(
            os::pread(fd, buffer.at(9), 99 * PAGE, 7).named("pread")?,
            99 * PAGE,
            "bytes read where snapshots give {error:?}"
        );
        server.wire.change_files();
        buffer.check(9, 99 * PAGE, scripted::content(3, 0, 7))?;
        meter.expect("reads_lazy", 0)?;
        meter.expect("reads_eager_refused", 1)?;
        sys::close(fd).named("close")?;
    }
    let server =
        Server::mount("r8", scripted::Setting { snapshots: false, ..USUAL }, scripted::honest())?;
    let fd = server.open(3)?;
    let buffer = Buffer::filled(20 * PAGE, UNTOUCHED)?;
    check_eq!(
        os::pread(fd, buffer.at(9), 19 * PAGE, 7).named("pread")?,
        19 * PAGE,
        "bytes read from a server without snapshots"
    );
    check_eq!(server.wire.requests(Op::Snapshot), 0, "snapshots asked of a server that has none");
    buffer.check(9, 19 * PAGE, scripted::content(3, 0, 7))?;
    sys::close(fd).named("close")
}

/// A copying read that is larger than memory returns a short count and kills nothing.
#[guest_test(memory_mib: 48)]
fn r8_short_of_memory() -> Outcome {
    const LENGTH: usize = 256 << 20;
    let _knob = Knob::set("lazy", 0)?;
    let no_swap = Knob::set("swap_pages", 0)?;
    let file = File::sparse("file", LENGTH as u64)?;
    file.overwrite(1, 0, 4 * P)?;
    let buffer = Buffer::new(LENGTH)?;
    let count = os::pread(file.fd, buffer.at(0), LENGTH, 0).named("pread")?;
    check!(count > PAGE, "only {count} bytes came");
    check!(
        count < LENGTH || !lazy::present(),
        "everything came: the machine is too large for this test"
    );
    buffer.check(0, 4 * PAGE, pattern(1, 0))?;
    buffer.check(4 * PAGE, count - 4 * PAGE, ZEROS)?;
    drop(buffer);
    let buffer = Buffer::new(64 * PAGE)?;
    file.read_into(&buffer, 0, 64 * PAGE, 0)?;
    buffer.check(0, 4 * PAGE, pattern(1, 0))?;
    // With a swap file there is space for all of it.
    drop(no_swap);
    let buffer = Buffer::new(LENGTH)?;
    file.read_into(&buffer, 0, LENGTH, 0)?;
    buffer.check(0, 4 * PAGE, pattern(1, 0))?;
    buffer.check(LENGTH - 64 * PAGE, 64 * PAGE, ZEROS)
}

/// Short reads of a process that touches what it reads copy, but now and then one is lazy, and once
/// reads are not touched any more, they are lazy again.
#[guest_test(mutants: &[Mutant::NeverLazyAgain])]
fn r8_short_reads_that_are_touched() -> Outcome {
    const PAGES: usize = 16;
    const BYTES: usize = PAGES * PAGE;
    let _knob = Knob::set("copy_touched", 64)?;
    let file = File::make("file", 1, 100 * BYTES as u64)?;
    let buffer = Buffer::new(BYTES)?;
    let meter = Meter::start()?;
    for read in 0..80 {
        let offset = (read * BYTES) as u64;
        file.read_into(&buffer, 0, BYTES, offset)?;
        within(format_args!("read {read}"), buffer.check(0, BYTES, pattern(1, offset)))?;
    }
    if let Some(lazy) = meter.own("reads_lazy")? {
        check!((2..=4).contains(&lazy), "{lazy} of 80 reads that were touched are lazy");
    }
    let meter = Meter::start()?;
    for read in 0..80 {
        file.read_into(&buffer, 0, BYTES, (read * BYTES) as u64)?;
    }
    meter.expect_least("reads_lazy", 40)?;
    buffer.check(0, BYTES, pattern(1, 79 * BYTES as u64))
}
