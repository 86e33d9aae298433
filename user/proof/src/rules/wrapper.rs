//! C and Q: what the wrapper does for its snapshots, as seen between it and its base.

use crate::stack::Stack;
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{
    Buffer, Content, File, Named, Outcome, PAGE, ZEROS, pattern, read_lazily, within,
};
use proof::lazy::{self, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;
const SPACE_BYTES: u64 = 16 << 20;

/// Reads a whole file lazily. Returns the buffer and the file's size in bytes.
fn read_all(file: &File, pages: usize) -> Outcome<Buffer> {
    let buffer = Buffer::new(pages * PAGE)?;
    read_lazily(file, &buffer, 0, pages * PAGE, 0)?;
    Ok(buffer)
}

/// Changes that destroy no bytes cause no rescue.
#[guest_test]
fn c7_no_rescue() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("c7", SPACE_BYTES)?;
    let file = File::make_in(&stack.path, "file", 1, 20 * P + 100)?;
    let buffer = Buffer::new(21 * PAGE)?;
    read_lazily(&file, &buffer, 0, 20 * PAGE + 100, 0)?;
    file.overwrite(2, 20 * P + 100, 5 * P)?;
    sys::ftruncate(file.fd, ByteCount(50 * P)).named("ftruncate")?;
    let renamed = format!("{}/renamed", stack.path);
    sys::rename(file.path.as_bytes(), renamed.as_bytes()).named("rename")?;
    sys::chmod(renamed.as_bytes(), 0o600).named("chmod")?;
    sys::unlink(renamed.as_bytes()).named("unlink")?;
    stack.settle()?;
    check_eq!(stack.look.kept().stored_pages, 0, "pages rescued");
    check_eq!(stack.look.kept().snapshots, 1, "snapshots");
    buffer.check(0, 20 * PAGE + 100, pattern(1, 0))
}

/// Overwrites a file that this many snapshots need. Returns the pages rescued and the requests to
/// the base.
fn rescue_for(readers: usize) -> Outcome<(u64, u64)> {
    let stack = Stack::mount("c8", SPACE_BYTES)?;
    let file = File::make_in(&stack.path, "file", 1, 40 * P)?;
    let mut buffers = Vec::new();
    for _ in 0..readers {
        buffers.push(read_all(&file, 40)?);
    }
    stack.settle()?;
    let before = stack.look.changes();
    for page in 0..10 {
        file.overwrite(2, page * 4 * P, P)?;
    }
    stack.settle()?;
    let rescued = (stack.look.kept().stored_pages, stack.look.changes() - before);
    file.overwrite(3, 0, 40 * P)?;
    for buffer in &buffers {
        buffer.check(0, 40 * PAGE, pattern(1, 0))?;
    }
    Ok(rescued)
}

/// One rescue serves all snapshots of the same bytes.
#[guest_test(mutants: &[Mutant::RescuePerSnapshot])]
fn c8_one_rescue() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let one = rescue_for(1)?;
    let five = rescue_for(5)?;
    check_eq!(one.0, 10, "pages rescued for one reader");
    check_eq!(five, one, "pages rescued and requests for five readers, as for one");
    Ok(())
}

/// While nobody changes the file, a snapshot is a record in the wrapper's memory and costs the base
/// nothing.
#[guest_test(mutants: &[Mutant::EagerRescue])]
fn c9_nothing_for_nothing() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("c9", SPACE_BYTES)?;
    let file = File::make_in(&stack.path, "file", 1, 40 * P)?;
    stack.settle()?;
    let (changes, handles) = (stack.look.changes(), stack.look.open_handles());
    let buffers = [read_all(&file, 40)?, read_all(&file, 40)?, read_all(&file, 40)?];
    for buffer in &buffers {
        buffer.check(0, 20 * PAGE, pattern(1, 0))?;
    }
    stack.settle()?;
    check_eq!(stack.look.kept().snapshots, 3, "snapshots");
    drop(buffers);
    stack.settle()?;
    check_eq!(stack.look.changes(), changes, "requests to the base that change or open something");
    check_eq!(stack.look.open_handles(), handles, "handles open at the base");
    let kept = stack.look.kept();
    check_eq!((kept.stored_pages, kept.rescue_files), (0, 0), "pages and files of rescued bytes");
    Ok(())
}

