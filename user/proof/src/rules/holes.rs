//! R10: holes come with the snapshot, cost nothing, and are rescued as holes.

use foundation::mutant::Mutant;
use proof::check;
use proof::guest_test;
use proof::kit::{Buffer, File, Outcome, PAGE, ZEROS, pattern, read_lazily, within};
use proof::lazy::{self, Meter};

const P: u64 = PAGE as u64;

/// Holes of a large sparse file cost no message and no frame.
#[guest_test(mutants: &[Mutant::IgnoreHoles, Mutant::AllHoles])]
fn r10_holes() -> Outcome {
    let length: u64 = if lazy::present() { 1 << 30 } else { 64 << 20 };
    let file = File::sparse("file", length)?;
    let islands =
        [(0, 2 * P), (length / 3 + 123, 5 * P), (length / 2, 1), (length - 3 * P + 5, 3 * P - 5)];
    for (offset, bytes) in islands {
        file.overwrite(1, offset, bytes)?;
    }
    let buffer = Buffer::new(length as usize)?;
    read_lazily(&file, &buffer, 0, length as usize, 0)?;
    let meter = Meter::start()?;
    let mut looked = 0;
    for page in (0..length / P).step_by((length / P / 2000) as usize) {
        let at = page * P;
        if islands.iter().all(|(offset, bytes)| at + P <= *offset || at >= offset + bytes) {
            within(format_args!("hole at {at}"), buffer.check(at as usize, PAGE, ZEROS))?;
            looked += 1;
        }
    }
    check!(looked > 1900, "only {looked} holes looked at");
    meter.expect_system("fetches", 0)?;
    meter.expect_system("messages_sent", 0)?;
    for (offset, bytes) in islands {
        within(
            format_args!("island at {offset}"),
            buffer.check(offset as usize, bytes as usize, pattern(1, offset)),
        )?;
    }
    within("around a small island", buffer.check((length / 2) as usize + 1, PAGE - 1, ZEROS))
}

/// Holes beyond the list in the reply are found by a later request.
#[guest_test(mutants: &[Mutant::AllHoles])]
fn r10_many_holes() -> Outcome {
    const PAIRS: u64 = 300;
    let file = File::sparse("file", PAIRS * 2 * P)?;
    for pair in 0..PAIRS {
        file.overwrite(1, pair * 2 * P, P)?;
    }
    let buffer = Buffer::new(PAIRS as usize * 2 * PAGE)?;
    read_lazily(&file, &buffer, 0, buffer.len_bytes(), 0)?;
    file.overwrite(2, 0, PAIRS * 2 * P)?;
    for pair in 0..PAIRS {
        let at = pair as usize * 2 * PAGE;
        within(format_args!("island {pair}"), buffer.check(at, PAGE, pattern(1, pair * 2 * P)))?;
        within(format_args!("hole {pair}"), buffer.check(at + PAGE, PAGE, ZEROS))?;
    }
    Ok(())
}

/// A hole that is overwritten stays a hole for earlier reads.
#[guest_test(mutants: &[Mutant::IgnoreHoles])]
fn r10_hole_written_over() -> Outcome {
    let file = File::sparse("file", 64 * P)?;
    file.overwrite(1, 30 * P, 100)?;
    let buffer = Buffer::new(64 * PAGE)?;
    read_lazily(&file, &buffer, 0, 64 * PAGE, 0)?;
    file.overwrite(2, 0, 64 * P)?;
    let meter = Meter::start()?;
    buffer.check(0, 30 * PAGE, ZEROS)?;
    buffer.check(31 * PAGE, 33 * PAGE, ZEROS)?;
    meter.expect_system("fetches", 0)?;
    buffer.check(30 * PAGE, 100, pattern(1, 30 * P))?;
    buffer.check(30 * PAGE + 100, PAGE - 100, ZEROS)?;
    let again = Buffer::new(64 * PAGE)?;
    read_lazily(&file, &again, 0, 64 * PAGE, 0)?;
    again.check(0, 64 * PAGE, pattern(2, 0))
}
