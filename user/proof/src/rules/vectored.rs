//! R9: readv(2) and preadv(2) return the bytes of one instant, like any read.

use alloc::vec::Vec;
use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Buffer, Child, File, Named, Outcome, PAGE, UNTOUCHED, pattern};
use proof::lazy::Meter;
use proof::{check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// Reads at an offset into several buffers.
fn preadv(file: &File, parts: &[[usize; 2]], offset: u64) -> Outcome<usize> {
    os::raw(
        abi::__NR_preadv,
        &[file.fd.argument(), parts.as_ptr().addr(), parts.len(), offset as usize, 0],
    )
    .named("preadv")
}

/// The buffers of a vector are filled from one snapshot, their whole pages lazily: a buffer short
/// of one byte followed by a small one, as fread(3) uses, and buffers of any alignment.
#[guest_test(mutants: &[Mutant::VectorPerBuffer])]
fn r9_one_call_one_snapshot() -> Outcome {
    let file = File::make("file", 1, 64 * P)?;
    let large = Buffer::filled(70 * PAGE, UNTOUCHED)?;
    let small = Buffer::filled(PAGE, UNTOUCHED)?;
    let length = 20 * PAGE - 1;
    let meter = Meter::start()?;
    let count =
        os::readv(file.fd, &[[large.at(16), length], [small.at(0), 1024]]).named("readv")?;
    check_eq!(count, length + 1024, "bytes read");
    let odd: Vec<[usize; 2]> = (0..5)
        .map(|part| [large.at((24 + 6 * part) * PAGE + 7 * part), 5 * PAGE + 300 * part])
        .collect();
    let total: usize = odd.iter().map(|part| part[1]).sum();
    check_eq!(preadv(&file, &odd, 1000)?, total, "bytes read");
    meter.expect("reads_lazy", 2)?;
    meter.expect_system("snapshots_made", 2)?;
    Child::start("writer", || file.overwrite(2, 0, 64 * P))?.join()?;
    large.check(0, 16, UNTOUCHED)?;
    large.check(16, length, pattern(1, 0))?;
    small.check(0, 1024, pattern(1, length as u64))?;
    small.check(1024, PAGE - 1024, UNTOUCHED)?;
    large.check(16 + length, 4 * PAGE + 1 - 16, UNTOUCHED)?;
    let mut from = 1000;
    for (part, [_, length]) in odd.iter().enumerate() {
        large.check((24 + 6 * part) * PAGE + 7 * part, *length, pattern(1, from))?;
        from += *length as u64;
    }
    Ok(())
}

/// Buffers without a whole page are copied from one snapshot, also if the call takes several
/// messages. Overlapping buffers are filled in order.
#[guest_test(mutants: &[Mutant::VectorPerBuffer])]
fn r9_small_parts() -> Outcome {
    const PARTS: usize = 200;
    let file = File::make("file", 1, 256 * P)?;
    let buffer = Buffer::filled((PARTS + 1) * PAGE, UNTOUCHED)?;
    let parts: Vec<[usize; 2]> =
        (0..PARTS).map(|part| [buffer.at(part * PAGE + 1), PAGE - 2]).collect();
    let meter = Meter::start()?;
    check_eq!(preadv(&file, &parts, 0)?, PARTS * (PAGE - 2), "bytes read");
    meter.expect_system("snapshots_made", 1)?;
    // One snapshot for this call, not one that is kept for read-ahead.
    meter.expect_system("reads_ahead", 0)?;
    for part in 0..PARTS {
        buffer.check(part * PAGE + 1, PAGE - 2, pattern(1, (part * (PAGE - 2)) as u64))?;
        buffer.check((part + 1) * PAGE - 1, 1, UNTOUCHED)?;
    }
    let overlapping = [[buffer.at(0), 8 * PAGE], [buffer.at(2 * PAGE + 5), 3 * PAGE]];
    check_eq!(preadv(&file, &overlapping, 0)?, 11 * PAGE, "bytes read");
    buffer.check(0, 2 * PAGE + 5, pattern(1, 0))?;
    buffer.check(2 * PAGE + 5, 3 * PAGE, pattern(1, 8 * P))?;
    buffer.check(5 * PAGE + 5, 3 * PAGE - 5, pattern(1, 5 * P + 5))
}

/// Counts and errors of vectors are Linux's: the count ends at end of file or at the first bad
/// address; EFAULT only if no byte precedes it.
#[guest_test]
fn r9_counts() -> Outcome {
    let file = File::make("file", 1, 10 * P + 10)?;
    let buffer = Buffer::filled(16 * PAGE, UNTOUCHED)?;
    let hole = Buffer::new(8 * PAGE)?;
    os::mprotect(hole.at(4 * PAGE), 4 * PAGE, abi::PROT_NONE).named("mprotect")?;
    check_eq!(
        preadv(&file, &[[buffer.at(0), 6 * PAGE], [buffer.at(8 * PAGE), 8 * PAGE]], 0)?,
        10 * PAGE + 10,
        "bytes up to the end"
    );
    buffer.check(8 * PAGE, 4 * PAGE + 10, pattern(1, 6 * P))?;
    buffer.check(12 * PAGE + 10, 4 * PAGE - 10, UNTOUCHED)?;
    check_eq!(
        preadv(&file, &[[buffer.at(0), PAGE], [hole.at(0), 8 * PAGE]], 0)?,
        5 * PAGE,
        "bytes up to the end of memory"
    );
    hole.check(0, 4 * PAGE, pattern(1, P))?;
    let parts = [[hole.at(4 * PAGE), PAGE], [buffer.at(0), 8 * PAGE]];
    let result = os::raw(abi::__NR_preadv, &[file.fd.argument(), parts.as_ptr().addr(), 2, 0, 0]);
    check_eq!(result, Err(Errno::EFAULT), "no byte before the end of memory");
    check_eq!(preadv(&file, &parts, 11 * P)?, 0, "past the end of the file");
    Ok(())
}