/// When the last association ends, its rescued bytes and its reserved space are freed.
#[guest_test(mutants: &[Mutant::LeakRescue, Mutant::LeakSnapshot])]
fn c10_rescue_is_freed() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("c10", SPACE_BYTES)?;
    let file = File::make_in(&stack.path, "file", 1, 40 * P)?;
    stack.settle()?;
    let (handles, free) =
        (stack.look.open_handles(), os::blocks_free(&stack.path).named("statfs")?);
    let first = read_all(&file, 40)?;
    file.overwrite(2, 0, 30 * P)?;
    let second = read_all(&file, 40)?;
    file.overwrite(3, 10 * P, 30 * P)?;
    check_eq!(
        os::blocks_free(&stack.path).named("statfs")?,
        free,
        "free blocks that a program sees"
    );
    stack.settle()?;
    check!(
        stack.look.kept().stored_pages >= 40,
        "pages rescued: {}",
        stack.look.kept().stored_pages
    );
    first.check(0, 40 * PAGE, pattern(1, 0))?;
    drop(first);
    stack.settle()?;
    check_eq!(stack.look.kept().stored_pages, 30, "pages rescued for the second reader");
    second.check(0, 30 * PAGE, pattern(2, 0))?;
    second.check(30 * PAGE, 10 * PAGE, pattern(1, 30 * P))?;
    drop(second);
    stack.settle()?;
    let kept = stack.look.kept();
    check_eq!(
        (kept.snapshots, kept.reserved_pages, kept.stored_pages, kept.rescue_files),
        (0, 0, 0, 0),
        "what the wrapper keeps in the end"
    );
    check_eq!(stack.look.open_handles(), handles, "handles open at the base");
    check_eq!(os::blocks_free(&stack.path).named("statfs")?, free, "free blocks in the end");
    Ok(())
}

/// No space is reserved for holes, and nothing is stored when they are overwritten.
#[guest_test]
fn r10_holes_need_no_space() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("r10", 200 * P)?;
    // Far larger than the available space.
    let file = File::sparse_in(&stack.path, "file", 10_000 * P)?;
    file.overwrite(1, 500 * P, 3 * P)?;
    let buffer = read_all(&file, 10_000)?;
    stack.settle()?;
    check_eq!(stack.look.kept().reserved_pages, 3, "pages set aside");
    file.overwrite(2, 480 * P, 40 * P)?;
    stack.settle()?;
    check_eq!(stack.look.kept().stored_pages, 3, "pages rescued");
    within("before the island", buffer.check(400 * PAGE, 100 * PAGE, ZEROS))?;
    within("the island", buffer.check(500 * PAGE, 3 * PAGE, pattern(1, 500 * P)))?;
    within("behind the island", buffer.check(503 * PAGE, 100 * PAGE, ZEROS))
}

/// The wrapper reserves the space that a snapshot may need, or the read copies: a reader never
/// loses bytes, and a writer gets ENOSPC in time.
#[guest_test(mutants: &[Mutant::NoReservation])]
fn q1_reservation() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("q1", 100 * P)?;
    let file = File::make_in(&stack.path, "file", 1, 40 * P)?;
    let taken = read_all(&file, 40)?;
    // The same bytes again need no more space.
    let again = read_all(&file, 40)?;
    // Reserved space is not available to others: 60 pages are free, 40 of them reserved.
    let filler = File::sparse_in(&stack.path, "filler", 0)?;
    let mut written = 0;
    let error = loop {
        match sys::pwrite(filler.fd, &[0x42; PAGE], FileOffset(written)) {
            Ok(count) => written += count as u64,
            Err(error) => break error,
        }
    };
    check_eq!(error, Errno::ENOSPC, "error of a writer without free space");
    check!((10..=20).contains(&(written / P)), "{} pages fit into the space for 20", written / P);
    // The file itself can be overwritten completely, because its rescue is reserved.
    file.overwrite(2, 0, 40 * P)?;
    within("first reader", taken.check(0, 40 * PAGE, pattern(1, 0)))?;
    within("second reader", again.check(0, 40 * PAGE, pattern(1, 0)))?;
    // No space for another version: that read copies, and keeps its bytes too.
    let meter = Meter::start()?;
    let refused = Buffer::new(40 * PAGE)?;
    file.read_into(&refused, 0, 40 * PAGE, 0)?;
    meter.expect("reads_lazy", 0)?;
    meter.expect("reads_eager_refused", 1)?;
    file.overwrite(3, 0, 40 * P)?;
    within("reader who was refused", refused.check(0, 40 * PAGE, pattern(2, 0)))?;
    within("first reader", taken.check(0, 40 * PAGE, pattern(1, 0)))?;
    drop(taken);
    drop(again);
    let after = read_all(&file, 40)?;
    file.overwrite(4, 0, 40 * P)?;
    after.check(0, 40 * PAGE, pattern(3, 0))
}

/// A change of a file.
type Change = fn(Fd) -> sys::Result<()>;

