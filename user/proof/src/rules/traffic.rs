//! Traffic between kernel, wrapper and base as counted by relays between them (E3, W2, W4).

use crate::stack::Stack;
use foundation::mutant::Mutant;
use fsproto::Op;
use proof::guest_test;
use proof::kit::{Buffer, File, Named, Outcome, PAGE, pattern, read_lazily};
use proof::lazy::{self, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::relay::{Tally, Way};

const P: u64 = PAGE as u64;
const PAGES: usize = 200;
const LENGTH: usize = PAGES * PAGE;
/// Bytes of a read that is too small to be lazy.
const SMALL: usize = 300;
const SPACE_BYTES: u64 = 16 << 20;

/// The counts at one moment.
struct Mark {
    messages: u64,
    bytes: [u64; 2],
    data: [u64; 2],
    read: u64,
}

impl Mark {
    fn of(tally: &Tally) -> Self {
        let ways = [Way::Out, Way::Back];
        Self {
            messages: tally.messages(Way::Out),
            bytes: ways.map(|way| tally.bytes(way)),
            data: ways.map(|way| tally.data_bytes(way)),
            read: tally.data_bytes_of(Op::Read, Way::Back),
        }
    }

    /// The traffic since then.
    fn since(&self, tally: &Tally) -> Self {
        let now = Self::of(tally);
        let less = |now: [u64; 2], then: [u64; 2]| [now[0] - then[0], now[1] - then[1]];
        Self {
            messages: now.messages - self.messages,
            bytes: less(now.bytes, self.bytes),
            data: less(now.data, self.data),
            read: now.read - self.read,
        }
    }
}

/// The client's counters equal those of a relay between it and the wrapper.
#[guest_test(mutants: &[Mutant::Miscount])]
fn e3_relay_agrees() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("e3", SPACE_BYTES)?;
    let file = File::make_in(&stack.path, "file", 1, LENGTH as u64 + P)?;
    let other = File::make_in(&stack.path, "other", 2, 10)?;
    let buffer = Buffer::new(LENGTH + PAGE)?;
    stack.settle()?;
    let (meter, mark) = (Meter::start()?, Mark::of(stack.look.client()));
    read_lazily(&file, &buffer, 100, LENGTH, 5)?;
    buffer.check(100, LENGTH, pattern(1, 5))?;
    buffer.put(50 * PAGE + 7, 3 * PAGE, pattern(3, 0));
    check_eq!(
        os::pwrite(other.fd, buffer.at(100), LENGTH, 77).named("pwrite")?,
        LENGTH,
        "bytes written"
    );
    check_eq!(
        os::pread(other.fd, buffer.at(0), SMALL, 9).named("pread")?,
        SMALL,
        "bytes of a small read"
    );
    sys::fstat(file.fd).named("fstat")?;
    check_eq!(
        os::pread(file.fd, buffer.at(0), 20 * PAGE, P).named("pread")?,
        20 * PAGE,
        "bytes of a second read"
    );
    drop(buffer);
    stack.settle()?;
    let passed = mark.since(stack.look.client());
    check!(
        passed.messages > 10 && passed.read >= LENGTH as u64 - 2 * P,
        "the relay saw {} messages",
        passed.messages
    );
    meter.expect_system("messages_sent", passed.messages as i64)?;
    meter.expect_system("bytes_sent", passed.bytes[0] as i64)?;
    meter.expect_system("bytes_received", passed.bytes[1] as i64)?;
    meter.expect_system("bytes_written", passed.data[0] as i64)?;
    // The small read is one request; all other bytes arrive by page-ins.
    meter.expect_system("bytes_fetched", passed.read as i64 - SMALL as i64)
}

/// Relays on both sides of the wrapper see no byte of a file that is copied to another file.
#[guest_test]
fn w4_no_byte_moves() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stack = Stack::mount("w4", SPACE_BYTES)?;
    let source = File::make_in(&stack.path, "source", 1, LENGTH as u64)?;
    let target = File::make_in(&stack.path, "target", 2, 0)?;
    let buffer = Buffer::new(LENGTH)?;
    stack.settle()?;
    let marks = [Mark::of(stack.look.client()), Mark::of(stack.look.base())];
    read_lazily(&source, &buffer, 0, LENGTH, 0)?;
    check_eq!(
        os::pwrite(target.fd, buffer.at(0), LENGTH, 0).named("pwrite")?,
        LENGTH,
        "bytes written"
    );
    stack.settle()?;
    let passed = [marks[0].since(stack.look.client()), marks[1].since(stack.look.base())];
    check_eq!(
        [passed[0].data, passed[1].data],
        [[0; 2]; 2],
        "bytes of files between kernel and wrapper, and wrapper and base"
    );
    let copy = Buffer::new(LENGTH)?;
    target.read_into(&copy, 0, LENGTH, 0)?;
    copy.check(0, LENGTH, pattern(1, 0))
}

/// A relay sees one changed page when a file is written back; the base gets that page and its
/// rescue.
#[guest_test]
fn w2_one_page_moves() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let _knobs = lazy::fault_around(1)?;
    let stack = Stack::mount("w2", SPACE_BYTES)?;
    let file = File::make_in(&stack.path, "file", 1, LENGTH as u64)?;
    let buffer = Buffer::new(LENGTH)?;
    stack.settle()?;
    let marks = [Mark::of(stack.look.client()), Mark::of(stack.look.base())];
    read_lazily(&file, &buffer, 0, LENGTH, 0)?;
    buffer.put(7 * PAGE, 10, pattern(2, 0));
    check_eq!(
        os::pwrite(file.fd, buffer.at(0), LENGTH, 0).named("pwrite")?,
        LENGTH,
        "bytes written"
    );
    stack.settle()?;
    let passed = [marks[0].since(stack.look.client()), marks[1].since(stack.look.base())];
    check_eq!(passed[0].data, [P, P], "bytes of files between kernel and wrapper");
    check!(
        passed[1].data[0] <= 2 * P && passed[1].data[1] <= 2 * P,
        "bytes of files between wrapper and base: {:?}",
        passed[1].data
    );
    let copy = Buffer::new(LENGTH)?;
    file.read_into(&copy, 0, LENGTH, 0)?;
    copy.check(7 * PAGE, 10, pattern(2, 0))?;
    copy.check(8 * PAGE, LENGTH - 8 * PAGE, pattern(1, 8 * P))
}