/// A rescue that fails prevents the change; the reader keeps its bytes.
#[guest_test]
fn q1_failed_rescue() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let changes: [(&str, Change); 3] = [
        ("overwritten", |fd| sys::pwrite(fd, &[0x42; 3 * PAGE], FileOffset(5 * P)).map(drop)),
        ("truncated", |fd| sys::ftruncate(fd, ByteCount(7 * P + 5)).map(drop)),
        ("punched", |fd| os::punch_hole(fd, 10 * P + 7, 3 * P)),
    ];
    for failing in [Op::CloneRange, Op::Open, Op::Read, Op::Write] {
        for (what, change) in changes {
            let what = format!("{failing:?} fails while the file is {what}");
            let stack = Stack::mount("q1", SPACE_BYTES)?;
            let file = File::make_in(&stack.path, "file", 1, 40 * P)?;
            let taken = read_all(&file, 40)?;
            stack.look.fail(Some(failing));
            let changed = change(file.fd);
            stack.look.fail(None);
            within(&what, taken.check(0, 40 * PAGE, pattern(1, 0)))?;
            if changed.is_err() {
                let now = Buffer::new(40 * PAGE)?;
                within(&what, file.read_into(&now, 0, 40 * PAGE, 0))?;
                within(
                    format_args!("{what}, the file itself"),
                    now.check(0, 40 * PAGE, pattern(1, 0)),
                )?;
            }
            // The base works again, and later changes are rescued.
            file.overwrite(2, 0, 40 * P)?;
            within(
                format_args!("{what}, then is written"),
                taken.check(0, 40 * PAGE, pattern(1, 0)),
            )?;
        }
    }
    Ok(())
}

/// Past the limit on snapshots, reads copy and return the same bytes.
#[guest_test(mutants: &[Mutant::NoSnapshotLimit])]
fn q4_limits() -> Outcome {
    let file = File::make("file", 1, 16 * P)?;
    let live = if lazy::present() {
        lazy::value(&lazy::read_text("/proc/lazy")?, "snapshots_live")?
    } else {
        0
    };
    let knob = lazy::Knob::set("max_snapshots", live as u64 + 4)?;
    let meter = Meter::start()?;
    let mut buffers = Vec::new();
    for _ in 0..10 {
        let buffer = Buffer::new(16 * PAGE)?;
        file.read_into(&buffer, 0, 16 * PAGE, 0)?;
        buffers.push(buffer);
    }
    meter.expect("reads_lazy", 4)?;
    meter.expect("reads_eager_refused", 6)?;
    meter.expect_system("snapshots_live", 4)?;
    file.overwrite(2, 0, 16 * P)?;
    for (index, buffer) in buffers.iter().enumerate() {
        within(format_args!("read {index}"), buffer.check(0, 16 * PAGE, pattern(1, 0)))?;
    }
    drop(buffers);
    drop(knob);
    let buffer = Buffer::new(16 * PAGE)?;
    read_lazily(&file, &buffer, 0, 16 * PAGE, 0)?;
    buffer.check(0, 16 * PAGE, pattern(2, 0))
}

/// Past the limit on regions, reads copy and return the same bytes.
#[guest_test]
fn q4_regions() -> Outcome {
    const READS: usize = 100;
    let file = File::make("file", 1, 8 * P)?;
    let _knob = lazy::Knob::set("max_regions", 64)?;
    let buffer = Buffer::filled(READS * 4 * PAGE, Content::Only(0x66))?;
    let meter = Meter::start()?;
    for index in 0..READS {
        // Every other pair of pages, each a region of its own.
        file.read_into(&buffer, index * 4 * PAGE, 2 * PAGE, P)?;
    }
    if let (Some(lazy), Some(eager)) = (meter.own("reads_lazy")?, meter.own("reads_eager_regions")?)
    {
        check!(
            lazy >= 5 && eager >= 40 && lazy + eager == READS as i64,
            "{lazy} lazy reads and {eager} for want of regions"
        );
    }
    file.overwrite(2, 0, 8 * P)?;
    for index in 0..READS {
        let at = index * 4 * PAGE;
        within(format_args!("read {index}"), buffer.check(at, 2 * PAGE, pattern(1, P)))?;
        within(
            format_args!("behind read {index}"),
            buffer.check(at + 2 * PAGE, 2 * PAGE, Content::Only(0x66)),
        )?;
    }
    Ok(())
}

/// A program that stores to more than memory is killed; files, servers and other programs work as
/// before.
#[guest_test]
fn q4_out_of_memory() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let _no_swap = proof::lazy::Knob::set("swap_pages", 0)?;
    let file = File::make("file", 1, 256 * P)?;
    let kept = read_all(&file, 256)?;
    for _ in 0..3 {
        let hog = proof::kit::Child::start("hog", || {
            let buffer = Buffer::new(512 << 20)?;
            for page in 0..(512 << 20) / PAGE {
                proof::kit::store(buffer.at(page * PAGE), 1);
            }
            Ok(())
        })?;
        let status = hog.status()?;
        check!(
            status.signal().is_some(),
            "a process stored to 512 MiB and ended with {}",
            status.shell_status()
        );
        check!(
            status.signal() != Some(abi::SIGSEGV as i32),
            "it ended by SIGSEGV, as if its memory were not there"
        );
        file.overwrite(2, 0, 4 * P)?;
        within("a reader of before", kept.check(0, 64 * PAGE, pattern(1, 0)))?;
        file.overwrite(1, 0, 4 * P)?;
        let buffer = read_all(&file, 256)?;
        buffer.check(0, 256 * PAGE, pattern(1, 0))?;
    }
    Ok(())
}
